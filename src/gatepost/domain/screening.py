"""
The rules on content and recipients: how strict each is for a tenant, and what they find.

`Policy` has one field for each rule; the gateway's own values are the options of `[screening]`, a tenant may have others.
Not here: the rules themselves (policy), asking DNS and scanners (screening).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Final

from gatepost.domain.errors import Fault


class Strictness(StrEnum):
    """What a finding of a rule does."""

    OFF = "off"
    WARN = "warn"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How strict each rule is; what the rules are is said in the settings of the same names."""

    recipient_domains: Strictness = Strictness.OFF
    typos: Strictness = Strictness.OFF
    disposable: Strictness = Strictness.OFF
    roles: Strictness = Strictness.OFF
    attachments: Strictness = Strictness.OFF
    macros: Strictness = Strictness.OFF
    active_content: Strictness = Strictness.OFF
    encrypted_archives: Strictness = Strictness.OFF
    variables_links: Strictness = Strictness.OFF
    variables_markup: Strictness = Strictness.OFF
    links: Strictness = Strictness.OFF
    html: Strictness = Strictness.OFF
    spam: Strictness = Strictness.OFF
    alignment: Strictness = Strictness.OFF

    def wants(self, *rules: str) -> bool:
        """Tell whether one of some rules is on."""
        return any(getattr(self, rule) is not Strictness.OFF for rule in rules)

    def values(self) -> dict[str, str]:
        """Return every rule with its strictness as text."""
        return {rule: getattr(self, rule).value for rule in RULES}


RULES: Final = tuple(one.name for one in fields(Policy))
"""The names of all rules."""

ABOUT_RECIPIENTS: Final = frozenset({"recipient_domains", "typos", "disposable", "roles"})
"""Rules on the envelope; a refusal by these is validation_failed, by the others content_refused."""

ABOUT_FILES: Final = ("attachments", "macros", "active_content", "encrypted_archives")
"""Rules that look at attachments."""


def policy_of(values: Mapping[str, str]) -> Policy:
    """
    Build a policy from texts; what is unknown is left out, so that a rule that was removed breaks no start.

    Raises:
        ValueError: A value is no strictness.
    """
    return Policy(**{rule: Strictness(values[rule]) for rule in RULES if rule in values})


@dataclass(frozen=True, slots=True)
class Finding:
    """
    What a rule found.

    Attributes:
        rule: One of `RULES`.
    """

    rule: str
    fault: Fault
