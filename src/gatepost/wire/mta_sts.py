"""
MTA-STS: the record that says that a domain has a policy, and the policy itself.

Arrives: TXT records, the body of `https://mta-sts.DOMAIN/.well-known/mta-sts.txt`. Leaves: `Policy`, or why there is none.
Standards: RFC 8461 §3.1 (record), §3.2 (policy), §4.1 (which hosts it allows).
Not here: asking for them (net.mta_sts_fetch), keeping them (store.tls_policies), what they mean for a delivery (egress.smtp.tls_policy).
Bugs: none known.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gatepost.clock import Instant

MAX_POLICY_BYTES: Final = 64 * 1024
MAX_AGE_S: Final = 31_557_600
"""A year: the longest that a policy may be kept (RFC 8461 §3.2)."""
_MAX_HOSTS: Final = 500

_VERSION = re.compile(r"v=STSv1[ \t]*;[ \t]*")
_RECORD_FIELD = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,31})=([!-:<>-~]+)")
_ID = re.compile(r"[A-Za-z0-9]{1,32}")
_POLICY_FIELD = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,31})[ \t]*:[ \t]*([^\x00-\x20\x7f](?:[^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?)[ \t]*")
_HOST = re.compile(r"(?=.{1,255}\Z)(?:\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_AGE = re.compile(r"[0-9]{1,10}")


class Mode(StrEnum):
    """What a sender does with a host that fails the policy."""

    ENFORCE = "enforce"
    TESTING = "testing"
    NONE = "none"


class InvalidPolicy(Exception):  # noqa: N818
    """What was fetched is no policy; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """
    What a domain demands of those who send to it.

    Attributes:
        hosts: Names of its mail hosts, lower case; one may begin with `*.`.
        max_age_s: How long it holds after it was fetched.
    """

    mode: Mode
    hosts: tuple[str, ...]
    max_age_s: int

    def allows(self, host: str) -> bool:
        """Tell whether a mail host is one of the policy's; `*.` stands for one label (RFC 8461 §4.1)."""
        host = host.rstrip(".").lower()
        behind_first = "*." + host.partition(".")[2]
        return host in self.hosts or ("." in host and behind_first in self.hosts)


def find_record(texts: Sequence[str]) -> str | None:
    """
    Find the id of a domain's policy among the TXT records of `_mta-sts.DOMAIN`.

    None where there is not exactly one valid record: then the domain has no policy (RFC 8461 §3.1).
    """
    records = [text for text in texts if _VERSION.match(text)]
    return _read_record(records[0]) if len(records) == 1 else None


def _read_record(text: str) -> str | None:
    version = _VERSION.match(text)
    rest = text[version.end() :] if version else ""
    parts = re.split(r"[ \t]*;[ \t]*", rest)
    if parts[-1] == "":
        parts.pop()
    found: str | None = None
    for part in parts:
        field = _RECORD_FIELD.fullmatch(part)
        if field is None:
            return None
        if field[1] == "id":
            if found is not None or not _ID.fullmatch(field[2]):
                return None
            found = field[2]
    return found


def parse_policy(body: bytes) -> Policy:
    """
    Read a policy (RFC 8461 §3.2). Of a field that is there twice the first counts, but `mx`; unknown ones are ignored.

    Raises:
        InvalidPolicy: It is none.
    """
    if len(body) > MAX_POLICY_BYTES:
        raise InvalidPolicy(f"it has more than {MAX_POLICY_BYTES} bytes")
    try:
        lines = body.decode("utf-8").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError:
        raise InvalidPolicy("it is no UTF-8 text") from None
    while lines and not lines[-1].strip(" \t"):
        lines.pop()
    fields: dict[str, str] = {}
    hosts: list[str] = []
    for number, line in enumerate(lines, 1):
        field = _POLICY_FIELD.fullmatch(line)
        if field is None:
            raise InvalidPolicy(f"line {number} is not `name: value`")
        if field[1] == "mx":
            hosts.append(_host(field[2], number))
        else:
            fields.setdefault(field[1], field[2])
    return _policy(fields, tuple(dict.fromkeys(hosts)))


def _host(text: str, number: int) -> str:
    host = text.rstrip(".").lower()
    if not _HOST.fullmatch(host):
        raise InvalidPolicy(f"line {number}: mx is no host name")
    return host


def _policy(fields: dict[str, str], hosts: tuple[str, ...]) -> Policy:
    if fields.get("version") != "STSv1":
        raise InvalidPolicy("its version is not STSv1")
    if fields.get("mode") not in set(Mode):
        raise InvalidPolicy("its mode is none of enforce, testing, none")
    if not _AGE.fullmatch(fields.get("max_age", "")):
        raise InvalidPolicy("max_age is no number of seconds")
    mode = Mode(fields["mode"])
    if not hosts and mode is not Mode.NONE:
        raise InvalidPolicy("it names no mx")
    if len(hosts) > _MAX_HOSTS:
        raise InvalidPolicy(f"it names more than {_MAX_HOSTS} mx")
    return Policy(mode=mode, hosts=hosts, max_age_s=min(int(fields["max_age"]), MAX_AGE_S))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPolicy:
    """
    A policy as it is kept after it was fetched.

    Attributes:
        record_id: The id of the record that it was fetched for.
    """

    domain: str
    record_id: str
    policy: Policy
    fetched_at: Instant

    @property
    def expires_at(self) -> Instant:
        """When it holds no longer, unless it is fetched again."""
        return self.fetched_at + self.policy.max_age_s * 1000
