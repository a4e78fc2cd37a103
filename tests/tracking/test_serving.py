"""A real `gatepost serve` with a tracking host behind TLS: from the stream's setting to the next newsletter that is not sent."""

import contextlib
import email
import email.policy
import http.client
import json
import re
import ssl
import urllib.parse
import urllib.request

import pytest

from tests.flow.serving import Serving, gatepost_json, prepare, until
from tests.tls.authority import Authority

HOST = "t.acme.example"
AGENT = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0"}
HTML = '<p>Hi</p><a href="https://shop.example/a">a</a> <a href="gatepost:unsubscribe">stop</a>'


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A gateway whose stream bulk tracks everything, and an authority that its readers trust."""
    folder, authority = tmp_path_factory.mktemp("tracking"), Authority()
    cert, key = authority.issue(HOST, "127.0.0.1").write(folder / "tls")
    secret = prepare(folder / "data")
    changed = gatepost_json(folder / "data", "stream", "change", "bulk", "--tracking", "opens,clicks", "--unsubscribe", "yes")
    assert (changed["tracking"], changed["unsubscribe"]) == ({"opens": True, "clicks": True, "text": False}, True)
    flags = (f"tracking.host={HOST}", "tracking.soon_s=0", "https.listen=127.0.0.1:0", f"tls.cert={cert}", f"tls.key={key}")
    with Serving(folder / "data", *flags) as serving:
        yield serving, secret, ssl.create_default_context(cafile=str(authority.write(folder / "ca.pem")))


def fetch(house, method, url, body=None, **headers):
    """Ask as a mail program would: by the URL's name, over TLS with the authority's certificate; redirects are not followed."""
    serving, _, context = house
    parts = urllib.parse.urlsplit(url)
    assert (parts.scheme, parts.netloc) == ("https", HOST)
    host, port = serving.listening["https"].split(":")
    connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=20)
    with contextlib.closing(connection):
        connection.request(method, parts.path, body, {"Host": HOST, **AGENT, **headers})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


def send(house, **changes):
    serving, secret, _ = house
    body = {"from": "shop@acme.example", "to": ["deliver@example.net"], "subject": "News", "html": HTML, "stream": "bulk", **changes}
    return serving.ask("POST", "/v1/messages", secret, body)


def captured(house, message_id):
    """The message as it would have left."""
    serving, secret, _ = house
    until(lambda: serving.status_of(secret, message_id) == "delivered")
    request = urllib.request.Request(
        f"http://{serving.listening['http']}/v1/messages/{message_id}/raw", headers={"Authorization": f"Bearer {secret}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return email.message_from_bytes(answer.read(), policy=email.policy.default)


def events(house, message_id, kind):
    serving, secret, _ = house
    return [one for one in serving.ask("GET", f"/v1/messages/{message_id}/events", secret)[1]["data"] if one["type"] == kind]


def test_a_newsletter_is_opened_clicked_and_left(house):
    """All over real processes: dispatch writes the tokens, another process believes them."""
    status, sent = send(house)
    assert status == 202, sent
    message = captured(house, sent["id"])
    html = message.get_body(("html",)).get_content()
    pixel = re.search(r'<img src="([^"]+)"', html)[1]
    link, page = re.findall(r'href="([^"]+)"', html)
    one_click = message["List-Unsubscribe"].strip().strip("<>")
    assert urllib.parse.urlsplit(page).path == urllib.parse.urlsplit(one_click).path
    assert message["DKIM-Signature"]

    assert fetch(house, "GET", pixel)[0] == 200
    (opened,) = until(lambda: events(house, sent["id"], "recipient.opened"))
    assert (opened["data"]["class"], opened["data"]["is_first"]) == ("human", True)
    status, headers, _ = fetch(house, "GET", link)
    assert (status, headers["location"]) == (302, "https://shop.example/a")
    (clicked,) = until(lambda: events(house, sent["id"], "recipient.clicked"))
    assert clicked["data"]["url"] == "https://shop.example/a"
    assert b"Unsubscribe?" in fetch(house, "GET", page)[2]
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert fetch(house, "POST", one_click, b"List-Unsubscribe=One-Click", **form)[0] == 200
    (left,) = events(house, sent["id"], "recipient.unsubscribed")
    assert left["data"]["by"] == "one_click"
    status, answer = send(house)
    assert (status, answer["code"]) == (422, "all_recipients_suppressed")
    assert send(house, stream="transactional")[0] == 202


def test_the_tracking_host_has_no_pages_and_no_api(house):
    """The certificate's name leads to pixels, links and pages, and to nothing else."""
    for path in ("/", "/login", "/v1/messages", "/openapi.json", "/metrics"):
        status, headers, body = fetch(house, "GET", f"https://{HOST}{path}")
        assert (status, json.loads(body)["code"]) == (404, "not_found")
        assert "set-cookie" not in {name.lower() for name in headers}
    serving, _, context = house
    host, port = serving.listening["https"].split(":")
    connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", "/openapi.json")
        assert connection.getresponse().status == 200
