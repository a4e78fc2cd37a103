"""
How much the rules lean on what was read in single mail systems: a score in folds.

Arrives: the corpora, without the portion that is held out. Leaves: one score over five folds of mail systems, each taken with
rules that lack the words which stand in that fold and in no other: what it would have been had nobody read that fold.
It is a bound from below: words that a provider documents go as well where only one fold has them, and no others are put in
their place, as a person would do who writes rules for sense rather than for letters.
"""

import hashlib
from dataclasses import fields, replace
from pathlib import Path

from bench.feedback import Portion, Score, labelled, portion_of, score_files, system_of
from gatepost.feedback.letter import open_letter
from gatepost.mime.parts import read_mail
from gatepost.policy.classify_rules import Rule, Rules, shipped_rules, stands
from gatepost.policy.classify_text import comparable

FOLDS = 5


def fold_of(name: str) -> int:
    """Give the fold of a file; files of one mail system are in one fold."""
    return hashlib.sha256(system_of(name).encode()).digest()[2] % FOLDS


def measure_folds(corpora: Path) -> Score:
    """Score every fold without the words that it alone contains, and sum up."""
    rows = {name: row for name, row in sorted(labelled(corpora).items()) if portion_of(name) is not Portion.HELD_OUT}
    texts = ["\n".join(_text(corpora, name) for name in rows if fold_of(name) == fold) for fold in range(FOLDS)]
    total = Score()
    for fold in range(FOLDS):
        rules = _without(shipped_rules(), texts, fold)
        _add(total, score_files(corpora, {name: row for name, row in rows.items() if fold_of(name) == fold}, rules, copies=False))
    return total


def _text(corpora: Path, name: str) -> str:
    letter = open_letter(read_mail((corpora / "sisimai" / "bsd" / name).read_bytes()))
    said = [one.diagnostic for status in letter.statuses for one in status.recipients]
    return "\n".join(comparable(text) for text in (letter.subject, letter.text, *said))


def _without(rules: Rules, texts: list[str], fold: int) -> Rules:
    known: dict[str, bool] = {}

    def keep(words: tuple[str, ...]) -> tuple[str, ...]:
        for word in words:
            if word not in known:
                known[word] = [number for number, text in enumerate(texts) if stands(text, word)] != [fold]
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
