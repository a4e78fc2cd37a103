"""
Why a server refused: from its reply to a category.

Arrives: a reply and the command it answered. Leaves: a category and the id of the rule that said so.
The rules are data, in `classify.toml`. They look for plain words, never for patterns, so no text can make them slow.
Standards: RFC 3463 and the IANA registry of enhanced status codes, RFC 5321 §4.2.2.
Not here: whether the recipient is tried again (that is the reply code's first digit); bounce messages (not built yet).
"""

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from gatepost.domain.outcome import Category, Reply

NO_RULE = "none"
"""Rule id where none matched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """
    One rule; an empty condition matches everything.

    Attributes:
        enhanced: `subject.detail`, or `subject.` for a whole subject.
        words: Lower-case text, any of which must occur.
    """

    id: str
    category: Category
    stages: frozenset[str] = frozenset()
    codes: frozenset[int] = frozenset()
    enhanced: frozenset[str] = frozenset()
    words: tuple[str, ...] = ()

    def matches(self, code: int, status: str, text: str, stage: str) -> bool:
        """Tell whether all conditions hold; `status` is `subject.detail`, `text` is in lower case."""
        if self.stages and stage not in self.stages:
            return False
        if self.codes and code not in self.codes:
            return False
        if self.enhanced and status not in self.enhanced and status.partition(".")[0] + "." not in self.enhanced:
            return False
        return not self.words or any(word in text for word in self.words)


def load_rules() -> tuple[Rule, ...]:
    """
    Read the rules that are shipped with the package.

    Raises:
        ValueError: The file is not well-formed, or two rules have one id.
    """
    tables = tomllib.loads(files(__package__).joinpath("classify.toml").read_text("utf-8"))["rule"]
    rules = tuple(_rule(table) for table in tables)
    if len({rule.id for rule in rules}) != len(rules):
        raise ValueError("two rules have one id")
    return rules


def _rule(table: dict[str, object]) -> Rule:
    def listed(key: str) -> list[object]:
        value = table.get(key, [])
        if not isinstance(value, list) or set(table) - {"id", "category", "stages", "codes", "enhanced", "words"}:
            raise ValueError(f"rule {table.get('id')}: {key} is no list, or an unknown key")
        return value

    return Rule(
        id=str(table["id"]),
        category=Category(str(table["category"])),
        stages=frozenset(str(stage) for stage in listed("stages")),
        codes=frozenset(int(str(code)) for code in listed("codes")),
        enhanced=frozenset(str(status) for status in listed("enhanced")),
        words=tuple(str(word) for word in listed("words")),
    )


RULES = load_rules()


def classify(reply: Reply, stage: str) -> tuple[Category, str]:
    """
    Name the reason of a refusal and the rule that found it.

    Args:
        stage: The command answered: `greeting`, `ehlo`, `tls`, `auth`, `mail`, `rcpt`, `data` or `content`.
    """
    return _classify(reply.code, reply.enhanced or "", reply.text, stage)


@lru_cache(maxsize=4_096)
def _classify(code: int, enhanced: str, text: str, stage: str) -> tuple[Category, str]:
    status = enhanced.partition(".")[2]
    lowered = text.lower()
    for rule in RULES:
        if rule.matches(code, status, lowered, stage):
            return rule.category, rule.id
    return Category.UNDETERMINED, NO_RULE
