"""
`python -m bench.keys`: what it costs to find out who asks, beside what accepting a message costs.

CPU time of one process, over SQLite in a temporary directory, with 1,000 keys and one OAuth client. Accepting is measured
without HTTP around it, so that the shares are the largest that they can be. The last lines compare how long wrong keys
take that share their beginning with a real one and those that do not (Welch's t; below 4.5 nothing leaks).
"""

import asyncio
import json
import random
import statistics
import string
import tempfile
import time
from pathlib import Path

from gatepost.accept import Acceptor
from gatepost.clock import SystemClock
from gatepost.domain.access import Actor, KeyMode, PrincipalKind, Restrictions, Scope
from gatepost.domain.address import parse_mailbox
from gatepost.domain.errors import Refused
from gatepost.domain.message import Submission
from gatepost.domain.tenant import Caller, Domain, DomainStatus
from gatepost.settings import OAuth, Settings
from gatepost.store import credentials, tenants
from gatepost.store.blobs import LocalBlobs
from gatepost.store.opening import create_engine, open_store
from gatepost.tenants import grants, keys
from gatepost.tenants.client_authentication import Shown
from gatepost.tenants.client_register import Clients
from gatepost.tenants.directory import Directory
from gatepost.tenants.identity import create_identity

BY = Actor(kind=PrincipalKind.LOCAL, id="local", name="bench")
PEER = "192.0.2.7"
ROUNDS, KEYS, MESSAGES, COMPARES = 20_000, 1_000, 2_000, 100_000


async def cost_us(work, rounds=ROUNDS):
    """Return the CPU time of one call in µs: the best of five rounds, to leave other load out."""
    found = []
    for _ in range(5):
        started = time.process_time()
        for _ in range(rounds // 5):
            await work()
        found.append((time.process_time() - started) / (rounds // 5) * 1e6)
    return min(found)


async def accept_us(acceptor, caller):
    """Return the CPU time of one accepted message in µs, 50 at a time."""

    async def one(n):
        await acceptor.submit(
            caller, Submission(sender=parse_mailbox("a@acme.example"), to=(parse_mailbox(f"r{n}@example.net"),), subject="Hi", text="Hello")
        )

    await asyncio.gather(*[one(n) for n in range(50)])
    started = time.process_time()
    for start in range(0, MESSAGES, 50):
        await asyncio.gather(*[one(start + n) for n in range(50)])
    return (time.process_time() - started) / MESSAGES * 1e6


async def leak_t(door, secret):
    """
    Compare wrong keys whose first half is right with wrong keys that have nothing of it, in random order.

    Each guess is a new one: of a fixed set some would be slow for the numbers in their checksums.
    """
    letters = string.ascii_letters + string.digits
    guesses = []
    for which in random.choices((0, 1), k=COMPARES):
        right = secret[:24] if which else "gp_live_"
        start = right + "".join(random.choices(letters, k=40 - len(right)))
        guesses.append((which, start + keys._checksum(start)))
    taken = [[], []]
    for which, text in guesses:  # made before: making the one kind must not leave the machine other than making the other
        started = time.perf_counter_ns()
        try:
            await door.authenticate(text, PEER)
        except Refused:
            taken[which].append(time.perf_counter_ns() - started)
    limit = statistics.quantiles(taken[0] + taken[1], n=10)[7]  # the slowest fifth is other load
    first, second = [[value for value in one if value <= limit] for one in taken]
    spread = (statistics.variance(first) / len(first) + statistics.variance(second) / len(second)) ** 0.5
    return abs(statistics.mean(first) - statistics.mean(second)) / spread


async def measure(folder):
    clock, settings = SystemClock(), Settings(oauth=OAuth(issuer="https://gate.example"))
    engine = create_engine("", folder)
    tenant_id = await open_store(engine, clock)
    domain = Domain(id="dom_1", tenant_id=tenant_id, name="acme.example", status=DomainStatus.VERIFIED, is_trusted=True, created_at=0)
    made = [keys.make_secret(KeyMode.LIVE) for _ in range(KEYS)]
    narrowed = grants.read(grants.Asked(networks=["10.0.0.0/8", "172.16.0.0/12", "192.0.2.0/24"]), clock.now())

    def prepare(conn):
        tenants.insert_domain(conn, domain)
        for n, secret in enumerate(made):
            key = keys.describe(
                secret, tenant_id=tenant_id, name="k", mode=KeyMode.LIVE, now=clock.now(), restrictions=narrowed if n == 1 else None
            )
            credentials.insert(conn, key, keys.hash_secret(secret))

    await engine.write(prepare)
    directory = Directory(engine, clock)
    identity = create_identity(engine, directory, clock, settings)
    client = await Clients(engine, clock).create(
        tenant_id, "c", KeyMode.LIVE, Restrictions(scopes=frozenset({Scope.MESSAGES_SEND})), by=BY, maker=None
    )
    await directory.refresh()
    door = identity.authenticator
    token = (
        await identity.authorization.token(Shown(client_id=client.credential.id, secret=client.secret), PEER, "client_credentials", None)
    ).text
    access = door._tokens

    async def uncached():
        access._remembered.clear()
        await door.authenticate(token, PEER)

    strange = keys.make_secret(KeyMode.LIVE)

    async def unknown():
        try:
            await door.authenticate(strange, PEER)
        except Refused:
            return

    acceptor = Acceptor(
        engine=engine, blobs=LocalBlobs(folder / "blobs"), directory=directory, settings=settings, clock=clock, hostname="gate.example"
    )
    caller = Caller(principal=await door.authenticate(made[0], PEER), peer=PEER, request_id="req_1")
    costs = {
        "key": await cost_us(lambda: door.authenticate(made[0], PEER)),
        "key with three networks": await cost_us(lambda: door.authenticate(made[1], PEER)),
        "access token, seen before": await cost_us(lambda: door.authenticate(token, PEER)),
        "access token, first time": await cost_us(uncached, 2_000),
        "unknown key": await cost_us(unknown, 5_000),
    }
    accepting = await accept_us(acceptor, caller)
    t_value = await leak_t(door, made[0])
    await acceptor.drain()
    await engine.close()
    return costs, accepting, t_value


def main():
    with tempfile.TemporaryDirectory() as folder:
        costs, accepting, t_value = asyncio.run(measure(Path(folder)))
    print(f"{'accepting a message':28} {accepting:9.1f} µs")
    for name, cost in costs.items():
        print(f"{name:28} {cost:9.1f} µs {cost / accepting:8.1%}")
    print(f"{'t of nearly right keys':28} {t_value:9.1f}    {'nothing leaks' if t_value < 4.5 else 'LOOK AT THIS'}")
    result = {
        "accept_us": accepting,
        "t": t_value,
        **{f"{name.replace(' ', '_').replace(',', '')}_us": cost for name, cost in costs.items()},
    }
    place = Path(__file__).parent / "results" / "keys.json"
    place.write_text(json.dumps({name: round(value, 2) for name, value in result.items()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
