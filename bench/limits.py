"""
`python -m bench.limits`: what limits cost, in microseconds of one core a message, beside accepting the message at all.

Everything runs in one process over SQLite: reserving alone, and the whole accept path with and without limits and caps.
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import msgspec

from gatepost import ids
from gatepost.accept import Acceptor
from gatepost.clock import SystemClock
from gatepost.domain.access import Principal, PrincipalKind, parse_limit
from gatepost.domain.address import Mailbox, parse_address
from gatepost.domain.allowance import Wanted
from gatepost.domain.message import Submission
from gatepost.domain.tenant import Caller, Domain, DomainStatus
from gatepost.settings import Rates, Settings
from gatepost.store import tenants
from gatepost.store.blobs import LocalBlobs
from gatepost.store.opening import create_engine, open_store
from gatepost.tenants.directory import Directory
from gatepost.tenants.limits import Limits

FOUR = ("messages=1000000000/day", "recipients=1000000000/hour", "bytes=1000000000000/month", "messages=1000000000/minute")
MESSAGES = 4_000
ROUNDS = 5


def caller(tenant_id: str, limits: tuple[str, ...]) -> Caller:
    who = Principal(
        id="key_bench", kind=PrincipalKind.KEY, tenant_id=tenant_id, name="bench", limits=tuple(parse_limit(text) for text in limits)
    )
    return Caller(principal=who, peer="127.0.0.1", request_id="req_bench")


async def reserve(limits: Limits, who: Caller, count: int) -> float:
    """Reserve one message after the other; return the microseconds of each."""
    wanted = [Wanted(recipients=("a@example.net",), size_bytes=5000, stream="transactional", lane=1, domain="bench.example", route="mx")]
    started = time.perf_counter()
    for _ in range(count):
        await limits.reserve(who, wanted)
        await limits.count_request(who)
    return (time.perf_counter() - started) / count * 1e6


async def accept(acceptor: Acceptor, who: Caller, count: int) -> float:
    """Accept messages from 32 senders at once; return the microseconds of processor time of each."""
    text = "The quick brown fox jumps over the lazy dog.\n" * 110
    numbers = iter(range(count))

    async def send() -> None:
        for _ in numbers:
            to = Mailbox(parse_address(f"{ids.new('u')}@example.net"))
            submission = Submission(sender=Mailbox(parse_address("a@bench.example")), to=(to,), subject="Bench", text=text)
            await acceptor.submit(who, submission)

    started = time.process_time()
    await asyncio.gather(*[send() for _ in range(32)])
    return (time.process_time() - started) / count * 1e6


async def run() -> None:
    clock = SystemClock()
    with tempfile.TemporaryDirectory() as folder:
        engine = create_engine("", Path(folder))
        tenant_id = await open_store(engine, clock)
        domain = Domain(
            id="dom_bench", tenant_id=tenant_id, name="bench.example", status=DomainStatus.VERIFIED, is_trusted=True, created_at=0
        )
        await engine.write(lambda conn: tenants.insert_domain(conn, domain))
        directory = Directory(engine, clock)
        await directory.refresh()
        capped = Settings()
        free = msgspec.structs.replace(capped, rates=Rates(codes_per_recipient=0, transactional_per_recipient=0, bulk_per_recipient=0))
        counted = Limits(engine, clock, free)
        nobody, four = caller(tenant_id, ()), caller(tenant_id, (*FOUR, "requests=1000000000/minute"))
        await reserve(counted, four, 2000)
        print(f"reserve, no limits                 {await reserve(counted, nobody, 20_000):7.1f} µs")
        print(f"reserve, 4 limits and 1 of requests{await reserve(counted, four, 20_000):7.1f} µs")

        def acceptor(settings: Settings, limits: Limits | None) -> Acceptor:
            return Acceptor(
                engine=engine, blobs=LocalBlobs(Path(folder) / "blobs"), directory=directory, settings=settings, clock=clock,
                hostname="bench.example", limits=limits,
            )  # fmt: skip

        ways = {
            "accept, nobody counts": (acceptor(free, None), nobody),
            "accept, no limits (usage counted)": (acceptor(free, counted), nobody),
            "accept, 5 limits": (acceptor(free, counted), four),
            "accept, caps per recipient": (acceptor(capped, Limits(engine, clock, capped)), nobody),
            "accept, caps and 5 limits": (acceptor(capped, Limits(engine, clock, capped)), four),
        }
        found: dict[str, list[float]] = {name: [] for name in ways}
        for one, who in ways.values():
            await accept(one, who, 500)
        for _ in range(ROUNDS):  # in turns, so that a busy moment of the machine hits all alike
            for name, (one, who) in ways.items():
                found[name].append(await accept(one, who, MESSAGES // ROUNDS))
        for name, values in found.items():
            print(f"{name:35}{statistics.median(values):7.1f} µs")
        await engine.close()


if __name__ == "__main__":
    asyncio.run(run())
