"""
For `bench.costs` only: with this folder on PYTHONPATH a gateway counts the processor time of each step of a message.

A step is a function; its time is its own, without that of the steps that it calls. A coroutine is counted whenever it runs, and not
while it waits. Beside a thread the gateway forks no children but runs programs, each of which reads this file. Once the file `begin`
stands in the folder of COSTS_FOLDER it counts; when `end` stands there, it writes its table.
"""

import functools
import inspect
import json
import os
import resource
import sys
import threading
import time
from importlib.machinery import PathFinder
from pathlib import Path

_STEPS = {
    "gatepost.smtpd.connection": {
        "SmtpConnection.data_received": "SMTP protocol, in",
        "SmtpConnection._submit": "SMTP protocol, in",
        "SmtpConnection._answered": "SMTP protocol, in",
    },
    "gatepost.accept.acceptor": {"Acceptor.submit_finished": "rules of accept", "Acceptor._tell": "log and metrics"},
    "gatepost.accept.handing": {"Handing._flush": "handing over"},
    "gatepost.mime.adopt": {"adopt": "reading the MIME"},
    "gatepost.screening.screener": {"Screener.check": "screening"},
    "gatepost.tenants.limits.limits": {"Limits.reserve": "limits", "Limits.count_request": "limits"},
    "gatepost.accept.committing": {"commit": "transaction of accept"},
    "gatepost.store.engine": {"GroupCommit._commit_until_empty": "hand-over to the writer"},
    "gatepost.store.sqlite": {"_transact": "commit"},
    "gatepost.store.blobs": {"LocalBlobs.put": "compressing", "LocalBlobs.get": "decompressing"},
    "gatepost.store.keyring": {"Keyring.seal": "sealing", "Keyring.unseal": "unsealing", "Keyring.hash_text": "sealing"},
    "gatepost.dispatch.claiming": {"Claiming.look": "claim", "read": "reading the queue", "_load": "reading messages"},
    "gatepost.dispatch.loop": {
        "Dispatcher.step": "claim",
        "Dispatcher.take_in": "handing over",
        "Dispatcher._line_up": "lining up",
        "Dispatcher._work": "lining up",
    },
    "gatepost.dispatch.delivering": {"Delivering.deliver": "delivery: deciding", "tell": "log and metrics"},
    "gatepost.dispatch.settling": {"Settling._write_until_empty": "hand-over to the writer"},
    "gatepost.mime.render": {"render": "render"},
    "gatepost.wire.dkim": {"sign": "canonicalise and hash", "Signer.sign": "{}"},
    "gatepost.egress.smtp.courier": {"SmtpCourier.deliver": "SMTP out"},
    "gatepost.egress.smtp.session": {"Session.data_received": "SMTP out"},
    "gatepost.settle": {"settle": "transaction of settle"},
    "gatepost.observe.maillog": {"accepted": "log and metrics", "attempted": "log and metrics", "_flush": "log and metrics"},
}
_NAMES = {"rsa-sha256": "RSA-2048", "ed25519-sha256": "Ed25519"}
_clock = time.thread_time_ns


class _Thread(threading.local):
    """What a thread is at."""

    def __init__(self) -> None:
        name = threading.current_thread().name
        self.spent: dict[str, int] = {}
        self.calls: dict[str, int] = {}
        self.stack = ["event loop and sockets" if name == "MainThread" else f"thread {name.split('_')[0]}"]
        self.last = _clock()
        _threads.append(self.__dict__)


_threads: list[dict] = []
_here = _Thread()


def _enter(step: str) -> None:
    here = _here
    now = _clock()
    top = here.stack[-1]
    here.spent[top] = here.spent.get(top, 0) + now - here.last
    here.calls[step] = here.calls.get(step, 0) + 1
    here.stack.append(step)
    here.last = now


def _leave() -> None:
    here = _here
    now = _clock()
    top = here.stack.pop()
    here.spent[top] = here.spent.get(top, 0) + now - here.last
    here.last = now


class _Stepped:
    """A coroutine that is counted while it runs."""

    def __init__(self, coro, step: str) -> None:
        self._coro, self._step = coro, step

    def __await__(self):
        return self

    __iter__ = __await__

    def __next__(self):
        return self.send(None)

    def send(self, value):
        _enter(self._step)
        try:
            return self._coro.send(value)
        finally:
            _leave()

    def throw(self, *error):
        _enter(self._step)
        try:
            return self._coro.throw(*error)
        finally:
            _leave()

    def close(self):
        self._coro.close()


def _measured(function, step: str):
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def run(*arguments, **named):
            return await _Stepped(function(*arguments, **named), step)

        return run

    @functools.wraps(function)
    def call(*arguments, **named):
        _enter(step if step != "{}" else _NAMES[arguments[0].algorithm])
        try:
            return function(*arguments, **named)
        finally:
            _leave()

    return call


def _patch(module, steps: dict[str, str]) -> None:
    for path, step in steps.items():
        owner, _, name = path.rpartition(".")
        place = getattr(module, owner, None) if owner else module
        if place is None or name not in vars(place):
            sys.stderr.write(f"bench: {module.__name__}.{path} is not there to be measured\n")
        else:
            setattr(place, name, _measured(vars(place)[name], step))


class _Finder(PathFinder):
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        spec = super().find_spec(fullname, path, target) if fullname in _STEPS else None
        if spec is not None:
            execute = spec.loader.exec_module

            def exec_module(module) -> None:
                execute(module)
                _patch(module, _STEPS[fullname])

            spec.loader.exec_module = exec_module
        return spec


def _taken() -> dict[str, object]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent: dict[str, int] = {}
    calls: dict[str, int] = {}
    for one in _threads[:]:
        for name, ns in list(one["spent"].items()):
            spent[name] = spent.get(name, 0) + ns
        for name, n in list(one["calls"].items()):
            calls[name] = calls.get(name, 0) + n
    return {"spent": spent, "calls": calls, "user": used.ru_utime, "kernel": used.ru_stime}


def _watch(folder: Path) -> None:
    while not (folder / "begin").exists():
        time.sleep(0.02)
    before = _taken()
    while not (folder / "end").exists():
        time.sleep(0.02)
    kind = next((sys.argv[at + 1] for at, word in enumerate(sys.argv) if word == "_child"), "supervisor")
    made = folder / f"{kind}-{os.getpid()}.part"
    made.write_text(json.dumps({"kind": kind, "before": before, "after": _taken()}))
    made.rename(made.with_suffix(".json"))


if (_folder := os.environ.get("COSTS_FOLDER")) is not None:
    sys.meta_path.insert(0, _Finder)
    threading.Thread(target=_watch, args=(Path(_folder),), daemon=True, name="measuring").start()
