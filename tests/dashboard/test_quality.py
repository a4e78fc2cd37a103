"""Accessibility, weight and pace of the pages."""

import time

import httpx
import pytest
from playwright.sync_api import Page

from tests.dashboard.accessible import violations
from tests.dashboard.conftest import OpenPage
from tests.dashboard.site import Site

PAGES = {
    "inbox": "/", "nothing": "/?q=stauts:x+zzz", "message": "/m/{receipt}", "text": "/m/{deferred}", "headers": "/m/{receipt}?tab=headers",
    "source": "/m/{receipt}?tab=source", "files": "/m/{receipt}?tab=files",
    "hidden": "/m/{real}", "queue": "/q", "login": "/login", "error": "/m/none",
}  # fmt: skip


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_everybody_can_use_every_page(site: Site, open_page: OpenPage, theme: str, width: int) -> None:
    """axe-core finds nothing moderate or worse, contrast included, in both themes and at both widths."""
    page = open_page(site.url, width=width, theme=theme)
    found = []
    for name, path in PAGES.items():
        page.goto(site.url + path.format(**site.ids), wait_until="load")
        results = violations(page, iframes=False)
        found += [f"{name}: {one['id']}: {one['nodes'][0]['html'][:120]}" for one in results if one["impact"] != "minor"]
    assert found == []
    open_page.complaints.clear()  # the error page's own 404


def test_an_open_dialog_and_an_open_menu_are_accessible_too(site: Site, open_page: OpenPage) -> None:
    """What unfolds is checked unfolded."""
    page = open_page(f"{site.url}/m/{site.ids['deferred']}")
    page.get_by_text("Cancel…").click()
    assert serious(page) == []
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert serious(page) == []


def serious(page: Page) -> list[str]:
    """List what axe finds."""
    return [one["id"] for one in violations(page, iframes=False) if one["impact"] != "minor"]


@pytest.mark.parametrize("name", ["inbox", "message", "queue", "login"])
def test_a_page_weighs_at_most_200_kb(site: Site, open_page: OpenPage, name: str) -> None:
    """Everything a first visit loads, uncompressed."""
    page = open_page("about:blank")
    sizes: dict[str, int] = {}
    page.on(
        "response",
        lambda answer: sizes.setdefault(answer.url, 0) if "/live" in answer.url else sizes.update({answer.url: len(answer.body())}),
    )
    page.goto(site.url + PAGES[name].format(**site.ids), wait_until="load")
    page.wait_for_timeout(200)
    assert 20_000 < sum(sizes.values()) <= 200_000, sizes


def test_static_files_are_kept_by_the_browser(site: Site) -> None:
    """A name holds its content's hash, so a file is asked for once."""
    page = httpx.get(site.url).text
    for path in {
        part.partition('"')[0] for part in page.replace('src="/static', 'href="/static').split('href="')[1:] if part.startswith("/static")
    }:
        answer = httpx.get(site.url + path)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]


def test_a_page_is_made_quickly(site: Site) -> None:
    """The best of ten: 50 ms is the promise for a large store, a small one must be well inside it."""
    with httpx.Client(base_url=site.url) as client:
        for path in ("/", f"/m/{site.ids['receipt']}"):
            times = []
            for _ in range(10):
                start = time.perf_counter()
                assert client.get(path).status_code == 200
                times.append(time.perf_counter() - start)
            assert min(times) < 0.05
