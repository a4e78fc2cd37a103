"""
Sliding limits in a Valkey or Redis server: exact for all processes and machines, at one round trip a request.

Arrives: what a request needs of several limits. Leaves: it is all taken, or nothing is and the full one is named.
One script does what policy.gcra does, in the server's floating point: exact to a billionth of an item.
Not here: what happens while the server is away (tenants.limits), counts by day and month, which must outlive it.
Bugs: keys of one request may lie on several nodes of a cluster, which a script may not touch: give a single server.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gatepost.clock import Instant

_CONNECTIONS = 16

_SCRIPT = """
local now, full, levels, ats = tonumber(ARGV[1]), 0, {}, {}
for i, key in ipairs(KEYS) do
  local amount, window, need = tonumber(ARGV[3*i-1]), tonumber(ARGV[3*i]), tonumber(ARGV[3*i+1])
  local was = redis.call('HMGET', key, 'level', 'at')
  local at = tonumber(was[2]) or now
  local level = tonumber(was[1]) or 0
  if at > now + math.max(window, 60000) then at, level = now, 0 end
  ats[i] = math.max(now, at)
  levels[i] = math.max(0, level - amount * (ats[i] - at) / window)
  if full == 0 and need > 0 and levels[i] + need > amount + 1e-6 then full = i end
end
local answer = {full}
for i, key in ipairs(KEYS) do
  local amount, window, need = tonumber(ARGV[3*i-1]), tonumber(ARGV[3*i]), tonumber(ARGV[3*i+1])
  if full == 0 and need ~= 0 then
    levels[i] = math.max(0, levels[i] + need)
    redis.call('HSET', key, 'level', string.format('%.17g', levels[i]), 'at', string.format('%.0f', ats[i]))
    redis.call('PEXPIRE', key, math.ceil(2 * window))
  end
  answer[#answer + 1] = string.format('%.17g', levels[i])
  answer[#answer + 1] = string.format('%.0f', ats[i])
end
return answer
"""


class ValkeyAway(Exception):  # noqa: N818
    """The server cannot be used now; what was asked for may have been taken."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a request needs of one limit; negative gives back, 0 only looks."""

    key: str
    amount: int
    window_ms: int
    count: int


@dataclass(frozen=True, slots=True)
class Reading:
    """
    What the server answered.

    Attributes:
        full: Number of the limit that has not enough; None when everything was taken.
        levels: Items in each bucket, with the instant of that.
    """

    full: int | None
    levels: Sequence[tuple[float, Instant]]


class Valkey:
    """A server with the counters; connects when first asked."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """
        Args:
            timeout_s: For one answer, connecting included.

        Raises:
            ValueError: The URL is none of valkey://, redis://, rediss:// and unix://.
        """
        # imported here: a gateway without it loads nothing of it
        from valkey.asyncio import BlockingConnectionPool  # noqa: PLC0415
        from valkey.asyncio import Valkey as Client  # noqa: PLC0415

        self._timeout_s = timeout_s
        pool = BlockingConnectionPool.from_url(
            url, max_connections=_CONNECTIONS, timeout=timeout_s, socket_timeout=timeout_s, socket_connect_timeout=timeout_s
        )
        self._client: Any = Client(connection_pool=pool)
        self._script = self._client.register_script(_SCRIPT)

    async def take(self, needs: Sequence[Need], now: Instant) -> Reading:
        """
        Take of several limits, all or nothing.

        Raises:
            ValkeyAway: The server cannot be used now.
        """
        arguments = [now, *[value for need in needs for value in (need.amount, need.window_ms, need.count)]]
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._script(keys=[need.key for need in needs], args=arguments)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            raise ValkeyAway(type(error).__name__) from error
        values = [float(value) for value in answer[1:]]
        levels = [(values[n], int(values[n + 1])) for n in range(0, len(values), 2)]
        return Reading(int(answer[0]) - 1 if answer[0] else None, levels)

    async def close(self) -> None:
        """Close the connections."""
        try:
            await self._client.aclose()
            await self._client.connection_pool.disconnect()
        except Exception:  # noqa: BLE001, S110 - it is away already
            pass
