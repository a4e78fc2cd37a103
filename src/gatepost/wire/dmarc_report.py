"""
DMARC aggregate reports: what receivers saw in a domain's name.

Arrives: XML, plain or packed as zip or gzip. Leaves: an `AggregateReport`.
Standards: RFC 7489 Appendix C (schema), RFC 9990 (the same with a namespace, `testing`, `discovery_method`, `np`,
`extension`); both are read by the names of their elements, so that what either adds is skipped.
Expat reads it with DOCTYPE and entities refused, within depth, size and number (THREATS 18).
Not here: what failures mean (policy.dmarc_summary), whose report it is, keeping it.
Bugs: a report with more than 20,000 records is read to there and says so.
"""

from dataclasses import dataclass
from typing import Any, Final
from xml.parsers import expat

from gatepost.wire.unpacking import MAX_UNPACKED, Unreadable, unpack

MAX_RECORDS: Final = 20_000
_MAX_DEPTH: Final = 20
_MAX_TEXT: Final = 2_000
_MAX_ELEMENTS: Final = 1_000_000
_MAX_RESULTS: Final = 50


@dataclass(frozen=True, slots=True)
class DkimResult:
    """One signature as the receiver judged it; `result` is none, pass, fail, policy, neutral, temperror or permerror."""

    domain: str
    result: str
    selector: str = ""
    human_result: str = ""


