"""What is shown of a message, and what is not."""

from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from tests.dashboard.conftest import fill
from tests.dashboard.seed import Mail, To, store
from tests.dashboard.site import Site, running_site

SECRET = "The secret content of a real message."


def test_the_content_of_mail_that_really_left_is_hidden(site: Site, client: httpx.Client) -> None:
    """No page, tab or file shows it, and the page says why."""
    path = f"/m/{site.ids['real']}"
    for tab in ("html", "text", "headers", "source", "files"):
        page = client.get(path, params={"tab": tab}).text
        assert SECRET not in page
        assert "does not show the content of real mail" in page
        assert "http.show_content" in page
    for part in ("/html", "/raw", "/files/0"):
        answer = client.get(path + part)
        assert answer.status_code == 403
        assert SECRET not in answer.text


def test_its_timeline_is_shown_all_the_same(site: Site, client: httpx.Client) -> None:
    """What became of real mail is no secret to the operator: host, TLS, reply."""
    page = client.get(f"/m/{site.ids['real']}").text
    for words in ("mx2.example.org", "TLS_AES_256_GCM_SHA384", "queued as 4X9k2b1", "640 ms"):
        assert words in page


def test_the_operator_may_allow_more(tmp_path: Path) -> None:
    """With http.show_content real mail is shown as sandboxed mail is."""
    with running_site(tmp_path, show_content=True, route="mx") as site:
        fill(site)
        page = httpx.get(f"{site.url}/m/{site.ids['real']}").text
        assert SECRET in page
        assert ">LIVE</span>" in page


def test_each_tab_shows_its_part(site: Site, client: httpx.Client) -> None:
    """HTML, text, headers, source and files of a message with all of them."""
    path = f"/m/{site.ids['receipt']}"
    assert 'sandbox=""' in client.get(path).text
    assert "1 remote image or style blocked" in client.get(path).text
    assert "Walnut desk lamp" in client.get(path, params={"tab": "text"}).text
    assert "Message-ID" in client.get(path, params={"tab": "headers"}).text
    assert "exactly as the sandbox took it" in client.get(path, params={"tab": "source"}).text
    assert "Rechnung 2026-1187.pdf" in client.get(path, params={"tab": "files"}).text


def test_the_preview_is_a_document_that_can_do_nothing(site: Site, client: httpx.Client) -> None:
    """Its own policy: sandboxed, no source but data:, and no frame but ours around it."""
    answer = client.get(f"/m/{site.ids['receipt']}/html")
    policy = answer.headers["content-security-policy"]
    for directive in (
        "sandbox;",
        "default-src 'none'",
        "img-src data:;",
        "frame-ancestors 'self'",
        "form-action 'none'",
        "base-uri 'none'",
    ):
        assert directive in policy
    assert "script-src" not in policy
    assert "data:image/png;base64," in answer.text
    assert answer.headers["x-dns-prefetch-control"] == "off"


@pytest.mark.parametrize("path", ["/", "/q", "/login", "/m/none", "/nothing-here.css"])
def test_every_page_has_a_policy_without_unsafe_inline(client: httpx.Client, path: str) -> None:
    """No inline script, style or handler could run, and none is there."""
    answer = client.get(path if path != "/nothing-here.css" else "/static/nothing-here.css")
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    for inline in ("<style", " style=", " onclick=", " onload=", "<script>", "javascript:"):
        assert inline not in answer.text


def test_raw_is_the_message_byte_for_byte(site: Site, client: httpx.Client) -> None:
    """What the sandbox took is what is downloaded."""
    answer = client.get(f"/m/{site.ids['receipt']}/raw")
    assert answer.headers["content-type"].startswith("message/rfc822")
    assert answer.headers["content-disposition"] == f"attachment; filename*=UTF-8''{site.ids['receipt']}.eml"
    assert answer.content.startswith(b"From: ")
    assert b"\r\n\r\n" in answer.content


