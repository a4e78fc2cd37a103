"""The queries behind the pages, each one read of the store."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from gatepost.dashboard.content import Found, Hidden, find_content
from gatepost.dashboard.views import ListRow, list_row
from gatepost.domain.tenant import DomainStatus
from gatepost.store import facts, messages, tenants
from gatepost.store.messages import Filter
from gatepost.store.schema import event, message, tenant

PAGE_SIZE = 50
_MANY = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """
    One page of the list, the newest first.

    Attributes:
        top: Id of the newest message on the page; everything newer is "new".
        has_newer: There are matching messages above the first row.
    """

    rows: tuple[ListRow, ...]
    has_newer: bool
    has_older: bool

    @property
    def top(self) -> str:
        """Id of the newest message on the page."""
        return self.rows[0].id if self.rows else ""

    @property
    def bottom(self) -> str:
        """Id of the oldest message on the page."""
        return self.rows[-1].id if self.rows else ""


def whole(conn: Connection) -> str | None:
    """
    Name the tenant that an operator's list is of: the only one, where there is only one, else none, which is all.

    The list is the same; indexes begin with the tenant, so that naming it makes filters quick.
    """
    found = conn.execute(sa.select(tenant.c.id).limit(2)).scalars().all()
    return found[0] if len(found) == 1 else None


def listing(conn: Connection, tenant_id: str | None, wanted: Filter, *, after: str | None = None, before: str | None = None) -> Listing:
    """
    Read one page: the first, the one behind an id, or the one ahead of an id.

    Args:
        tenant_id: Whose mail is seen; None is everybody's.
    """
    tenant_id = whole(conn) if tenant_id is None else tenant_id
    found = messages.page(conn, tenant_id, wanted, PAGE_SIZE + 1, after=after, before=before)
    has_more = len(found) > PAGE_SIZE
    if before is not None:
        found = found[-PAGE_SIZE:]
    found = found[:PAGE_SIZE]
    recipients = messages.recipients_of(conn, [row.id for row in found])
    rows = tuple(list_row(row, recipients[row.id]) for row in found)
    return Listing(
        rows=rows,
        has_newer=has_more
        if before is not None
        else after is not None and bool(rows) and count_newer(conn, tenant_id, wanted, rows[0].id, 1) > 0,
        has_older=has_more if before is None else bool(messages.page(conn, tenant_id, wanted, 1, after=before)),
    )


def from_top(top: str) -> str:
    """Return the cursor behind which the page that begins with a message lies, that message included."""
    return f"{top}~"


def count_newer(conn: Connection, tenant_id: str | None, wanted: Filter, top: str, at_most: int = _MANY) -> int:
    """Count matching messages newer than one."""
    return len(messages.page(conn, whole(conn) if tenant_id is None else tenant_id, wanted, at_most, before=top))


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRows:
    """All rows of one message."""

    message: Row[Any]
    recipients: Sequence[Row[Any]]
    attempts: Sequence[Row[Any]]
    events: Sequence[Row[Any]]
    content: Found | Hidden


def message_rows(conn: Connection, tenant_id: str | None, message_id: str, *, show_content: bool) -> MessageRows | None:
    """Read one message with everything that happened to it; another tenant's is None."""
    row = messages.get(conn, tenant_id, message_id)
    if row is None:
        return None
    return MessageRows(
        message=row,
        recipients=messages.recipients_of(conn, [message_id])[message_id],
        attempts=facts.attempts_of(conn, message_id),
        events=facts.events_of(conn, message_id),
        content=find_content(conn, row, show_content=show_content),
    )


def content_of(conn: Connection, tenant_id: str | None, message_id: str, *, show_content: bool) -> Found | Hidden | None:
    """Find one message's content; None when there is no such message, or it is another tenant's."""
    row = messages.get(conn, tenant_id, message_id)
    return None if row is None else find_content(conn, row, show_content=show_content)


def sender_domain(conn: Connection, tenant_id: str) -> str:
    """Return a domain that mail can be sent from, for the example in the empty inbox."""
    verified = [domain.name for domain in tenants.domains(conn, tenant_id) if domain.status is DomainStatus.VERIFIED]
    return verified[0] if verified else "your-domain.example"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What the newest thing is: two marks differ when anything happened in between."""

    newest: str
    event: str


def mark(conn: Connection, tenant_id: str | None, message_id: str | None = None) -> Mark:
    """
    Read the newest message's and the newest event's ids, of a tenant or of one message.

    Args:
        tenant_id: None is everybody's.
    """
    own_events = event.c.tenant_id == tenant_id if tenant_id is not None else sa.true()
    if message_id is not None:
        last = sa.select(sa.func.max(event.c.id)).where(event.c.message_id == message_id, own_events)
        return Mark(newest=message_id, event=conn.execute(last).scalar_one() or "")
    own = message.c.tenant_id == tenant_id if tenant_id is not None else sa.true()
    newest = conn.execute(sa.select(sa.func.max(message.c.id)).where(own)).scalar_one()
    if tenant_id is None:
        last = sa.select(sa.func.max(event.c.id))
    else:
        last = sa.select(event.c.id).where(own_events).order_by(event.c.feed.desc(), event.c.id.desc()).limit(1)
    return Mark(newest=newest or "", event=conn.execute(last).scalar_one_or_none() or "")
