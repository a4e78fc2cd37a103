"""THE door: (caller, submission, now) → accepted or refused, in one group-committed transaction."""

from gatepost.accept.acceptor import Acceptor, BatchMode
from gatepost.accept.answers import Accepted, AcceptedMessage, AcceptedRecipient, Idempotency, RefusedMessage

__all__ = ["Accepted", "AcceptedMessage", "AcceptedRecipient", "Acceptor", "BatchMode", "Idempotency", "RefusedMessage"]
