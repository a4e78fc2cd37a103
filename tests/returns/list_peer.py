"""Amazon's suppression list on loopback: keeps addresses, hands them out page by page, may be told to fail."""

import json
import urllib.parse
from typing import Any

from gatepost.clock import Instant
from gatepost.domain.relay_list import Why
from gatepost.egress.relays.list_client import RelayListClient
from gatepost.egress.relays.provider_list import create_list
from gatepost.egress.relays.target import parse_target
from gatepost.net.http_client import HttpClient
from gatepost.returns.relay_lists.rounds import Rounds, Wishes
from gatepost.settings import Relay
from tests.relays.peer import Got, Peer, Says

URL = "ses://AKID:secret@us-east-1"


class ListPeer(Peer):
    """The list; `refusals` are said first, one for each request."""

    def __init__(self, page_size: int = 1_000) -> None:
        super().__init__()
        self.answers = _Told(self)  # type: ignore[assignment]
        self.entries: dict[str, tuple[str, float]] = {}
        self.refusals: list[Says] = []
        self.page_size = page_size
        self.is_garbled = False

    def add(self, address: str, reason: str = "BOUNCE", at: Instant = 0) -> None:
        self.entries[address] = (reason, at / 1000)

    def answer(self, got: Got) -> Says:
        if self.refusals:
            return self.refusals.pop(0)
        parsed = urllib.parse.urlsplit(got.path)
        if got.method == "PUT":
            self.entries[got.json["EmailAddress"]] = (got.json["Reason"], 1_764_000_000.0)
            return Says(200, {})
        if got.method == "DELETE":
            address = urllib.parse.unquote(parsed.path.rpartition("/")[2])
            return Says(200 if self.entries.pop(address, None) else 404, {})
        return self._page(dict(urllib.parse.parse_qsl(parsed.query)))

    def _page(self, query: dict[str, str]) -> Says:
        since = parse(query["StartDate"]) if "StartDate" in query else 0
        names = sorted(name for name, (_, at) in self.entries.items() if at >= since)
        first = int(query.get("NextToken", "0"))
        rows = [
            {"EmailAddress": name, "Reason": self.entries[name][0], "LastUpdateTime": self.entries[name][1]}
            for name in names[first : first + self.page_size]
        ]
        more = {"NextToken": str(first + self.page_size)} if first + self.page_size < len(names) else {}
        return Says(200, json.dumps({"SuppressedDestinationSummaries": rows, **more}))

    @property
    def asked(self) -> list[str]:
        """What was asked for, with the query."""
        return [f"{one.method} {one.path.removeprefix('/v2/email/suppression/addresses')}" for one in self.got]


class _Told:
    """In place of a list of answers."""

    def __init__(self, peer: ListPeer) -> None:
        self._peer = peer

    def __len__(self) -> int:
        return 1

    def __getitem__(self, _at: int) -> Says:
        return self._peer.answer(self._peer.got[-1])


def parse(text: str) -> float:
    from gatepost.clock import parse_iso

    return parse_iso(text) / 1000


def rounds_of(house: Any, peer: ListPeer, **wishes: Any) -> Rounds:
    target = parse_target("main", Relay(url=URL, endpoint=peer.url))
    provider = create_list(target)
    assert provider is not None
    client = RelayListClient(target=target, provider=provider, client=HttpClient(timeout_s=5), clock=house.clock)
    if "pushes" in wishes:
        wishes["pushes"] = frozenset(Why(one) for one in wishes["pushes"])
    return Rounds(house.engine, house.clock, client, Wishes(**wishes))
