"""News for open pages."""

import json
import time
from pathlib import Path

import httpx
import pytest

from gatepost.observe import maillog
from tests.dashboard.conftest import fill
from tests.dashboard.seed import Mail, To, store
from tests.dashboard.site import Site, running_site


def pulses(answer: httpx.Response) -> dict[str, str]:
    """Wait for the next event of a stream."""
    for line in answer.iter_lines():
        if line.startswith("data: "):
            found: dict[str, str] = json.loads(line.removeprefix("data: "))
            return found
    raise AssertionError("the stream ended")


def test_a_stream_tells_at_once_and_when_something_happens(site: Site) -> None:
    """The first event says how things are; the next comes when a message does."""
    deps = site.deps
    with httpx.stream("GET", f"{site.url}/live", timeout=10) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        first = next(line for line in lines if line.startswith("data: "))
        mail = Mail(name="x", ago_s=0, sender="a@acme.example", subject="x", to=(To(address="b@example.net"),), text="x")
        message_id = site.run(store(deps.engine, deps.blobs, deps.default_tenant_id, deps.clock.now(), mail))
        second = next(line for line in lines if line.startswith("data: "))
    assert json.loads(first.removeprefix("data: "))["newest"] != message_id
    assert json.loads(second.removeprefix("data: "))["newest"] == message_id


def test_a_stream_holds_no_content(site: Site) -> None:
    """Two ids and nothing else: what happened is fetched with the rights of the page."""
    with httpx.stream("GET", f"{site.url}/live?message={site.ids['receipt']}", timeout=10) as answer:
        assert set(pulses(answer)) == {"newest", "event"}


def test_open_pages_do_not_hold_up_the_end(tmp_path: Path) -> None:
    """A process that wants to stop ends its streams first."""
    with running_site(tmp_path) as site:
        fill(site)
        with httpx.stream("GET", f"{site.url}/live", timeout=10) as answer:
            lines = answer.iter_lines()
            assert next(line for line in lines if line.startswith("data: "))
            site.app.state.is_closing = True
            start = time.monotonic()
            assert not [line for line in lines if line.startswith("data: ")]
        assert time.monotonic() - start < 3


def test_who_looks_at_real_mail_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With http.show_content on, each look leaves a line with ids, and no content."""
    told: list[tuple[str, dict[str, str]]] = []
    monkeypatch.setattr(maillog, "changed", lambda what, **fields: told.append((what, fields)))
    with running_site(tmp_path, show_content=True) as site:
        fill(site)
        httpx.get(f"{site.url}/m/{site.ids['real']}/raw")
        httpx.get(f"{site.url}/m/{site.ids['receipt']}/raw")
    assert told == [("content_viewed", {"message_id": site.ids["real"], "by": "local"})]
