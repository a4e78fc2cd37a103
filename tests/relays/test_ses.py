"""Amazon SES: the signature against AWS's own example and library, delivery to an independent SES (moto)."""

import asyncio
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from gatepost.clock import parse_iso
from gatepost.domain.outcome import Delivered, Failed, Outcome
from gatepost.egress.relays.sigv4 import AwsKey, signed_headers
from tests.relays.letters import EVERYBODY, LETTER, courier_to, letter_batch

AT = parse_iso("2015-08-30T12:36:00Z")


def test_the_signature_is_that_of_the_documentation():
    """ListUsers of IAM: the worked example of AWS Signature Version 4."""
    headers = signed_headers(
        "GET",
        "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08",
        {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
        b"",
        key=AwsKey(access_key_id="AKIDEXAMPLE", secret="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
        region="us-east-1",
        service="iam",
        now=AT,
    )
    assert headers["Authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, SignedHeaders=content-type;host;x-amz-date,"
        " Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    )


@pytest.mark.parametrize("token", ["", "session/token+=="])
def test_our_requests_are_signed_as_amazons_library_signs_them(monkeypatch: pytest.MonkeyPatch, token: str):
    """The same headers and body under botocore's signer give the same signature, with and without a session."""
    import datetime as dt

    import botocore.auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    body, url = b'{"Content":{}}', "https://email.eu-west-1.amazonaws.com/v2/email/outbound-emails"
    ours = signed_headers(
        "POST", url, {"Content-Type": "application/json"}, body,
        key=AwsKey(access_key_id="AKID", secret="s/e+c", session_token=token), region="eu-west-1", service="ses", now=AT,
    )  # fmt: skip
    moment = dt.datetime(2015, 8, 30, 12, 36, tzinfo=dt.UTC)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: moment.replace(tzinfo=None))
    request = AWSRequest("POST", url, headers={"Content-Type": "application/json"}, data=body)
    botocore.auth.SigV4Auth(Credentials("AKID", "s/e+c", token or None), "ses", "eu-west-1").add_auth(request)
    assert ours["Authorization"] == request.headers["Authorization"]


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{url}/moto-api/data.json", timeout=1).close()
            break
        except OSError:
            time.sleep(0.1)
    yield url
    process.kill()
    process.wait()


def stored(url: str) -> list[Any]:
    with urllib.request.urlopen(f"{url}/moto-api/data.json") as answer:
        found: list[Any] = json.load(answer)["ses"]["RawMessage"]
    return found


def test_a_message_arrives_at_an_independent_ses(moto: str):
    """moto takes it, from a verified sender only, and gives it an id; the account can be asked, too."""

    async def run() -> tuple[Outcome, Outcome]:
        courier = courier_to("ses://AKID:secret@us-east-1", moto, session_token="tok", timeout_s=20)
        before = (await courier.deliver(letter_batch()))[0]
        verify(moto, "ann@acme.example")
        after = await courier.deliver(letter_batch())
        await courier.close()
        return before, after[3]

    refused, accepted = asyncio.run(run())
    assert not isinstance(refused, Delivered), refused
    assert not isinstance(refused, Failed), "an unverified sender is our own matter"
    assert isinstance(accepted, Delivered), accepted
    assert accepted.exchange.provider_id
    (kept,) = stored(moto)
    assert kept["id"] == accepted.exchange.provider_id
    assert kept["raw_data"].encode() == LETTER
    assert kept["destinations"][:4] == list(EVERYBODY)


def verify(url: str, address: str) -> None:
    import boto3

    client = boto3.client("sesv2", region_name="us-east-1", endpoint_url=url, aws_access_key_id="a", aws_secret_access_key="b")
    client.create_email_identity(EmailIdentity=address)
