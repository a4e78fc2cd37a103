"""
What somebody sees whose key is for some domains or streams only.

A list holds what is theirs and nothing else. What is named and is not theirs is refused, whether it exists or not. What tells of
every domain or stream at once, and cannot be divided, is refused as a whole.
Arrives: who asks. Leaves: conditions for queries; or `Refused`.
Not here: sending (accept), numbers (tenants.stats), events (http.v1.events), webhooks (tenants.webhooks).
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from gatepost.domain.access import Restrictions
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.queue_action import Filter

Scopes = Sequence[tuple[str, Collection[str]]]
"""Kinds of places with the names that count, such as `("domain", {"acme.example"})`."""


def check_domain(who: Restrictions, name: str, place: str = "domain") -> None:
    """
    Refuse a domain that is not one of theirs.

    Args:
        name: As lower-case A-labels.
        place: Where it was named.

    Raises:
        Refused: permission_denied.
    """
    if who.domains and name not in who.domains:
        detail = f"this key may use only: {', '.join(sorted(who.domains))}"
        raise Refused("permission_denied", detail, (Fault(place, "domain_not_allowed", detail),))


def check_everything(who: Restrictions, what: str) -> None:
    """
    Refuse what tells of the whole tenant to who has some domains or streams only.

    Raises:
        Refused: permission_denied.
    """
    if who.domains or who.streams:
        raise Refused("permission_denied", f"{what} is the whole tenant's, and this key is for some domains or streams only")


def check_every_stream(who: Restrictions, what: str) -> None:
    """
    Refuse what tells of every stream at once to who has some only.

    Args:
        what: As `a score`.

    Raises:
        Refused: permission_denied.
    """
    if who.streams:
        raise Refused("permission_denied", f"{what} tells of every stream, and this key is for some only")


def domains_of(who: Restrictions, name: str | None = None) -> Collection[str] | None:
    """
    Return the domains that a list tells of; None is every one.

    Args:
        name: Only this one was asked for.
    """
    if name is None:
        return sorted(who.domains) or None
    return [name] if not who.domains or name in who.domains else []


def sees_message(who: Restrictions, domain: str, stream: str) -> bool:
    """Tell whether a message is one of theirs: what they may not send, they do not read."""
    return (not who.domains or domain in who.domains) and (not who.streams or stream in who.streams)


def own_mail(who: Restrictions, wanted: Filter) -> Filter:
    """
    Narrow an action on the queue to mail of theirs; who has one domain or one stream need not name it.

    Raises:
        Refused: permission_denied for what is not theirs; validation_failed where they have several and name none.
    """
    if who.domains:
        wanted = replace(wanted, sender=wanted.sender or _only(who.domains, "/filter/sender"))
        check_domain(who, str(wanted.sender), "/filter/sender")
    if who.streams:
        wanted = replace(wanted, stream=wanted.stream or _only(who.streams, "/filter/stream"))
        if wanted.stream not in who.streams:
            detail = f"this key may use only: {', '.join(sorted(who.streams))}"
            raise Refused("permission_denied", detail, (Fault("/filter/stream", "stream_not_allowed", detail),))
    return wanted


def sees_action(who: Restrictions, wanted: Filter) -> bool:
    """Tell whether an action on the queue reaches mail of theirs alone."""
    return (not who.domains or wanted.sender in who.domains) and (not who.streams or wanted.stream in who.streams)


def _only(names: Collection[str], place: str) -> str:
    if len(names) > 1:
        raise invalid(Fault(place, "required", f"name one of: {', '.join(sorted(names))}"))
    return next(iter(names))


def changes_of(who: Restrictions) -> Scopes | None:
    """
    Return whose unusual changes somebody sees; None is everybody's.

    A domain's change is about every stream, and a stream's about every domain: who has some of both sees neither.
    """
    if not (who.domains or who.streams):
        return None
    if who.domains and who.streams:
        return []
    return [("domain", who.domains)] if who.domains else [("stream", who.streams)]
