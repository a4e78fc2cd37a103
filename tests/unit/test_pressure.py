"""The measurements behind admission: what is read, and what a level does to it."""

import asyncio
from pathlib import Path

from gatepost.accept.admission import AdmissionControl, Level
from gatepost.app.pressure import EVERY_S, Sampler, disk_of, resident_bytes
from gatepost.domain.message import Lane
from gatepost.settings import Admission
from gatepost.testing.fake_clock import FakeClock

GB = 1024**3


class Commits:
    """What the sampler asks of the acceptor."""

    commit_s = 0.0
    waits_s = 0.0

    def oldest_s(self, lane: Lane) -> float:
        return self.waits_s if lane is Lane.BULK else 0.0


def _step(sampler: Sampler, clock: FakeClock, late_s: float = 0.0) -> None:
    clock.advance(EVERY_S + late_s)
    asyncio.run(sampler.step())


def test_this_process_and_this_disk_can_be_measured(tmp_path: Path) -> None:
    """Real numbers of a real size."""
    assert 10e6 < (resident_bytes() or 0) < 10e9
    free, size = disk_of(tmp_path)
    assert 0 < free <= size


def test_a_loop_that_is_late_again_and_again_is_pressure(tmp_path: Path) -> None:
    """One hiccup is none, a row of them is, and it is over soon after."""
    clock = FakeClock()
    admission = AdmissionControl(Admission(memory_soft_mb=100_000, memory_hard_mb=100_000), clock, disk_bytes=GB)
    sampler = Sampler(admission, Commits(), tmp_path, clock)  # type: ignore[arg-type]
    _step(sampler, clock, late_s=2.0)
    assert admission.level is Level.CALM
    for _ in range(5):
        _step(sampler, clock, late_s=0.3)
    assert (admission.level, admission.cause) == (Level.BULK, "lag")
    for _ in range(20):
        _step(sampler, clock)
    assert admission.level is Level.CALM


def test_slow_commits_and_waiting_bulk_are_pressure(tmp_path: Path) -> None:
    """What the acceptor tells of its commits counts at the next measurement."""
    clock, commits = FakeClock(), Commits()
    admission = AdmissionControl(Admission(memory_soft_mb=100_000, memory_hard_mb=100_000), clock, disk_bytes=GB)
    sampler = Sampler(admission, commits, tmp_path, clock)  # type: ignore[arg-type]
    for commit_s, waits_s, level in ((0.6, 0.0, Level.BULK), (3.0, 0.0, Level.EVERYTHING), (0.0, 60.0, Level.BULK), (0.0, 0.0, Level.CALM)):
        commits.commit_s, commits.waits_s = commit_s, waits_s
        _step(sampler, clock)
        assert admission.level is level


def test_memory_and_disk_are_measured(tmp_path: Path) -> None:
    """Marks below what this process has are pressure; `/readyz` says which."""
    clock = FakeClock()
    memory = AdmissionControl(Admission(memory_soft_mb=1, memory_hard_mb=1), clock, disk_bytes=GB)
    _step(Sampler(memory, Commits(), tmp_path, clock), clock)  # type: ignore[arg-type]
    assert (memory.level, memory.cause) == (Level.EVERYTHING, "memory")
    assert memory.problems() == ["overloaded: the process holds too much memory"]
    marks = Admission(memory_soft_mb=100_000, memory_hard_mb=100_000, disk_soft_mb=10**12, disk_hard_mb=10**12)
    disk = AdmissionControl(marks, clock, disk_bytes=10**18)
    _step(Sampler(disk, Commits(), tmp_path, clock), clock)  # type: ignore[arg-type]
    assert (disk.level, disk.cause) == (Level.EVERYTHING, "disk")
