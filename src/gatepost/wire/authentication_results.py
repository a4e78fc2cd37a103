"""
Authentication-Results: what a receiving system found of SPF, DKIM and DMARC.

Arrives: the header of a mail as it lies in a mailbox. Leaves: the verdicts of the system that took it, or nothing.
Believed is one service only: the one that is named, or that of the topmost field, which the last system wrote; and of it only what stands
before the next system's Received, since everything below came from outside and may be forged (RFC 8601 §5, §7.1).
Standards: RFC 8601 §2.2 (grammar), §2.7 (results), RFC 5322 §3.2.2 (comments).
Not here: checking anything ourselves (wire.spf, wire.dkim_verify, wire.dmarc).
Bugs: `Received` fields that a filter puts above its own results end the search early.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

_MOST_FIELDS: Final = 200
_MOST_RESULTS: Final = 60
_MOST_BYTES: Final = 256 * 1024
_MOST_FIELD: Final = 16_000
_MOST_DEPTH: Final = 20
_TOKEN: Final = re.compile(r'[^\s()";=<>@,:\\\[\]?]+(?:[/.][^\s()";=<>@,:\\\[\]?]+)*')
_NAME: Final = re.compile(rb"([!-9;-~]{1,200})[ \t]*:")
RESULTS: Final = frozenset({"none", "pass", "fail", "softfail", "neutral", "policy", "temperror", "permerror"})
"""RFC 8601 §2.7.1 to §2.7.4; other words are `unknown`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodResult:
    """
    One method's result.

    Attributes:
        method: Lower-case, such as `dkim`.
        result: Lower-case, one of `RESULTS`, or `unknown`.
        properties: Such as `header.d`, in lower case.
    """

    method: str
    result: str
    reason: str = ""
    properties: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticationResults:
    """What one service says."""

    authserv_id: str
    results: tuple[MethodResult, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """
    What the receiving system found; None where it says nothing of a method.

    Attributes:
        authserv_id: Who says so.
    """

    authserv_id: str
    spf: str | None = None
    dkim: str | None = None
    dmarc: str | None = None


def read_verdicts(header: bytes, authserv_id: str = "") -> Verdicts | None:
    """
    Find what the system that took a mail says of it; None where it says nothing. Never raises.

    Args:
        header: The mail's header, and whatever follows it.
        authserv_id: The service that is believed; empty believes that of the topmost field.
    """
    believed, said = authserv_id.lower(), list[MethodResult]()
    is_found = False
    for name, value in _fields(header[:_MOST_BYTES]):
        if name == "received" and is_found:
            break
        if name != "authentication-results":
            continue
        found = parse_authentication_results(value)
        if found is None:
            continue
        believed = believed or found.authserv_id
        if found.authserv_id == believed:
            is_found = True
            said += found.results
    if not is_found:
        return None
    return Verdicts(authserv_id=believed[:255], spf=_best(said, "spf"), dkim=_best(said, "dkim"), dmarc=_best(said, "dmarc"))


def _best(said: Sequence[MethodResult], method: str) -> str | None:
    """Of several signatures one that is good is enough (RFC 6376 §6.1); else the first counts."""
    found = [one.result for one in said if one.method == method]
    return "pass" if "pass" in found else found[0] if found else None


def parse_authentication_results(value: str) -> AuthenticationResults | None:
    """Read the value of one field; None where it has no service's name. What cannot be read is left out."""
    parts = list(_split(value[:_MOST_FIELD]))
    head = _TOKEN.match(_unquoted(parts[0].strip())) if parts else None
    if head is None:
        return None
    results = [found for part in parts[1 : _MOST_RESULTS + 1] if (found := _method(part)) is not None]
    return AuthenticationResults(authserv_id=head[0].lower(), results=tuple(results))


def _fields(header: bytes) -> Iterator[tuple[str, str]]:
    """Give the fields from the top, unfolded; the first empty line ends them."""
    name, pieces, count = "", list[bytes](), 0
    for line in header.replace(b"\r\n", b"\n").split(b"\n"):
        if line[:1] in {b" ", b"\t"} and line.strip():
            pieces.append(line)
            continue
        if name:
            yield name, b" ".join(pieces).decode("utf-8", "replace")
        found = _NAME.match(line)
        count += 1
        if found is None or count > _MOST_FIELDS:
            return
        name, pieces = found[1].decode("latin-1").lower(), [line[found.end() :]]
    if name:
        yield name, b" ".join(pieces).decode("utf-8", "replace")


def _split(value: str) -> Iterator[str]:
    """Split at the semicolons outside of quoted strings; comments are left out."""
    out, depth, is_quoted, is_escaped = list[str](), 0, False, False
    for c in value:
        if is_escaped:
            is_escaped = False
            if not depth:
                out.append(c)
        elif c == "\\" and (is_quoted or depth):
            is_escaped = True
            if not depth:
                out.append(c)
        elif is_quoted:
            is_quoted = c != '"'
            out.append(c)
        elif c == "(" and depth < _MOST_DEPTH:
            depth += 1
        elif c == ")" and depth:
            depth -= 1
            out.append(" ")
        elif depth:
            continue
        elif c == ";":
            yield "".join(out)
            out = []
        else:
            is_quoted = c == '"'
            out.append(c)
    yield "".join(out)


_PAIR: Final = re.compile(r'([A-Za-z0-9_.-]+(?:\s*/\s*\d+)?)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;"]+)')


def _method(part: str) -> MethodResult | None:
    pairs = [(_plain(name), _unquoted(value)) for name, value in _PAIR.findall(part)[:40]]
    if not pairs:
        return None
    (method, result), rest = pairs[0], pairs[1:]
    properties = {name: value[:300] for name, value in rest if "." in name}
    reason = next((value for name, value in rest if name == "reason"), "")
    word = result.lower()
    return MethodResult(method=method, result=word if word in RESULTS else "unknown", reason=reason[:300], properties=properties)


def _plain(name: str) -> str:
    """Leave a method's version out: `dkim/1` is dkim."""
    return name.partition("/")[0].strip().lower()


def _unquoted(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text
