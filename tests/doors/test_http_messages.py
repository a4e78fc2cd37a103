"""Sending, reading and steering messages over HTTP, on a real store behind a real server."""

import base64
import hashlib

import pytest
from tests.doors.http_rig import DOMAIN, message

from gatepost import ids
from gatepost.clock import iso
from gatepost.store import messages

MIME = f"From: a@{DOMAIN}\r\nTo: b@example.net\r\nSubject: raw\r\n\r\nhi\r\n".encode()
ENVELOPE = {
    "content-type": "message/rfc822",
    "gatepost-envelope-from": f"a@{DOMAIN}",
    "gatepost-envelope-to": "b@example.net, c@example.net",
}


def _sent(client, **changes):
    answer = client.post("/v1/messages", json=message(**changes))
    assert answer.status_code == 202, answer.text
    return answer.json()


def test_a_sent_message_is_stored_and_can_be_read(client):
    """202 names every recipient with its status, and the message is there at once."""
    sent = _sent(
        client, to=["Ann <ann@example.net>", {"email": "bob@example.net", "name": "Bob"}], cc=["c@example.net"], bcc=["d@example.net"]
    )
    assert sent["object"] == "message"
    assert (sent["status"], sent["sandbox"]) == ("queued", True)
    assert [(one["address"], one["kind"]) for one in sent["recipients"]] == [
        ("ann@example.net", "to"),
        ("bob@example.net", "to"),
        ("c@example.net", "cc"),
        ("d@example.net", "bcc"),
    ]
    read = client.get(f"/v1/messages/{sent['id']}").json()
    assert (read["id"], read["subject"], read["from"], read["stream"]) == (sent["id"], "Order 42", f"Acme <shop@{DOMAIN}>", "transactional")
    assert [one["id"] for one in read["recipients"]] == [one["id"] for one in sent["recipients"]]


def test_every_field_of_the_api_is_taken(client):
    """The example of the documentation is accepted, with all its nulls and falses."""
    sent = _sent(
        client,
        cc=[],
        bcc=[],
        reply_to=["help@acme.example"],
        html="<p>Hi</p>",
        template=None,
        variables=None,
        headers={"X-Campaign": "c1"},
        attachments=[
            {
                "filename": "a.pdf",
                "content": base64.b64encode(b"%PDF").decode(),
                "content_type": "application/pdf",
                "disposition": "attachment",
                "content_id": None,
            },
        ],
        tags=["order"],
        metadata={"order": "42"},
        stream="codes",
        tracking={"opens": False, "clicks": False},
        unsubscribe=None,
        scheduled_at=None,
        ttl_s=None,
        require_tls=False,
        route=None,
    )
    read = client.get(f"/v1/messages/{sent['id']}").json()
    assert (read["tags"], read["metadata"], read["stream"]) == (["order"], {"order": "42"}, "codes")
    source = client.get(f"/v1/messages/{sent['id']}/raw")
    assert source.headers["content-type"] == "message/rfc822"
    assert b"X-Campaign: c1\r\n" in source.content
    assert b"Reply-To: help@acme.example\r\n" in source.content
    assert base64.b64encode(b"%PDF") in source.content


def test_variables_are_rendered_and_escaped_in_html(client):
    """A value never becomes markup in the HTML part."""
    sent = _sent(client, subject="Hi {{ name }}", html="<p>{{ name }}</p>", text="{{ name }}", variables={"name": "<b>Ann"})
    source = client.get(f"/v1/messages/{sent['id']}/raw").text
    assert "Subject: Hi <b>Ann" in source
    assert "<p>&lt;b&gt;Ann</p>" in source


