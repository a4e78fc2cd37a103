"""The recipient's page in Debian's Chromium: without script, in both themes, on a narrow screen, by keyboard."""

import pytest

from gatepost.clock import DAY, SystemClock
from gatepost.wire.tracking_token import TokenKind
from tests.dashboard.accessible import violations
from tests.dashboard.conftest import browser, open_page  # noqa: F401 - fixtures
from tests.doors.http_rig import TOKENS, message, running_door


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    with running_door(tmp_path_factory.mktemp("door")) as running:
        yield running


@pytest.fixture
def page_of(rig):
    """Send a newsletter; return the address of its recipient's page."""

    def send(address, now=None):
        with rig.client() as client:
            sent = client.post("/v1/messages", json=message(to=[address], stream="bulk", unsubscribe=True)).json()
        return f"{rig.url}/t/u/{TOKENS.make(TokenKind.UNSUBSCRIBE, sent['id'], 0, now or SystemClock().now())}"

    return send


def suppressed(rig):
    with rig.client() as client:
        return {one["address"] for one in client.get("/v1/suppressions?limit=100").json()["data"]}


@pytest.mark.parametrize("script", [False, True])
def test_a_reader_unsubscribes_and_takes_it_back(rig, page_of, open_page, script):  # noqa: F811
    """Two clicks, each with its answer in words; the page's own policy stops nothing of it."""
    address = f"reader{script}@example.net".lower()
    page = open_page(page_of(address), script=script)
    assert page.title() == "Unsubscribe?"
    assert address not in suppressed(rig)
    page.get_by_role("button", name="Unsubscribe").click()
    page.get_by_role("heading", name="You are unsubscribed").wait_for()
    assert address in suppressed(rig)
    page.get_by_role("button", name="Subscribe again").click()
    page.get_by_role("heading", name="You are subscribed again").wait_for()
    assert address not in suppressed(rig)
    assert page.get_by_role("button", name="Unsubscribe").is_visible()


def test_the_keyboard_is_enough(rig, page_of, open_page):  # noqa: F811
    """Tab, Enter."""
    page = open_page(page_of("keys@example.net"), script=False)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="You are unsubscribed").wait_for()
    assert "keys@example.net" in suppressed(rig)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_everybody_can_read_it(page_of, open_page, theme, width):  # noqa: F811
    """axe-core finds nothing, contrast included; nothing is wider than the screen; nothing is asked of anybody else."""
    page = open_page(page_of(f"{'long-name-' * 5}@{'very-long-domain-' * 3}example.net"), theme=theme, width=width)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("getComputedStyle(document.querySelector('main')).borderTopLeftRadius") == "6px"  # the style is let in by its hash
    assert page.evaluate("performance.getEntriesByType('resource').filter(one => !one.name.endsWith('/favicon.ico')).length") == 0


def test_a_link_that_is_too_old_or_broken_says_so(rig, page_of, open_page):  # noqa: F811
    """In words for people; the browser shows a page, not JSON."""
    old = open_page(page_of("old@example.net", now=SystemClock().now() - 400 * DAY))
    assert old.get_by_role("heading").inner_text() == "This link is too old"
    broken = open_page(f"{rig.url}/t/u/broken")
    assert broken.get_by_role("heading").inner_text() == "This link does not work"
    open_page.complaints[:] = [one for one in open_page.complaints if "404" not in one and "410" not in one]
