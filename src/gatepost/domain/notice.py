"""What a sender may be told of a recipient by mail: the actions of RFC 3464 §2.3.3."""

from enum import StrEnum


class Action(StrEnum):
    """What became of a recipient."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
