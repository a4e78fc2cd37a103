"""What one check of `gatepost doctor` found."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's result: `ok`, `warning` or `failed`, one sentence, and what to do next where something is to be done."""

    check: str
    status: str
    detail: str
    advice: str = ""
