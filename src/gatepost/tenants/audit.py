"""
The settings in the audit log: what differs from the last start, since a file is changed without asking us.

Arrives: the settings in force at a start. Leaves: an entry `settings.changed` when any differs from the newest one of this
machine, with the names and values that differ and all values as they are now. A secret stands there as a mark that changes
when the secret does.
Not here: every other change, which writes its entry itself (store.audit).
"""

from typing import Any

from sqlalchemy import Connection

from gatepost.clock import Instant
from gatepost.domain.access import GATEWAY
from gatepost.domain.masking import MASK, is_secret_name, masked
from gatepost.settings import Loaded, options
from gatepost.store import audit, sealing
from gatepost.store.audit import Change, Wanted

ACTION = "settings.changed"


def record_settings(conn: Connection, loaded: Loaded, host: str, now: Instant) -> list[str]:
    """
    Add an entry when settings differ from those of the last start; return the names of those that do.

    Args:
        host: The machine: each may have settings of its own.
    """
    values = _values(conn, loaded)
    newest = audit.page(conn, Wanted(is_gateway=True, action=ACTION, object_id=host), 1)
    before: dict[str, Any] = newest[0].after["settings"] if newest else {}
    changed = sorted(name for name in before.keys() | values.keys() if before.get(name) != values.get(name))
    if not changed:
        return []
    if not newest:
        changed = []  # the first start: all is new
    was = {name: before[name] for name in changed if name in before} if newest else None
    after = {"changed": {name: values[name] for name in changed if name in values}, "settings": values}
    audit.append(conn, GATEWAY, Change(action=ACTION, object_id=host, tenant_id=None, before=was, after=after), now)
    return changed


def _values(conn: Connection, loaded: Loaded) -> dict[str, Any]:
    """Return every option's value as the audit log may show it."""
    found: dict[str, Any] = {}
    for option in options(loaded):
        shown = masked(option.value, option.name)
        if shown != option.value and isinstance(option.value, str):
            mark = sealing.keyed_hash(conn, f"\0{option.name}\0{option.value}")[:8]
            shown = f"{MASK} ({mark})" if is_secret_name(option.name) else f"{shown} ({mark})"
        found[option.name] = shown
    return found
