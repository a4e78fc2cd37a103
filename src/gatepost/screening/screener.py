"""
What accept asks about every message: the rules, in the order of what they cost, and what comes of their findings.

Arrives: who asks, the composed message, and its fields where it came as fields.
Leaves: what its sender is warned of; or a refusal with every place. The same rules and codes at every door.
Order: addresses and variables, files and HTML, then DNS and the scanners at once. What is refused by an early rule costs
no question to anybody.
A message without attachments is not parsed; HTML is parsed only for the rules links and html, and never changed.
Not here: the rules (policy), reading MIME (mime.files).
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from gatepost.clock import Clock
from gatepost.domain.errors import Fault, Refused
from gatepost.domain.message import Draft, Submission
from gatepost.domain.route import SANDBOX
from gatepost.domain.screening import ABOUT_FILES, ABOUT_RECIPIENTS, Finding, Policy, Strictness, policy_of
from gatepost.domain.tenant import Caller
from gatepost.mime.files import files_of, html_of
from gatepost.net.dns import Resolver
from gatepost.observe import metrics
from gatepost.policy import active, alignment, attachments, links, values
from gatepost.policy.alignment import Standing
from gatepost.policy.attachments import File
from gatepost.policy.recipients import disposable_domains
from gatepost.policy.typos import parse_list
from gatepost.screening import recipients
from gatepost.screening.recipients import DomainCheck, Place
from gatepost.screening.scanners import CERTAIN, UNSCANNED, Scanners
from gatepost.settings import Screening as ScreeningSettings
from gatepost.settings import Settings
from gatepost.tenants.policies import defaults_of

_RAW_PLACE = "Content-Disposition"
_MAX_HTML = 4_000_000


class PolicySource(Protocol):
    """Knows what tenants changed of the gateway's policy."""

    def policy(self, tenant_id: str) -> Mapping[str, str]:
        """Return a tenant's own values; the same object until they change."""
        ...


class StandingSource(Protocol):
    """Knows the domains whose signatures receivers cannot verify."""

    def find(self, tenant_id: str, domain: str) -> Standing | None:
        """Return what speaks for such a domain; None for every other."""
        ...


