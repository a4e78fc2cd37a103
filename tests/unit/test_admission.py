"""Who is refused under pressure, in which order, and what they are told."""

import json

import pytest

from gatepost.accept.admission import SMALL_BYTES, AdmissionControl, Bodies, Level
from gatepost.accept.lanes import stream_of
from gatepost.domain.address import parse_address
from gatepost.domain.errors import Refused
from gatepost.domain.message import EnvelopeRecipient, Lane, RawSubmission
from gatepost.observe import maillog
from gatepost.settings import Admission
from gatepost.testing.fake_clock import FakeClock

MB = 1024 * 1024
MARKS = Admission(messages_soft=100, messages_hard=300, lag_soft_s=0.1, lag_hard_s=0.5, disk_soft_mb=1_000, disk_hard_mb=200)


def _control(clock=None, disk_gb=1_000, chance=0.0):
    return AdmissionControl(MARKS, clock or FakeClock(), disk_bytes=disk_gb * 1024 * MB, chance=lambda: chance)


def _taken(control):
    """The lanes that are let in now."""
    found = []
    for lane in Lane:
        try:
            control.check(lane)
        except Refused:
            continue
        found.append(lane.name.lower())
    return found


EVERYBODY = ["codes", "transactional", "bulk"]


@pytest.mark.parametrize(
    ("signal", "value", "taken"),
    [
        ("lag", 0.09, EVERYBODY),
        ("lag", 0.1, ["codes", "transactional"]),
        ("lag", 0.301, ["codes"]),
        ("lag", 0.49, ["codes"]),
        ("lag", 0.5, []),
        ("memory", 511 * MB, EVERYBODY),
        ("memory", 512 * MB, ["codes", "transactional"]),
        ("memory", 768 * MB, []),
        ("disk", 1_001 * MB, EVERYBODY),
        ("disk", 1_000 * MB, ["codes", "transactional"]),
        ("disk", 600 * MB, ["codes"]),
        ("disk", 200 * MB, []),
        ("commit", 0.5, ["codes", "transactional"]),
    ],
)
def test_bulk_goes_first_and_codes_go_last(signal, value, taken):
    """From the soft mark on bulk is refused, halfway transactional mail too, codes only at the hard mark; for every signal."""
    control = _control()
    control.note(signal, value)
    control.review()
    assert _taken(control) == taken
    assert control.is_shut is (taken == [])
    assert bool(control.problems()) is (taken == [])


def test_a_level_ends_a_fifth_before_its_mark():
    """What hovers around a mark does not make the doors flutter."""
    control = _control()
    for value, level in ((0.11, Level.BULK), (0.09, Level.BULK), (0.081, Level.BULK), (0.079, Level.CALM), (0.09, Level.CALM)):
        control.note("lag", value)
        control.review()
        assert control.level is level
    for free_mb, level in (
        (150, Level.EVERYTHING),
        (240, Level.EVERYTHING),
        (251, Level.TRANSACTIONAL),
        (1_200, Level.BULK),
        (1_251, Level.CALM),
    ):
        control.note("disk", free_mb * MB)
        control.review()
        assert control.level is level, free_mb


def test_messages_in_hand_are_bounded_at_every_message_with_room_kept_for_codes():
    """Not several times a second but always: bulk up to the soft mark, transactional halfway, codes to the hard mark."""
    control = _control()
    for in_hand, taken in (
        (99, EVERYBODY),
        (100, ["codes", "transactional"]),
        (199, ["codes", "transactional"]),
        (200, ["codes"]),
        (300, []),
    ):
        control.enter(in_hand)
        assert _taken(control) == taken
        assert control.is_pressed is (in_hand >= 100)
        control.leave(in_hand)
    assert _taken(control) == EVERYBODY


def test_bulk_that_waits_keeps_nobody_else_out():
    """However long bulk waits behind codes, only bulk is refused for it; codes that wait long mean that nothing goes."""
    control = _control()
    for waits, taken in (
        ({Lane.CODES: 0.0, Lane.TRANSACTIONAL: 0.0, Lane.BULK: 100.0}, ["codes", "transactional"]),
        ({Lane.CODES: 0.0, Lane.TRANSACTIONAL: 100.0, Lane.BULK: 100.0}, ["codes"]),
        ({Lane.CODES: 5.0, Lane.TRANSACTIONAL: 0.0, Lane.BULK: 0.0}, []),
        ({Lane.CODES: 0.0, Lane.TRANSACTIONAL: 0.0, Lane.BULK: 0.0}, EVERYBODY),
    ):
        control.note_waits(waits)
        control.review()
        assert _taken(control) == taken


