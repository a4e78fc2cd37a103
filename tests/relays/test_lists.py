"""Every provider's own suppression list against its recorded contract; Amazon's against its own library, too."""

import asyncio
import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from gatepost.clock import parse_iso
from gatepost.domain.relay_list import Why
from gatepost.egress.relays.list_client import ListUnavailable, RelayListClient
from gatepost.egress.relays.provider_list import CLASSES, create_list, instant
from gatepost.egress.relays.sigv4 import AwsKey, signed_headers
from gatepost.egress.relays.target import FORMS, parse_target
from gatepost.net.http_client import HttpClient
from gatepost.settings import Relay
from gatepost.testing.fake_clock import FakeClock
from tests.relays.peer import BREAK, Got, Peer, Says

CONTRACTS = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted((Path(__file__).parent / "list_contracts").glob("*.json"))}
NOW = parse_iso("2026-06-02T00:00:00Z")
SECRETS = ("secret-key", "key-secret", "pm-secret", "re_secret", "xkeysib-secret", "wJalr/secret+EXAMPLEKEY")


def cases(part: str) -> list[Any]:
    return [pytest.param(kind, one, id=f"{kind}-{n}") for kind, contract in CONTRACTS.items() for n, one in enumerate(contract[part])]


def client_to(kind: str, endpoint: str) -> RelayListClient:
    target = parse_target("main", Relay(url=CONTRACTS[kind]["url"], endpoint=endpoint))
    provider = create_list(target)
    assert provider is not None
    return RelayListClient(target=target, provider=provider, client=HttpClient(timeout_s=5), clock=FakeClock(NOW))


def says(recorded: dict[str, Any]) -> Says:
    return Says(recorded["status"], recorded["body"], recorded.get("headers", {}))


def check_request(got: Got, wanted: dict[str, Any]) -> None:
    assert (got.method, got.path) == (wanted["method"], wanted["path"])
    for name, value in wanted.get("headers", {}).items():
        assert got.headers[name] == value, name
    assert (got.json if got.body else None) == wanted.get("json")


def test_every_provider_with_a_list_has_a_contract():
    """A provider without one would not be tested here; of the known ones Mailjet alone has no list that can be read."""
    assert set(CONTRACTS) == set(CLASSES)
    assert set(FORMS) - set(CLASSES) == {"mailjet"}
    assert create_list(parse_target("main", Relay(url="mailjet://k:s@"))) is None


@pytest.mark.parametrize(("kind", "one"), cases("pages"))
def test_a_page_is_asked_for_and_read_as_the_documentation_has_it(kind: str, one: dict[str, Any]):
    """The request; the entries that count, with reason and time; where the next page begins."""

    async def run() -> None:
        async with Peer(says(one["answer"])) as peer:
            client = client_to(kind, peer.url)
            assert one["part"] in client.parts
            page = await client.read(one["part"], one["cursor"], one["since"])
            await client.close()
        check_request(peer.got[0], one["request"])
        assert [[entry.address, entry.why.value, entry.at] for entry in page.entries] == one["entries"]
        assert (page.seen, page.cursor) == (one["seen"], one["next"])

    asyncio.run(run())


@pytest.mark.parametrize(("kind", "one"), cases("puts"))
def test_addresses_are_put_on_the_list(kind: str, one: dict[str, Any]):
    """One call for as many as the provider takes, in the part that they belong to."""

    async def run() -> None:
        async with Peer(says(one["answer"])) as peer:
            client = client_to(kind, peer.url)
            assert Why(one["why"]) in client.takes
            await client.put(Why(one["why"]), one["addresses"])
            await client.close()
        for got, wanted in zip(peer.got, one["requests"], strict=True):
            check_request(got, wanted)

    asyncio.run(run())


@pytest.mark.parametrize(("kind", "one"), cases("removes"))
def test_an_address_is_taken_off_every_part_and_missing_ones_are_no_trouble(kind: str, one: dict[str, Any]):
    """The address is one part of the path, whatever stands in it."""

    async def run() -> None:
        async with Peer(says(one["answer"])) as peer:
            client = client_to(kind, peer.url)
            await client.remove(one["address"])
            await client.close()
        for got, wanted in zip(peer.got, one["requests"], strict=True):
            check_request(got, wanted)

    asyncio.run(run())


@pytest.mark.parametrize(("kind", "one"), cases("refusals"))
def test_a_refusal_is_told_with_its_wait_and_without_secrets(kind: str, one: dict[str, Any]):
    """What is about the request is final; what is about now is tried again, when the provider says."""

    async def run() -> ListUnavailable:
        async with Peer(says(one)) as peer:
            client = client_to(kind, peer.url)
            with pytest.raises(ListUnavailable) as caught:
                await client.read(client.parts[0], "", 0)
            await client.close()
        return caught.value

    error = asyncio.run(run())
    assert (error.is_final, error.wait_s) == (one["is_final"], one.get("wait_s"))
    assert not any(secret in str(error) for secret in SECRETS)


