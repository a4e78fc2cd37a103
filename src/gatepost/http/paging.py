"""
Cursor paging: `limit`, `after`, `before` in; `data`, `has_more` and a Link header out.

A cursor is the id of an object already seen, so pages stay stable while new objects arrive.
Standards: RFC 8288 (Link).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from urllib.parse import urlencode

from gatepost import ids
from gatepost.domain.errors import Fault, invalid
from gatepost.http.exchange import Parameter, Request

DEFAULT_LIMIT = 20
MAX_LIMIT = 100
NAMES = ("limit", "after", "before")

T = TypeVar("T")


class Identified(Protocol):
    """A row with an id."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Which page: the objects after (older than) one, or before (newer than) one."""

    limit: int = DEFAULT_LIMIT
    after: str | None = None
    before: str | None = None


LINK = {"Link": 'RFC 8288: rel="next" and rel="prev"'}
"""The header of every list, for the API's description."""


def parameters(prefix: str) -> tuple[Parameter, ...]:
    """Describe the paging parameters of a list whose ids have a prefix."""
    cursor = {"type": "string", "pattern": f"^{prefix}_[0-7][0-9a-hjkmnp-tv-z]{{25}}$"}
    limit = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
    return (
        Parameter(name="limit", place="query", description="objects on a page", schema=limit),
        Parameter(name="after", place="query", description="only objects older than this one", schema=cursor),
        Parameter(name="before", place="query", description="only objects newer than this one", schema=cursor),
    )


def read(query: dict[str, str], prefix: str) -> Cursor:
    """
    Read the paging parameters.

    Raises:
        Refused: One of them is not valid.
    """
    faults = []
    limit = query.get("limit", str(DEFAULT_LIMIT))
    if not (limit.isascii() and limit.isdigit() and len(limit) < 10 and 1 <= int(limit) <= MAX_LIMIT):
        faults.append(Fault("limit", "out_of_range", f"give a number from 1 to {MAX_LIMIT}"))
    faults += [
        Fault(name, "invalid_cursor", f"give the id of an object of a page before: {prefix}_…")
        for name in ("after", "before")
        if name in query and not ids.is_valid(query[name], prefix)
    ]
    if "after" in query and "before" in query:
        faults.append(Fault("before", "conflicting", "give after or before, not both"))
    if faults:
        raise invalid(*faults)
    return Cursor(limit=int(limit), after=query.get("after"), before=query.get("before"))


def trim(rows: Sequence[T], cursor: Cursor) -> tuple[list[T], bool]:
    """Cut the one row that was asked for beyond the limit; return whether it was there."""
    has_more = len(rows) > cursor.limit
    if not has_more:
        return list(rows), False
    return list(rows[1:] if cursor.before is not None else rows[: cursor.limit]), True


def slice_of(rows: Sequence[T], cursor: Cursor, id_of: Callable[[T], str]) -> list[T]:
    """Cut a page, and one more, out of a whole list that is newest first."""
    if cursor.before is not None:
        return [row for row in rows if id_of(row) > cursor.before][-(cursor.limit + 1) :]
    if cursor.after is not None:
        rows = [row for row in rows if id_of(row) < cursor.after]
    return list(rows[: cursor.limit + 1])


def links(request: Request, query: dict[str, str], cursor: Cursor, page: Sequence[Any], *, has_more: bool) -> list[tuple[bytes, bytes]]:
    """
    Write the Link header to the pages around this one.

    Args:
        page: The objects on this page, newest first; each has an `id`.
    """
    if not page:
        return []
    is_backwards = cursor.before is not None
    found = []
    if has_more or is_backwards:
        found.append(_link(request.path, query, "after", page[-1].id, "next"))
    if (has_more and is_backwards) or cursor.after is not None:
        found.append(_link(request.path, query, "before", page[0].id, "prev"))
    return [(b"link", ", ".join(found).encode())] if found else []


def _link(path: str, query: dict[str, str], name: str, value: str, relation: str) -> str:
    kept = {key: text for key, text in query.items() if key not in {"after", "before"}}
    return f'<{path}?{urlencode({**kept, name: value})}>; rel="{relation}"'