@pytest.mark.parametrize(
    ("changes", "pointer", "code"),
    [
        ({"subject": "{{ name"}, "/subject", "template_syntax"),
        ({"html": "<p>{{ nobody }}</p>"}, "/html", "template_undefined"),
        ({"subject": "{{ line }}"}, "/subject", "control_characters"),
    ],
)
def test_a_template_that_cannot_be_rendered_is_refused_at_its_field(client, changes, pointer, code):
    """The pointer leads to the field whose template or result is faulty."""
    answer = client.post("/v1/messages", json=message(variables={"name": "Ann", "line": "a\r\nBcc: x@example.net"}, **changes))
    assert answer.status_code == 422
    assert [(one["pointer"], one["code"]) for one in answer.json()["errors"]] == [(pointer, code)]


def test_personalizations_become_one_message_each(client):
    """The answer is a list in order; each message has its own recipients, subject, headers and metadata."""
    body = message(subject="Hi {{ name }}", headers={"X-A": "1"}, metadata={"a": "1"})
    del body["to"]
    body["personalizations"] = [
        {"to": ["a@example.net"], "variables": {"name": "A"}, "metadata": {"b": "2"}},
        {"to": ["b@example.net"], "subject": "Yours, {{ name }}", "variables": {"name": "B"}, "headers": {"X-B": "2"}},
    ]
    answer = client.post("/v1/messages", json=body)
    assert answer.status_code == 202, answer.text
    first, second = [client.get(f"/v1/messages/{one['id']}").json() for one in answer.json()]
    assert (first["subject"], first["metadata"]) == ("Hi A", {"a": "1", "b": "2"})
    assert (second["subject"], second["metadata"]) == ("Yours, B", {"a": "1"})
    source = client.get(f"/v1/messages/{second['id']}/raw").text
    assert "X-A: 1" in source
    assert "X-B: 2" in source


def test_personalizations_and_top_level_recipients_exclude_each_other(client):
    """To whom a message goes is said once."""
    answer = client.post("/v1/messages", json=message(personalizations=[{"to": ["a@example.net"]}]))
    assert [(one["pointer"], one["code"]) for one in answer.json()["errors"]] == [("/to", "conflicting")]


def test_faults_of_personalizations_point_to_where_the_field_was_given(client):
    """A shared field is named once, an own field in its personalization; and nothing is stored."""
    body = message(headers={"X-A": "a\r\nb"})
    del body["to"]
    body["personalizations"] = [{"to": ["a@example.net"], "subject": "x\ny"}, {"to": ["b@example.net"]}, {"to": ["nope"]}]
    errors = client.post("/v1/messages", json=body).json()["errors"]
    assert [one["pointer"] for one in errors] == ["/personalizations/2/to/0"]
    body["personalizations"].pop()
    errors = client.post("/v1/messages", json=body).json()["errors"]
    assert [one["pointer"] for one in errors] == ["/personalizations/0/subject", "/headers/X-A"]


def test_a_strict_batch_takes_all_or_none(client, rig):
    """One faulty message refuses the batch, with its number in the pointer, and nothing is stored."""
    before = rig.count("message")
    answer = client.post("/v1/messages/batch", json={"messages": [message(), message(to=["nope"]), message(subjct="x")]})
    assert answer.status_code == 422
    assert [one["pointer"] for one in answer.json()["errors"]] == ["/messages/1/to/0", "/messages/2/subjct"]
    assert rig.count("message") == before


def test_a_permissive_batch_takes_what_is_good_in_order(client):
    """Results stand in the order of the messages, refusals among them."""
    answer = client.post("/v1/messages/batch", json={"mode": "permissive", "messages": [message(to=["nope"]), message(), {"from": 1}]})
    assert answer.status_code == 202
    body = answer.json()
    assert [one["object"] for one in body["results"]] == ["refusal", "message", "refusal"]
    assert (body["accepted"], body["refused"]) == (1, 2)
    assert body["results"][0]["errors"][0]["pointer"] == "/to/0"


def test_a_batch_has_at_most_500_messages(client):
    """501 are refused before anything is done."""
    answer = client.post("/v1/messages/batch", json={"messages": [message()] * 501})
    assert answer.json()["errors"][0]["pointer"] == "/messages"


