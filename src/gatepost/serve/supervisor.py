"""
The supervisor: one door process, dispatch processes, and nobody else on this data directory.

Arrives: the settings and a lock on the data directory.
Leaves: running children. One that dies is started again, at once the first time and then ever later; the leases of a
dispatch process that died are given back, so that its mail need not wait for them to end.
Not here: what children do (app), how they start (child).
Bugs: the supervisor does not read changed settings; restart it.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from gatepost import ids
from gatepost.app.database import create_engine
from gatepost.clock import Clock, SystemClock
from gatepost.domain.errors import Refused
from gatepost.domain.person import Purpose
from gatepost.observe import maillog, metric_files
from gatepost.serve.child import EXIT_FATAL, Report
from gatepost.serve.cores import shares, usable
from gatepost.serve.forking import Start
from gatepost.serve.lock import DataLock
from gatepost.serve.notify import notify, watchdog_s
from gatepost.serve.nursery import Nursery, NurseryGone, Running
from gatepost.settings import Loaded
from gatepost.store import leases, opening
from gatepost.store.engine import Engine
from gatepost.store.errors import StorageUnavailable
from gatepost.tenants.audit import record_settings
from gatepost.tenants.one_time_links import OneTimeLinks, link_to
from gatepost.tenants.passwords import Passwords

STOP_S = 35.0
_FIRST_PAUSE_S = 0.2
_HEALTHY_S = 60.0
_FACTS_AGAIN_S = 1.0
_FAILED_STARTS = 5
"""Starts in a row without ever becoming ready after which the supervisor gives up."""


class CannotServe(Exception):  # noqa: N818
    """The gateway cannot run; the message is one sentence for the operator."""


@dataclass(slots=True)
class _Child:
    """One place for a child process, whichever process fills it."""

    role: str
    core: int | None
    process: Running | None = None
    node_id: str = ""
    report: Report | None = None
    started_at: float = 0.0
    pause_s: float = _FIRST_PAUSE_S
    failed_starts: int = 0
    is_up: asyncio.Event = field(default_factory=asyncio.Event)


class Supervisor:
    """Starts children, keeps them running, and stops them."""

    def __init__(
        self,
        loaded: Loaded,
        flags: list[str],
        announce: Callable[[list[str]], None],
        nursery: Nursery | None = None,
        clock: Clock | None = None,
    ) -> None:
        """
        Args:
            flags: The `--set` options, as given, for the children.
            announce: Called with what the operator should read once everything runs.
            nursery: Makes the children; without it, and after it ended, they are started as programs.
        """
        self._loaded = loaded
        self._nursery = nursery
        self._flags = flags
        self._announce = announce
        self._clock = clock or SystemClock()
        self._folder = loaded.data_dir / "run"
        self._children = [
            _Child("dispatch" if number else "door", core) for number, core in enumerate(shares(loaded.settings.workers, usable()))
        ]
        self._stopping = asyncio.Event()
        self._fatal: str | None = None
        self._listening: dict[str, str] = {}
        self._engine: Engine | None = None
        self._lock: DataLock | None = None

    async def run(self) -> None:
        """
        Run until SIGTERM or SIGINT.

        Raises:
            CannotServe: Another `serve` has the data directory, or a child says why it cannot run.
            SchemaOutdated: PostgreSQL needs `gatepost migrate`.
        """
        self._handle_signals()
        with DataLock(self._loaded.data_dir) as self._lock:
            self._prepare_folder()
            self._engine = create_engine(self._loaded)
            try:
                await self._prepare_store(self._engine)
                await self._supervise()
            finally:
                await self._engine.close()
                (self._folder / "serve.json").unlink(missing_ok=True)
        if self._fatal is not None:
            raise CannotServe(self._fatal)

    def stop(self) -> None:
        """Begin the end; a second time, end at once."""
        if self._stopping.is_set():
            self._signal_all(signal.SIGKILL)
        self._stopping.set()

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)

    def _prepare_folder(self) -> None:
        metrics_dir = self._folder / "metrics"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        (self._folder / "serve.json").unlink(missing_ok=True)
        shutil.rmtree(metrics_dir, ignore_errors=True)
        metrics_dir.mkdir(mode=0o700)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics_dir.absolute())

    async def _prepare_store(self, engine: Engine) -> None:
        """Migrate an embedded database, and free the shards of a run that was killed: the lock says that nobody else lives."""
        try:
            await opening.open_store(engine, self._clock)
            host, now = socket.gethostname(), self._clock.now()
            if changed := await engine.write(lambda conn: record_settings(conn, self._loaded, host, now)):
                maillog.changed("settings", names=changed[:50])
            if engine.dialect == "sqlite":
                await engine.write(leases.release_all)
        except StorageUnavailable as error:
            maillog.trouble("the database cannot be used yet; starting anyway", error=str(error))

    async def _supervise(self) -> None:
        keepers = [asyncio.create_task(self._keep(child)) for child in self._children]
        for keeper in keepers:
            keeper.add_done_callback(self._on_kept)
        beat = asyncio.create_task(self._beat())
        ready = asyncio.create_task(self._tell_when_ready())
        await self._stopping.wait()
        notify("STOPPING=1")
        for task in (beat, ready):
            task.cancel()
        self._signal_all(signal.SIGTERM)
        _, late = await asyncio.wait(keepers, timeout=STOP_S)
        if late:
            maillog.trouble("children were killed at the stop", count=len(late))
            self._signal_all(signal.SIGKILL)
        await asyncio.gather(*keepers, beat, ready, return_exceptions=True)

    async def _tell_when_ready(self) -> None:
        await asyncio.gather(*[child.is_up.wait() for child in self._children])
        self._write_facts()
        self._announce([*announcement(self._loaded, self._listening), *await self._setup_lines()])
        notify("READY=1")

    async def _setup_lines(self) -> list[str]:
        """Say where the first person is made, while there is none. The link is a secret: it stands here, and in no log."""
        if self._engine is None or not {"http", "https"} & set(self._listening):
            return []
        links = OneTimeLinks(self._engine, self._clock, self._loaded.settings, Passwords())
        try:
            token = await links.make_setup()
        except (Refused, StorageUnavailable):  # somebody has been set up; or the next start says it
            return []
        return [f"Set up {link_to(self._loaded.settings, Purpose.SETUP, token, self._listening)} (once, within a day)"]

    def _write_facts(self) -> None:
        """Tell other programs, once everything runs, who we are and where we listen."""
        if self._stopping.is_set() or not all(child.is_up.is_set() for child in self._children):
            return
        try:
            write_whole(self._folder / "serve.json", json.dumps({"pid": os.getpid(), "listening": self._listening}))
        except OSError as error:  # a full disk: neither the news that we are ready nor a child's restart may hang on it
            maillog.trouble("serve.json cannot be written yet", error=str(error))
            asyncio.get_running_loop().call_later(_FACTS_AGAIN_S, self._write_facts)

    async def _beat(self) -> None:
        every_s = watchdog_s()
        while every_s is not None:
            notify("WATCHDOG=1")
            await self._clock.sleep(every_s)

    async def _keep(self, child: _Child) -> None:
        """Fill one place until the stop."""
        while not self._stopping.is_set():
            await self._run_once(child)
            if self._stopping.is_set():
                return
            self._judge(child)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(child.pause_s):
                    await self._stopping.wait()
            child.pause_s = min(child.pause_s * 2, self._loaded.settings.workers.longest_pause_s)

    def _on_kept(self, keeper: "asyncio.Task[None]") -> None:
        error = None if keeper.cancelled() else keeper.exception()
        if error is not None:  # a fault of ours: better to end, and be started again, than to run without a child
            maillog.crashed("supervisor", error)
            self._give_up(f"internal error: {type(error).__name__}")

    async def _run_once(self, child: _Child) -> None:
        child.report, child.started_at = None, self._clock.monotonic()
        child.node_id = ids.new("node") if child.role == "dispatch" else ""
        reader, writer = os.pipe()
        try:
            child.process = await self._spawn(child, writer)
        except OSError as error:
            os.close(reader)
            maillog.trouble("a child could not be started", role=child.role, error=str(error))
            return
        finally:
            os.close(writer)
        if self._stopping.is_set():  # the signal came before there was a process to pass it to
            child.process.send_signal(signal.SIGTERM)
        listening = asyncio.create_task(self._listen(child, reader))
        code = await child.process.wait()
        await listening
        await self._clean_up(child, child.process.pid, code)

    async def _spawn(self, child: _Child, writer: int) -> Running:
        assert self._lock is not None
        # the children hold the lock too: while one of them lives, no other supervisor starts
        handles = (writer, self._lock.handle)
        if self._nursery is not None:
            metrics_dir = os.environ["PROMETHEUS_MULTIPROC_DIR"]
            start = Start(role=child.role, node_id=child.node_id, metrics_dir=metrics_dir, core=child.core)
            try:
                return await self._nursery.start(start, handles)
            except NurseryGone:
                maillog.trouble("the nursery ended; children are started as programs now")
                self._nursery = None
        arguments = ["_child", child.role, "--data", str(self._loaded.data_dir), "--report-fd", str(writer), "--parent", str(os.getpid())]
        arguments += ["--node", child.node_id] if child.node_id else []
        arguments += [] if child.core is None else ["--core", str(child.core)]
        arguments += [part for flag in self._flags for part in ("--set", flag)]
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gatepost", *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=handles,
            process_group=0,  # Ctrl-C is for the supervisor, which then stops them in order
        )  # fmt: skip

    async def _listen(self, child: _Child, reader: int) -> None:
        """Read a child's one line; without one it ended before it was ready."""
        line = await _read_line(reader)
        if not line:
            return
        child.report = msgspec.json.decode(line, type=Report)
        if not child.report.fatal:
            child.failed_starts = 0
            child.is_up.set()
            self._listening |= child.report.listening
            self._write_facts()

    def _judge(self, child: _Child) -> None:
        """Decide what a child's end means: one that never ran and says why ends everything, others are started again."""
        if self._clock.monotonic() - child.started_at >= _HEALTHY_S:
            child.pause_s = _FIRST_PAUSE_S
        if child.report is None:
            child.failed_starts += 1
        fatal = "" if child.report is None else child.report.fatal
        if child.is_up.is_set():
            if fatal:
                maillog.trouble("a child cannot run now", role=child.role, error=fatal)
        elif fatal:
            self._give_up(fatal)
        elif child.failed_starts >= _FAILED_STARTS:
            self._give_up(f"the {child.role} process ended {_FAILED_STARTS} times before it was ready; its messages are above")

    def _give_up(self, why: str) -> None:
        self._fatal = self._fatal or why
        self._stopping.set()

    async def _clean_up(self, child: _Child, pid: int, code: int) -> None:
        child.process = None
        metric_files.forget_process(pid)
        if not self._stopping.is_set() and code != EXIT_FATAL:
            maillog.trouble("a child ended", role=child.role, pid=pid, code=code, node=child.node_id or None)
        if child.node_id and code != 0 and self._engine is not None:
            try:
                async with asyncio.timeout(5):
                    await self._engine.write(lambda conn: leases.release(conn, child.node_id))
            except (StorageUnavailable, TimeoutError):
                maillog.trouble("the leases of a child could not be given back; they will end", node=child.node_id)

    def _signal_all(self, number: int) -> None:
        for child in self._children:
            if child.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    child.process.send_signal(number)


