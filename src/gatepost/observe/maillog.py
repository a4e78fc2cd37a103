"""
The mail log: one typed call per business event, one JSON line each on standard error.

Never here: content, secrets, subjects, whole addresses (masked unless the operator asks for them). Control characters
cannot break a line, since every value is written as JSON, in ASCII.
"""

import contextlib
import json
import logging
import sys
import time
from functools import lru_cache
from typing import Any, Final

import structlog

from gatepost.domain.masking import masked_text

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class _StandardError:
    """Writes finished lines; a log that cannot be written must not stop the mail."""

    def msg(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    debug = info = warning = error = msg


_OUT: Final = _StandardError()
_log: Any = structlog.wrap_logger(_OUT, wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
_is_masked = True
_is_info = False
_process = ""


def configure(*, level: str, mask_addresses: bool, process: str) -> None:
    """
    Set the log up for this process.

    Args:
        process: `door`, `dispatch`, `supervisor` or a command's name; stands in every line.
    """
    global _log, _is_masked, _is_info, _process  # noqa: PLW0603 - one log per process
    _is_masked = mask_addresses
    _is_info = _LEVELS[level] <= logging.INFO
    _process = process
    _log = structlog.wrap_logger(
        _OUT,
        processors=[structlog.processors.add_log_level, _stamp, structlog.processors.JSONRenderer(serializer=_as_json)],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        cache_logger_on_first_use=True,
    ).bind(process=process)


_encode = json.JSONEncoder(default=str).encode
"""Made once: json.dumps makes one for each line."""


def _as_json(line: Any, **_options: Any) -> str:
    return _encode(line)


def _stamp(_logger: Any, _name: str, line: Any) -> Any:
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


def _write(event: str, fields: dict[str, Any]) -> None:
    """Write a line of those that come with every message, as the log would, at two thirds of its cost."""
    line = _stamp(None, event, {"process": _process, **fields, "event": event, "level": "info"})
    _OUT.msg(_encode(line))


def accepted(**fields: Any) -> None:
    """A message is stored and its sender was told so."""
    if _is_info:
        _write("accepted", fields)


def replayed(**fields: Any) -> None:
    """A request was repeated with its idempotency key and got its old answer."""
    if _is_info:
        _log.info("replayed", **fields)


def refused(**fields: Any) -> None:
    """A door refused a request; `code` is the one its sender got."""
    _log.info("refused", **_tidy(fields))


def attempted(*, address: str, **fields: Any) -> None:
    """A delivery attempt ended, for one recipient."""
    if _is_info:
        _write("attempted", {"address": mask(address), **fields})


def failed_over(**fields: Any) -> None:
    """Mail leaves a road that fails, or takes nothing, for another one of its route."""
    if _is_info:
        _log.info("failed_over", **fields)


def notified(**fields: Any) -> None:
    """A bounce message to a sender is in the queue."""
    if _is_info:
        _log.info("notified", **fields)


def reported(*, address: str, **fields: Any) -> None:
    """A report came back about a recipient, and was acted on."""
    if _is_info:
        _log.info("reported", address=mask(address), **_tidy(fields))


def engaged(**fields: Any) -> None:
    """A recipient opened a tracked message, followed a link or unsubscribed; or a machine did."""
    if _is_info:
        _log.info("engaged", **_tidy(fields))


def returned(**fields: Any) -> None:
    """Something came back that nothing follows from: an automatic answer, a report about nobody we know."""
    if _is_info:
        _log.info("returned", **_tidy(fields))


def placed(**fields: Any) -> None:
    """A placement test found where its mail to a seed landed, or that nobody can tell."""
    if _is_info:
        _log.info("placed", **_tidy(fields))


def suppressed(*, address: str, **fields: Any) -> None:
    """An address is on its tenant's suppression list now, because of what came back."""
    if _is_info:
        _log.info("suppressed", address=mask(address), **fields)


def blocked(**fields: Any) -> None:
    """Another system refuses our mail for our own sake: what we send, or from where, has to be looked at."""
    _log.warning("blocked", **_tidy(fields))


def unusual(what: str, **fields: Any) -> None:
    """A rate left its own history (`found`), or came back (`over`)."""
    _log.warning("unusual", what=what, **_tidy(fields))


def changed(what: str, **fields: Any) -> None:
    """Somebody changed a key, a domain, a suppression, a site or a message."""
    _log.info("changed", what=what, **_tidy(fields))


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
    _log.warning("security", what=what, **_tidy(fields))


def lifecycle(what: str, **fields: Any) -> None:
    """A process started, stopped, took or lost shards."""
    _log.info("lifecycle", what=what, **_tidy(fields))


def trouble(what: str, **fields: Any) -> None:
    """Something of ours does not work as it should; mail is safe."""
    _log.warning("trouble", what=what, **_tidy(fields))


def crashed(what: str, error: BaseException, **fields: Any) -> None:
    """A fault in our own code was caught; the trace names places, not values."""
    trace = []
    place = error.__traceback__
    while place is not None:
        code = place.tb_frame.f_code
        trace.append(f"{code.co_filename.rpartition('gatepost/')[2]}:{place.tb_lineno} {code.co_name}")
        place = place.tb_next
    _log.error("crashed", what=what, error=type(error).__name__, trace=trace[-12:], **fields)
