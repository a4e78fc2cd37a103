"""
How urgent a request is, told as early as it can be: before a message is taken apart, when it may have to be refused unread.

Arrives: a finished message, or the streams of a request's messages. Leaves: a stream or a lane.
Not here: what the lanes are (domain.message), who is refused (admission).
Bugs: a steering header that is folded or otherwise oddly written counts as not given until the message is taken apart.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from gatepost.domain.message import STREAMS, Lane, RawSubmission
from gatepost.domain.stream import Stream

_HEAD_BYTES: Final = 64 * 1024
_HEADER = re.compile(rb"^x-gatepost-stream:[ \t]*([a-z][a-z0-9_-]{0,39})[ \t]*\r$", re.IGNORECASE | re.MULTILINE)


def stream_of(submission: RawSubmission) -> str:
    """Look for the stream of a finished message."""
    end = submission.content.find(b"\r\n\r\n", 0, _HEAD_BYTES)
    found = _HEADER.search(submission.content, 0, end + 2 if end >= 0 else _HEAD_BYTES)
    return found[1].decode().lower() if found else submission.steering.stream


def lane_of(streams: Iterable[str], own: Mapping[str, Stream] | None = None) -> Lane:
    """
    Return the lane of a request with several messages: it is as urgent as its least urgent one.

    Args:
        own: The tenant's streams, where they are known.
    """
    return max((_lane(stream, own or {}) for stream in streams), default=Lane.BULK)


def _lane(stream: str, own: Mapping[str, Stream]) -> Lane:
    found = own.get(stream)
    return STREAMS.get(stream, Lane.BULK) if found is None else found.lane
