"""
The mail log: one typed call per business event, one JSON line each on standard error.

Never here: content, secrets, subjects, whole addresses (masked unless the operator asks for them). Control characters
cannot break a line, since every value is written as JSON, in ASCII.
"""

import asyncio
import contextlib
import json
import logging
import sys
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from gatepost.domain.masking import masked_text

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_is_masked = True
_least = logging.WARNING
_is_info = False
_process = ""

_ONE_WRITE: Final = 4_096
"""Bytes that a pipe takes whole (POSIX, PIPE_BUF on Linux): lines of other processes do not come between them."""

_encode: Final = json.JSONEncoder(default=str).encode
"""Made once: json.dumps makes one for each line."""
_encode_fast: Final = msgspec.json.Encoder().encode

_waiting: list[str] = []
"""Lines of this process's event loop that are written together, at the end of its round."""
_waiting_on: asyncio.AbstractEventLoop | None = None


def configure(*, level: str, mask_addresses: bool, process: str) -> None:
    """
    Set the log up for this process.

    Args:
        process: `door`, `dispatch`, `supervisor` or a command's name; stands in every line.
    """
    global _least, _is_masked, _is_info, _process  # noqa: PLW0603 - one log per process
    _is_masked = mask_addresses
    _least = _LEVELS[level]
    _is_info = _least <= logging.INFO
    _process = process


def _stamp(line: dict[str, Any]) -> dict[str, Any]:
    now = time.time()  # a log line's own time; nothing is decided by it
    line["at"] = f"{_second(int(now))}.{int(now * 1000) % 1000:03d}Z"
    return line


@lru_cache(maxsize=1)
def _second(now_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_s))


def mask(address: str) -> str:
    """Shorten an address to its first letter and its domain, unless whole addresses are asked for."""
    if not _is_masked:
        return address
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}***@{domain}"


def _tidy(fields: dict[str, Any]) -> dict[str, Any]:
    """Cut what is long, and take out what has the form of a secret: texts of others can stand in these lines."""
    return {name: masked_text(value, is_address_masked=_is_masked) if isinstance(value, str) else value for name, value in fields.items()}


def _write(event: str, fields: dict[str, Any], level: str = "info") -> None:
    """Write a line; a log that cannot be written must not stop the mail."""
    if _LEVELS[level] < _least:
        return
    _put_soon(_line(event, fields, level))
    _flush_here()


def _line(event: str, fields: dict[str, Any], level: str) -> str:
    line = _stamp({"process": _process, **fields, "event": event, "level": level})
    try:
        written = _encode_fast(line)
    except (TypeError, ValueError):  # a value of some other kind, or text that is no Unicode
        return _encode(line)
    return msgspec.json.format(written, indent=0).decode() if written.isascii() else _encode(line)


def _put_soon(line: str) -> None:
    """Write a line at the end of this round of the event loop, with all others of the round; at once where no loop runs."""
    global _waiting_on  # noqa: PLW0603 - one log per process
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        _put([line])
        return
    if loop is not _waiting_on:
        _waiting_on = loop
        loop.call_soon(_flush)
    _waiting.append(line)


def _flush_here() -> None:
    """Write at once what this thread's loop has to say: what is told here comes before what it leads to."""
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop()
        _flush()


def _flush() -> None:
    """Write what waits, each time as many lines as a pipe takes whole."""
    global _waiting_on  # noqa: PLW0603 - one log per process
    _waiting_on = None
    lines, _waiting[:] = _waiting[:], []
    together: list[str] = []
    size = 0
    for line in lines:
        size += len(line) + 1
        if size > _ONE_WRITE and together:
            _put(together)
            together, size = [], len(line) + 1
        together.append(line)
    if together:
        _put(together)


def _put(lines: Sequence[str]) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write("\n".join(lines) + "\n")
        sys.stderr.flush()


def accepted(**fields: Any) -> None:
    """A message is stored and its sender is told so; of many in one round of the loop the lines are written together."""
    if _is_info:
        _put_soon(_line("accepted", fields, "info"))


def replayed(**fields: Any) -> None:
    """A request was repeated with its idempotency key and got its old answer."""
    if _is_info:
        _write("replayed", fields)


def refused(**fields: Any) -> None:
    """A door refused a request; `code` is the one its sender got."""
    _write("refused", _tidy(fields))


