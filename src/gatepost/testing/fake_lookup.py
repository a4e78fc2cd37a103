"""DNS for looking after things, as a dict."""

from collections.abc import Mapping, Sequence

from gatepost.net.dns import NoDomain, NoTexts, ResolverFailed, TextAnswer, Texts
from gatepost.net.lookup import Found, Looked

_TTL_S = 300.0


class DictLookup:
    """
    A zone that is a dict, such as `{"acme.test": {"TXT": ["v=spf1 -all"]}}`; a name whose value is None makes the resolver fail.

    Attributes:
        asked: Every question, in order.
    """

    def __init__(self, zone: Mapping[str, Mapping[str, Sequence[str]] | None]) -> None:
        """Set the zone."""
        self.zone = dict(zone)
        self.asked: list[tuple[str, str]] = []

    async def records(self, name: str, kind: str, *, may_be_kept: bool = False) -> Looked:
        """Answer from the zone."""
        self.asked.append((name, kind))
        records = self.zone.get(name.lower(), {})
        if records is None:
            return ResolverFailed("SERVFAIL")
        return Found(values=tuple(records.get(kind, ())), ttl_s=_TTL_S, exists=name.lower() in self.zone)


class FakeTexts:
    """The same zone, for who asks for TXT records alone."""

    def __init__(self, lookup: DictLookup) -> None:
        """Share a zone."""
        self._lookup = lookup

    async def txt(self, name: str) -> TextAnswer:
        """Answer from the zone."""
        found = await self._lookup.records(name, "TXT")
        if isinstance(found, ResolverFailed):
            return found
        return Texts(found.values) if found.values else NoTexts() if found.exists else NoDomain()
