"""
How well mail that comes back is understood: the score on the corpora, with the peers' figures beside it.

    python -m bench.feedback [--corpora DIR] [--errors]

The bounces are split by mail system (a hash of its name): rules were written looking at one half only, so the other half
says how they do on systems that were never looked at. `--errors` shows what is wrong, in the first half only.
"""

import argparse
import csv
import hashlib
import resource
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from gatepost.domain.outcome import Category
from gatepost.domain.severity import SEVERITY, Severity
from gatepost.feedback.reading import read_report

_DEFAULT = Path(__file__).parents[2] / "shared" / "corpora"
_REASONS = {
    "userunknown": "invalid_recipient", "hasmoved": "invalid_recipient", "hostunknown": "invalid_domain", "notaccept": "invalid_domain",
    "suspend": "mailbox_inactive", "mailboxfull": "mailbox_full", "mesgtoobig": "message_too_large", "exceedlimit": "message_too_large",
    "spamdetected": "spam_content", "contenterror": "content_rejected", "virusdetected": "malware", "blocked": "reputation_block",
    "badreputation": "reputation_block", "requireptr": "reputation_block", "authfailure": "auth_failure", "policyviolation": "policy_rejected",
    "rejected": "policy_rejected", "filtered": "policy_rejected", "securityerror": "policy_rejected", "notcompliantrfc": "policy_rejected",
    "norelaying": "relay_denied", "toomanyconn": "rate_limited", "speeding": "rate_limited", "ratelimited": "rate_limited",
    "networkerror": "network", "failedstarttls": "network", "expired": "expired", "systemerror": "remote_system", "systemfull": "remote_system",
    "mailererror": "remote_system", "syntaxerror": "remote_system", "vacation": "auto_reply", "feedback": "complaint", "delivered": "delivered",
    "suppressed": "suppressed", "undefined": "undetermined", "onhold": "undetermined",
}  # fmt: skip
PEERS = (
    ("Sisimai (same rows, in-sample)", "99.4 %", "1.1 %"),
    ("KumoMTA's published rules", "24.6 %", "-"),
    ("a reader of status codes only", "22.9 %", "-"),
)
GOALS = {"recognised": 0.99, "category": 0.95, "hard": 0.98, "wrong": 0.005, "recipients": 0.97}


@dataclass
class Score:
    """Counts over one half."""

    files: int = 0
    recognised: int = 0
    false_bounces: int = 0
    not_bounces: int = 0
    rows: int = 0
    category: int = 0
    hard: int = 0
    wrong: int = 0
    recipients: int = 0
    with_recipient: int = 0
    copies_differ: int = 0
    slowest: tuple[float, str] = (0.0, "")
    errors: list[str] = field(default_factory=list)
    confused: Counter[tuple[str, str]] = field(default_factory=Counter)

    def share(self, name: str) -> float:
        """One figure between 0 and 1."""
        below = {
            "recognised": self.files - self.not_bounces,
            "category": self.rows,
            "hard": self.rows,
            "wrong": self.rows,
            "recipients": self.with_recipient,
        }[name]
        return getattr(self, name) / below if below else 0.0


def is_development(name: str) -> bool:
    """Tell whether rules may be written for a file's mail system."""
    return hashlib.sha256(name.rsplit("-", 1)[0].encode()).digest()[0] % 2 == 0