def test_finished_mime_is_taken_with_its_envelope(client):
    """The envelope stands in headers; the recipients are those of the envelope."""
    answer = client.post("/v1/messages/raw", content=MIME, headers={**ENVELOPE, "gatepost-stream": "bulk", "gatepost-tag": "a, b"})
    assert answer.status_code == 202, answer.text
    assert [one["address"] for one in answer.json()["recipients"]] == ["b@example.net", "c@example.net"]
    read = client.get(f"/v1/messages/{answer.json()['id']}").json()
    assert (read["subject"], read["stream"], read["tags"], read["source"]) == ("raw", "bulk", ["a", "b"], "http")


@pytest.mark.parametrize(
    ("headers", "content", "place"),
    [
        ({"gatepost-envelope-to": ""}, MIME, "Gatepost-Envelope-To"),
        ({"gatepost-envelope-to": "nope"}, MIME, "Gatepost-Envelope-To"),
        ({"gatepost-envelope-from": "no pe"}, MIME, "Gatepost-Envelope-From"),
        ({"gatepost-stream": "nope"}, MIME, "Gatepost-Stream"),
        ({}, b"no header at all", ""),
    ],
)
def test_a_faulty_envelope_or_content_is_refused_at_its_place(client, headers, content, place):
    """The pointer is the header's name."""
    answer = client.post("/v1/messages/raw", content=content, headers={**ENVELOPE, **headers})
    assert answer.status_code == 422, answer.text
    assert place in [one["pointer"] for one in answer.json()["errors"]]


def test_validation_checks_and_stores_nothing(client, rig):
    """The same faults as sending, and no message."""
    before = rig.count("message")
    assert client.post("/v1/messages/validate", json=message()).json() == {"object": "validation", "is_valid": True}
    assert client.post("/v1/messages/validate", json=message(to=["nope"])).json()["errors"][0]["pointer"] == "/to/0"
    other = client.post("/v1/messages/validate", json=message(**{"from": "x@elsewhere.example"}))
    assert (other.status_code, other.json()["code"]) == (403, "domain_not_verified")
    assert rig.count("message") == before


def test_a_repeated_idempotency_key_gives_the_first_answer(client, rig):
    """Same status and body, marked as a replay; another body is refused; for one, batch and raw alike."""
    requests = [
        ("/v1/messages", {"json": message(), "headers": {}}, {"json": message(subject="other"), "headers": {}}),
        ("/v1/messages/batch", {"json": {"messages": [message()]}, "headers": {}}, {"json": {"messages": [message()] * 2}, "headers": {}}),
        (
            "/v1/messages/raw",
            {"content": MIME, "headers": ENVELOPE},
            {"content": MIME, "headers": {**ENVELOPE, "gatepost-envelope-to": "x@example.net"}},
        ),
    ]
    for path, request, other in requests:
        key = {"idempotency-key": f"order-42/{path}"}
        first = client.post(path, **{**request, "headers": {**request["headers"], **key}})
        count = rig.count("message")
        again = client.post(path, **{**request, "headers": {**request["headers"], **key}})
        assert (first.status_code, again.status_code) == (202, 202)
        assert again.content == first.content
        assert "idempotent-replayed" not in first.headers
        assert again.headers["idempotent-replayed"] == "true"
        reused = client.post(path, **{**other, "headers": {**other["headers"], **key}})
        assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")
        assert rig.count("message") == count


@pytest.mark.parametrize("key", ["", "x" * 256, "caf\u00e9".encode().decode("latin-1"), "tab\there"])
def test_an_idempotency_key_is_printable_and_short(client, key):
    """1 to 255 printable ASCII characters."""
    answer = client.post("/v1/messages", json=message(), headers=[(b"idempotency-key", key.encode("latin-1"))])
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "Idempotency-Key")


