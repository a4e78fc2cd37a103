"""
Engagement: what recipients do with mail, and what is put into it to find out.

Everything is off until a stream or a message asks for it. Codes are never tracked, unless a message insists: scanners follow
links, and a code is not worth being followed.
Not here: how links are rewritten (mime.links), who came (policy.visitors), what is written down (engaged).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class Visitor(StrEnum):
    """Who asked for a pixel or a link: the class of an event."""

    HUMAN = "human"
    PROXY = "proxy"
    """A mailbox provider's image proxy: somebody opened it, most of the time, and nobody knows from where."""
    PREFETCH = "prefetch"
    """Fetched before anybody looked: Apple Mail Privacy Protection, Gmail's prefetching, browsers that fetch ahead."""
    BOT = "bot"
    """Security scanners, link checkers, crawlers, and what is too quick for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracking:
    """
    What is put into a message for each of its recipients.

    Attributes:
        opens: A pixel at the end of the HTML.
        clicks: Links of the HTML lead over the gateway.
        text: Links of the plain text too.
        unsubscribe: One-click unsubscription (RFC 8058).
    """

    opens: bool = False
    clicks: bool = False
    text: bool = False
    unsubscribe: bool = False

    def __bool__(self) -> bool:
        """Tell whether anything is put in."""
        return self.opens or self.clicks or self.unsubscribe

    @property
    def is_watching(self) -> bool:
        """Whether it is found out what recipients do."""
        return self.opens or self.clicks


NOTHING: Final = Tracking()
NAMES: Final = ("opens", "clicks", "text", "unsubscribe")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingWish:
    """
    What one message asks for; None leaves it to its stream.

    Attributes:
        is_forced: Also where codes are sent.
    """

    opens: bool | None = None
    clicks: bool | None = None
    text: bool | None = None
    unsubscribe: bool | None = None
    is_forced: bool = False

    @property
    def wants(self) -> list[str]:
        """Name what it asks for in so many words."""
        return [name for name in NAMES if getattr(self, name)]


def tracking_of(wish: TrackingWish | None, stream: Tracking, *, are_codes: bool) -> Tracking:
    """Settle what is put into a message: its own wish wins over its stream; codes have only what they are forced to have."""
    base = NOTHING if are_codes else stream
    if wish is None or (are_codes and not wish.is_forced):
        return base
    chosen = {name: getattr(base, name) if (asked := getattr(wish, name)) is None else asked for name in NAMES}
    return Tracking(
        opens=chosen["opens"], clicks=chosen["clicks"], text=chosen["text"] and chosen["clicks"], unsubscribe=chosen["unsubscribe"]
    )


def tracking_as_dict(tracking: Tracking) -> dict[str, bool]:
    """Write it as it is stored: only what is on."""
    return {name: True for name in NAMES if getattr(tracking, name)}


def read_tracking(stored: Any) -> Tracking:
    """Read it from where it is stored; nothing is nothing."""
    return Tracking(**{name: bool(stored.get(name)) for name in NAMES}) if stored else NOTHING
