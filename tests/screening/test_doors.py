"""One `gatepost serve` with real scanners: JSON, raw MIME and SMTP refuse the same with the same codes, and tell the same."""

import base64
import json
import smtplib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gatepost.domain.errors import CATALOGUE
from tests.flow.serving import Serving, prepare, until
from tests.screening.daemons import EICAR, GTUBE, Daemon
from tests.screening.mail import MZ, mime, zipped

OCTETS = "application/octet-stream"
File = tuple[str, str, bytes]


class Doors:
    """The three ways in."""

    def __init__(self, serving: Serving, key: str) -> None:
        self.serving, self.key = serving, key

    def json(self, *files: File, **fields: Any) -> tuple[int, Any]:
        return self.serving.ask("POST", "/v1/messages", self.key, body_of(*files, **fields))

    def raw(self, content: bytes, to: str = "ann@example.net") -> tuple[int, Any]:
        request = urllib.request.Request(f"http://{self.serving.listening['http']}/v1/messages/raw", data=content, method="POST")
        request.add_header("Authorization", f"Bearer {self.key}")
        request.add_header("Content-Type", "message/rfc822")
        request.add_header("Gatepost-Envelope-From", "shop@acme.example")
        request.add_header("Gatepost-Envelope-To", to)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def smtp(self, content: bytes, to: str = "ann@example.net") -> tuple[int, str]:
        """Send over SMTP; return the reply to the content."""
        host, _, port = self.serving.listening["smtp"].rpartition(":")
        with smtplib.SMTP(host, int(port), timeout=20) as client:
            client.login("key", self.key)
            client.mail("shop@acme.example")
            client.rcpt(to)
            code, text = client.data(content)
            return code, text.decode()

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return the mail log's lines of one kind."""
        whole = self.serving.log.rpartition("\n")[0]  # another process may be about to end the last line
        found = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        return [line for line in found if line["event"] == event]


def body_of(*files: File, **fields: Any) -> dict[str, Any]:
    attachments = [{"filename": name, "content_type": kind, "content": base64.b64encode(content).decode()} for name, kind, content in files]
    return {"from": "shop@acme.example", "to": ["ann@example.net"], "subject": "Hi", "text": "Hello", "attachments": attachments, **fields}


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory, rspamd: Daemon, clamd: Daemon) -> Iterator[Doors]:
    data: Path = tmp_path_factory.mktemp("serve")
    key = prepare(data)
    flags = (
        f"scanning.rspamd.url={rspamd.address}",
        f"scanning.clamd.address={clamd.socket}",
        "scanning.clamd.on_failure=closed",
        "screening.disposable=refuse",
        "screening.roles=warn",
        "screening.links=refuse",
    )
    with Serving(data, *flags) as serving:
        yield Doors(serving, key)


FILES = [
    (("setup.exe", OCTETS, b"hi"), "blocked_extension"),
    (("report.pdf", "application/pdf", MZ), "executable"),
    (("report.docx", OCTETS, zipped("word/vbaProject.bin")), "macros"),
    (("files.zip", "application/zip", zipped("run.scr")), "blocked_in_archive"),
    (("page.html", "text/html", b"<script>x()</script>"), "active_content"),
    (("eicar.txt", "text/plain", EICAR), "malware_found"),
]


@pytest.mark.parametrize(("file", "code"), FILES, ids=[code for _, code in FILES])
def test_a_file_is_refused_alike_at_every_door(doors, file, code):
    """422 content_refused with the place; 554 5.7.1 over SMTP."""
    for status, answer in (doors.json(file), doors.raw(mime(file))):
        assert (status, answer["code"], answer["errors"][0]["code"]) == (422, "content_refused", code)
    reply, text = doors.smtp(mime(file))
    assert f"{reply} {text.split()[0]}" == CATALOGUE["content_refused"].smtp
    refused = [line["code"] for line in doors.lines("refused") if line["source"] == "smtp"]
    assert refused[-1] == "content_refused"


def test_spam_and_deceptive_links_are_refused_alike(doors):
    """By rspamd and by the rule links."""
    link = '<a href="https://evil.example">bank.com</a>'
    for fields, content, code in (({"text": GTUBE}, mime(text=GTUBE), "spam"), ({"html": link}, mime(html=link), "link_text_differs")):
        for status, answer in (doors.json(**fields), doors.raw(content)):
            assert (status, answer["code"], answer["errors"][0]["code"]) == (422, "content_refused", code)
        assert doors.smtp(content)[0] == 554


def test_a_recipient_is_refused_alike(doors):
    """validation_failed at the recipient's place; nothing is accepted."""
    status, answer = doors.json(to=["ann@mailinator.com"])
    assert (status, answer["code"], answer["errors"][0]["pointer"]) == (422, "validation_failed", "/to/0")
    status, answer = doors.raw(mime(), "ann@mailinator.com")
    assert (status, answer["code"], answer["errors"][0]["pointer"]) == (422, "validation_failed", "RCPT TO")
    reply, text = doors.smtp(mime(), "ann@mailinator.com")
    assert f"{reply} {text.split()[0]}" == CATALOGUE["validation_failed"].smtp


