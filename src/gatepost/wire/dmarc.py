"""
DMARC records: a domain's wish about mail in its name that neither SPF nor DKIM vouches for.

Arrives: a domain, and the answers to the questions that are asked on the way. Leaves: its policy with the place where it stands, the
organizational domain, and whether another domain is aligned with it.
Standards: RFC 9989 (records, tree walk, alignment), RFC 7489 §6.3 (`pct`, `rf`, `ri`, which RFC 9989 dropped, are read past),
RFC 9990 §4 (reports to other domains).
Not here: reading reports.
Bugs: none known.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gatepost.wire.questions import Question, Walk

_VERSION = re.compile(r"v[ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")
_TAG = re.compile(r"[ \t]*([A-Za-z]{1,20})[ \t]*=[ \t]*([^;]*?)[ \t]*")
_MAILTO = re.compile(r"mailto:[^@\s!]+@([A-Za-z0-9._-]+)(?:![0-9]+[kmgt]?)?", re.IGNORECASE)
_POLICIES: Final = ("none", "quarantine", "reject")
_LONGEST_WALK: Final = 8


class MalformedRecord(ValueError):  # noqa: N818
    """It is no DMARC record that a receiver would act on; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DmarcRecord:
    """
    One record.

    Attributes:
        policy: `none`, `quarantine` or `reject`, for the domain itself.
        subdomain_policy: For names below it; the same where nothing is said.
        is_dkim_strict: DKIM's `d=` must be the domain itself, not one of the same organization.
        is_spf_strict: The same for the envelope's domain.
        report_domains: Domains of the addresses that aggregate reports go to.
        is_testing: Receivers are asked not to act on it (`t=y`, or the older `pct=0`).
        psd: `y` for a public suffix, `n` for an organizational domain, `u` for not said.
        troubles: What receivers read past, but was surely not meant so.
    """

    text: str
    policy: str
    subdomain_policy: str
    is_dkim_strict: bool = False
    is_spf_strict: bool = False
    report_domains: tuple[str, ...] = ()
    is_testing: bool = False
    psd: str = "u"
    troubles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """
    What a receiver finds about a domain.

    Attributes:
        record: None where there is none that counts.
        found_at: Domain whose record it is.
        organization: The organizational domain.
        problem: Why a record does not count; or that DNS failed, when `is_failed`.
    """

    domain: str
    record: DmarcRecord | None = None
    found_at: str = ""
    organization: str = ""
    problem: str = ""
    is_failed: bool = False

    @property
    def policy(self) -> str:
        """What is asked for mail from the domain; empty without a record."""
        if self.record is None:
            return ""
        return self.record.policy if self.found_at == self.domain else self.record.subdomain_policy


def select(texts: Sequence[str]) -> list[str]:
    """Pick the DMARC records out of a name's TXT records."""
    return [text for text in texts if _VERSION.match(text)]


def parse(text: str) -> DmarcRecord:
    """
    Read one record.

    Raises:
        MalformedRecord: Receivers would act as if there were none.
    """
    if not _VERSION.match(text):
        raise MalformedRecord("it does not begin with v=DMARC1")
    tags, troubles = _tags(text)
    reports = _report_domains(tags.get("rua", ""), troubles)
    policy = tags.get("p", "").lower()
    if policy not in _POLICIES:
        if not reports:  # RFC 9989 §4.7: with somewhere to report to, it is as p=none
            raise MalformedRecord(f"p={policy} is none of none, quarantine, reject" if policy else "it has no p=")
        troubles.append(f"p={policy or '(missing)'} counts as p=none")
        policy = "none"
    below = tags.get("sp", policy).lower()
    if below not in _POLICIES:
        troubles.append(f"sp={below} is none of none, quarantine, reject")
        below = policy
    share = tags.get("pct", "100")
    if share != "100":
        troubles.append(f"pct={share[:10]}: receivers do not read it any more (RFC 9989)")
    is_dkim_strict, is_spf_strict = (_is_strict(name, tags, troubles) for name in ("adkim", "aspf"))
    return DmarcRecord(
        text=text, policy=policy, subdomain_policy=below, report_domains=reports, troubles=tuple(troubles),
        is_dkim_strict=is_dkim_strict, is_spf_strict=is_spf_strict,
        is_testing=tags.get("t", "n").lower() == "y" or share == "0", psd=tags.get("psd", "u").lower(),
    )  # fmt: skip


