"""
A dispatch process: takes what is due out of the queue and delivers it.

Arrives: the settings, and the bell. Leaves: deliveries, settled.
Not here: the loop itself (gatepost.dispatch), processes and restarts (serve).
"""

import asyncio
import contextlib
import os
import socket

from gatepost.app.base import DRAIN_S, REFRESH_S, Base, OnReady, create_base, open_patiently
from gatepost.app.inbound import create_return_paths
from gatepost.app.parts import create_bounce_messages, create_couriers, create_resolver, create_sites, create_suppressing
from gatepost.app.tls import create_outgoing_tls, keep_outgoing_tls
from gatepost.app.tracking import create_tracking_urls
from gatepost.app.watching import create_relay_watch
from gatepost.dispatch.loop import Dispatcher
from gatepost.dispatch.ownership import Ownership
from gatepost.dispatch.relay_ledger import FLUSH_S, RelayLedger
from gatepost.dispatch.resolving import Resolving
from gatepost.dispatch.roads import WatchedRoads
from gatepost.dispatch.shaping import SiteShaping
from gatepost.egress.courier import Courier
from gatepost.observe import maillog
from gatepost.settings import Loaded
from gatepost.store.errors import StorageUnavailable
from gatepost.tenants.signing import Signing
from gatepost.webhooks.loop import EVERY_S as HOOKS_S
from gatepost.webhooks.loop import HookLoop


async def run_dispatch(loaded: Loaded, stopping: asyncio.Event, on_ready: OnReady, node_id: str) -> None:
    """
    Run a dispatch process until `stopping`.

    Args:
        on_ready: Called once when deliveries may start.
        node_id: Name under which the process owns shards; new for every start.

    Raises:
        InvalidSettings: An option has no valid value.
    """
    base = create_base(loaded)
    couriers: dict[str, Courier] = {}
    try:
        ledger = RelayLedger(base.engine, base.clock)
        resolver = create_resolver(base.settings, base.clock)
        outgoing = create_outgoing_tls(base.settings, base.engine, base.clock, resolver)
        couriers.update(create_couriers(base.settings, base.clock, ledger, resolver, outgoing))
        systems = Resolving(base.engine, resolver, create_sites(base.settings), base.clock)
        if await open_patiently(base, stopping) is not None:
            await keep_outgoing_tls(base, outgoing)
            base.repeat("relay use", FLUSH_S, ledger.flush)
            hooks = HookLoop(base.engine, base.clock, base.settings, resolver, node_id)
            base.repeat("webhooks", HOOKS_S, hooks.step)
            await _dispatch(base, couriers, systems, stopping, on_ready, node_id)
            with contextlib.suppress(StorageUnavailable):
                await hooks.close()
            await systems.close()
            with contextlib.suppress(StorageUnavailable):
                await ledger.flush()
            await outgoing.close(base.engine)
    finally:
        await asyncio.gather(*[courier.close() for courier in couriers.values()], return_exceptions=True)
        await base.close()


async def _dispatch(
    base: Base, couriers: dict[str, Courier], systems: Resolving, stopping: asyncio.Event, on_ready: OnReady, node_id: str
) -> None:  # fmt: skip
    ownership = Ownership(base.engine, base.clock, node_id, socket.gethostname(), os.getpid(), base.settings.workers.lease_s)
    shaping = SiteShaping(base.settings, base.engine)
    roads = WatchedRoads(
        base.engine, base.settings, base.clock, couriers, machine=socket.gethostname(), owns=lambda shard: shard in ownership.epochs
    )
    shaping.heed(roads)
    dispatcher = Dispatcher(
        engine=base.engine, blobs=base.blobs, signing=Signing(base.directory), couriers=couriers, settings=base.settings,
        clock=base.clock, ownership=ownership, hostname=base.settings.egress.hostname, systems=systems, shaping=shaping, roads=roads,
        reports=create_bounce_messages(base.settings, base.blobs), suppressing=create_suppressing(base.settings),
        return_paths=await create_return_paths(base), tracking=await create_tracking_urls(base),
    )  # fmt: skip
    try:
        base.bell.listen(asyncio.get_running_loop(), dispatcher.wake, dispatcher.take_in)
    except OSError as error:
        maillog.trouble("no bell: new mail is seen a moment later", error=str(error))
    base.repeat("refresh", REFRESH_S, base.directory.refresh)
    watch = create_relay_watch(base.settings, base.engine, base.clock, couriers, node_id)
    base.repeat("watch relays", REFRESH_S, watch.step)
    on_ready({})
    waker = asyncio.create_task(_wake_at(stopping, dispatcher))
    owned: dict[int, int] = {}
    while not stopping.is_set():
        seconds = await _step(dispatcher)
        if ownership.epochs != owned and base.bell.own(ownership.epochs):
            owned = dict(ownership.epochs)
        await dispatcher.wait(seconds)
    waker.cancel()
    maillog.lifecycle("stopping", node=node_id)
    await dispatcher.stop(DRAIN_S - 5)
    with contextlib.suppress(StorageUnavailable):
        await roads.close()
        await watch.close()
        await shaping.close(base.clock.now())


async def _wake_at(stopping: asyncio.Event, dispatcher: Dispatcher) -> None:
    await stopping.wait()
    dispatcher.wake()


async def _step(dispatcher: Dispatcher) -> float:
    try:
        return await dispatcher.step()
    except Exception as error:  # noqa: BLE001 - the queue goes on; what failed is read again
        maillog.crashed("dispatch", error)
        return 1.0
