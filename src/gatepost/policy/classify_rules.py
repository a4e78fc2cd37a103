"""
Rules that name the reason of a refusal: read, checked, and replaced by an operator's own.

Arrives: TOML, ours in `classify.toml` or an operator's file. Leaves: `Rules`, frozen, ready to be asked.
A rule looks for plain words and for words near each other, never for patterns, so no text can make it slow (THREATS 29).
Not here: which text is looked at, and in what order (classify).
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from gatepost.domain.outcome import Category
from gatepost.domain.severity import SEVERITY, Severity

NEAR = 40
"""Characters that may lie between two words that a rule wants near each other."""

_LISTS = ("stages", "codes", "enhanced", "classes", "words", "also", "never", "near", "hosts", "actions")
_KEYS = frozenset({"id", "reason", "category", "severity", "weak", "origin", *_LISTS})
_MAX_FILE = 1_000_000
_MAX_RANGE = 1_000


class InvalidRules(ValueError):  # noqa: N818
    """A file of rules that cannot be used; the text is one sentence for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """
    One statement about one recipient, comparable.

    Attributes:
        text: As `comparable` gives it.
        status: Enhanced status code such as `5.1.1`; empty where there is none.
        stage: The command that was answered, where it is known: greeting ehlo tls auth mail rcpt data content.
        host: Name of the host that said so, lower-case.
        action: What the report says was done: failed, delayed; empty for a reply.
        is_report: True for mail that came back, False for a reply at delivery.
    """

    text: str
    code: int = 0
    status: str = ""
    stage: str = ""
    host: str = ""
    action: str = ""
    is_report: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """
    One rule; an empty condition matches everything.

    Attributes:
        enhanced: `5.1.1`, or `1.1` for any class, or `1.` for a whole subject; `7.606-649` in a file is each of them; `none`
            where there is no code.
        classes: First digits, of the enhanced code, else of the reply code.
        words: Any of these.
        also: Any of these as well.
        never: None of these.
        near: Pairs of word lists: one of each, close together, for any of the pairs.
        origin: `report`, `reply`, or empty for both.
        severity: Where the rule knows better than its category, such as of a reason that nothing confirms.
        reason: Why the rule is right, for people.
        weak: A guess by code or place: better evidence about the same recipient is preferred.
    """

    id: str
    category: Category
    stages: frozenset[str] = frozenset()
    codes: frozenset[int] = frozenset()
    enhanced: frozenset[str] = frozenset()
    classes: frozenset[int] = frozenset()
    words: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    near: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = ()
    hosts: tuple[str, ...] = ()
    actions: frozenset[str] = frozenset()
    origin: str = ""
    severity: Severity | None = None
    weak: bool = False
    reason: str = ""

    @property
    def suppresses(self) -> bool:
        """Tell whether it says that an address or domain is gone; mail that a list held back never left."""
        return (self.severity or SEVERITY[self.category]) is Severity.HARD and self.category is not Category.SUPPRESSED

    def matches(self, evidence: Evidence) -> bool:
        """Tell whether all conditions hold."""
        return self._fits(evidence) and self._is_said(evidence.text)

    def _fits(self, evidence: Evidence) -> bool:
        if self.origin and (self.origin == "report") is not evidence.is_report:
            return False
        if self.stages and (evidence.stage or "unknown") not in self.stages:
            return False
        if self.codes and evidence.code not in self.codes:
            return False
        if self.actions and evidence.action not in self.actions:
            return False
        if self.hosts and not any(evidence.host == host or evidence.host.endswith("." + host) for host in self.hosts):
            return False
        return self._fits_class(evidence)

    def _fits_class(self, evidence: Evidence) -> bool:
        first = evidence.status[:1] or str(evidence.code)[:1]
        if self.classes and (not first.isdigit() or int(first) not in self.classes):
            return False
        if not self.enhanced:
            return True
        detail = evidence.status.partition(".")[2] or "none"
        return not self.enhanced.isdisjoint((evidence.status, detail, detail.partition(".")[0] + "."))

    def _is_said(self, text: str) -> bool:
        if self.words and not _any_stands(text, self.words):
            return False
        if self.also and not _any_stands(text, self.also):
            return False
        if self.near and not any(_are_near(text, first, second) for first, second in self.near):
            return False
        return not _any_stands(text, self.never)


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """Rules in order; the first that matches counts. Told apart by identity, which makes them cheap to look answers up by."""

    rules: tuple[Rule, ...]
    stated: Mapping[str, Severity] = field(init=False)
    """Severities that rules state themselves, by the rule's id."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "stated", {rule.id: rule.severity for rule in self.rules if rule.severity is not None})

    def first(self, evidence: Evidence) -> Rule | None:
        """Find the rule that counts; None where none matches."""
        return _first(self, evidence)

    def first_harmless(self, evidence: Evidence) -> Rule | None:
        """Find the first rule that matches and does not say that somebody is gone; None where there is none."""
        found = _first(self, evidence)
        if found is None or not found.suppresses:
            return found
        return next((rule for rule in self.rules if not rule.suppresses and rule.matches(evidence)), None)


@lru_cache(maxsize=256)
def _first(rules: Rules, evidence: Evidence) -> Rule | None:
    return next((rule for rule in rules.rules if rule.matches(evidence)), None)


def boilerplate() -> tuple[str, ...]:
    """Give what reporters write in every letter: the list of that name in the shipped file."""
    return _shipped()[1].get("boilerplate", ())


@lru_cache(maxsize=1)
def _shipped() -> tuple[Rules, dict[str, tuple[str, ...]]]:
    rules, lists = _read(files(__package__).joinpath("classify.toml").read_text("utf-8"), {})
    return Rules(rules), lists


def shipped_rules() -> Rules:
    """
    Read the rules that are shipped with the package, once.

    Raises:
        InvalidRules: The file is not well-formed, or two rules have one id.
    """
    return _shipped()[0]


def load_rules(path: str | Path) -> Rules:
    """
    Read an operator's rules over the shipped ones.

    A rule with the id of a shipped one takes its place; others are asked before all shipped ones, in their order. The
    word lists of the shipped file may be named, and own ones added.

    Raises:
        InvalidRules: The file cannot be read or is not well-formed.
    """
    try:
        with Path(path).open("rb") as file:
            text = file.read(_MAX_FILE).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRules(f"{path}: {error}") from error
    own, _ = _read(text, _shipped()[1])
    shipped = shipped_rules().rules
    replaced = {rule.id: rule for rule in own}
    known = {rule.id for rule in shipped}
    return Rules(tuple(rule for rule in own if rule.id not in known) + tuple(replaced.get(rule.id, rule) for rule in shipped))


def _read(text: str, lists: dict[str, tuple[str, ...]]) -> tuple[tuple[Rule, ...], dict[str, tuple[str, ...]]]:
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidRules(f"not TOML: {error}") from error
    if set(tables) - {"words", "rule"} or not isinstance(tables.get("words", {}), dict) or not isinstance(tables.get("rule", []), list):
        raise InvalidRules("a file of rules has [words] and [[rule]], nothing else")
    lists = dict(lists)
    for name, value in tables.get("words", {}).items():
        lists[name] = _said(f"words {name}", value, lists)
    rules = tuple(_rule(table, lists) for table in tables.get("rule", []))
    if len({rule.id for rule in rules}) != len(rules):
        raise InvalidRules("two rules have one id")
    return rules, lists


def _rule(table: Any, lists: dict[str, tuple[str, ...]]) -> Rule:
    if not isinstance(table, dict) or not isinstance(table.get("id"), str) or not table["id"]:
        raise InvalidRules("a rule has no id")
    name = table["id"]
    if unknown := set(table) - _KEYS:
        raise InvalidRules(f"rule {name}: {', '.join(sorted(map(str, unknown)))}: no such key")
    for key in _LISTS:
        if not isinstance(table.get(key, []), list):
            raise InvalidRules(f"rule {name}: {key} is no list")
    if table.get("origin", "") not in {"", "report", "reply"} or not isinstance(table.get("weak", False), bool):
        raise InvalidRules(f"rule {name}: origin is report or reply, weak is true or false")
    try:
        return Rule(
            id=name,
            category=Category(table.get("category", "")),
            stages=frozenset(_texts(name, table.get("stages", []))),
            codes=frozenset(int(code) for code in table.get("codes", [])),
            enhanced=frozenset(code for text in _texts(name, table.get("enhanced", [])) for code in _codes(text)),
            classes=frozenset(int(one) for one in table.get("classes", [])),
            words=_said(f"rule {name}", table.get("words", []), lists),
            also=_said(f"rule {name}", table.get("also", []), lists),
            never=_said(f"rule {name}", table.get("never", []), lists),
            near=_pairs(f"rule {name}", table.get("near", []), lists),
            hosts=_texts(name, table.get("hosts", [])),
            actions=frozenset(_texts(name, table.get("actions", []))),
            origin=table.get("origin", ""),
            severity=Severity(table["severity"]) if "severity" in table else None,
            weak=table.get("weak", False),
            reason=_text(name, table.get("reason", "")),
        )
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, InvalidRules) else InvalidRules(f"rule {name}: {error}") from error


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidRules(f"rule {name}: reason is no text")
    return value


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise InvalidRules(f"{name}: not a list of texts")
    return tuple(value)


def _codes(text: str) -> tuple[str, ...]:
    """Write out `7.606-649`, as providers give their ranges of details."""
    start, dash, last = text.partition("-")
    if not dash:
        return (text,)
    subject, _, first = start.rpartition(".")
    numbers = range(int(first), int(last) + 1)
    if len(numbers) > _MAX_RANGE:
        raise ValueError(f"{text} is too long a range")
    return tuple(f"{subject}.{number}" for number in numbers)


def _said(name: str, value: Any, lists: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Take words; `@name` stands for a list of `[words]`, of those written before it where it stands in a list itself."""
    out: list[str] = []
    for word in _texts(name, value):
        if word.startswith("@"):
            if word[1:] not in lists:
                raise InvalidRules(f"{name}: there is no list {word[1:]}")
            out += lists[word[1:]]
        else:
            out.append(word)
    if any(word != word.lower() for word in out):
        raise InvalidRules(f"{name}: words are in lower case")
    return tuple(dict.fromkeys(out))