def _tags(text: str) -> tuple[dict[str, str], list[str]]:
    tags: dict[str, str] = {}
    troubles = []
    for part in text.split(";"):
        if not part.strip():
            continue
        found = _TAG.fullmatch(part)
        if found is None:
            troubles.append(f"{part.strip()[:40]!r} is no tag")
        elif found[1].lower() in tags:
            troubles.append(f"{found[1]}= stands in it twice")
        else:
            tags[found[1].lower()] = found[2]
    return tags, troubles


def _is_strict(name: str, tags: dict[str, str], troubles: list[str]) -> bool:
    value = tags.get(name, "r").lower()
    if value not in {"r", "s"}:
        troubles.append(f"{name}={value[:10]} is neither r nor s")
    return value == "s"


def _report_domains(text: str, troubles: list[str]) -> tuple[str, ...]:
    found = []
    for uri in filter(None, (one.strip() for one in text.split(","))):
        if address := _MAILTO.fullmatch(uri):
            found.append(address[1].lower().rstrip("."))
        else:
            troubles.append("rua= has an address that is no mailto: URI")
    return tuple(dict.fromkeys(found))


def walk_names(domain: str) -> list[str]:
    """List the domains whose records a receiver asks for: upwards, eight at most (RFC 9989 §4.10)."""
    labels = domain.split(".")
    names = [domain]
    rest = labels[1:] if len(labels) < _LONGEST_WALK else labels[-(_LONGEST_WALK - 1) :]
    while rest:
        names.append(".".join(rest))
        rest = rest[1:]
    return names


def discover(domain: str) -> Walk[Discovery]:
    """
    Find the policy for mail from a domain (RFC 9989 §4.10): its own, else its organization's, else its public suffix's.

    Args:
        domain: Lower-case A-labels.
    """
    found: dict[str, DmarcRecord] = {}
    own_problem = ""
    for name in walk_names(domain):
        texts = yield Question(f"_dmarc.{name}", "TXT")
        if texts is None:
            return Discovery(domain=domain, problem=f"DNS does not answer about _dmarc.{name}", is_failed=True)
        records = select(texts)
        problem = f"_dmarc.{name} has {len(records)} DMARC records; none of them counts" if len(records) > 1 else ""
        if len(records) == 1:
            try:
                found[name] = parse(records[0])
            except MalformedRecord as error:
                problem = f"the record at _dmarc.{name} is malformed: {error}"
        own_problem = own_problem or problem
        if name in found and (found[name].psd == "n" or (found[name].psd == "y" and name != domain)):
            break
    organization = _organization(domain, found)
    at = next((name for name in (domain, organization, *found) if name in found), "")
    return Discovery(
        domain=domain, record=found.get(at), found_at=at, organization=organization, problem=own_problem if at != domain else ""
    )  # fmt: skip


def _organization(domain: str, found: dict[str, DmarcRecord]) -> str:
    for name, record in found.items():
        if record.psd == "n":
            return name
        if record.psd == "y" and name != domain:
            below = domain.removesuffix("." + name)
            return f"{below.rpartition('.')[2]}.{name}"
    return min(found, key=lambda name: name.count("."), default=domain)


def is_aligned(domain: str, other: str, organization: str, other_organization: str, *, is_strict: bool) -> bool:
    """Tell whether a domain that SPF or DKIM vouches for speaks for the author's domain (RFC 9989 §4.4)."""
    return domain == other or (not is_strict and bool(organization) and organization == other_organization)


def allows_reports(domain: str, destination: str, organization: str) -> Walk[bool | None]:
    """Ask whether another domain takes reports about this one (RFC 9990 §4); None when DNS failed."""
    if destination in {domain, organization} or destination.endswith("." + organization):
        return True
    texts = yield Question(f"{domain}._report._dmarc.{destination}", "TXT")
    return None if texts is None else any(_VERSION.match(text) for text in texts)