def attempted(attempts: Sequence[dict[str, Any]]) -> None:
    """Delivery attempts ended, each for one recipient: a line for each, with few calls of the system."""
    if _is_info:
        for fields in attempts:
            _put_soon(_line("attempted", {**fields, "address": mask(fields["address"])}, "info"))
        _flush_here()


def failed_over(**fields: Any) -> None:
    """Mail leaves a road that fails, or takes nothing, for another one of its route."""
    if _is_info:
        _write("failed_over", fields)


def notified(**fields: Any) -> None:
    """A bounce message to a sender is in the queue."""
    if _is_info:
        _write("notified", fields)


def reported(*, address: str, **fields: Any) -> None:
    """A report came back about a recipient, and was acted on."""
    if _is_info:
        _write("reported", {"address": mask(address), **_tidy(fields)})


def engaged(**fields: Any) -> None:
    """A recipient opened a tracked message, followed a link or unsubscribed; or a machine did."""
    if _is_info:
        _write("engaged", _tidy(fields))


def returned(**fields: Any) -> None:
    """Something came back that nothing follows from: an automatic answer, a report about nobody we know."""
    if _is_info:
        _write("returned", _tidy(fields))


def placed(**fields: Any) -> None:
    """A placement test found where its mail to a seed landed, or that nobody can tell."""
    if _is_info:
        _write("placed", _tidy(fields))


def suppressed(*, address: str, **fields: Any) -> None:
    """An address is on its tenant's suppression list now, because of what came back."""
    if _is_info:
        _write("suppressed", {"address": mask(address), **fields})


def blocked(**fields: Any) -> None:
    """Another system refuses our mail for our own sake: what we send, or from where, has to be looked at."""
    _write("blocked", _tidy(fields), "warning")


def unusual(what: str, **fields: Any) -> None:
    """A rate left its own history (`found`), or came back (`over`)."""
    _write("unusual", {"what": what, **_tidy(fields)}, "warning")


def changed(what: str, **fields: Any) -> None:
    """Somebody changed a key, a domain, a suppression, a site or a message."""
    _write("changed", {"what": what, **_tidy(fields)})


SECURITY_EVENTS: Final = {
    "key_refused": "a key or token is unknown, revoked, ended, comes from a network that it may not, or its tenant is suspended",
    "hook_refused": "a relay's hook was called by somebody who could not show that they are the provider",
    "client_refused": "an OAuth client could not prove itself, or asked for what it may not have",
    "assertion_refused": "a client's signed assertion is not valid, or was used before",
    "scope_refused": "a key, client or person asked for something outside of its scopes",
    "other_tenant_asked_for": "somebody asked for an object of another tenant by its id, and heard that there is none",
    "limit_reached": "a limit or a quota is used up",
    "recipient_cap_reached": "one person would get more mail in an hour than the cap, from all tenants together",
    "connection_refused": "a connection was refused before its first command",
    "tls_failed": "a TLS handshake failed",
    "sign_in_failed": "address and password do not belong together",
    "second_factor_failed": "a one-time code is wrong, or was used before",
    "passkey_refused": "a passkey's answer is not valid",
    "password_refused": "a signed-in person gave a wrong password where it was asked for again",
    "sign_in_paused": "too many failures: the next try has to wait",
    "oidc_refused": "a sign-in by the OpenID provider was refused",
    "oidc_token_refused": "the OpenID provider's statement is not valid",
    "page_login_refused": "a key may not open the pages",
    "page_refused": "a person asked for a page outside of their role",
}
"""What an attacker would cause, by the `what` of its line."""


def security(what: str, **fields: Any) -> None:
    """Something that an attacker would cause; `what` is one of `SECURITY_EVENTS`."""
    _write("security", {"what": what, **_tidy(fields)}, "warning")


def lifecycle(what: str, **fields: Any) -> None:
    """A process started, stopped, took or lost shards."""
    _write("lifecycle", {"what": what, **_tidy(fields)})


def trouble(what: str, **fields: Any) -> None:
    """Something of ours does not work as it should; mail is safe."""
    _write("trouble", {"what": what, **_tidy(fields)}, "warning")


def crashed(what: str, error: BaseException, **fields: Any) -> None:
    """A fault in our own code was caught; the trace names places, not values."""
    trace = []
    place = error.__traceback__
    while place is not None:
        code = place.tb_frame.f_code
        trace.append(f"{code.co_filename.rpartition('gatepost/')[2]}:{place.tb_lineno} {code.co_name}")
        place = place.tb_next
    _write("crashed", {"what": what, "error": type(error).__name__, "trace": trace[-12:], **fields}, "error")