def _pairs(name: str, value: list[Any], lists: dict[str, tuple[str, ...]]) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
    """Take pairs; each side is a word, `@name`, or a list of these."""
    pairs = []
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2:
            raise InvalidRules(f"{name}: near is a list of pairs")
        first, second = (_said(name, side if isinstance(side, list) else [side], lists) for side in pair)
        pairs.append((first, second))
    return tuple(pairs)


def _any_stands(text: str, words: tuple[str, ...]) -> bool:
    # `in` first: nearly all words are nowhere in a text, and that is by far its quickest answer; a loop, for speed as well
    for word in words:  # noqa: SIM110
        if word in text and stands(text, word):
            return True
    return False


def stands(text: str, word: str) -> bool:
    """Tell whether a word stands there, not within another word; stems may go on."""
    at = text.find(word)
    if at < 0 or not _needs_start(word):
        return at >= 0
    while at > 0 and text[at - 1].isalnum():
        at = text.find(word, at + 1)
    return at >= 0


def _needs_start(word: str) -> bool:
    return word[0].isalnum() and word[0].isascii()


def _are_near(text: str, first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    """Tell whether words of both lists stand close together, in any order, by walking over both lists of places once."""
    here = _places(text, first)
    if not here:
        return False
    there = _places(text, second)
    index = 0
    for start, end in here:
        while index < len(there) and there[index][1] < start - NEAR:
            index += 1
        for begin, stop in there[index : index + 8]:
            if begin > end + NEAR:
                break
            if stop <= start or begin >= end:
                return True
    return False


@lru_cache(maxsize=512)
def _places(text: str, words: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    found = []
    for word in words:
        if word not in text:
            continue
        at, checked = text.find(word), _needs_start(word)
        while at >= 0:
            if not (checked and at > 0 and text[at - 1].isalnum()):
                found.append((at, at + len(word)))
            at = text.find(word, at + 1)
    return tuple(sorted(found))
