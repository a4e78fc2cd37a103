"""
One page of a long list: where it begins, and whether there is more above and below.

A cursor is the id of a row already seen, so that pages stay as they are while new rows come.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gatepost import ids
from gatepost.dashboard.access import AnyRequest

PAGE_SIZE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Which page: the rows after (older than) one, or before (newer than) one."""

    after: str | None = None
    before: str | None = None
    size: int = PAGE_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """
    The rows of one page.

    Attributes:
        newer: Rows before this id come on the page above; empty where there is none.
        older: Rows after this id come on the page below.
    """

    rows: Sequence[Any]
    newer: str = ""
    older: str = ""


def read_cursor(request: AnyRequest, prefix: str, size: int = PAGE_SIZE) -> Cursor:
    """Read a page's cursor from its URL; what is no id is passed over."""

    def valid(name: str) -> str | None:
        text = request.query_params.get(name, "")
        return text if ids.is_valid(text, prefix) else None

    before = valid("before")
    return Cursor(after=None if before else valid("after"), before=before, size=size)


def cut(rows: Sequence[Any], cursor: Cursor, id_of: Callable[[Any], str] = lambda row: str(row.id)) -> Slice:
    """
    Make a page of rows that were asked for with one more than it shows.

    Args:
        rows: The newest first, `cursor.size + 1` at most.
    """
    has_more = len(rows) > cursor.size
    if cursor.before is not None:
        shown = rows[-cursor.size :]
        has_newer, has_older = has_more, bool(shown)
    else:
        shown = rows[: cursor.size]
        has_newer, has_older = cursor.after is not None and bool(shown), has_more
    return Slice(rows=shown, newer=id_of(shown[0]) if has_newer else "", older=id_of(shown[-1]) if has_older else "")