@pytest.mark.parametrize("kind", sorted(CONTRACTS))
def test_what_each_provider_takes_is_what_is_said(kind: str):
    """The settings refuse what it does not take."""
    assert sorted(client_to(kind, "").takes) == CONTRACTS[kind]["takes"]


@pytest.mark.parametrize("body", ["", "[]", "{}", "null", "[1,2]", '{"items": 3}', '[{"email": {"a": 1}}]', "[" * 5000])
@pytest.mark.parametrize("kind", sorted(CONTRACTS))
def test_garbage_is_no_entry_and_breaks_nothing(kind: str, body: str):
    """Whatever comes with a 200: no entries with an address, or a refusal."""

    async def run() -> None:
        async with Peer(Says(200, body)) as peer:
            client = client_to(kind, peer.url)
            try:
                page = await client.read(client.parts[0], "", 0)
                assert not [one for one in page.entries if "@" in one.address]
                assert page.cursor == ""
            except ListUnavailable:
                pass
            await client.close()

    asyncio.run(run())


def test_a_broken_connection_can_be_tried_again():
    """It is nobody's refusal."""

    async def run() -> ListUnavailable:
        async with Peer(BREAK) as peer:
            client = client_to("ses", peer.url)
            with pytest.raises(ListUnavailable) as caught:
                await client.read("suppressed", "", 0)
            await client.close()
        return caught.value

    assert not asyncio.run(run()).is_final


def test_amazons_library_asks_the_same(monkeypatch: pytest.MonkeyPatch):
    """boto3's ListSuppressedDestinations, Put and Delete have our method, path, query and body, and read what we read."""
    import boto3
    from botocore.config import Config

    answer = CONTRACTS["ses"]["pages"][0]["answer"]

    async def run() -> tuple[Peer, Any]:
        async with Peer(says(answer)) as peer:
            ours = client_to("ses", peer.url)
            await ours.read("suppressed", "tok/en+=", parse_iso("2026-06-01T00:00:00Z"))
            await ours.put(Why.BOUNCES, ["a+b@acme.test"])
            await ours.remove("a+b@acme.test")
            await ours.close()
            theirs = boto3.client(
                "sesv2", region_name="eu-west-1", endpoint_url=peer.url, aws_access_key_id="a", aws_secret_access_key="b",
                config=Config(retries={"max_attempts": 0}),
            )  # fmt: skip

            def ask() -> Any:
                start = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
                found = theirs.list_suppressed_destinations(PageSize=1000, NextToken="tok/en+=", StartDate=start)
                theirs.put_suppressed_destination(EmailAddress="a+b@acme.test", Reason="BOUNCE")
                theirs.delete_suppressed_destination(EmailAddress="a+b@acme.test")
                return found

            return peer, await asyncio.to_thread(ask)

    peer, found = asyncio.run(run())
    ours, theirs = peer.got[:3], peer.got[3:]
    assert len(theirs) == 3
    for mine, one in zip(ours, theirs, strict=True):
        assert mine.method == one.method
        assert parts_of(mine.path) == parts_of(one.path)
        assert (mine.json if mine.body else None) == (one.json if one.body else None)
    summaries = found["SuppressedDestinationSummaries"]
    assert [int(one["LastUpdateTime"].timestamp() * 1000) for one in summaries][:2] == [1780308000500, 1780308001000]


def parts_of(path: str) -> tuple[str, list[tuple[str, str]]]:
    import urllib.parse

    found = urllib.parse.urlsplit(path)
    return found.path, sorted(urllib.parse.parse_qsl(found.query))


def test_an_address_in_the_path_is_signed_as_amazons_library_signs_it(monkeypatch: pytest.MonkeyPatch):
    """AWS encodes the path once more before it signs: with a plus or an at sign in it a wrong signature would show."""
    import botocore.auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    at = parse_iso("2015-08-30T12:36:00Z")
    url = "https://email.eu-west-1.amazonaws.com/v2/email/suppression/addresses/a%2Bb%40acme.test"
    ours = signed_headers(
        "DELETE", url, {}, b"", key=AwsKey(access_key_id="AKID", secret="s/e+c"), region="eu-west-1", service="ses", now=at
    )
    moment = dt.datetime(2015, 8, 30, 12, 36, tzinfo=dt.UTC)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: moment.replace(tzinfo=None))
    request = AWSRequest("DELETE", url, headers={}, data=b"")
    botocore.auth.SigV4Auth(Credentials("AKID", "s/e+c"), "ses", "eu-west-1").add_auth(request)
    assert ours["Authorization"] == request.headers["Authorization"]


@pytest.mark.parametrize("value", [None, "", "yesterday", True, -5, 1e300, "9999-99-99", "x" * 200, {}, "Mon, 99 Foo"])
def test_a_time_that_is_none_is_left_out(value: Any):
    """A provider's word about time is never trusted to be one."""
    assert instant(value) is None
