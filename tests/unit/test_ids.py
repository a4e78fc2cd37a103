"""Identifiers: sorted by time, unique, and a recipient's leads to its message."""

import os
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost import ids


def test_identifiers_sort_by_their_making_and_never_repeat():
    """Fifty thousand in a row, far more than fit in their milliseconds."""
    made = [ids.new("evt") for _ in range(50_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_an_identifier_is_a_uuid_of_version_7():
    """RFC 9562 §5.7: version and variant stand at their bits, the time is now."""
    import time

    value = uuid.UUID(int=ids.parse(ids.new("key"), "key"))
    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    assert abs((value.int >> 80) - time.time() * 1000) < 5_000


@given(st.integers(0, 65_533))
def test_a_recipients_identifier_leads_to_its_row(n):
    """Message and number come back, and the identifiers of one message sort by number."""
    message_id = ids.new_message_id()
    assert ids.recipient_of(ids.recipient_id(message_id, n)) == (message_id, n)
    assert ids.recipient_id(message_id, n) < ids.recipient_id(message_id, n + 1)


@pytest.mark.parametrize(
    "bad",
    ["", "msg_", "msg_0", "rcp_01j00000000000000000000000", "msg_" + "z" * 26, "msg_01J00000000000000000000000", "msg_" + "0" * 25 + "u"],
)
def test_what_is_no_message_identifier_is_told_apart(bad):
    """Another prefix, length, case or alphabet."""
    assert not ids.is_valid(bad, "msg")


def test_a_forked_child_makes_identifiers_of_its_own():
    """Parent and child share no randomness after a fork."""
    ids.new("evt")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, ids.new("evt")[-12:].encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 100).decode() != ids.new("evt")[-12:]
    os.close(reader)
    os.close(writer)


def test_the_lower_bound_of_an_instant_is_at_or_before_what_is_made_then():
    """The edges of partitions and time filters."""
    made = ids.new("msg")
    assert ids.lower_bound("msg", ids.time_of(made)) <= made < ids.lower_bound("msg", ids.time_of(made) + 1)


def test_an_identifier_that_belongs_to_a_fact_is_the_same_each_time():
    """Made of its time and its seed: valid, in its place among the others, with room for recipients' numbers; another fact has another."""
    at = 1_764_000_000_000
    made = ids.derived("msg", at, "msg_x/failed/0.1")
    assert made == ids.derived("msg", at, "msg_x/failed/0.1")
    assert (
        len({made, ids.derived("msg", at, "msg_x/failed/0.2"), ids.derived("msg", at + 1, "msg_x/failed/0.1"), ids.derived("evt", at, "x")})
        == 4
    )
    assert ids.is_valid(made, "msg")
    assert ids.time_of(made) == at
    assert ids.recipient_of(ids.recipient_id(made, 3)) == (made, 3)
    value = ids.parse(made, "msg")
    assert (value >> 76 & 0xF, value >> 62 & 0x3) == (7, 2)
