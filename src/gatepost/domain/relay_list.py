"""
A provider's own suppression list: addresses that a relay takes no mail for, and how far the gateway has come with it.

Not here: what a provider's list looks like (egress.relays), what follows from an entry (policy.list_entries, returns.relay_lists).
"""

from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from gatepost.clock import Instant


class Why(StrEnum):
    """Why an address is on a list."""

    BOUNCES = "bounces"
    COMPLAINTS = "complaints"
    UNSUBSCRIBES = "unsubscribes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """
    One entry.

    Attributes:
        at: Since when; None where the provider does not say.
        sender: Only mail from this address is meant; empty is all mail.
    """

    address: str = field(repr=False)
    why: Why
    at: Instant | None = None
    sender: str = ""


class ListState(msgspec.Struct, frozen=True, kw_only=True):
    """
    How far a relay's list is read and told.

    Attributes:
        part: Which of the provider's lists is being read.
        pages: Pages of this round.
        since: This round reads what is newer; 0 is all.
        began_at: When this round began; 0 while none is under way.
        done_at: When the last one that was finished began.
        full_at: When the last one that read everything began.
        failures: In a row.
        seen: Entries of this round, or of the last one; with `taken`, `known`, `nobody`, `lifted`, `invalid` among them.
        told_after: The last suppression of ours that the provider was told of, by id; `lifted_after` the last lifted one.
        told: Addresses that the provider was told in all; `lifted_there` those that it was told to take mail for again.
        held: Tenants of which more would have been suppressed than is likely, with the number.
        counted_at: Since when `counts` counts what was taken, by tenant.
        is_cut: This round, or the last one, did not come to the list's end.
        gone: Suppressions that were lifted since the provider's list has them no more; of the last full round.
        gone_held: As many, but more than is likely: a person has to accept it.
        followed_at: The last full round after which that was looked at.
    """

    part: int = 0
    pages: int = 0
    since: Instant = 0
    began_at: Instant = 0
    done_at: Instant = 0
    full_at: Instant = 0
    failures: int = 0
    error: str = ""
    seen: int = 0
    taken: int = 0
    known: int = 0
    nobody: int = 0
    lifted: int = 0
    invalid: int = 0
    told_after: str = ""
    lifted_after: str = ""
    told: int = 0
    lifted_there: int = 0
    held: dict[str, int] = {}
    counted_at: Instant = 0
    counts: dict[str, int] = {}
    is_cut: bool = False
    gone: int = 0
    gone_held: int = 0
    followed_at: Instant = 0
