"""
A tenant's policy on content and recipients: read and changed by API and command line.

Arrives: rules with new values. Leaves: the policy in force, stored with its entry in the audit log; other processes follow
within a second, as they follow all configuration.
Not here: what the rules do (policy, screening).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from gatepost.clock import Clock
from gatepost.domain.access import Actor
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.screening import RULES, Strictness
from gatepost.observe import maillog
from gatepost.settings import Screening
from gatepost.store import audit, policies
from gatepost.store.audit import Change
from gatepost.store.engine import Engine
from gatepost.tenants.directory import Directory

DEFAULT = "default"
"""Stands for a rule's value in the settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyView:
    """
    A tenant's policy.

    Attributes:
        values: Every rule with the strictness in force.
        own: Rules whose value is the tenant's own.
        locked: Rules that only the operator may change.
    """

    values: Mapping[str, str]
    own: tuple[str, ...]
    locked: tuple[str, ...]


def defaults_of(settings: Screening) -> dict[str, str]:
    """Return every rule with its value in the settings."""
    return {rule: getattr(settings, rule) for rule in RULES}


class Policies:
    """The policies of all tenants."""

    def __init__(self, engine: Engine, clock: Clock, settings: Screening, directory: Directory | None = None) -> None:
        """
        Args:
            directory: Refreshed after a change, so that it counts at once in this process.
        """
        self._engine = engine
        self._clock = clock
        self._settings = settings
        self._directory = directory

    async def get(self, tenant_id: str) -> PolicyView:
        """
        Return a tenant's policy.

        Raises:
            Refused: not_found.
            StorageUnavailable: The database cannot be used now.
        """
        return self._view(await self._engine.read(lambda conn: _read(conn, tenant_id)))

    async def change(self, tenant_id: str, changes: Mapping[str, str | None], *, by: Actor, is_operator: bool = False) -> PolicyView:
        """
        Change rules of a tenant's policy.

        Args:
            changes: By rule; None and `default` go back to the settings' value.
            is_operator: May change what `screening.operator_only` names, too.

        Raises:
            Refused: validation_failed for an unknown rule or value, permission_denied, not_found.
            StorageUnavailable: The database cannot be used now.
        """
        faults = [fault for rule, value in changes.items() if (fault := _fault_of(rule, value)) is not None]
        if faults:
            raise invalid(*faults)
        locked = [] if is_operator else sorted(set(changes) & set(self._settings.operator_only))
        if locked:
            detail = f"only the operator may change {', '.join(locked)}"
            raise Refused("permission_denied", detail, tuple(Fault(f"/{rule}", "operator_only", detail) for rule in locked))
        own = await self._engine.write(lambda conn: self._write(conn, tenant_id, changes, by))
        if self._directory is not None:
            await self._directory.refresh()
        maillog.changed("policy", tenant_id=tenant_id, by=by.id, rules=sorted(changes))
        return self._view(own)

    def _write(self, conn: Connection, tenant_id: str, changes: Mapping[str, str | None], by: Actor) -> dict[str, str]:
        before = _read(conn, tenant_id, is_locking=True)
        after = {**before, **{rule: value for rule, value in changes.items() if value is not None}}
        after = {rule: value for rule, value in after.items() if value != DEFAULT and changes.get(rule, value) is not None}
        told = {rule for rule in RULES if before.get(rule) != after.get(rule)}
        if told:
            policies.write(conn, tenant_id, after)
            change = Change(
                action="policy.changed",
                object_id=tenant_id,
                tenant_id=tenant_id,
                before={rule: before.get(rule, DEFAULT) for rule in sorted(told)},
                after={rule: after.get(rule, DEFAULT) for rule in sorted(told)},
            )
            audit.append(conn, by, change, self._clock.now())
        return after

    def _view(self, own: Mapping[str, str]) -> PolicyView:
        values = {**defaults_of(self._settings), **{rule: value for rule, value in own.items() if rule in RULES}}
        locked = tuple(rule for rule in RULES if rule in self._settings.operator_only)
        return PolicyView(values=values, own=tuple(rule for rule in RULES if rule in own), locked=locked)


def _read(conn: Connection, tenant_id: str, *, is_locking: bool = False) -> dict[str, str]:
    found = policies.read(conn, tenant_id, is_locking=is_locking)
    if found is None:
        raise Refused("not_found", "there is no such tenant")
    return found


def _fault_of(rule: str, value: str | None) -> Fault | None:
    if rule not in RULES:
        return Fault(f"/{rule[:100]}", "unknown_field", f"there is no such rule; there are {', '.join(RULES)}")
    if value is not None and value != DEFAULT and value not in set(Strictness):
        return Fault(f"/{rule}", "out_of_range", f"{value!r} is none of {', '.join(Strictness)} and {DEFAULT}")
    return None