def test_a_file_is_downloaded_and_never_opened(site: Site, client: httpx.Client) -> None:
    """An attached page must not run as one of ours, whatever it calls itself."""
    from tests.dashboard.seed import INVOICE

    page = client.get(f"/m/{site.ids['receipt']}", params={"tab": "files"}).text
    links = [part.partition('"')[0] for part in page.split('href="')[1:] if "/files/" in part.partition('"')[0]]
    answers = [client.get(link) for link in links]
    assert [answer.content for answer in answers if answer.content == INVOICE.content]
    for answer in answers:
        assert answer.headers["content-type"].startswith("application/octet-stream")
        assert answer.headers["content-disposition"].startswith("attachment; filename*=UTF-8''")
        assert "sandbox" in answer.headers["content-security-policy"]
    assert f"filename*=UTF-8''{quote('Rechnung 2026-1187.pdf')}" in {
        answer.headers["content-disposition"].partition("; ")[2] for answer in answers
    }


@pytest.mark.parametrize(
    "path", ["/m/nope", "/m/msg_01m85v75k70000000000000000", "/m/msg_01m85v75k70000000000000000/raw", "/static/app.py", "/live?message=x"]
)
def test_what_is_not_there_is_not_found(client: httpx.Client, path: str) -> None:
    """The refusal has the code of the API, a sentence, and an id to quote."""
    answer = client.get(path)
    assert answer.status_code == 404
    assert "not_found" in answer.text
    assert answer.headers["request-id"] in answer.text


def test_a_fault_of_ours_shows_no_trace(site: Site, client: httpx.Client) -> None:
    """THREATS 60: the visitor gets an id to quote, the log gets the place."""
    made = store(
        site.deps.engine,
        site.deps.blobs,
        "t",
        site.deps.clock.now(),
        Mail(name="x", ago_s=1, sender="a@acme.example", subject="x", to=(To(address="b@example.net"),), text="x"),
    )
    message_id = site.run(made)
    site.write(lambda conn: conn.exec_driver_sql("UPDATE message SET tags = '{' WHERE id = ?", (message_id,)))
    answer = client.get(f"/m/{message_id}")
    site.write(lambda conn: conn.exec_driver_sql("UPDATE message SET tags = '[]' WHERE id = ?", (message_id,)))
    assert answer.status_code == 500
    assert "internal_error" in answer.text
    assert "Traceback" not in answer.text
    assert "zstd" not in answer.text.lower()


def test_the_list_pages_by_cursor_without_gaps(client: httpx.Client) -> None:
    """Older and Newer lead through all messages, each once."""
    first = client.get("/").text
    older = first.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
    second = client.get(older).text
    newer = second.partition('rel="prev" href="')[2].partition('"')[0].replace("&amp;", "&")
    assert rows(client.get(newer).text) == rows(first)
    assert len(rows(first)) == 50
    assert not set(rows(first)) & set(rows(second))
    assert 'rel="next"' not in second


def rows(page: str) -> list[str]:
    """List the messages of a page."""
    return [part.partition('"')[0] for part in page.split('class="open" href="')[1:]]


@pytest.mark.parametrize(
    ("search", "names"),
    [
        ("to:ann@example.net", {"receipt"}),
        ("status:bounced", {"receipt", "bounced"}),
        ("tag:newsletter status:deferred", {"newsletter"}),
        ("stream:codes", {"code"}),
        ("from:monitoring", {"long"}),
        ("subject:invoice", {"bounced"}),
        ("subject:gone.example.com", set()),
        ("gone.example.com", {"bounced"}),
        ("طلبك", {"rtl"}),
        ("100%", set()),
    ],
)
def test_the_list_shows_what_the_search_asks_for(site: Site, client: httpx.Client, search: str, names: set[str]) -> None:
    """Filters reach the store; wildcards of SQL are ordinary characters."""
    found = rows(client.get("/", params={"q": search}).text)
    assert set(found) == {f"/m/{site.ids[name]}" for name in names}


def test_an_empty_inbox_teaches_the_first_message(empty_site: Site) -> None:
    """The command on the page has the port that the visitor used."""
    page = httpx.get(empty_site.url).text
    assert f"curl {empty_site.url}/v1/messages" in page
    assert "$GATEPOST_KEY" in page
