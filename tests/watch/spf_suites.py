"""The openspf suites: their zones as a resolver, their cases as tuples."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from gatepost.wire.questions import Question, Reply, Walk, drive
from gatepost.wire.spf import Verdict, check_host

T = TypeVar("T")
SUITES = Path(__file__).parents[2] / "../shared/corpora/rfc7208-spf"


@dataclass(frozen=True)
class Case:
    """One case with the zone that it stands in."""

    name: str
    zone: dict[str, list[Any]]
    given: dict[str, Any]

    @property
    def allowed(self) -> set[str]:
        """The results that the suite allows."""
        result = self.given["result"]
        return {str(one) for one in result} if isinstance(result, list) else {str(result)}


def cases(file: str) -> Iterator[Case]:
    """Read a suite."""
    text = (SUITES / file).read_text("utf-8")
    for scenario in yaml.safe_load_all(text):
        zone = {str(name).lower(): records for name, records in (scenario.get("zonedata") or {}).items()}
        for name, given in (scenario.get("tests") or {}).items():
            yield Case(name, zone, given)


def answer(zone: dict[str, list[Any]], name: str, kind: str, depth: int = 0) -> Reply:
    """Answer as a resolver would; records of type SPF stand for TXT records where a name has none."""
    records = zone.get(name.lower())
    if records is None:
        return ()
    found: list[str] = []
    spf: list[str] = []
    has_txt = False
    for record in records:
        if record == "TIMEOUT":  # for the types that stand not before it
            return found or None
        if not isinstance(record, dict):
            continue
        for type_, value in record.items():
            if type_ == "CNAME" and kind != "CNAME" and depth < 8:
                return answer(zone, str(value).rstrip("."), kind, depth + 1)
            has_txt = has_txt or type_ == "TXT"
            if value == "NONE":
                continue
            if value == "TIMEOUT" and type_ == kind:
                return None
            if type_ == kind:
                found.append(_text(kind, value))
            elif type_ == "SPF" and kind == "TXT":
                if value == "TIMEOUT":
                    continue
                spf.append(_text("TXT", value))
    return found if has_txt or kind != "TXT" else spf


def _text(kind: str, value: Any) -> str:
    if kind == "MX":
        return f"{value[0]} {value[1]}"
    return "".join(value) if isinstance(value, list) else str(value)


def settle(walk: Walk[T], zone: dict[str, list[Any]], most: int = 200) -> T:
    """Answer a walk's questions from a zone; it may not ask more than `most`."""
    asked = itertools.count(1)

    def ask(question: Question) -> Reply:
        assert next(asked) <= most, "it does not end"
        return answer(zone, question.name, question.kind)

    return drive(walk, ask)


def evaluate(case: Case) -> Verdict:
    """Evaluate a case as a receiver would."""
    sender, helo = str(case.given["mailfrom"] or ""), str(case.given["helo"])
    domain = sender.rpartition("@")[2] if sender else helo
    return settle(check_host(str(case.given["host"]), domain, sender=sender, helo=helo), case.zone)
