"""The sandbox: nothing leaves, and magic recipients do as they are named."""

import asyncio

import pytest

from gatepost.domain.outcome import Category, Deferred, Delivered, Failed, Outcome, Unknown
from gatepost.egress import sandbox
from gatepost.egress.courier import Batch, BatchRecipient
from gatepost.egress.sandbox import BEHAVIOURS, SLOW_S, SandboxCourier


class Clock:
    """A clock that stands still, and counts how long it was slept on."""

    def __init__(self) -> None:
        self.at = 1_000

    def now(self) -> int:
        return self.at

    def monotonic(self) -> float:
        return self.at / 1000

    async def sleep(self, seconds: float) -> None:
        self.at += int(seconds * 1000)


def deliver(*recipients: tuple[str, int], clock: Clock | None = None) -> dict[int, Outcome]:
    batch = Batch(
        message_id="msg_1",
        route="sandbox",
        site="sandbox",
        domain="acme.test",
        envelope_from="ann@acme.example",
        recipients=tuple(BatchRecipient(n=n, address=address, attempt=attempt) for n, (address, attempt) in enumerate(recipients)),
        content=b"Subject: x\r\n\r\n.y\r\n",
    )
    return dict(asyncio.run(SandboxCourier(clock or Clock()).deliver(batch)))


@pytest.mark.parametrize(
    ("local", "attempt", "kind", "what"),
    [
        ("deliver", 1, Delivered, "250 2.0.0"),
        ("anyone", 1, Delivered, "250 2.0.0"),
        ("bounce", 1, Failed, "550 5.1.1"),
        ("bounce", 2, Failed, "550 5.1.1"),
        ("BOUNCE+order-7", 1, Failed, "550 5.1.1"),
        ("bouncer", 1, Delivered, "250 2.0.0"),
        ("defer", 1, Deferred, "451 4.7.1"),
        ("defer", 2, Delivered, "250 2.0.0"),
        ("full", 9, Deferred, "452 4.2.2"),
        ("spam", 1, Failed, "554 5.7.1"),
        ("block", 1, Failed, "550 5.7.1"),
        ("drop", 1, Unknown, ""),
        ("drop", 2, Delivered, "250 2.0.0"),
        ("never", 9, Deferred, ""),
        ("noanswer", 1, Deferred, ""),
    ],
)
def test_magic_recipients_behave_as_named(local: str, attempt: int, kind: type[Outcome], what: str) -> None:
    """Each name of the table has its outcome, by local part, before `+`, in any case."""
    outcome = deliver((f"{local}@acme.test", attempt))[0]
    assert isinstance(outcome, kind)
    reply = getattr(outcome, "reply", None)
    assert str(reply or "").startswith(what)
    assert isinstance(outcome, Delivered) == (getattr(outcome, "captured", None) is not None)


def test_captured_bytes_are_exactly_the_content() -> None:
    """What would have gone out is what can be seen, to the byte."""
    outcome = deliver(("ann@acme.test", 1))[0]
    assert isinstance(outcome, Delivered)
    assert outcome.captured == b"Subject: x\r\n\r\n.y\r\n"


def test_slow_waits_on_the_clock_and_says_so() -> None:
    """Three seconds pass between start and end."""
    clock = Clock()
    outcome = deliver(("slow@acme.test", 1), clock=clock)[0]
    assert isinstance(outcome, Delivered)
    assert outcome.exchange.finished_at - outcome.exchange.started_at == SLOW_S * 1000


def test_every_recipient_of_a_batch_has_its_own_outcome() -> None:
    """One bad recipient changes nothing for the others."""
    outcomes = deliver(("ann@acme.test", 1), ("bounce@acme.test", 1), ("never@acme.test", 1))
    assert [type(outcomes[n]) for n in range(3)] == [Delivered, Failed, Deferred]
    refused = outcomes[1]
    assert isinstance(refused, Failed)
    assert refused.category is Category.INVALID_RECIPIENT
    assert refused.exchange.transcript.endswith("S: 550 5.1.1 No such user here")


def test_the_table_in_the_docstring_is_complete() -> None:
    """Every magic name is documented where people look."""
    assert all(f"`{name}`" in (sandbox.__doc__ or "") for name in BEHAVIOURS)
