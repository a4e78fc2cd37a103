"""
One call of a webhook.

Arrives: a webhook and a body. Leaves: how it went, whatever happens; nothing is raised.
The target is a stranger's choice: only addresses of the public Internet are connected to, and those that
`webhooks.allow_networks` names, over plain HTTP only the latter. A name is looked up once, and the connection goes to an
address that was judged. No redirect is followed, and answers are bounded in time and size.
Standards: Standard Webhooks 1.0; RFC 9110 §10.2.3 (Retry-After).
Not here: when to try again (channel), sockets (net.http_client), which URLs are taken at all (policy.hook_targets).
"""

import ipaddress
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from gatepost.clock import Clock
from gatepost.domain.webhook import Webhook
from gatepost.net.dns import Resolver
from gatepost.net.http_client import HttpClient, HttpFault, HttpRequest
from gatepost.policy.public_addresses import is_in, is_public
from gatepost.settings import Webhooks
from gatepost.wire import hook_signature

_SHOWN_CHARACTERS: Final = 500
"""How much of an answer is kept."""
_MAX_BYTES: Final = 4096
_LONGEST_WAIT_S: Final = 86_400
GONE: Final = 410


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """
    How a call went.

    Attributes:
        code: Status of the answer; None when there was none.
        text: The beginning of the answer, or why there was none; empty for a success.
        wait_s: How long the other side asks not to be called.
    """

    code: int | None
    latency_ms: int
    text: str = ""
    wait_s: int = 0

    @property
    def is_success(self) -> bool:
        """Tell whether the other side has the event now."""
        return self.code is not None and 200 <= self.code < 300


class Sender:
    """Calls webhooks."""

    def __init__(self, options: Webhooks, clock: Clock, resolver: Resolver | None) -> None:
        """
        Set up without connecting.

        Args:
            resolver: For host names; None is the system's.
        """
        self._clock = clock
        networks = tuple(ipaddress.ip_network(text) for text in options.allow_networks)
        make = partial(
            HttpClient, timeout_s=options.timeout_s, max_bytes=_MAX_BYTES, connections=0, ca_file=options.ca_file, resolver=resolver
        )  # fmt: skip
        self._clients = {
            "https": make(may_connect=lambda address: is_public(address) or is_in(address, networks)),
            "http": make(may_connect=lambda address: is_in(address, networks)),
        }

    async def send(self, webhook: Webhook, hook_id: str, body: bytes) -> Answered:
        """Call a webhook once."""
        started = self._clock.monotonic()
        now = self._clock.now()
        client = self._clients.get(urlsplit(webhook.url).scheme)
        if client is None:
            return Answered(code=None, latency_ms=0, text="only https:// and http:// are called")
        headers = {
            **webhook.headers, "Content-Type": "application/json", "Accept": "*/*", "User-Agent": "Gatepost-Webhooks",
            **hook_signature.headers(webhook.valid_secrets(now), hook_id, now // 1000, body),
        }  # fmt: skip
        try:
            answer = await client.ask(HttpRequest(method="POST", url=webhook.url, headers=headers, body=body, is_cut=True))
        except HttpFault as fault:
            return Answered(code=None, latency_ms=self._since(started), text=str(fault)[:_SHOWN_CHARACTERS])
        if 200 <= answer.status < 300:
            return Answered(code=answer.status, latency_ms=self._since(started))
        text = answer.body.decode("utf-8", errors="replace").replace("\0", "")[:_SHOWN_CHARACTERS]
        wait_s = _wait_of(answer.headers.get("retry-after", ""))
        return Answered(code=answer.status, latency_ms=self._since(started), text=text, wait_s=wait_s)

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.close()

    def _since(self, started: float) -> int:
        return int((self._clock.monotonic() - started) * 1000)


def _wait_of(text: str) -> int:
    """Read Retry-After in its form of seconds; a date is not worth trusting two clocks."""
    return min(int(text), _LONGEST_WAIT_S) if text.isascii() and text.isdigit() and len(text) < 10 else 0
