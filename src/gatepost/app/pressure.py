"""
Measures what the door process has left: memory, disk, the database's patience, the event loop's.

Arrives: the process, the data directory, the acceptor. Leaves: measurements in `AdmissionControl`, several times a second.
Not here: what is done about it (accept.admission).
Bugs: resident memory is read on Linux only; elsewhere its signal is silent.
"""

import asyncio
import contextlib
import ctypes
import gc
import os
import statistics
from collections import deque
from pathlib import Path
from typing import Final

from gatepost.accept import Acceptor
from gatepost.accept.admission import AdmissionControl, Level
from gatepost.app.base import Base
from gatepost.clock import Clock
from gatepost.domain.message import Lane

EVERY_S: Final = 0.05
_DISK_EVERY_S: Final = 1.0
_MEMORY_EVERY_S: Final = 0.25
_TRIM_EVERY_S: Final = 5.0
_LAGS: Final = 5
"""The loop is as late as it was in the middle one of so many measurements: one long step, as at a start, is no load."""
_STATM = Path("/proc/self/statm")


class Sampler:
    """Takes the measurements of one door process; `step` is called every `EVERY_S` seconds."""

    def __init__(self, admission: AdmissionControl, acceptor: Acceptor, data_dir: Path, clock: Clock) -> None:
        self._admission = admission
        self._acceptor = acceptor
        self._data_dir = data_dir
        self._clock = clock
        self._expected_at = clock.monotonic() + EVERY_S
        self._lags_s: deque[float] = deque([0.0] * _LAGS, maxlen=_LAGS)
        self._next_disk_at = self._next_memory_at = self._next_trim_at = 0.0

    async def step(self) -> None:
        """Measure what is due and draw the conclusions."""
        now = self._clock.monotonic()
        self._lags_s.append(max(0.0, now - self._expected_at))
        self._admission.note("lag", statistics.median(self._lags_s))
        self._admission.note("commit", self._acceptor.commit_s)
        self._admission.note_waits({lane: self._acceptor.oldest_s(lane) for lane in Lane})
        if now >= self._next_memory_at:
            self._next_memory_at = now + _MEMORY_EVERY_S
            self._measure_memory(now)
        if now >= self._next_disk_at:
            self._next_disk_at = now + _DISK_EVERY_S
            await self._measure_disk()
        self._admission.review()
        self._expected_at = self._clock.monotonic() + EVERY_S

    def _measure_memory(self, now: float) -> None:
        resident = resident_bytes()
        if resident is None:
            return
        if self._admission.note("memory", resident) > Level.CALM and now >= self._next_trim_at:
            self._next_trim_at = now + _TRIM_EVERY_S
            _trim()  # what was freed since the last spike may still count as ours
            self._admission.note("memory", resident_bytes() or resident)

    async def _measure_disk(self) -> None:
        with contextlib.suppress(OSError):  # a disk that cannot be asked is the database's trouble
            self._admission.note("disk", (await asyncio.to_thread(disk_of, self._data_dir))[0])


def create_admission(base: Base) -> AdmissionControl:
    """Make the judge of a door process."""
    disk_bytes = 0
    with contextlib.suppress(OSError):
        disk_bytes = disk_of(base.loaded.data_dir)[1]
    return AdmissionControl(base.settings.admission, base.clock, disk_bytes=disk_bytes)


def resident_bytes() -> int | None:
    """Return the resident memory of this process; None where the system does not tell."""
    try:
        return int(_STATM.read_text("ascii").split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, ValueError, IndexError):
        return None


def disk_of(folder: Path) -> tuple[int, int]:
    """
    Return the free bytes and the size of the disk that a folder is on.

    Raises:
        OSError: It cannot be asked.
    """
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


def _trim() -> None:
    """Give freed memory back to the system, where the C library knows how (glibc)."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
