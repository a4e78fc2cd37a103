"""Every provider's API against its recorded contract: the request as its documentation asks for it, each class of answer."""

import asyncio
import base64
import email
import email.policy
import json
from pathlib import Path
from typing import Any

import pytest

from gatepost.domain.outcome import Deferred, Delivered, Failed, Outcome
from gatepost.settle import kind_of
from tests.relays.letters import EVERYBODY, LETTER, courier_to, letter_batch, simple_batch
from tests.relays.peer import Peer, Says

CONTRACTS = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted((Path(__file__).parent / "contracts").glob("*.json"))}
KINDS = ("brevo", "mailgun", "mailjet", "postmark", "resend", "sendgrid", "ses")
RECORDED = [pytest.param(kind, one, id=f"{kind}-{one['name']}") for kind, contract in CONTRACTS.items() for one in contract["answers"]]
SECRETS = ("secret-key", "key-secret", "pm-secret", "re_secret", "mj-secret", "xkeysib-secret", "wJalr/secret+EXAMPLEKEY")


def says(recorded: dict[str, Any]) -> Says:
    return Says(recorded["status"], recorded["body"], recorded.get("headers", {}))


def test_every_provider_has_a_contract():
    """A provider without one would not be tested here."""
    assert tuple(CONTRACTS) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_the_request_is_as_the_documentation_asks(kind: str):
    """Method, path, headers, authentication and the whole body; every recipient once, nobody's Bcc in a visible field."""
    contract = CONTRACTS[kind]

    async def run() -> None:
        async with Peer(says(contract["accepted"])) as peer:
            courier = courier_to(contract["url"], peer.url)
            outcomes = await courier.deliver(letter_batch())
            await courier.close()
        assert len(peer.got) == len(contract["calls"])
        for got, wanted in zip(peer.got, contract["calls"], strict=True):
            assert (got.method, got.path) == (wanted["method"], wanted["path"])
            for name, value in wanted["headers"].items():
                assert got.headers[name] == value, name
            if "form" in wanted:
                check_form(got.headers["content-type"], got.body, wanted["form"])
            else:
                assert normalized(got.json) == wanted["json"]
        assert sorted(outcomes) == [0, 1, 2, 3]
        ids = contract["accepted"].get("provider_ids", [contract["accepted"]["provider_id"]] * 4)
        for n, outcome in outcomes.items():
            assert isinstance(outcome, Delivered)
            assert not outcome.final
            assert outcome.reply.code == 250
            assert outcome.exchange.provider_id == ids[n]
            assert (outcome.exchange.host, outcome.exchange.route) == ("127.0.0.1", "main")
            assert outcome.exchange.peer is not None
            check_no_secret(outcome)

    asyncio.run(run())


def normalized(body: Any) -> Any:
    """Put what differs from run to run into the words of the contract; raw messages must be ours, byte for byte."""
    if "idempotencyKey" in (body.get("headers") or {}):
        body["headers"]["idempotencyKey"] = "KEY"
    if "Content" in body:
        assert base64.b64decode(body["Content"]["Raw"]["Data"]) == LETTER
        body["Content"]["Raw"]["Data"] = "RAW"
    text = json.dumps(body, ensure_ascii=False).replace('\\r\\n"', '"')  # the last line end of a text is nobody's content
    return json.loads(text)


def check_form(content_type: str, body: bytes, wanted: dict[str, Any]) -> None:
    form = email.message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body, policy=email.policy.HTTP)
    parts = list(form.iter_parts())
    names = [part["Content-Disposition"].params["name"] for part in parts]
    assert [part.get_content().strip() for part, name in zip(parts, names, strict=True) if name == "to"] == wanted["to"]
    assert names.count("message") == 1
    assert LETTER in body, "the message is ours, byte for byte"


@pytest.mark.parametrize(("kind", "recorded"), RECORDED)
def test_each_answer_means_what_the_table_says(kind: str, recorded: dict[str, Any]):
    """Account trouble and quotas cost no retry, the recipient's own refusal is final, unclear answers are unknown."""
    contract = CONTRACTS[kind]

    async def run() -> Outcome:
        async with Peer(says(recorded)) as peer:
            courier = courier_to(contract["url"], peer.url)
            outcome = (await courier.deliver(simple_batch()))[0]
            await courier.close()
        return outcome

    outcome = asyncio.run(run())
    kind_ = "sent" if isinstance(outcome, Delivered) else kind_of(outcome)
    assert kind_ == recorded["outcome"], outcome
    if isinstance(outcome, Failed | Deferred):
        assert outcome.category.value == recorded["category"], outcome
    if isinstance(outcome, Deferred):
        assert outcome.counts is recorded["counts"], outcome
        wait_s = recorded.get("wait_s")
        waits = None if outcome.retry_at is None else round((outcome.retry_at - outcome.exchange.finished_at) / 1000)
        assert waits == wait_s
    check_no_secret(outcome)


def check_no_secret(outcome: Outcome) -> None:
    text = repr(outcome) + outcome.exchange.transcript
    assert not any(secret in text for secret in SECRETS)
    assert "Hallo" not in text


@pytest.mark.parametrize("kind", KINDS)
def test_a_probe_asks_for_the_account_and_sends_nothing(kind: str):
    """A good key, a bad key, nobody there: each is told apart."""
    contract = CONTRACTS[kind]
    wanted = contract["probe"]

    async def run() -> None:
        async with Peer(says(wanted["good"]), says(wanted["bad"])) as peer:
            courier = courier_to(contract["url"], peer.url)
            good, bad = await courier.probe(), await courier.probe()
            await courier.close()
            gone = peer.url
        got = peer.got[0]
        assert (got.method, got.path, got.body) == (wanted["method"], wanted["path"], b"")
        for name, value in wanted["headers"].items():
            assert got.headers[name] == value
        assert (good.is_good, good.is_reachable, good.is_authenticated) == (True, True, True)
        assert good.quota_left == wanted["good"].get("quota_left")
        assert (bad.is_good, bad.is_reachable, bad.is_authenticated) == (False, True, False), bad
        courier = courier_to(contract["url"], gone)
        away = await courier.probe()
        await courier.close()
        assert (away.is_good, away.is_reachable, away.is_authenticated) == (False, False, None)
        assert not any(secret in repr((good, bad, away)) for secret in SECRETS)

    asyncio.run(run())


@pytest.mark.parametrize("kind", KINDS)
def test_a_retry_reaches_nobody_but_its_own_recipient(kind: str):
    """Of four recipients one is tried again: nobody else's address stands in the call, also not in a field that mails them."""
    contract = CONTRACTS[kind]

    async def run() -> None:
        async with Peer(says(contract["accepted"])) as peer:
            courier = courier_to(contract["url"], peer.url)
            outcomes = await courier.deliver(letter_batch("zoe@acme.test"))
            await courier.close()
        assert list(outcomes) == [0]
        assert len(peer.got) == 1
        body = peer.got[0].body.replace(LETTER, b"").replace(base64.b64encode(LETTER), b"")
        assert b"zoe@acme.test" in body
        assert not [one for one in EVERYBODY if one != "zoe@acme.test" and one.encode() in body]

    asyncio.run(run())