async def _read_line(reader: int) -> bytes:
    """Read a pipe until its other end is closed."""
    loop = asyncio.get_running_loop()
    stream = asyncio.StreamReader()
    with os.fdopen(reader, "rb", 0) as pipe:
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), pipe)
        try:
            return await stream.readline()
        finally:
            transport.close()


def announcement(loaded: Loaded, listening: dict[str, str]) -> list[str]:
    """Say where the gateway listens and where its mail goes."""
    settings = loaded.settings
    smtp_tls = ", STARTTLS" if settings.tls.cert or settings.tls.certificates or settings.acme.directory_url else ""
    words = {"http": "HTTP   http://{}", "https": "HTTPS  https://{}", "smtp": f"SMTP   {{}}{smtp_tls}", "smtps": "SMTPS  {} (TLS)"}
    lines = [words[door].format(listening[door]) for door in words if door in listening]
    match settings.egress.default_route:
        case "sandbox":
            lines.append("Mail   goes to the sandbox: nothing leaves this machine (egress.default_route)")
        case "mx":
            lines.append("Mail   goes straight to the recipients' mail servers")
        case route if "," in route:
            lines.append(f"Mail   really goes out, by the first of these roads that works: {route}")
        case relay:
            lines.append(f"Mail   goes to the relay {relay}")
    lines.append(f"Data   {loaded.data_dir.absolute()}")
    return lines


def write_whole(path: Path, text: str) -> None:
    """Write a file so that no reader sees half of it."""
    new = path.with_suffix(".new")
    new.write_text(text + "\n", "utf-8")
    new.replace(path)
