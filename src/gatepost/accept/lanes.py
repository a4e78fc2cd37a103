"""
How urgent a request is, told as early as it can be: before a message is taken apart, when it may have to be refused unread.

Arrives: a finished message, or the streams of a request's messages. Leaves: a stream or a lane.
Not here: what the lanes are (domain.message), who is refused (admission).
Bugs: a steering header that is folded or otherwise oddly written counts as not given until the message is taken apart.
"""

import re
from collections.abc import Iterable
from typing import Final

from gatepost.domain.message import DEFAULT_STREAM, STREAMS, Lane, RawSubmission

_HEAD_BYTES: Final = 64 * 1024
_HEADER = re.compile(rb"^x-gatepost-stream:[ \t]*([a-z]{1,20})[ \t]*\r$", re.IGNORECASE | re.MULTILINE)


def stream_of(submission: RawSubmission) -> str:
    """Look for the stream of a finished message."""
    end = submission.content.find(b"\r\n\r\n", 0, _HEAD_BYTES)
    found = _HEADER.search(submission.content, 0, end + 2 if end >= 0 else _HEAD_BYTES)
    stream = found[1].decode().lower() if found else submission.steering.stream
    return stream if stream in STREAMS else DEFAULT_STREAM


def lane_of(streams: Iterable[str]) -> Lane:
    """Return the lane of a request with several messages: it is as urgent as its least urgent one."""
    return max((STREAMS.get(stream, Lane.BULK) for stream in streams), default=Lane.BULK)
