"""
Will receivers believe that a message comes from its author's domain?

Arrives: what was found at the domain's DNS, and a message's envelope. Leaves: one sentence when neither DKIM nor SPF speaks for it.
Our signatures name the author's domain itself, so they are aligned whenever they can be verified; the envelope may be another domain's.
Pure. What is not known is not held against a message.
Standards: RFC 9989 §4.4 (alignment), §5.3 (what receivers do).
Not here: the other checks of a domain (domain_checks), whether the message is refused (screening).
"""

from dataclasses import dataclass

from gatepost.policy.domain_checks import DomainFacts
from gatepost.wire.spf import SpfResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """
    What speaks for mail from a domain.

    Attributes:
        signs: Receivers can verify our signatures; also where DNS did not tell.
        passes_spf: SPF passes for the addresses that we send from.
        policy: What the domain asks receivers to do with what fails; empty without a record.
        organization: The organizational domain.
        is_spf_strict: The envelope must be of the very same domain.
    """

    domain: str
    signs: bool
    passes_spf: bool
    policy: str
    organization: str
    is_spf_strict: bool


def standing_of(facts: DomainFacts) -> Standing:
    """Sum up what DNS says."""
    record = facts.dmarc.record
    return Standing(
        domain=facts.name,
        signs=any(key.status in {"published", "unknown"} for key in facts.keys),
        passes_spf=bool(facts.senders) and all(verdict.result is SpfResult.PASS for verdict in facts.senders.values()),
        policy=facts.dmarc.policy,
        organization=facts.dmarc.organization or facts.name,
        is_spf_strict=record is not None and record.is_spf_strict,
    )


def trouble(standing: Standing, envelope_domain: str) -> str:
    """
    Say what is wrong with a message; empty when something speaks for it.

    Args:
        envelope_domain: Domain of the reverse-path, in lower-case A-labels; empty for the null sender.
    """
    if standing.signs or (standing.passes_spf and _is_aligned(standing, envelope_domain)):
        return ""
    because = "its DKIM keys are not published, and " + (
        f"the envelope's domain {envelope_domain or '(none)'} is another's"
        if not _is_aligned(standing, envelope_domain)
        else "SPF does not pass for the addresses that it leaves from"
    )
    follows = f"receivers will {standing.policy} it (DMARC p={standing.policy})" if standing.policy in {"quarantine", "reject"} else ""
    return f"nothing shows receivers that this mail is from {standing.domain}: {because}" + (f"; {follows}" if follows else "")


def _is_aligned(standing: Standing, envelope_domain: str) -> bool:
    if standing.is_spf_strict:
        return envelope_domain == standing.domain
    return envelope_domain == standing.organization or envelope_domain.endswith("." + standing.organization)
