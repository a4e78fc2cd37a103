"""
What came back and was put aside: looked at, worked on again, forgotten.

Arrives: an operator's wish. Leaves: the row, opened; or its change with an entry in the audit log. Looking at one is told there,
too: it may quote people's mail.
Not here: putting aside (loop), the SQL (store.inbound).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from sqlalchemy import Connection

from gatepost import ids
from gatepost.clock import Clock, Instant
from gatepost.domain.access import Actor
from gatepost.domain.errors import Refused
from gatepost.mime.parts import read_mail
from gatepost.observe import maillog
from gatepost.store import audit, inbound
from gatepost.store.engine import Engine
from gatepost.store.inbound import Aside

_LOOKED_AT: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """Who wrote, to whom and about what, as far as that can be told; nobody vouches for it."""

    sender: str = ""
    subject: str
    to: tuple[str, ...] = ()


def heading_of(row: Aside) -> Heading:
    """Return what is shown of one before its content is looked at."""
    if row.kind == "hook":
        return Heading(sender=row.source, subject="a call of the relay’s hook")
    if not row.is_open:
        return Heading(subject="too long for this list, or sealed by a key that is gone")
    mail = read_mail(row.body[:_LOOKED_AT])
    return Heading(
        sender=(mail.first("from") or str(row.details.get("sender") or ""))[:200], subject=mail.first("subject")[:300],
        to=tuple(str(one)[:300] for one in row.details.get("recipients", [])[:20]),
    )  # fmt: skip


class PutAside(Exception):  # noqa: N818 - what a reader says, not a fault of ours
    """A reader can make nothing of a row: it is kept for a person; `state` is `unread` or `unmatched`, the text says why."""

    def __init__(self, state: str, why: str) -> None:
        super().__init__(why)
        self.state = state


class AsideRegister:
    """What was put aside, for operators."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    async def counts(self) -> dict[str, int]:
        """
        Count rows by state, those that wait included.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        return await self._engine.read(inbound.counts)

    async def list(self, limit: int, *, state: str | None = None, after: str | None = None, before: str | None = None) -> list[Aside]:
        """
        List what was put aside, the newest first.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        return await self._engine.read(partial(inbound.aside, limit=limit, state=state, after=after, before=before))

    async def find(self, inbound_id: str) -> Aside:
        """
        Return one, for its heading; whoever shows its content calls `look`.

        Raises:
            Refused: not_found.
            StorageUnavailable: The database cannot be used now.
        """
        checked = _checked(inbound_id)
        found = await self._engine.read(lambda conn: inbound.get_aside(conn, checked))
        if found is None:
            raise _missing()
        return found

    async def look(self, inbound_id: str, *, by: Actor) -> Aside:
        """
        Open one; the audit log says who did.

        Raises:
            Refused: not_found.
            StorageUnavailable: The database cannot be used now.
        """
        checked = _checked(inbound_id)

        def run(conn: Connection, now: Instant) -> Aside:
            found = inbound.get_aside(conn, checked)
            if found is None:
                raise _missing()
            audit.append(conn, by, audit.Change(action="returned.viewed", object_id=inbound_id, tenant_id=None), now)
            return found

        return await self._engine.write(partial(run, now=self._clock.now()))

    async def source(self, inbound_id: str, *, by: Actor) -> Aside:
        """
        Open one to hand its bytes out, as they came; the audit log says who did.

        Raises:
            Refused: not_found, also where it cannot be opened any more.
            StorageUnavailable: The database cannot be used now.
        """
        found = await self.look(inbound_id, by=by)
        if not found.is_open:
            raise Refused("not_found", "it was sealed by a key that is gone")
        return found

    async def work_again(self, inbound_id: str, *, by: Actor) -> None:
        """
        Let one be read once more.

        Raises:
            Refused: not_found.
            StorageUnavailable: Nothing changed.
        """
        now = self._clock.now()
        await self._change(inbound_id, "returned.retried", by, now, partial(inbound.work_again, now=now))

    async def forget(self, inbound_id: str, *, by: Actor) -> None:
        """
        Forget one.

        Raises:
            Refused: not_found.
            StorageUnavailable: Nothing changed.
        """
        await self._change(inbound_id, "returned.removed", by, self._clock.now(), inbound.forget_aside)

    async def _change(self, inbound_id: str, action: str, by: Actor, now: Instant, work: Callable[[Connection, str], bool]) -> None:
        checked = _checked(inbound_id)

        def run(conn: Connection) -> None:
            if not work(conn, checked):
                raise _missing()
            audit.append(conn, by, audit.Change(action=action, object_id=inbound_id, tenant_id=None), now)

        await self._engine.write(run)
        maillog.changed(action.replace(".", "_"), id=inbound_id, by=by.id)


def _checked(inbound_id: str) -> str:
    if not ids.is_valid(inbound_id, "inb"):
        raise _missing()
    return inbound_id


def _missing() -> Refused:
    return Refused("not_found", "nothing of this id was put aside")