def test_a_small_disk_has_marks_of_its_own():
    """On a disk of one gigabyte a tenth is enough to go on: nobody is locked out of a small machine."""
    control = _control(disk_gb=1)
    control.note("disk", 110 * MB)
    control.review()
    assert _taken(control) == EVERYBODY
    control.note("disk", 20 * MB)
    control.review()
    with pytest.raises(Refused) as refused:
        control.check(Lane.CODES)
    assert refused.value.code == "storage_unavailable"
    assert AdmissionControl(Admission(disk_soft_mb=0, disk_hard_mb=0), FakeClock(), disk_bytes=10 * MB).note("disk", 0.0) is Level.CALM


def test_retry_after_says_when_there_will_be_room():
    """What waits, and who was sent away a moment ago, over what gets done a second; spread, so that they do not come back as one."""
    clock = FakeClock()
    control = _control(clock)

    def work(seconds):
        """A hundred messages a second get done."""
        for _ in range(int(seconds * 10)):
            control.enter(10)
            clock.advance(0.1)
            control.leave(10)
            control.review()

    work(5)
    assert control.retry_after_s() == 1
    control.enter(1_000)
    assert control.retry_after_s() in {10, 11}
    control._in_hand = 0
    control.note("lag", 0.2)
    control.review()
    refused = []
    for _ in range(600):
        with pytest.raises(Refused) as caught:
            control.check(Lane.BULK)
        refused.append(caught.value.retry_after_s)
    assert refused[0] == 1
    assert refused[-1] in {6, 7}
    work(1)
    assert control.retry_after_s() in {4, 5}
    clock.advance(10)
    assert control.retry_after_s() == 1
    late = _control(clock, chance=0.999)
    assert {late.refusal("connections").retry_after_s for _ in range(300)} > {2, 45}


def test_pressure_is_told_when_it_begins_and_when_it_ends(monkeypatch):
    """One line each, not one for a request; a moment of pressure that refused nobody is not told."""
    told = []
    monkeypatch.setattr(maillog, "trouble", lambda what, **fields: told.append((what, fields)))
    clock = FakeClock()
    control = _control(clock)

    def pass_time(seconds, lag):
        for _ in range(int(seconds * 10)):
            clock.advance(0.1)
            control.note("lag", lag)
            control.review()

    pass_time(0.5, 0.2)
    pass_time(10, 0.0)
    assert told == []
    pass_time(0.5, 0.2)
    for _ in range(50):
        with pytest.raises(Refused):
            control.check(Lane.BULK)
    pass_time(3, 0.2)
    pass_time(4, 0.0)
    pass_time(0.2, 0.2)
    pass_time(4, 0.0)
    assert [what for what, _ in told] == ["more comes than can be taken"]
    assert told[0][1]["lag"] == 0.2
    pass_time(2, 0.0)
    assert [what for what, _ in told] == ["more comes than can be taken", "everything is taken again"]
    assert told[1][1]["shed"] == 50
    json.dumps(told)


def test_large_bodies_leave_room_for_small_ones():
    """Four fifths for what is large; who is alone may use all of it; what is given back can be used again."""
    bodies = Bodies(10 * MB)
    assert bodies.has_room(20 * MB)  # nothing is there: the request's own limit decides
    assert bodies.hold(0, 7 * MB)
    assert not bodies.has_room(2 * MB)
    assert bodies.has_room(SMALL_BYTES)
    assert bodies.hold(7 * MB, 9 * MB)  # alone
    assert bodies.hold(0, SMALL_BYTES)
    assert not bodies.hold(0, 1 * MB)
    bodies.hold(1 * MB, 0)
    assert not bodies.hold(9 * MB, 9 * MB + 1)  # no longer alone
    bodies.hold(9 * MB + 1, 0)
    bodies.hold(SMALL_BYTES, 0)
    assert bodies.used_bytes == 0
    assert bodies.hold(0, 8 * MB)


@pytest.mark.parametrize(
    ("head", "stream"),
    [
        ("X-Gatepost-Stream: codes", "codes"),
        ("x-gatepost-stream:BULK ", "bulk"),
        ("Subject: X-Gatepost-Stream: bulk", "transactional"),
        ("X-Gatepost-Stream: receipts", "receipts"),
        ("X-A: b\r\n\r\nX-Gatepost-Stream: bulk", "transactional"),
    ],
)
def test_the_stream_of_a_finished_message_is_seen_in_its_header(head, stream):
    """Before the message is taken apart, and never from its text."""
    address = parse_address("a@example.net")
    content = f"From: a@example.net\r\n{head}\r\n\r\nX-Gatepost-Stream: codes\r\n".encode()
    submission = RawSubmission(envelope_from=address, recipients=(EnvelopeRecipient(address=address),), content=content)
    assert stream_of(submission) == stream
