"""What can go wrong with the database, in words the rest of the house understands."""

from sqlalchemy import exc


class StorageUnavailable(Exception):  # noqa: N818
    """
    The database cannot be used now: away, full, read-only or locked for too long.

    Whether the last commit took effect may be unknown; every caller is safe to run again.
    """


class SchemaOutdated(Exception):  # noqa: N818
    """The database's schema is not the one of this release; the message says what to run."""


class UnsafeDurability(Exception):  # noqa: N818
    """The server is set up to answer commits before they are on disk."""


class SealBroken(Exception):  # noqa: N818
    """A sealed value cannot be opened: it was altered, or stands in another place than it was sealed for."""


class KeyLost(SealBroken):
    """The data key of a sealed value is gone or cannot be unwrapped; with it back, the value can be opened again."""


class MasterKeyRefused(Exception):  # noqa: N818
    """The master key is missing, is not a key, or is not the one that the database was sealed under; the message says what to do."""


_SQLITE_SIGNS = ("disk is full", "disk i/o error", "readonly", "read-only", "unable to open", "is locked", "is busy")


def is_unavailable(error: BaseException) -> bool:
    """Tell a database that cannot be used now from a fault in what was asked of it."""
    if isinstance(error, exc.DBAPIError):
        return error.connection_invalidated or _is_driver_unavailable(error.orig)
    return isinstance(error, OSError | TimeoutError | exc.TimeoutError | exc.DisconnectionError)


def _is_driver_unavailable(error: BaseException | None) -> bool:
    text = str(error).lower()
    if any(sign in text for sign in _SQLITE_SIGNS):
        return True
    # SQLSTATE classes: 08 connection, 53 resources (disk full), 57P shutdown, 25006 read-only, 55P03 lock timeout
    state = getattr(error, "sqlstate", None) or getattr(error.__cause__, "sqlstate", None) if error else None
    if isinstance(state, str):
        return state[:2] in {"08", "53"} or state[:3] in {"57P", "58P"} or state in {"25006", "55P03", "40001", "40P01"}
    return "connection is closed" in text or "connection was closed" in text or "cannot perform operation: another" in text
