"""Rules that operators made: which mail takes which roads. Those of the settings stand in the settings only."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from gatepost.clock import Instant
from gatepost.domain.routing import Choice, Match, Rule, Strategy
from gatepost.store import tenants
from gatepost.store.schema import route


def every(conn: Connection) -> list[Rule]:
    """Return all rules in the order in which they are asked."""
    return [_rule(row) for row in conn.execute(sa.select(route).order_by(route.c.position, route.c.id))]


def find(conn: Connection, id_or_name: str, *, is_locking: bool = False) -> Rule | None:
    """
    Return one rule.

    Args:
        is_locking: Nobody else changes it until the transaction ends.
    """
    statement = sa.select(route).where(sa.or_(route.c.id == id_or_name, route.c.name == id_or_name))
    if is_locking and conn.dialect.name == "postgresql":
        statement = statement.with_for_update()
    row = conn.execute(statement).one_or_none()
    return None if row is None else _rule(row)


def insert(conn: Connection, rule: Rule, position: int, now: Instant) -> None:
    """
    Add a rule.

    Raises:
        sqlalchemy.exc.IntegrityError: There is one of its name.
    """
    values = {"id": rule.id, "name": rule.name, "position": position, "rule": to_json(rule), "created_at": now}
    conn.execute(sa.insert(route), [values])
    tenants.bump_version(conn)


def update(conn: Connection, rule: Rule) -> None:
    """
    Replace what a rule says.

    Raises:
        sqlalchemy.exc.IntegrityError: Another has its new name.
    """
    conn.execute(sa.update(route).where(route.c.id == rule.id).values(name=rule.name, rule=to_json(rule)))
    tenants.bump_version(conn)


def delete(conn: Connection, rule_id: str) -> None:
    """Remove a rule."""
    conn.execute(sa.delete(route).where(route.c.id == rule_id))
    tenants.bump_version(conn)


def order(conn: Connection, rule_ids: list[str]) -> None:
    """Ask rules in this order."""
    for position, rule_id in enumerate(rule_ids):
        conn.execute(sa.update(route).where(route.c.id == rule_id).values(position=position))
    tenants.bump_version(conn)


def has_any(conn: Connection) -> bool:
    """Tell whether there is any rule."""
    return conn.execute(sa.select(route.c.id).limit(1)).first() is not None


def last_position(conn: Connection) -> int:
    """Return the position of the rule that is asked last; -1 where there is none."""
    found = conn.execute(sa.select(sa.func.max(route.c.position))).scalar()
    return -1 if found is None else int(found)


def to_json(rule: Rule) -> dict[str, Any]:
    """Write what a rule says, without its name."""
    match = rule.match
    return {
        "roads": [{"road": one.road, "weight": one.weight} for one in rule.choices],
        "strategy": rule.strategy.value,
        "match": {
            "tenants": sorted(match.tenants),
            "streams": sorted(match.streams),
            "senders": list(match.senders),
            "recipients": list(match.recipients),
            "sites": sorted(match.sites),
            "tags": sorted(match.tags),
        },
        "may_be_named": rule.may_be_named,
        "is_chosen": rule.is_chosen,
    }


def _rule(row: Any) -> Rule:
    said, match = row.rule, row.rule["match"]
    return Rule(
        id=row.id,
        name=row.name,
        choices=tuple(Choice(one["road"], one["weight"]) for one in said["roads"]),
        strategy=Strategy(said["strategy"]),
        match=Match(
            tenants=frozenset(match["tenants"]),
            streams=frozenset(match["streams"]),
            senders=tuple(match["senders"]),
            recipients=tuple(match["recipients"]),
            sites=frozenset(match["sites"]),
            tags=frozenset(match["tags"]),
        ),
        may_be_named=said["may_be_named"],
        is_chosen=said["is_chosen"],
    )
