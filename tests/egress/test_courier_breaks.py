"""Connections that break: before the final dot the mail is deferred, after it nobody knows."""

import asyncio

import pytest

from gatepost.domain.outcome import Category, Deferred, Delivered, Failed, Outcome, Unknown
from gatepost.testing.batches import make_batch, make_courier
from gatepost.testing.scripted_peer import DROP, RESET, SILENCE, Action, Drop, Raw, ScriptedPeer


async def meet(script: dict[str, Action]) -> Outcome:
    async with ScriptedPeer(script) as peer:
        courier = make_courier(f"smtp://127.0.0.1:{peer.port}", timeout_scale=0.001)
        outcome = (await courier.deliver(make_batch()))[0]
        await courier.close()
        return outcome


@pytest.mark.parametrize("stage", ["GREETING", "EHLO", "MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("death", [DROP, RESET, SILENCE, Raw(b"garbage\r\n"), Raw(b"9" * 5000), Drop("421 4.3.2 shutting down")])
def test_a_break_before_the_final_dot_defers(stage: str, death: Action) -> None:
    """EOF, reset, silence, nonsense, 421: nothing was delivered, so try again later."""
    outcome = asyncio.run(meet({stage: death}))
    assert isinstance(outcome, Deferred), outcome
    assert outcome.counts
    assert outcome.category in {Category.NETWORK, Category.REMOTE_SYSTEM}
    assert outcome.exchange.transcript


@pytest.mark.parametrize("death", [DROP, RESET, SILENCE, Raw(b"garbage\r\n"), Raw(b"250 o"), Raw(b"354 what\r\n")])
def test_a_break_after_the_final_dot_is_unknown(death: Action) -> None:
    """The server may have the mail (RFC 1047)."""
    script = {".": Drop("250 o") if death == Raw(b"250 o") else death}
    outcome = asyncio.run(meet(script)) if death != Raw(b"250 o") else asyncio.run(meet({".": Raw(b"250 o")}))
    assert isinstance(outcome, Unknown), outcome
    assert "bytes of content" in outcome.exchange.transcript


def test_a_421_instead_of_an_answer_to_the_dot_is_an_answer() -> None:
    """The server says that it did not take the mail."""
    outcome = asyncio.run(meet({".": Drop("421 4.3.2 shutting down")}))
    assert isinstance(outcome, Deferred)
    assert outcome.reply is not None
    assert outcome.reply.code == 421


@pytest.mark.parametrize(
    ("stage", "reply", "kind"),
    [
        ("MAIL", "451 4.3.0 x", Deferred),
        ("MAIL", "550 5.7.1 x", Failed),
        ("RCPT", "452 4.5.3 x", Deferred),
        ("RCPT", "552 too many recipients", Deferred),
        ("RCPT", "552 5.2.2 full", Failed),
        ("DATA", "451 x", Deferred),
        ("DATA", "554 x", Failed),
        (".", "451 x", Deferred),
        (".", "554 5.7.1 x", Failed),
        (".", "251 x", Delivered),
    ],
)
def test_the_first_digit_decides(stage: str, reply: str, kind: type[Outcome]) -> None:
    """4yz is for now, 5yz for good (RFC 5321 §4.2.1); 552 for too many recipients is for now (§4.5.3.1.10)."""
    assert isinstance(asyncio.run(meet({stage: reply})), kind)


def test_nothing_listens() -> None:
    """A refused connection is deferred, with the address in the transcript."""

    async def run() -> Outcome:
        async with ScriptedPeer() as peer:
            port = peer.port
        courier = make_courier(f"smtp://127.0.0.1:{port}")
        return (await courier.deliver(make_batch()))[0]

    outcome = asyncio.run(run())
    assert isinstance(outcome, Deferred)
    assert outcome.category is Category.NETWORK
    assert "refused" in outcome.detail.lower()
