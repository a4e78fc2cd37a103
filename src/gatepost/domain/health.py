"""
What is found when somebody looks after something: single checks, each with its evidence and what to do about it.

Not here: the looking (tenants.domain_health, watch, serve.checks).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class CheckStatus(StrEnum):
    """What a check came to."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNKNOWN = "unknown"  # it could not be made: a resolver that fails, facts that nobody has
    NOT_APPLICABLE = "not_applicable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """
    One check.

    Attributes:
        id: Stable, snake_case.
        detail: What was seen; one sentence.
        advice: What to do next; empty where nothing is to be done.
        is_broken: Something that is there is wrong, or something that was needed is gone: worth an event.
    """

    id: str
    status: CheckStatus
    detail: str
    advice: str = ""
    is_broken: bool = False


def worst(checks: Iterable[Check]) -> CheckStatus:
    """Sum checks up: failed, else warning, else unknown, else ok."""
    found = {check.status for check in checks}
    for status in (CheckStatus.FAILED, CheckStatus.WARNING, CheckStatus.UNKNOWN):
        if status in found:
            return status
    return CheckStatus.OK
