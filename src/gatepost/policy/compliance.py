"""
How well a domain keeps to what large receivers ask of senders.

Arrives: the checks of the domain and of the addresses that it sends from, and how much it sends. Leaves: each rule with its
evidence, a score, and the one thing to mend next. Pure; the rules are data (compliance.toml) with the providers' own pages.
What nobody here knows is unknown: it neither raises nor lowers the score, and is counted apart.
Not here: the checks (domain_checks, source_checks), counting mail and complaints (store.rollups).
Bugs: complaints are those that providers tell of; Gmail shows its own in Postmaster Tools only.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final

from gatepost.domain.health import Check, CheckStatus

BULK_PER_DAY: Final = 5_000
COMPLAINTS_MANY: Final = 0.001
COMPLAINTS_MOST: Final = 0.003
"""Gmail's and Yahoo's bounds: below the first, and never the second."""
LEAST_REACHED: Final = 1_000
"""Of fewer recipients a share of complaints says nothing."""


class RuleStatus(StrEnum):
    """What a rule came to."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"
    NOT_APPLICABLE = "not_applicable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of one provider; see compliance.toml."""

    id: str
    provider: str
    applies: str
    title: str
    every: tuple[str, ...]
    one_of: tuple[str, ...]
    weight: int
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleResult:
    """
    What one rule came to.

    Attributes:
        evidence: What was seen.
        advice: What to do; empty where nothing is to be done.
        is_binding: The domain sends enough for the rule; else it counts half, so that nobody is surprised on the day it does.
    """

    rule: Rule
    status: RuleStatus
    evidence: str
    advice: str = ""
    is_binding: bool = True

    @property
    def weight(self) -> float:
        """How much of the score it is."""
        return self.rule.weight if self.is_binding else self.rule.weight / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Compliance:
    """
    All rules together.

    Attributes:
        score: Share of what is known that is kept to, by weight, 0 to 100; None when nothing is known.
        unknown: Number of rules that apply and cannot be answered.
        next_step: The one thing to mend next; empty when there is none.
    """

    score: int | None
    unknown: int
    next_step: str
    results: tuple[RuleResult, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaints:
    """
    How many complained of the mail of the last days.

    Attributes:
        reached: Recipients whose mail was delivered.
    """

    days: int
    count: int
    reached: int

    @property
    def is_enough(self) -> bool:
        """Whether a share of so few recipients says anything."""
        return self.reached >= LEAST_REACHED

    @property
    def rate(self) -> float:
        """The share that was reported as spam."""
        return self.count / self.reached if self.reached else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """
    What is known of what a domain sends; None where nobody counts it.

    Attributes:
        per_day: Most recipients of one day of the last thirty; an upper bound of what one provider gets.
        complaints: Over several spans, since a bad week must not vanish in a good month; empty where they are not told.
        has_one_click: Bulk mail carries List-Unsubscribe-Post (RFC 8058).
    """

    per_day: int | None = None
    complaints: tuple[Complaints, ...] = ()
    has_one_click: bool | None = None


@lru_cache(maxsize=1)
def rules() -> tuple[Rule, ...]:
    """Return the rules, in the file's order."""
    told = tomllib.loads(files(__package__).joinpath("compliance.toml").read_text("utf-8"))
    return tuple(_rule(one, told["providers"]) for one in told["rules"])


def _rule(one: Mapping[str, Any], providers: Mapping[str, Mapping[str, str]]) -> Rule:
    return Rule(
        id=one["id"], provider=one["provider"], applies=one["applies"], title=one["title"], every=tuple(one.get("all", ())),
        one_of=tuple(one.get("any", ())), weight=one["weight"], url=one.get("url", providers[one["provider"]]["url"]),
    )  # fmt: skip


def evaluate(checks: Iterable[Check], traffic: Traffic) -> Compliance:
    """
    Hold a domain's checks against every rule.

    Args:
        checks: Several may have one id, such as those of two source addresses: the worst one counts.
    """
    known: dict[str, Check] = {}
    for check in (*checks, *_of_traffic(traffic)):
        if check.id not in known or _badness(check) > _badness(known[check.id]):
            known[check.id] = check
    results = tuple(_result(rule, known, traffic) for rule in rules())
    passed = sum(one.weight for one in results if one.status is RuleStatus.PASSED)
    failed = sum(one.weight for one in results if one.status is RuleStatus.FAILED)
    return Compliance(
        score=round(100 * passed / (passed + failed)) if passed + failed else None,
        unknown=sum(one.status is RuleStatus.UNKNOWN for one in results), next_step=_next_step(results, known), results=results,
    )  # fmt: skip


def _of_traffic(traffic: Traffic) -> list[Check]:
    """Turn numbers into checks; what nobody counts is unknown."""

    def check(name: str, ok: bool | None, detail: str, advice: str = "") -> Check:  # noqa: FBT001 - three answers, not a switch
        status = CheckStatus.UNKNOWN if ok is None else CheckStatus.OK if ok else CheckStatus.FAILED
        return Check(id=name, status=status, detail=detail, advice=advice if ok is False else "")

    return [
        check("message_format", ok=True, detail="every message is composed or checked here"),
        check("tls", ok=True, detail="STARTTLS is used wherever it is offered"),
        _of_complaints(traffic.complaints),
        check(
            "one_click_unsubscribe", traffic.has_one_click,
            "it is not looked at here yet whether newsletters carry List-Unsubscribe-Post" if traffic.has_one_click is None
            else "newsletters carry it" if traffic.has_one_click else "newsletters do not carry List-Unsubscribe-Post",
            "send newsletters with List-Unsubscribe and List-Unsubscribe-Post (RFC 8058)",
        ),
    ]  # fmt: skip


def _of_complaints(spans: Sequence[Complaints]) -> Check:
    enough = [one for one in spans if one.is_enough]
    if not enough:
        longest = max(spans, key=lambda one: one.days, default=None)
        told = "it is not told how many complain" if longest is None else (
            f"{longest.reached:,} recipients in {longest.days} days are too few to tell; {LEAST_REACHED:,} are enough"
        )  # fmt: skip
        return Check(id="complaint_rate", status=CheckStatus.UNKNOWN, detail=told)
    worst = max(enough, key=lambda one: one.rate)
    share = f"{worst.rate:.2%}" if worst.rate >= COMPLAINTS_MANY or not worst.count else f"{worst.rate:.3%}"
    detail = f"{share} of {worst.reached:,} recipients in {worst.days} days reported it as spam, as far as providers tell"
    advice = "send only to who asked for it, and make leaving easy"
    if worst.rate >= COMPLAINTS_MOST:
        return Check(id="complaint_rate", status=CheckStatus.FAILED, detail=detail, advice=advice)
    if worst.rate >= COMPLAINTS_MANY:
        return Check(id="complaint_rate", status=CheckStatus.WARNING, detail=f"{detail}; below 0.1 % is wanted", advice=advice)
    return Check(id="complaint_rate", status=CheckStatus.OK, detail=detail)


_BADNESS: Final = (CheckStatus.NOT_APPLICABLE, CheckStatus.OK, CheckStatus.WARNING, CheckStatus.UNKNOWN, CheckStatus.FAILED)


def _badness(check: Check) -> int:
    return _BADNESS.index(check.status)


def _result(rule: Rule, known: Mapping[str, Check], traffic: Traffic) -> RuleResult:
    status, evidence, advice = _answer(rule, known)
    is_binding = rule.applies != "bulk" or traffic.per_day is None or traffic.per_day >= BULK_PER_DAY
    return RuleResult(rule=rule, status=status, evidence=evidence, advice=advice, is_binding=is_binding)


def _answer(rule: Rule, known: Mapping[str, Check]) -> tuple[RuleStatus, str, str]:
    wanted = [known[name] for name in rule.every or rule.one_of if name in known]
    bad = [check for check in wanted if check.status is CheckStatus.FAILED]
    good = [check for check in wanted if check.status in {CheckStatus.OK, CheckStatus.WARNING}]
    if rule.one_of and good:
        return RuleStatus.PASSED, good[0].detail, ""
    if wanted and all(check.status is CheckStatus.NOT_APPLICABLE for check in wanted):
        return RuleStatus.NOT_APPLICABLE, "; ".join(check.detail for check in wanted), ""
    if bad and (not rule.one_of or len(bad) == len(rule.one_of)):
        return RuleStatus.FAILED, "; ".join(check.detail for check in bad), bad[0].advice
    unknown = [check for check in wanted if check.status is CheckStatus.UNKNOWN]
    idle = sum(check.status is CheckStatus.NOT_APPLICABLE for check in wanted)
    if unknown or len(good) + idle < len(rule.every or rule.one_of):
        told = "; ".join(check.detail for check in unknown) or "it was not looked at"
        return RuleStatus.UNKNOWN, told, next((check.advice for check in unknown if check.advice), "")
    return RuleStatus.PASSED, "; ".join(check.detail for check in good), ""


def _next_step(results: Sequence[RuleResult], known: Mapping[str, Check]) -> str:
    """Choose what to mend: the heaviest rule that fails, else what is not known but could be, else what could be better."""
    for status in (RuleStatus.FAILED, RuleStatus.UNKNOWN):
        found = [one for one in results if one.status is status and one.advice]
        if found:
            return max(found, key=lambda one: one.weight).advice
    return next((check.advice for check in known.values() if check.status is CheckStatus.WARNING and check.advice), "")