class Screener:
    """The rules, ready to be asked."""

    def __init__(
        self, *, settings: Settings, policies: PolicySource, resolver: Resolver, clock: Clock, standings: StandingSource | None = None
    ) -> None:
        """
        Read the lists; ask nothing yet.

        Raises:
            ValueError: A scanner's address or a file of `screening.disposable_files` cannot be used; the text names the option.
        """
        screening = settings.screening
        self._limits = settings.limits
        self._policies = policies
        self._standings = standings if settings.egress.default_route != SANDBOX else None  # what never leaves needs no proof
        self._defaults = defaults_of(screening)
        self._default_policy = policy_of(self._defaults)
        self._built: dict[str, tuple[Mapping[str, str], Policy]] = {}
        self._blocked = attachments.endings(tuple(screening.blocked_extensions))
        self._disposable = _disposable(screening)
        self._domains = DomainCheck(resolver, timeout_s=screening.dns_timeout_s, concurrency=screening.dns_concurrency)
        self._scanners = Scanners(settings.scanning, clock)

    async def check(self, caller: Caller, draft: Draft, submission: Submission | None = None) -> Sequence[Fault]:
        """
        Look at a composed message.

        Args:
            submission: The fields that it was composed of; None where it came as finished MIME.

        Returns:
            What its sender is warned of.

        Raises:
            Refused: validation_failed for recipients, content_refused for contents, with the places; scanner_unavailable.
        """
        policy = self._policy(caller.tenant_id)
        places = recipients.places_of(draft, submission)
        found = recipients.examine(places, policy, self._disposable)
        found += self._of_variables(submission, policy)
        found += self._of_files(draft, submission, policy)
        found += self._of_html(draft, submission, policy)
        found += self._of_alignment(caller, draft, submission, policy)
        warnings = _settle(found, policy) if found else []
        asks_dns = policy.recipient_domains is not Strictness.OFF
        if asks_dns or self._scanners.wants(caller, draft):
            warnings += _settle(await self._ask(caller, draft, places, asks_dns=asks_dns), policy)
        return _unique(warnings) if warnings else warnings

    def _policy(self, tenant_id: str) -> Policy:
        own = self._policies.policy(tenant_id)
        if not own:
            return self._default_policy
        built = self._built.get(tenant_id)
        if built is None or built[0] is not own:
            built = self._built[tenant_id] = (own, policy_of({**self._defaults, **own}))
        return built[1]

    def _of_variables(self, submission: Submission | None, policy: Policy) -> list[Finding]:
        if submission is None or not submission.variables or not policy.wants("variables_links", "variables_markup"):
            return []
        return values.examine(submission.variables)

    def _of_files(self, draft: Draft, submission: Submission | None, policy: Policy) -> list[Finding]:
        if submission is not None and not submission.attachments:
            return []
        if not policy.wants(*ABOUT_FILES):
            return []
        if submission is not None:
            files = [
                File(
                    place=f"/attachments/{n}",
                    names=(one.filename,) if one.filename else (),
                    content_type=one.content_type,
                    content=one.content,
                )
                for n, one in enumerate(submission.attachments)
            ]
            return [finding for file in files for finding in attachments.examine(file, self._blocked)]
        carried = files_of(draft.content, self._limits)
        files = [File(place=_RAW_PLACE, names=one.names, content_type=one.content_type, content=one.content) for one in carried.attached]
        found = [finding for file in files for finding in attachments.examine(file, self._blocked)]
        return [*(Finding("attachments", fault) for fault in carried.faults), *found]

    def _of_html(self, draft: Draft, submission: Submission | None, policy: Policy) -> list[Finding]:
        if not policy.wants("links", "html"):
            return []
        place = "/html" if submission is not None else "Content-Type"
        return [finding for html in self._html(draft, submission) for finding in _of_html(html[:_MAX_HTML], place, policy)]

    def _of_alignment(self, caller: Caller, draft: Draft, submission: Submission | None, policy: Policy) -> list[Finding]:
        if self._standings is None or caller.is_test or policy.alignment is Strictness.OFF:
            return []
        standing = self._standings.find(caller.tenant_id, draft.header_from.address.domain)
        if standing is None:
            return []
        told = alignment.trouble(standing, draft.envelope_from.domain if draft.envelope_from is not None else "")
        return [Finding("alignment", Fault("/from" if submission is not None else "From", "dmarc_unaligned", told))] if told else []

    def _html(self, draft: Draft, submission: Submission | None) -> list[str]:
        if submission is None:
            return html_of(draft.content, self._limits)
        return [submission.html] if submission.html else []

    async def _ask(self, caller: Caller, draft: Draft, places: Sequence[Place], *, asks_dns: bool) -> list[Finding]:
        questions = []
        if asks_dns:
            questions.append(self._domains.examine(places))
        if self._scanners.wants(caller, draft):
            questions.append(self._scanners.examine(caller, draft))
        answers = await asyncio.gather(*questions)
        return [finding for answer in answers for finding in answer]


def _of_html(html: str, place: str, policy: Policy) -> Iterator[Finding]:
    if policy.links is not Strictness.OFF:
        for code, detail in links.troubles(html):
            yield Finding("links", Fault(place, code, detail))
    if policy.html is not Strictness.OFF and active.is_active(html):
        yield Finding("html", Fault(place, "active_html", "the HTML has scripts, event handlers, forms or pages within the page"))


def _settle(found: Sequence[Finding], policy: Policy) -> list[Fault]:
    """
    Divide findings into warnings and refusals.

    Raises:
        Refused: There are refusals; it names all of them.
    """
    warnings: list[Fault] = []
    refused: list[Finding] = []
    for finding in found:
        strictness = _strictness(finding.rule, policy)
        if strictness is Strictness.OFF:
            continue
        metrics.screened.labels(finding.rule, strictness.value).inc()
        if strictness is Strictness.WARN:
            warnings.append(finding.fault)
        else:
            refused.append(finding)
    if not refused:
        return warnings
    faults = tuple(_unique([finding.fault for finding in refused]))
    if all(finding.rule in ABOUT_RECIPIENTS for finding in refused):
        raise Refused("validation_failed", "recipients are refused: see errors", faults)
    raise Refused(
        "content_refused", faults[0].detail if len(faults) == 1 else f"{len(faults)} things in the content are not allowed", faults
    )


def _strictness(rule: str, policy: Policy) -> Strictness:
    if rule == CERTAIN:
        return Strictness.REFUSE
    return Strictness.WARN if rule == UNSCANNED else getattr(policy, rule)


def _unique(faults: Sequence[Fault]) -> list[Fault]:
    return list(dict.fromkeys(faults))


def _disposable(settings: ScreeningSettings) -> frozenset[str]:
    found = disposable_domains()
    for name in settings.disposable_files:
        try:
            found |= parse_list(Path(name).read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"screening.disposable_files: {name}: {error}") from error
    return found
