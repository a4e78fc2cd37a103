"""What people do with the pages, in a real Chromium, on a desk and on a phone."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from gatepost.domain.access import GATEWAY
from gatepost.store.schema import recipient
from tests.dashboard.conftest import OpenPage
from tests.dashboard.seed import Mail, To, store
from tests.dashboard.site import Site

WIDTHS = pytest.mark.parametrize("width", [1280, 390])


def add(site: Site, mail: Mail) -> str:
    """Store a message now; return its id."""
    deps = site.deps
    return site.run(store(deps.engine, deps.blobs, deps.default_tenant_id, deps.clock.now(), mail))


def simple(subject: str, status: str = "delivered") -> Mail:
    """Make a small message."""
    to = To(address="b@example.net") if status == "delivered" else To(address="b@example.net", status=status, tries=(), next_in_s=900)
    return Mail(name="x", ago_s=0, sender="Flow <a@acme.example>", subject=subject, to=(to,), text="Hello")


def is_scrolled_sideways(page: Page) -> bool:
    """Tell whether the page is wider than the screen."""
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


@WIDTHS
def test_one_message_is_found_and_read(site: Site, open_page: OpenPage, width: int) -> None:
    """Search, open, look at each tab, go back: the way of somebody in a hurry."""
    page = open_page(site.url, width=width)
    assert not is_scrolled_sideways(page)
    page.fill("#search", "to:ann@example.net")
    page.press("#search", "Enter")
    expect(page).to_have_url(re.compile(r"q=to%3Aann%40example\.net"))
    page.get_by_role("link", name="Your order 42-1187 at Acme").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Your order 42-1187 at Acme")
    expect(page.frame_locator("iframe").get_by_text("Thank you, Ann!")).to_be_visible()
    assert page.frame_locator("iframe").locator("img").first.evaluate("image => image.naturalWidth") == 132
    tabs = page.get_by_role("navigation", name="Views of the content")
    for tab, words in (
        ("Text", "Walnut desk lamp"),
        ("Headers", "Message-ID"),
        ("Source", "multipart/mixed"),
        ("Attachments", "Rechnung 2026-1187.pdf"),
    ):
        tabs.get_by_role("link", name=tab).click()
        expect(page.locator("#content")).to_contain_text(words)
        assert not is_scrolled_sideways(page)
    expect(page.locator("#timeline")).to_contain_text("550 5.1.1 No such user here")
    page.keyboard.press("u")
    expect(page).to_have_url(re.compile(r"q=to%3Aann%40example\.net"))


@WIDTHS
def test_the_preview_is_shown_at_other_widths_and_dark(site: Site, open_page: OpenPage, width: int) -> None:
    """A newsletter is looked at as a phone would show it; the choice stands in the URL."""
    page = open_page(f"{site.url}/m/{site.ids['receipt']}", width=width)
    page.get_by_role("link", name="375").click()
    expect(page).to_have_url(re.compile("w=375"))
    assert page.locator("iframe").bounding_box()["width"] <= 375
    page.get_by_role("link", name="dark").click()
    expect(page).to_have_url(re.compile("dark=1"))
    expect(page.locator(".stage")).to_have_class(re.compile("is-dark"))
    page.go_back()
    expect(page.locator(".stage")).not_to_have_class(re.compile("is-dark"))


def test_the_transcript_of_an_attempt_opens(site: Site, open_page: OpenPage) -> None:
    """What was said on the wire is one click away, and the next attempt counts down."""
    page = open_page(f"{site.url}/m/{site.ids['deferred']}")
    expect(page.get_by_text("RCPT TO:<greta@example.org>")).to_be_hidden()
    page.get_by_text("Transcript").click()
    expect(page.get_by_text("RCPT TO:<greta@example.org>")).to_be_visible()
    expect(page.locator("time[data-countdown]")).to_have_text(re.compile(r"in \d+:\d\d"))
    expect(page.locator(".because")).to_contain_text("Deferred after 1 attempt; the next attempt is in")


@WIDTHS
def test_cancel_asks_first_and_retry_does_not(site: Site, open_page: OpenPage, width: int) -> None:
    """The button that cannot be taken back says how many recipients it reaches."""
    message_id = add(site, simple("to be cancelled", "deferred"))
    page = open_page(f"{site.url}/m/{message_id}", width=width)
    page.get_by_role("button", name="Retry now").click()
    expect(page.locator(".notice")).to_have_text("1 recipient will be tried again at once.")
    page.get_by_text("Cancel…").click()
    page.get_by_role("button", name="Cancel 1 recipient").click()
    expect(page.locator(".notice")).to_have_text("1 recipient cancelled.")
    expect(page.locator("#head .pill")).to_have_text("cancelled")


@WIDTHS
def test_a_site_is_paused_on_the_queue_page(site: Site, open_page: OpenPage, width: int) -> None:
    """Pause and resume, with the state in words."""
    page = open_page(f"{site.url}/q", width=width)
    assert not is_scrolled_sideways(page)
    page.get_by_role("button", name="Pause sandbox").click()
    expect(page.locator("#sites")).to_contain_text("paused now")
    page.get_by_role("button", name="Resume sandbox").click()
    expect(page.get_by_role("button", name="Pause sandbox")).to_be_visible()


def test_the_keyboard_is_enough(site: Site, open_page: OpenPage) -> None:
    """j, k, Enter, u, /, ? and t, as on the card."""
    page = open_page(site.url)
    links = page.locator("#rows .open")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("j")
    expect(links.nth(1)).to_be_focused()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.type("jk")
    expect(page.locator("#search")).to_have_value("jk")
    page.keyboard.press("Escape")
    target = links.nth(2).get_attribute("href")
    links.nth(2).focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(target))
    page.keyboard.press("u")
    expect(page).to_have_url(site.url + "/")


@pytest.mark.parametrize("system", ["light", "dark"])
def test_the_theme_follows_the_system_until_it_is_chosen(site: Site, open_page: OpenPage, system: str) -> None:
    """The choice outlives the page, and the next page comes drawn in it."""
    page = open_page(site.url, theme=system)
    colour: Callable[[], str] = lambda: page.evaluate("getComputedStyle(document.documentElement).colorScheme")  # noqa: E731
    assert colour() == system
    page.get_by_role("button", name="Theme").click()
    other = "dark" if system == "light" else "light"
    assert colour() == other
    page.goto(f"{site.url}/q")
    assert colour() == other


def test_new_mail_is_announced_and_does_not_move_the_list(site: Site, open_page: OpenPage) -> None:
    """Rows stay where they are; a button says how many came."""
    page = open_page(site.url)
    first = page.locator("#rows .open").first.get_attribute("href")
    for n in range(2):
        add(site, simple(f"fresh {n}"))
    expect(page.locator("#new a")).to_have_text("2 new")
    assert page.locator("#rows .open").first.get_attribute("href") == first
    page.locator("#new a").click()
    expect(page.locator("#rows .open").first).to_have_text("fresh 1")


def test_a_status_changes_in_place(site: Site, open_page: OpenPage) -> None:
    """List and message page show a delivery as it happens; what was opened stays open."""
    message_id = add(site, simple("watched", "deferred"))
    listing, page = open_page(site.url), open_page(f"{site.url}/m/{message_id}")
    expect(listing.locator("#rows tr", has_text="watched").locator(".pill")).to_have_text("deferred")
    site.run(site.deps.control.cancel(None, message_id, by=GATEWAY))
    expect(listing.locator("#rows tr", has_text="watched").locator(".pill")).to_have_text("cancelled")
    expect(page.locator("#timeline")).to_contain_text("Cancelled after 0 attempts")
    expect(page.locator("#head .pill")).to_have_text("cancelled")


def test_a_lost_connection_is_said(site: Site, open_page: OpenPage) -> None:
    """A page that gets no news any more does not look as if all were quiet."""
    page = open_page(site.url)
    expect(page.locator("#live")).to_be_hidden()
    page.route("**/live*", lambda route: route.abort())
    page.reload()
    expect(page.locator("#live")).to_be_visible()
    open_page.complaints.clear()


def test_the_pages_work_without_script(site: Site, open_page: OpenPage) -> None:
    """Search, tabs, retry and paging are links and forms; what needs a script is not shown."""
    message_id = add(site, simple("no script", "deferred"))
    page = open_page(site.url, script=False)
    expect(page.get_by_role("button", name="Theme")).to_be_hidden()
    page.fill("#search", "subject:script")
    page.press("#search", "Enter")
    page.get_by_role("link", name="no script").click()
    page.get_by_role("navigation", name="Views of the content").get_by_role("link", name="Headers").click()
    expect(page.locator("#content")).to_contain_text("Message-ID")
    page.get_by_role("button", name="Retry now").click()
    expect(page.locator(".notice")).to_be_visible()
    assert (
        site.run(
            site.deps.engine.read(lambda conn: conn.execute(recipient.select().where(recipient.c.message_id == message_id)).one())
        ).status
        == "queued"
    )


def test_the_command_is_copied(site: Site, open_page: OpenPage) -> None:
    """The curl command comes with this gateway's address and without a key."""
    page = open_page(f"{site.url}/m/{site.ids['code']}")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_text("As curl").click()
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#toast")).to_have_text("Copied")
    text = page.evaluate("navigator.clipboard.readText()")
    assert text.startswith(f"curl {site.url}/v1/messages")
    assert '"from":"Acme <login@acme.example>"' in text
    assert "$GATEPOST_KEY" in text


@WIDTHS
def test_signing_in_from_elsewhere(site: Site, open_page: OpenPage, width: int) -> None:
    """A visitor by another name signs in with a key and signs out again."""
    from tests.dashboard.test_access import make_key

    page = open_page(site.url.replace("127.0.0.1", "gate.localhost"), width=width)
    expect(page.get_by_role("heading", name="Gatepost")).to_be_visible()
    page.get_by_label("API key").fill("gp_live_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("no valid admin key")
    open_page.complaints.clear()  # the console tells of the 401
    page.get_by_label("API key").fill(make_key(site)[1])
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#rows")).to_be_visible()
    page.locator("#rows .open", has_text="Your order 42-1187").click()
    expect(page.frame_locator("iframe").get_by_text("Thank you, Ann!")).to_be_visible()
    if width < 720:
        page.locator("summary", has_text="More").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    page.goto(page.url.replace("/login", "/"))
    expect(page.get_by_label("API key")).to_be_visible()