@dataclass(frozen=True, slots=True)
class SpfResult:
    """SPF as the receiver judged it; `scope` is mfrom or helo."""

    domain: str
    result: str
    scope: str = ""
    human_result: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPolicy:
    """The policy that the receiver found; empty texts where nothing is said."""

    domain: str
    p: str = ""
    sp: str = ""
    np: str = ""
    adkim: str = ""
    aspf: str = ""
    pct: str = ""
    fo: str = ""
    is_testing: bool = False
    discovery: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRecord:
    """
    Messages of one source that were judged alike.

    Attributes:
        dkim_aligned: True when an aligned signature passed, as the receiver says.
        overrides: Why the policy was not applied, such as forwarded or mailing_list, with a comment.
    """

    source_ip: str
    count: int
    disposition: str
    dkim_aligned: bool
    spf_aligned: bool
    header_from: str
    envelope_from: str = ""
    envelope_to: str = ""
    overrides: tuple[tuple[str, str], ...] = ()
    dkim: tuple[DkimResult, ...] = ()
    spf: tuple[SpfResult, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregateReport:
    """
    One report.

    Attributes:
        begins_s: Seconds since 1970, as is `ends_s`.
        errors: What the receiver could not do.
    """

    org_name: str
    email: str
    report_id: str
    begins_s: int
    ends_s: int
    policy: PublishedPolicy
    records: tuple[ReportRecord, ...]
    version: str = ""
    contact: str = ""
    errors: tuple[str, ...] = ()
    is_complete: bool = True


def parse_aggregate_report(content: bytes, *, max_bytes: int = MAX_UNPACKED) -> AggregateReport:
    """
    Read a report, packed or not.

    Raises:
        Unreadable: It is broken, too large, has a DOCTYPE, or is no DMARC report.
    """
    xml = unpack(content, max_bytes=max_bytes)
    return _Reader().read(xml)


_RECORD = "feedback/record"
_TOP = {
    "feedback/version": "version", "feedback/report_metadata/org_name": "org_name", "feedback/report_metadata/email": "email",
    "feedback/report_metadata/extra_contact_info": "contact", "feedback/report_metadata/report_id": "report_id",
    "feedback/report_metadata/date_range/begin": "begin", "feedback/report_metadata/date_range/end": "end",
}  # fmt: skip


class _Reader:
    """Collects texts by their paths; one record at a time."""

    def __init__(self) -> None:
        self.path: list[str] = []
        self.text: list[str] = []
        self.size = 0
        self.elements = 0
        self.top: dict[str, str] = {}
        self.policy: dict[str, str] = {}
        self.errors: list[str] = []
        self.row: dict[str, str] = {}
        self.results: dict[str, list[dict[str, str]]] = {"dkim": [], "spf": [], "reason": []}
        self.records: list[ReportRecord] = []
        self.is_complete = True

    def read(self, xml: bytes) -> AggregateReport:
        parser = expat.ParserCreate()
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.StartDoctypeDeclHandler = _refuse
        parser.EntityDeclHandler = _refuse
        parser.ExternalEntityRefHandler = _refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        try:
            parser.Parse(xml.lstrip(b"\xef\xbb\xbf \t\r\n"), True)
        except (expat.ExpatError, ValueError, LookupError) as error:
            raise error if isinstance(error, Unreadable) else Unreadable(f"not well-formed: {error}") from error
        return self._report()

    def _start(self, name: str, _attributes: dict[str, str]) -> None:
        self.elements += 1
        if len(self.path) >= _MAX_DEPTH or self.elements > _MAX_ELEMENTS:
            raise Unreadable("the report is nested too deep, or too long")
        self.path.append(name.rpartition(":")[2].lower()[:60])
        if len(self.path) == 1 and self.path[0] != "feedback":
            raise Unreadable("not a DMARC aggregate report")
        self.text, self.size = [], 0
        where = "/".join(self.path[2:])
        if where in {"auth_results/dkim", "auth_results/spf", "row/policy_evaluated/reason"} and self.path[1] == "record":
            found = self.results[self.path[-1]]
            if len(found) < _MAX_RESULTS:
                found.append({})

    def _characters(self, text: str) -> None:
        if self.size < _MAX_TEXT:
            self.text.append(text[: _MAX_TEXT - self.size])
            self.size += len(text)

    def _end(self, _name: str) -> None:
        path, value = "/".join(self.path), "".join(self.text).strip()
        if path in _TOP:
            self.top.setdefault(_TOP[path], value)
        elif path == "feedback/report_metadata/error" and len(self.errors) < _MAX_RESULTS:
            self.errors.append(value)
        elif len(self.path) == 3 and self.path[1] == "policy_published":
            self.policy.setdefault(self.path[2], value)
        elif path == _RECORD:
            self._close_record()
        elif len(self.path) > 2 and self.path[1] == "record":
            self._in_record(value)
        self.path.pop()
        self.text, self.size = [], 0

    def _in_record(self, value: str) -> None:
        where = self.path[2:]
        for group in ("dkim", "spf", "reason"):
            if len(where) > 1 and where[-2] == group and where[0] in {"auth_results", "row"} and self.results[group]:
                self.results[group][-1].setdefault(where[-1], value)
                return
        self.row.setdefault("/".join(where), value)

    def _close_record(self) -> None:
        if len(self.records) < MAX_RECORDS:
            self.records.append(_record(self.row, self.results))
        else:
            self.is_complete = False
        self.row, self.results = {}, {"dkim": [], "spf": [], "reason": []}

    def _report(self) -> AggregateReport:
        if not self.policy.get("domain") and not self.records:
            raise Unreadable("the report names no domain and has no record")
        known = self.policy.get
        return AggregateReport(
            org_name=self.top.get("org_name", ""),
            email=self.top.get("email", ""),
            report_id=self.top.get("report_id", ""),
            begins_s=_number(self.top.get("begin", "")),
            ends_s=_number(self.top.get("end", "")),
            version=self.top.get("version", ""),
            contact=self.top.get("contact", ""),
            errors=tuple(self.errors),
            policy=PublishedPolicy(
                domain=known("domain", "").lower().rstrip("."),
                p=known("p", ""),
                sp=known("sp", ""),
                np=known("np", ""),
                adkim=known("adkim", ""),
                aspf=known("aspf", ""),
                pct=known("pct", ""),
                fo=known("fo", ""),
                is_testing=known("testing", "").lower() in {"y", "yes", "true"},
                discovery=known("discovery_method", ""),
            ),
            records=tuple(self.records),
            is_complete=self.is_complete,
        )


def _refuse(*_arguments: Any) -> int:
    raise Unreadable("the report has a DOCTYPE or an entity")


def _record(row: dict[str, str], results: dict[str, list[dict[str, str]]]) -> ReportRecord:
    return ReportRecord(
        source_ip=row.get("row/source_ip", "")[:45],
        count=_number(row.get("row/count", "")),
        disposition=row.get("row/policy_evaluated/disposition", "").lower(),
        dkim_aligned=row.get("row/policy_evaluated/dkim", "").lower() == "pass",
        spf_aligned=row.get("row/policy_evaluated/spf", "").lower() == "pass",
        header_from=row.get("identifiers/header_from", "").lower().rstrip("."),
        envelope_from=row.get("identifiers/envelope_from", "").lower().rstrip("."),
        envelope_to=row.get("identifiers/envelope_to", "").lower().rstrip("."),
        overrides=tuple((one.get("type", "").lower(), one.get("comment", "")) for one in results["reason"]),
        dkim=tuple(
            DkimResult(one.get("domain", "").lower(), one.get("result", "").lower(), one.get("selector", ""), one.get("human_result", ""))
            for one in results["dkim"]
        ),
        spf=tuple(
            SpfResult(
                one.get("domain", "").lower(), one.get("result", "").lower(), one.get("scope", "").lower(), one.get("human_result", "")
            )
            for one in results["spf"]
        ),
    )


def _number(text: str) -> int:
    digits = text.partition(".")[0].strip()
    return min(int(digits), 10**12) if digits.isascii() and digits.isdigit() and len(digits) <= 15 else 0