def test_a_test_key_never_leaves_the_sandbox(rig):
    """Mail of a test key is marked as sandboxed."""
    with rig.client(rig.test_key) as client:
        assert _sent(client)["sandbox"] is True


def test_suppressed_recipients_are_left_out_and_named(client):
    """One suppressed recipient is told in the answer; when all are, the message is refused."""
    client.post("/v1/suppressions", json={"address": "gone@example.net", "reason": "invalid_recipient"})
    sent = _sent(client, to=["ann@example.net", "Gone@example.net"])
    assert [(one["status"], one.get("reason")) for one in sent["recipients"]] == [("queued", None), ("suppressed", "invalid_recipient")]
    refused = client.post("/v1/messages", json=message(to=["gone@example.net"]))
    assert (refused.status_code, refused.json()["code"]) == (422, "all_recipients_suppressed")


def test_a_scheduled_message_can_be_moved_cancelled_and_retried(client, rig):
    """Scheduled, moved, cancelled, brought back; each with its event; a second cancel conflicts."""
    now = rig.deps.clock.now()
    message_id = _sent(client, scheduled_at=iso(now + 3_600_000), ttl_s=600)["id"]
    assert client.get(f"/v1/messages/{message_id}").json()["status"] == "scheduled"
    moved = client.patch(f"/v1/messages/{message_id}", json={"scheduled_at": iso(now + 7_200_000)})
    assert moved.json() == {"object": "change", "id": message_id, "recipients": 1}
    read = client.get(f"/v1/messages/{message_id}").json()
    assert (read["scheduled_at"], read["expires_at"]) == (iso(now + 7_200_000), iso(now + 7_800_000))
    assert client.post(f"/v1/messages/{message_id}/cancel").status_code == 200
    assert client.post(f"/v1/messages/{message_id}/cancel").json()["code"] == "conflict"
    assert client.patch(f"/v1/messages/{message_id}", json={"scheduled_at": iso(now)}).status_code == 409
    assert client.post(f"/v1/messages/{message_id}/retry").status_code == 200
    types = [one["type"] for one in client.get(f"/v1/messages/{message_id}/events").json()["data"]]
    assert types == ["message.scheduled", "message.scheduled", "message.cancelled", "message.retried"]


def test_explain_and_attempts_answer_for_a_waiting_message(client):
    """Where it is, in a sentence; and no attempts yet."""
    message_id = _sent(client)["id"]
    explained = client.get(f"/v1/messages/{message_id}/explain").json()
    assert explained["status"] == "queued"
    assert explained["recipients"][0]["cause"] == "no_dispatcher"
    assert client.get(f"/v1/messages/{message_id}/attempts").json() == {"data": [], "has_more": False}


@pytest.mark.parametrize(
    "text",
    ["2026-11-24", "2026-11-24T02:00:00", "tomorrow", "2026-13-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "2026-11-24T02:00:00+99:00"],
)
def test_a_time_names_its_offset(client, text):
    """A local time would be a guess."""
    answer = client.post("/v1/messages", json=message(scheduled_at=text))
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/scheduled_at"


def test_all_faults_are_told_at_once(client):
    """A caller who made six mistakes needs one answer, not six."""
    body = message(
        to=["nope", "ann@example.net"],
        cc=[{"email": "x@"}],
        html="a\0b",
        tags=["a\nb"],
        template="tpl_1",
        attachments=[{"filename": "a/b", "content": "***"}],
    )
    errors = client.post("/v1/messages", json=body).json()["errors"]
    assert {one["pointer"] for one in errors} == {
        "/to/0",
        "/cc/0/email",
        "/html",
        "/tags/0",
        "/template",
        "/attachments/0/content",
        "/attachments/0/filename",
    }


@pytest.mark.parametrize(
    ("field", "value", "pointer"),
    [
        ("template", "tpl_1", "/template"),
    ],
)
def test_what_is_not_supported_yet_is_refused_not_ignored(client, field, value, pointer):
    """A promise that is not kept must not be taken."""
    errors = client.post("/v1/messages", json=message(**{field: value})).json()["errors"]
    assert [(one["pointer"], one["code"]) for one in errors] == [(pointer, "unsupported")]


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({}, {}),
        ({"require_tls": False}, {}),
        ({"require_tls": True}, {"require_tls": True}),
        ({"headers": {"TLS-Required": "No"}}, {"tls_optional": True}),
        ({"headers": {"TLS-Required": "No"}, "require_tls": True}, {"require_tls": True}),
    ],
)
def test_what_is_asked_of_tls_is_stored_with_the_message(client, rig, changes, options):
    """`require_tls`, and RFC 8689's header; who asks for both is given the stricter."""
    message_id = _sent(client, **changes)["id"]
    assert rig.run(rig.engine.read(lambda conn: messages.materials(conn, [message_id], 10**9)))[message_id].options == options


