"""
Asks a provider for its own suppression list, and tells it of ours.

Arrives: what is wanted. Leaves: pages; or `ListUnavailable`, with words that hold no secret.
Not here: what is said to a provider (its own file), when and why (returns.relay_lists).
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from gatepost.clock import Clock, Instant
from gatepost.domain.relay_list import Why
from gatepost.egress.relays.provider_list import ListPage, ListRefused, ProviderList
from gatepost.egress.relays.target import Target
from gatepost.egress.relays.verdict import Kind
from gatepost.net.http_client import HttpAnswer, HttpClient, HttpFault, HttpRequest


class ListUnavailable(Exception):  # noqa: N818
    """
    The provider cannot be asked now, or refuses.

    Attributes:
        wait_s: How long it wants us to wait, where it says so.
        is_final: Asking the same again leads nowhere: it is about the request.
    """

    def __init__(self, detail: str, *, wait_s: int | None = None, is_final: bool = False) -> None:
        """Say what happened."""
        super().__init__(detail)
        self.wait_s = wait_s
        self.is_final = is_final


class RelayListClient:
    """The list of one relay."""

    def __init__(self, *, target: Target, provider: ProviderList, client: HttpClient, clock: Clock) -> None:
        """Set up without connecting."""
        self._target = target
        self._provider = provider
        self._client = client
        self._clock = clock

    @property
    def name(self) -> str:
        """The relay's name."""
        return self._target.name

    @property
    def parts(self) -> Sequence[str]:
        """The parts of the list."""
        return self._provider.parts

    @property
    def takes(self) -> Collection[Why]:
        """What the provider can be told."""
        return self._provider.takes

    @property
    def is_incremental(self) -> bool:
        """Whether it can be asked for what is new."""
        return self._provider.is_incremental

    async def read(self, part: str, cursor: str, since: Instant) -> ListPage:
        """
        Read a page.

        Raises:
            ListUnavailable: There is none now.
        """
        now = self._clock.now()
        answer = await self._ask(self._provider.page(part, cursor, since, now))
        try:
            return self._provider.read_page(part, cursor, answer, self._clock.now())
        except ListRefused as refused:
            raise self._unavailable(refused) from None

    async def put(self, why: Why, addresses: Sequence[str]) -> None:
        """
        Put addresses on the list.

        Raises:
            ListUnavailable: Not all are on it.
        """
        for request in self._provider.put(why, addresses, self._clock.now()):
            await self._change(request)

    async def remove(self, address: str) -> None:
        """
        Take an address off the list.

        Raises:
            ListUnavailable: It may be on it still.
        """
        for request in self._provider.remove(address, self._clock.now()):
            await self._change(request)

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()

    async def _change(self, request: HttpRequest) -> None:
        answer = await self._ask(request)
        try:
            self._provider.check(answer, self._clock.now())
        except ListRefused as refused:
            raise self._unavailable(refused) from None

    async def _ask(self, request: HttpRequest) -> HttpAnswer:
        try:
            return await self._client.ask(replace(request, is_encoded=True))
        except HttpFault as fault:
            raise ListUnavailable(self._masked(str(fault))) from None

    def _unavailable(self, refused: ListRefused) -> ListUnavailable:
        verdict = refused.verdict
        is_final = verdict.status is not None and 400 <= verdict.status < 500 and verdict.kind is not Kind.BUSY
        words = self._masked(f"{self._target.title} {verdict.status}: {verdict.words}")
        return ListUnavailable(words, wait_s=verdict.wait_s, is_final=is_final)

    def _masked(self, text: str) -> str:
        for secret in self._target.secrets:
            text = text.replace(secret, "***")
        return text