def measure(corpora: Path) -> tuple[Score, Score]:
    """Score the halves: (looked at while writing rules, not looked at)."""
    rows: dict[str, list[dict[str, str]]] = defaultdict(list)
    with (corpora / "sisimai" / "EXPECTED.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            rows[row["file"]].append(row)
    scores = (Score(), Score())
    for name in sorted(rows):
        _one(corpora / "sisimai", name, rows[name], scores[0 if is_development(name) else 1])
    return scores


def _one(folder: Path, name: str, rows: list[dict[str, str]], score: Score) -> None:
    content = (folder / "bsd" / name).read_bytes()
    started = time.perf_counter()
    report = read_report(content)
    score.slowest = max(score.slowest, (time.perf_counter() - started, name))
    for variant in ("dos", "mac"):
        copy = folder / variant / name
        if copy.exists() and _answer(read_report(copy.read_bytes())) != _answer(report):
            score.copies_differ += 1
            score.errors.append(f"{name}: the {variant} copy differs")
    score.files += 1
    is_bounce = rows[0]["category"] not in {"complaint", "auto_reply"}
    if is_bounce:
        score.recognised += report.kind == "bounce"
        if report.kind != "bounce":
            score.errors.append(f"{name}: is {report.kind}, no bounce")
    else:
        score.not_bounces += 1
        score.false_bounces += report.kind == "bounce"
    by_address = {one.address.lower(): one for one in report.recipients}
    for number, row in enumerate(rows):
        _row(
            name,
            row,
            by_address.get(row["recipient"].lower()) or (report.recipients[number] if number < len(report.recipients) else None),
            by_address.keys(),
            score,
        )


def _row(name, row, found, addresses, score: Score) -> None:
    accepted = {_REASONS[reason] for reason in row["acceptable_reasons"].split("|")} | {row["category"]}
    category = found.category if found else "nothing"
    score.rows += 1
    score.category += category in accepted
    may_be_hard = row["hardbounce"] == "true" or any(SEVERITY[Category(one)] is Severity.HARD for one in accepted)
    is_hard = found is not None and found.severity is Severity.HARD
    score.hard += is_hard == (row["hardbounce"] == "true") or (is_hard and may_be_hard)
    score.wrong += is_hard and not may_be_hard
    if row["recipient"] and "libsisimai.org.invalid" not in row["recipient"]:
        score.with_recipient += 1
        score.recipients += row["recipient"].lower() in addresses
        if row["recipient"].lower() not in addresses:
            score.errors.append(f"{name}: {row['recipient']} not in {sorted(addresses)}")
    if category not in accepted:
        score.confused[row["category"], f"{category} by {found.rule if found else 'none'}"] += 1
        score.errors.append(
            f"{name}: {category} ({found.rule if found else ''}), expected {'/'.join(sorted(accepted))} ({row['reason']}) | {found.detail[:140] if found else ''}"
        )


def _answer(report) -> list[tuple]:
    return [(report.kind, one.address, one.category, one.smtp_code, one.enhanced_code, one.rule) for one in report.recipients]


def main() -> None:
    """Print the score."""
    parser = argparse.ArgumentParser(prog="bench.feedback")
    parser.add_argument("--corpora", type=Path, default=_DEFAULT)
    parser.add_argument("--errors", action="store_true", help="show what is wrong in the half that was looked at")
    args = parser.parse_args()
    if not (args.corpora / "sisimai" / "EXPECTED.csv").exists():
        sys.exit(f"there are no corpora in {args.corpora}")
    seen, unseen = measure(args.corpora)
    print(f"{'':34}{'looked at':>12}{'not looked at':>15}{'goal':>10}")
    for label, name in (
        ("recognised as a bounce", "recognised"),
        ("category", "category"),
        ("hard-bounce decision", "hard"),
        ("wrong suppressions", "wrong"),
        ("recipient found", "recipients"),
    ):
        goal = f"{'<=' if name == 'wrong' else '>='} {GOALS[name]:.1%}"
        print(f"{label:34}{seen.share(name):>12.1%}{unseen.share(name):>15.1%}{goal:>10}")
    for label, values in (
        ("files / rows", (f"{seen.files}/{seen.rows}", f"{unseen.files}/{unseen.rows}")),
        ("not bounces, called bounces", (f"{seen.false_bounces}/{seen.not_bounces}", f"{unseen.false_bounces}/{unseen.not_bounces}")),
        ("copies with other line ends differ", (seen.copies_differ, unseen.copies_differ)),
        ("slowest file, ms", (f"{seen.slowest[0] * 1000:.1f}", f"{unseen.slowest[0] * 1000:.1f}")),
    ):
        print(f"{label:34}{values[0]!s:>12}{values[1]!s:>15}")
    print(f"{'peak memory of the process, MB':34}{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:>12.1f}")
    print("\nPeers on all 658 rows (category, wrong suppressions):")
    for label, category, wrong in PEERS:
        print(f"  {label:32}{category:>8}{wrong:>8}")
    print("\nConfused (expected -> found), looked at / not looked at:")
    for pair in sorted(seen.confused | unseen.confused):
        print(f"  {pair[0]:>18} -> {pair[1]:<50}{seen.confused[pair]:>4}{unseen.confused[pair]:>4}")
    if args.errors:
        print("\n" + "\n".join(seen.errors))


if __name__ == "__main__":
    main()