@pytest.mark.parametrize("content", ["a", "YQ=", "YQ==\n", "Y Q==", "YR==", "YQ", "=YQ=", "\u00e9"])
def test_base64_is_checked_strictly(client, content):
    """No line breaks, no missing padding, no stray bits: what arrives is what was meant."""
    answer = client.post("/v1/messages", json=message(attachments=[{"filename": "a.txt", "content": content}]))
    assert [(one["pointer"], one["code"]) for one in answer.json()["errors"]] == [("/attachments/0/content", "invalid_base64")]


def test_lists_are_filtered_by_status_tag_recipient_stream_time_and_text(client, rig):
    """Each filter finds the message and leaves out the others."""
    since = iso(rig.deps.clock.now())
    wanted = _sent(client, to=["filter.me@example.net"], tags=["only-this"], stream="bulk", subject="A needle in hay")["id"]
    _sent(client, tags=["another"])
    client.post(f"/v1/messages/{wanted}/cancel")
    for query in (
        "tag=only-this",
        "recipient=Filter.Me@example.net",
        f"stream=bulk&since={since}",
        f"status=cancelled&since={since}",
        "q=NEEDLE",
    ):
        found = [one["id"] for one in client.get(f"/v1/messages?{query}").json()["data"]]
        assert found == [wanted], query
    assert client.get(f"/v1/messages?until={since}&tag=only-this").json()["data"] == []


def test_pages_stay_stable_while_messages_arrive(client):
    """Following rel=next gives every message of before once, whatever arrives meanwhile; rel=prev leads back."""
    sent = [_sent(client, tags=["paged"])["id"] for _ in range(7)]
    url, found, pages = "/v1/messages?limit=3&tag=paged", [], []
    while url:
        answer = client.get(url)
        pages.append(answer)
        found += [one["id"] for one in answer.json()["data"]]
        _sent(client, tags=["paged"])
        url = answer.links.get("next", {}).get("url")
    assert found == list(reversed(sent))
    assert [page.json()["has_more"] for page in pages] == [True, True, False]
    back = client.get(pages[1].links["prev"]["url"]).json()
    assert len(back["data"]) == 3
    assert back["data"][-1]["id"] > pages[1].json()["data"][0]["id"]


def test_the_request_hash_covers_path_and_body_exactly(client):
    """The same key on another endpoint is another request."""
    key = {"idempotency-key": hashlib.sha256(b"x").hexdigest()}
    assert client.post("/v1/messages", json=message(), headers=key).status_code == 202
    assert client.post("/v1/messages/batch", json={"messages": [message()]}, headers=key).json()["code"] == "idempotency_key_reused"


def test_an_unknown_or_malformed_id_is_not_found(client):
    """404, whatever the text."""
    for text in (ids.new_message_id(), "msg_x", "x", "..", "%00", "msg_" + "0" * 26, "'; DROP TABLE message;--"):
        answer = client.get(f"/v1/messages/{text}")
        assert answer.status_code in {200, 404} if text == ".." else answer.status_code == 404, text
