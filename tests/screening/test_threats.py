"""THREATS 24 and 26 through the API: data stays data, templates stay small, and headers that say who sends cannot be set."""

import time

import httpx
import pytest

from tests.doors.http_rig import message, running_door

FIELDS = ("subject", "text", "html")


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with running_door(tmp_path_factory.mktemp("door")) as rig, rig.client() as made:
        yield made


def sent_source(client: httpx.Client, body: dict) -> str:
    answer = client.post("/v1/messages", json=body)
    assert answer.status_code == 202, answer.text
    return client.get(f"/v1/messages/{answer.json()['id']}/raw").text


@pytest.mark.parametrize(
    "value", ["{{7*7}}", "{{ ''.__class__.__mro__ }}", "{% include 'x' %}", "{{ code|attr('x') }}", "{# x #}", "{{ code }}"]
)
def test_a_value_stays_what_it_is(client, value):
    """What looks like a template in the data arrives as it was written, in every field, and is looked at once only."""
    source = sent_source(client, message(subject="S {{ code }}", text="T {{ code }}", variables={"code": value}))
    assert source.count(value) == 2
    assert "49" not in source.partition("\r\n\r\n")[2].replace("7*7", "")


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ name|attr('__class__') }}",
        "{{ name.__init__.__globals__ }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{% extends name %}",
        "{{ env('HOME') }}",
        "{{ config }}",
        "{{ self }}",
        "{{ range(1000000000) }}",
        "{% for a in range(1000000000) %}x{% endfor %}",
        "{{ 'x' * 1000000000 }}",
        "{{ name * 1000000000 }}",
        "{{ [name] * 1000000 }}",
        "{{ 10 ** 10000000 }}",
        "{{ '%1000000000d'|format(1) }}",
        "{{ lipsum(1000000) }}",
        "{{ cycler }}",
        "{% set x = name %}{{ x }}",
        "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
        "{% call a() %}{% endcall %}",
        "{% filter upper %}x{% endfilter %}",
        "{{ name|map(attribute='__class__')|list }}",
        "{{ name.format(name) }}",
    ],
)
@pytest.mark.parametrize("field", FIELDS)
def test_a_template_reaches_nothing_but_its_values(client, field, template):
    """Refused at its field, quickly: no attributes of objects, no other templates, no calls, nothing that grows."""
    started = time.monotonic()
    answer = client.post("/v1/messages/validate", json=message(**{field: template, "variables": {"name": "Ann"}}))
    assert answer.status_code == 422, answer.text
    assert [(one["pointer"], one["code"].startswith("template_")) for one in answer.json()["errors"]] == [(f"/{field}", True)]
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    ("template", "variables"),
    [
        (
            "{% for a in l %}{% for b in l %}{% for c in l %}{% for d in l %}x{% endfor %}{% endfor %}{% endfor %}{% endfor %}",
            {"l": [0] * 5000},
        ),
        ("{% for a in l %}{{ s }}{% endfor %}", {"l": [0] * 10_000, "s": "x" * 100_000}),
        ("{{ s|urlencode|urlencode|urlencode|urlencode|urlencode|urlencode|urlencode|urlencode|urlencode }}" * 20, {"s": "%" * 200_000}),
        ("{% if a %}" * 500 + "{% endif %}" * 500, {"a": 1}),
        ("{{ a }}" * 20_000, {"a": "x"}),
    ],
)
def test_loops_and_growth_have_an_end(client, template, variables):
    """A loop of 6e14 rounds or a result of a gigabyte is refused within a second, in bounded memory."""
    started = time.monotonic()
    answer = client.post("/v1/messages/validate", json=message(text=template, variables=variables))
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "template_too_large")
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    "name",
    [
        "From", "from", "Sender", "Reply-To", "To", "Cc", "Bcc", "BCC", "Subject", "Date", "Message-ID", "Return-Path", "Received", "MIME-Version",
        "Content-Type", "Content-Transfer-Encoding", "DKIM-Signature", "DomainKey-Signature", "ARC-Seal", "ARC-Message-Signature",
        "ARC-Authentication-Results", "Authentication-Results", "Received-SPF", "Resent-From", "Resent-Bcc", "Resent-Sender", "Delivered-To",
        "Apparently-To", "X-Gatepost-Stream", "X-Gatepost-Anything",
    ],
)  # fmt: skip
def test_headers_that_say_who_sends_or_vouches_cannot_be_set(client, name):
    """From, recipients, signatures, traces and steering are made from fields and facts; the pointer names the header."""
    answer = client.post("/v1/messages/validate", json=message(headers={name: "evil@evil.example"}))
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "reserved_header")
    assert answer.json()["errors"][0]["pointer"] == f"/headers/{name}"


@pytest.mark.parametrize("name", ["From ", " From", "From\t", "F\u0280om", "From:", "Fro\u200bm", "Bcc\r\nX", ""])
def test_no_spelling_of_a_header_gets_past(client, name):
    """Spaces, look-alike letters and colons are no header names."""
    answer = client.post("/v1/messages/validate", json=message(headers={name: "x"}))
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "invalid_header_name")


def test_headers_are_no_templates(client):
    """A value in braces arrives as it is: nothing a caller's customer typed becomes a header."""
    source = sent_source(client, message(headers={"X-Order": "{{ name }}"}, variables={"name": "Ann"}, text="Hi {{ name }}"))
    assert "X-Order: {{ name }}" in source


def test_a_name_in_a_mail_is_escaped_or_refused(client):
    """The sign-up mail: HTML in a name arrives as text and is told; a link in it does not arrive at all."""
    body = message(text="Hi {{ name }}", html="<p>Hi {{ name }}</p>", variables={"name": "<b>Ann</b>"})
    answer = client.post("/v1/messages", json=body)
    assert [(one["pointer"], one["code"]) for one in answer.json()["warnings"]] == [("/variables/name", "markup")]
    assert "&lt;b&gt;Ann" in client.get(f"/v1/messages/{answer.json()['id']}/raw").text
    for name in ("<a href=//evil.example>Ann</a>", "evil.com", "x" * 5000, "Ann\n\nPay here: 12345"):
        refused = client.post("/v1/messages", json={**body, "variables": {"name": name}})
        assert (refused.status_code, refused.json()["code"]) == (422, "content_refused")