def test_a_warning_is_seen_at_every_door(doors):
    """In the answer over HTTP, in the log over SMTP, in the accepted event everywhere; the log holds codes, no words."""
    for status, answer in (doors.json(to=["info@gmial.com"]), doors.raw(mime(), "info@gmial.com")):
        assert status == 202
        assert {one["code"] for one in answer["warnings"]} == {"domain_typo", "role_address"}
        assert next(one for one in answer["warnings"] if one["code"] == "domain_typo")["hint"] == "info@gmail.com"
        _, events = doors.serving.ask("GET", f"/v1/messages/{answer['id']}/events", doors.key)
        accepted = next(one for one in events["data"] if one["type"] == "message.accepted")
        assert accepted["data"]["warnings"] == ["domain_typo", "role_address"]
    assert doors.smtp(mime(), "info@gmial.com")[0] == 250
    (line,) = until(lambda: [line for line in doors.lines("accepted") if line["source"] == "smtp"])
    assert line["warnings"] == ["domain_typo", "role_address"]
    assert "did you mean" not in doors.serving.log
    status, answer = doors.json()
    assert (status, "warnings" in answer) == (202, False)


def test_a_replay_gives_the_same_warnings(doors):
    """The answer is kept whole; a batch and personalizations name each message's own."""

    def post(path: str, body: Any, key: str) -> Any:
        request = urllib.request.Request(f"http://{doors.serving.listening['http']}{path}", data=json.dumps(body).encode(), method="POST")
        for name, value in (("Authorization", f"Bearer {doors.key}"), ("Content-Type", "application/json"), ("Idempotency-Key", key)):
            request.add_header(name, value)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.headers.get("Idempotent-Replayed"), json.loads(answer.read())

    one = body_of(to=["ann@gmial.com"])
    first, again = post("/v1/messages", one, "one"), post("/v1/messages", one, "one")
    assert again == ("true", first[1])
    assert [(warning["pointer"], warning["code"]) for warning in again[1]["warnings"]] == [("/to/0", "domain_typo")]
    batch = {"messages": [body_of(), one]}
    assert post("/v1/messages/batch", batch, "batch")[1] == post("/v1/messages/batch", batch, "batch")[1]
    assert ["warnings" in result for result in post("/v1/messages/batch", batch, "batch")[1]["results"]] == [False, True]
    shared = {**body_of(), "personalizations": [{"to": ["a@example.net"]}, {"to": ["b@example.net", "c@gmial.com"]}]}
    del shared["to"]
    answers = post("/v1/messages", shared, "shared")[1]
    assert [[warning["pointer"] for warning in one.get("warnings", [])] for one in answers] == [[], ["/personalizations/1/to/1"]]
    status, checked = doors.serving.ask("POST", "/v1/messages/validate", doors.key, shared)
    assert (status, [warning["pointer"] for warning in checked["warnings"]]) == (200, ["/personalizations/1/to/1"])


def test_variables_of_a_personalization_are_refused_at_their_place(doors):
    """Its own value there, a shared one at the top."""
    shared = {**body_of(subject="Hi {{ name }}{{ sender_name }}"), "variables": {"sender_name": "Acme"}}
    del shared["to"]
    shared["personalizations"] = [
        {"to": ["a@example.net"], "variables": {"name": "Ann"}},
        {"to": ["b@example.net"], "variables": {"name": "evil.com"}},
    ]
    status, answer = doors.serving.ask("POST", "/v1/messages", doors.key, shared)
    assert (status, [one["pointer"] for one in answer["errors"]]) == (422, ["/personalizations/1/variables/name"])
    shared["variables"]["sender_name"] = "see www.evil"
    shared["personalizations"].pop()
    status, answer = doors.serving.ask("POST", "/v1/messages", doors.key, shared)
    assert (status, [one["pointer"] for one in answer["errors"]]) == (422, ["/variables/sender_name"])


def test_validation_warns_and_refuses_as_sending_would(doors):
    """The scanners are asked, too; nothing is stored."""
    ask = lambda **fields: doors.serving.ask("POST", "/v1/messages/validate", doors.key, body_of(**fields))  # noqa: E731
    assert ask(subject="suspicious")[1]["warnings"][0]["code"] == "suspected_spam"
    assert ask(text=GTUBE)[1]["code"] == "content_refused"
    assert ask(to=["ann@gmial.com"])[1]["warnings"][0]["hint"] == "ann@gmail.com"
    assert ask()[1] == {"object": "validation", "is_valid": True}


def test_findings_and_scanners_are_counted(doors):
    """`/metrics` shows whether a scanner is up, what it was asked, and what the rules found."""
    doors.json(("a.exe", OCTETS, b"hi"))
    text = doors.serving.text("/metrics")
    assert 'gatepost_scanner_up{scanner="rspamd"} 1.0' in text
    assert 'gatepost_scanner_up{scanner="clamd"} 1.0' in text
    assert 'gatepost_scans_total{result="answered",scanner="clamd"}' in text
    assert 'gatepost_screening_findings_total{effect="refuse",rule="attachments"}' in text
