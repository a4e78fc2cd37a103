"""
Identifiers: TypeIDs, which are a prefix and a UUIDv7 in Crockford base32 (`msg_01jf…`).

Sorted as text they are sorted by time, so a primary key is also the order of arrival and PostgreSQL can keep one
partition per day. The database holds the same text that people see in the API and in logs.

A recipient has no random id of its own: the 16 lowest bits of a message's UUID are zero and a recipient's id is the
message's with its number in them, so `rcp_…` leads to its row without an index.

Standards: RFC 9562 §5.7 (UUIDv7), TypeID specification 0.3.0.
"""

import hashlib
import os
import threading
import time
from typing import NewType

MessageId = NewType("MessageId", str)
RecipientId = NewType("RecipientId", str)
TenantId = NewType("TenantId", str)
KeyId = NewType("KeyId", str)
EventId = NewType("EventId", str)

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_VALUE = {c: i for i, c in enumerate(_ALPHABET)}
_MAX_RECIPIENTS = 0xFFFF
_RANDOM_BLOCK = 4096


class _Uuid7Source:
    """Monotonic UUIDv7 values within a process: the 12 bits after the time count up inside a millisecond."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_ms = 0
        self._count = 0
        self.forget_random()

    def forget_random(self) -> None:
        """Draw new randomness next time: a forked child must not make its parent's identifiers."""
        self._random = b""
        self._used = 0

    def next(self) -> int:
        with self._lock:
            if self._used >= len(self._random):
                # in blocks: a system call for each identifier would hand the interpreter to another thread each time
                self._random, self._used = os.urandom(_RANDOM_BLOCK), 0
            tail = int.from_bytes(self._random[self._used : self._used + 8], "big") >> 2
            self._used += 8
            now_ms = time.time_ns() // 1_000_000
            if now_ms > self._last_ms:
                self._last_ms = now_ms
                self._count = 0
            else:
                self._count += 1
                if self._count > 0xFFF:  # more than 4096 in one millisecond: borrow from the next
                    self._last_ms += 1
                    self._count = 0
            head = (self._last_ms << 16) | 0x7000 | self._count
        return (head << 64) | 0x8000_0000_0000_0000 | tail


_source = _Uuid7Source()
os.register_at_fork(after_in_child=_source.forget_random)


def _encode(value: int) -> str:
    pairs = _PAIRS
    return "".join([pairs[(value >> shift) & 0x3FF] for shift in range(120, -1, -10)])


def _decode(text: str) -> int:
    if len(text) != 26 or text[0] > "7":
        raise ValueError("not a TypeID suffix: 26 base32 characters are expected")
    value = 0
    for c in text:
        try:
            value = (value << 5) | _VALUE[c]
        except KeyError:
            raise ValueError(f"not a TypeID suffix: {c!r} is not a base32 digit") from None
    return value


def new(prefix: str) -> str:
    """Make a new identifier such as `evt_01jf…`."""
    return f"{prefix}_{_encode(_source.next())}"


def new_message_id() -> MessageId:
    """Make a message identifier; its 16 lowest bits are zero, see `recipient_id`."""
    return MessageId("msg_" + _encode(_source.next() & ~0xFFFF))


def derived(prefix: str, at_ms: int, seed: str) -> str:
    """
    Make the identifier that belongs to a fact: the same fact leads to the same one, so that it is not written down twice.

    Args:
        at_ms: Its time.
        seed: What else makes it this fact and no other.
    """
    tail = int.from_bytes(hashlib.sha256(f"{prefix}/{at_ms}/{seed}".encode()).digest()[:16], "big")
    value = (max(0, at_ms) << 80) | 0x7000 << 64 | (tail >> 52 & 0xFFF) << 64 | 0x8000_0000_0000_0000 | tail >> 66
    return f"{prefix}_{_encode(value & ~0xFFFF if prefix == 'msg' else value)}"


def of_value(prefix: str, value: int) -> str:
    """Make the identifier that stands for a UUID; `parse` is its inverse."""
    return f"{prefix}_{_encode(value)}"


def recipient_id(message_id: str, n: int) -> RecipientId:
    """
    Derive the identifier of a message's recipient.

    Args:
        n: The recipient's number in its message, from 0.

    Raises:
        ValueError: `n` does not fit in 16 bits.
    """
    if not 0 <= n < _MAX_RECIPIENTS:
        raise ValueError("a message has at most 65,534 recipients")
    # 16 bits are the last three characters and one bit of the fourth: only the tail changes.
    tail = ((_VALUE[message_id[-4]] << 15) & ~0xFFFF) | (n + 1)
    return RecipientId("rcp_" + message_id[4:-4] + _PAIRS[(tail >> 10) & 0x3FF] + _PAIRS[tail & 0x3FF])


def recipient_of(rcp: str) -> tuple[MessageId, int]:
    """
    Resolve a recipient's identifier to its message and number.

    Raises:
        ValueError: The text is not a recipient's identifier.
    """
    value = parse(rcp, "rcp")
    number = value & 0xFFFF
    if number == 0:
        raise ValueError("not a recipient's identifier")
    return MessageId("msg_" + _encode(value & ~0xFFFF)), number - 1


def parse(text: str, prefix: str) -> int:
    """
    Read the UUID inside an identifier.

    Raises:
        ValueError: Another prefix, or not a TypeID.
    """
    head, sep, tail = text.partition("_")
    if not sep or head != prefix:
        raise ValueError(f"not an identifier of kind {prefix}_…")
    return _decode(tail)


def is_valid(text: str, prefix: str) -> bool:
    """Tell whether the text is a well-formed identifier with this prefix."""
    try:
        parse(text, prefix)
    except ValueError:
        return False
    return True


def time_of(text: str) -> int:
    """
    Return the millisecond at which an identifier was made.

    Raises:
        ValueError: Not a TypeID.
    """
    return _decode(text.rpartition("_")[2]) >> 80


def lower_bound(prefix: str, at_ms: int) -> str:
    """Return the smallest identifier made at or after an instant: the edge of a day's partition or of a time filter."""
    return f"{prefix}_{_encode(max(0, at_ms) << 80)}"
