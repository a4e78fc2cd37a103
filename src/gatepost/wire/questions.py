"""
How code without a network asks DNS: it yields a `Question` and is sent the `Reply`.

Leaves: the two shapes, and `drive` for replies that are at hand. Who has to wait for them drives with `await` (tenants.asking).
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask DNS: a name and one of TXT, A, AAAA, MX, PTR."""

    name: str
    kind: str


Reply = Sequence[str] | None
"""The records as text, an MX as `10 mx.example.net`; empty when there are none, or no such name; None when DNS failed."""

Walk = Generator[Question, Reply, T]
"""Something that asks its way to a result."""


def drive(walk: "Walk[T]", ask: Callable[[Question], Reply]) -> T:
    """
    Answer a walk's questions until it ends.

    Raises:
        Exception: What the walk or `ask` raises.
    """
    try:
        question = next(walk)
        while True:
            question = walk.send(ask(question))
    except StopIteration as end:
        result: T = end.value
        return result
