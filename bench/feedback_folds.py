"""
How much the rules lean on what was read in single mail systems: scores without the words that only one place contains.

Arrives: the corpora, all of them. Leaves: one score over all groups of mail systems, each taken with
rules that lack the words which stand in that group and in no other: what it would have been had nobody read that group.
Groups are five folds of systems, or single systems (leave one provider out).
It is a bound from below: words that a provider documents go as well where only one group has them, and no others are put in
their place, as a person would do who writes rules for sense rather than for letters. With `documented`, words that stand in
tests/feedback/documented.tsv stay: these were read in documentation, whoever else writes them.
"""

import hashlib
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

from bench.feedback import Score, labelled, score_files, system_of
from gatepost.feedback.letter import open_letter
from gatepost.mime.parts import read_mail
from gatepost.policy.classify_rules import Rule, Rules, shipped_rules, stands
from gatepost.policy.classify_text import comparable

FOLDS = 5
_DOCUMENTED = Path(__file__).parents[1] / "tests" / "feedback" / "documented.tsv"


def fold_of(name: str) -> str:
    """Give the fold of a file; files of one mail system are in one fold."""
    return str(hashlib.sha256(system_of(name).encode()).digest()[2] % FOLDS)


def measure_folds(corpora: Path, group_of: Callable[[str], str] = fold_of, *, documented: bool = False) -> Score:
    """
    Score every group without the words that it alone contains, and sum up.

    Args:
        group_of: Gives the group of a file: `fold_of`, or `system_of` to leave out one provider at a time.
        documented: Keep the words that stand in the table of documented replies.
    """
    rows = dict(sorted(labelled(corpora).items()))
    groups = sorted({group_of(name) for name in rows})
    texts = ["\n".join(_text(corpora, name) for name in rows if group_of(name) == group) for group in groups]
    texts += [documented_text()] if documented else []
    total = Score()
    for number, group in enumerate(groups):
        rules = _without(shipped_rules(), texts, number)
        _add(total, score_files(corpora, {name: row for name, row in rows.items() if group_of(name) == group}, rules, copies=False))
    return total


def documented_text() -> str:
    """Give all replies of the table of documented replies, comparable."""
    lines = _DOCUMENTED.read_text("utf-8").splitlines()
    return "\n".join(comparable(line.split("\t")[3]) for line in lines if line and not line.startswith("#"))


def _text(corpora: Path, name: str) -> str:
    letter = open_letter(read_mail((corpora / "sisimai" / "bsd" / name).read_bytes()))
    said = [one.diagnostic for status in letter.statuses for one in status.recipients]
    return "\n".join(comparable(text) for text in (letter.subject, letter.text, *said))


def _without(rules: Rules, texts: list[str], group: int) -> Rules:
    known: dict[str, bool] = {}

    def keep(words: tuple[str, ...]) -> tuple[str, ...]:
        for word in words:
            if word not in known:
                # most words are not in the group's own text: nothing has to be looked for elsewhere then
                known[word] = not stands(texts[group], word) or any(
                    stands(text, word) for number, text in enumerate(texts) if number != group
                )
        return tuple(word for word in words if known[word])

    out: list[Rule] = []
    for rule in rules.rules:
        words, also = keep(rule.words), keep(rule.also)
        near = tuple((keep(first), keep(second)) for first, second in rule.near)
        near = tuple(pair for pair in near if all(pair))
        if (rule.words and not words) or (rule.also and not also) or (rule.near and not near):
            continue
        out.append(replace(rule, words=words, also=also, near=near))
    return Rules(tuple(out))


def _add(total: Score, one: Score) -> None:
    for field in fields(Score):
        if field.name == "slowest":
            total.slowest = max(total.slowest, one.slowest)
        elif field.name == "errors":
            total.errors += one.errors
        else:
            setattr(total, field.name, getattr(total, field.name) + getattr(one, field.name))
