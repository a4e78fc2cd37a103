"""
Begins a placement test: one message for each seed, accepted like any other of its tenant.

Arrives: who asks, and a message without recipients. Leaves: a stored test, and messages in the queue, each with the test's marker.
The test is stored first, so that no mail of a test is unknown; a message that is refused is a result that says so.
Not here: what a message must be (accept), where it lands (looking).
"""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from gatepost import ids
from gatepost.clock import DAY, HOUR, SECOND, Clock
from gatepost.domain.address import InvalidAddress, Mailbox, parse_mailbox
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.message import Submission
from gatepost.domain.placement import Outcome, PlacementResult, PlacementTest
from gatepost.domain.tenant import Caller
from gatepost.settings import InvalidSettings, Seed, Settings
from gatepost.store import placement
from gatepost.store.engine import Engine
from gatepost.store.errors import StorageUnavailable

MARKER: Final = "X-Placement-Id"
SUBJECT: Final = "Placement test"
TEXT: Final = "This mail was sent to a mailbox of our own, to see where our mail lands.\n"
"""What is sent where nobody gives anything better: real mail tells more."""
TAG: Final = "placement"


class Accepting(Protocol):
    """The door behind all doors; see accept.Acceptor."""

    async def validate(self, caller: Caller, submission: Submission) -> Any:
        """Check a message, and accept nothing."""
        ...

    async def submit(self, caller: Caller, submission: Submission) -> Any:
        """Accept a message."""
        ...


def mailbox_of(name: str, seed: Seed) -> Mailbox:
    """
    Read a seed's address.

    Raises:
        InvalidSettings: It is none.
    """
    try:
        return Mailbox(parse_mailbox(seed.address).address)
    except InvalidAddress as error:
        raise InvalidSettings(f"seeds.{name}.address: {error}") from error


class PlacementTests:
    """Begins tests."""

    def __init__(self, engine: Engine, clock: Clock, settings: Settings, acceptor: Accepting) -> None:
        """
        Read the seeds.

        Raises:
            InvalidSettings: The address of one is none.
        """
        self._engine = engine
        self._clock = clock
        self._options = settings.placement
        self._seeds: Mapping[str, Seed] = settings.seeds
        self._addresses = {name: mailbox_of(name, seed) for name, seed in settings.seeds.items()}
        self._acceptor = acceptor

    def check(self, seeds: Sequence[str] | None) -> list[str]:
        """
        Return the seeds that are meant.

        Args:
            seeds: Some of them by name; None is all.

        Raises:
            Refused: conflict: there are none; validation_failed: one of them is not there.
        """
        if not self._seeds:
            raise Refused("conflict", "this gateway has no seeds: its operator names them in the settings as [seeds.NAME]")
        unknown = [n for n, name in enumerate(seeds or ()) if name not in self._seeds]
        if unknown:
            raise invalid(*[Fault(f"/seeds/{n}", "unknown_seed", f"there are {', '.join(sorted(self._seeds))}") for n in unknown])
        return sorted(set(seeds)) if seeds else sorted(self._seeds)

    async def begin(
        self, caller: Caller, submission: Submission, seeds: Sequence[str] | None = None, occasion: str | None = None
    ) -> PlacementTest | None:
        """
        Send a test's mail.

        Args:
            submission: The message; its recipients are left out.
            occasion: As for `store.placement.insert`.

        Returns:
            The test with its results so far; None when its occasion has one already.

        Raises:
            Refused: As the acceptor refuses the message; quota_exceeded: enough tests for today; see `check`.
        """
        names = self.check(seeds)
        await self._acceptor.validate(caller, self._addressed(submission, names[0], "0" * 26))
        test = await self._stored(caller.tenant_id, submission, names, occasion)
        if test is None:
            return None
        refused = [await self._send(caller, submission, test, name) for name in names]
        if all(refused):
            await self._engine.write(lambda conn: placement.finish(conn, self._clock.now()))
        return await self._engine.read(lambda conn: placement.get(conn, caller.tenant_id, test.id))

    async def _stored(self, tenant_id: str, submission: Submission, names: Sequence[str], occasion: str | None) -> PlacementTest | None:
        now, most = self._clock.now(), self._options.per_day
        results = tuple(PlacementResult(seed=name, provider=self._provider(name)) for name in names)
        test = PlacementTest(
            id=ids.new("plc"), tenant_id=tenant_id, domain=submission.sender.address.domain, sender=_text(submission.sender),
            subject=submission.subject, marker=secrets.token_hex(16), created_at=now,
            deadline_at=now + self._options.deadline_s * SECOND, results=results,
        )  # fmt: skip

        def work(conn: Any) -> tuple[bool, bool]:
            if placement.count_since(conn, tenant_id, now - DAY) >= most:
                return True, False
            return False, placement.insert(conn, test, occasion)

        try:
            is_enough, is_new = await self._engine.write(work)
        except StorageUnavailable as error:
            raise Refused("storage_unavailable", "nothing was sent") from error
        if is_enough:
            raise Refused("quota_exceeded", f"at most {most} placement tests in 24 hours", retry_after_s=HOUR // SECOND)
        return test if is_new else None

    async def _send(self, caller: Caller, submission: Submission, test: PlacementTest, name: str) -> bool:
        """Accept one message; return whether it was refused, which is the result then."""
        try:
            accepted = await self._acceptor.submit(caller, self._addressed(submission, name, test.marker))
        except Refused as refusal:
            lost = PlacementResult(
                seed=name, provider=self._provider(name), outcome=Outcome.UNKNOWN, detail=f"it was not accepted: {refusal.code}"
            )  # fmt: skip
            await self._engine.write(lambda conn: placement.settle(conn, test.id, lost))
            return True
        message_id = accepted.results[0].id
        await self._engine.write(lambda conn: placement.note_sent(conn, test.id, name, message_id))
        return False

    def _addressed(self, submission: Submission, name: str, marker: str) -> Submission:
        steering = msgspec.structs.replace(submission.steering, tags=tuple(dict.fromkeys((*submission.steering.tags, TAG))))
        headers = (*submission.headers, (MARKER, marker))
        return msgspec.structs.replace(submission, to=(self._addresses[name],), cc=(), bcc=(), headers=headers, steering=steering)

    def _provider(self, name: str) -> str:
        return self._seeds[name].provider or self._addresses[name].address.domain


def _text(mailbox: Mailbox) -> str:
    return f"{mailbox.name} <{mailbox.address}>" if mailbox.name else str(mailbox.address)
