"""
A dispatch process: takes what is due out of the queue and delivers it.

Arrives: the settings, and the bell. Leaves: deliveries, settled.
Not here: the loop itself (gatepost.dispatch), processes and restarts (serve).
"""

import asyncio
import os
import socket

from gatepost.app.base import DRAIN_S, REFRESH_S, Base, OnReady, create_base, open_patiently
from gatepost.app.parts import create_couriers
from gatepost.dispatch.loop import Dispatcher
from gatepost.dispatch.ownership import Ownership
from gatepost.egress.courier import Courier
from gatepost.observe import maillog
from gatepost.settings import Loaded
from gatepost.tenants.signing import Signing


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
        couriers.update(create_couriers(base.settings, base.clock))
        if await open_patiently(base, stopping) is not None:
            await _dispatch(base, couriers, stopping, on_ready, node_id)
    finally:
        await asyncio.gather(*[courier.close() for courier in couriers.values()], return_exceptions=True)
        await base.close()


async def _dispatch(base: Base, couriers: dict[str, Courier], stopping: asyncio.Event, on_ready: OnReady, node_id: str) -> None:

    ownership = Ownership(base.engine, base.clock, node_id, socket.gethostname(), os.getpid(), base.settings.workers.lease_s)
    dispatcher = Dispatcher(
        engine=base.engine, blobs=base.blobs, signing=Signing(base.directory), couriers=couriers, settings=base.settings,
        clock=base.clock, ownership=ownership, hostname=base.settings.egress.hostname,
    )  # fmt: skip
    try:
        base.bell.listen(asyncio.get_running_loop(), dispatcher.wake)
    except OSError as error:
        maillog.trouble("no bell: new mail is seen a moment later", error=str(error))
    base.repeat("refresh", REFRESH_S, base.directory.refresh)
    on_ready({})
    waker = asyncio.create_task(_wake_at(stopping, dispatcher))
    while not stopping.is_set():
        await dispatcher.wait(await _step(dispatcher))
    waker.cancel()
    maillog.lifecycle("stopping", node=node_id)
    await dispatcher.stop(DRAIN_S - 5)


async def _wake_at(stopping: asyncio.Event, dispatcher: Dispatcher) -> None:
    await stopping.wait()
    dispatcher.wake()


async def _step(dispatcher: Dispatcher) -> float:
    try:
        return await dispatcher.step()
    except Exception as error:  # noqa: BLE001 - the queue goes on; what failed is read again
        maillog.crashed("dispatch", error)
        return 1.0
