"""Fixtures of the pages' tests: a server of the pages, a message store full of mail, Debian's Chromium."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.dashboard.seed import many, pretend_dispatch, seed
from tests.dashboard.site import Site, running_site

_CHROMIUM = "/usr/bin/chromium"
_FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture
def empty_site(tmp_path: Path) -> Iterator[Site]:
    """A gateway that has seen no mail yet."""
    with running_site(tmp_path) as site:
        yield site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A gateway with mail in every state; shared by a module, so its tests change only what they made themselves."""
    with running_site(tmp_path_factory.mktemp("site")) as running:
        fill(running)
        yield running


def fill(site: Site) -> None:
    """Store the sample messages, and sixty more, so that the list has a second page."""
    deps = site.deps
    site.ids = site.run(seed(deps.engine, deps.blobs, deps.default_tenant_id, deps.clock.now()))
    site.run(seed(deps.engine, deps.blobs, deps.default_tenant_id, deps.clock.now(), many(60)))
    site.write(lambda conn: pretend_dispatch(conn, deps.clock.now()))


@pytest.fixture
def client(site: Site) -> Iterator[httpx.Client]:
    """A browser without a screen: sends the headers that browsers send."""
    with httpx.Client(base_url=site.url, headers={"Sec-Fetch-Site": "same-origin"}, timeout=20) as opened:
        yield opened


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; a test that needs it fails where it is missing."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=_CHROMIUM, args=_FLAGS)
        yield chromium
        chromium.close()


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Open pages in contexts of their own; any error in a page's console fails the test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def open_(url: str, *, width: int = 1280, theme: str = "light", script: bool = True) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=theme, java_script_enabled=script)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        return page

    open_.complaints = complaints  # type: ignore[attr-defined]
    yield open_
    for context in contexts:
        context.close()
    assert complaints == []
