"""
What a page is: a method, a path, what it needs, and what it does.

The lists of all modules together are `routes.PAGES`: whoever asks which pages there are, and who may see them, reads that.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from litestar import Request, Response

from gatepost.domain.access import Scope


class Needs(Enum):
    """What somebody must have besides a scope."""

    NOTHING = "nothing"  # open to everybody: signing in, one-time links, static files
    VIEWER = "viewer"  # whoever may look, with the page's scope
    SESSION = "session"  # whoever may look, whatever they may do
    PERSON = "person"  # somebody who signed in, about themselves


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """
    One method of one path.

    Attributes:
        path: With parameters as `{name:str}`.
        run: A method of the class that holds the pages of its kind, unbound.
        scope: What a viewer needs; None for pages that are open, or about oneself.
        is_recent: Whoever asks must have signed in, or given the password again, a short time ago.
        is_quiet: Asked by the page itself, not by a click: it keeps no session open.
        most_bytes: Size of its form.
    """

    method: str
    path: str
    run: Callable[[Any, Request[Any, Any, Any]], Awaitable[Response[Any]]] = field(repr=False)
    scope: Scope | None = None
    needs: Needs = Needs.VIEWER
    is_recent: bool = False
    is_quiet: bool = False
    most_bytes: int = 16 * 1024

    def __post_init__(self) -> None:
        if (self.scope is not None) != (self.needs is Needs.VIEWER):
            raise ValueError(f"{self.method} {self.path}: a page for viewers names the scope that it needs, no other page does")


def open_page(method: str, path: str, run: Callable[[Any, Request[Any, Any, Any]], Awaitable[Response[Any]]]) -> Page:
    """Make a page that is open to everybody."""
    return Page(method=method, path=path, run=run, needs=Needs.NOTHING)


def own_page(
    method: str, path: str, run: Callable[[Any, Request[Any, Any, Any]], Awaitable[Response[Any]]], *, is_recent: bool = False
) -> Page:
    """Make a page on which people see and change what is theirs alone."""
    return Page(method=method, path=path, run=run, needs=Needs.PERSON, is_recent=is_recent)
