"""
Checking what a server shows in TLS, and naming what was wrong.

Arrives: a connection after its handshake, an error, a session. Leaves: nothing where all is well; a failure as reports call it.
Standards: RFC 7672 §3 (DANE), RFC 8460 §4.3 (names of failures).
Not here: what has to be fulfilled (tls_policy).
"""

import asyncio
import datetime as dt
import ssl
from typing import Final

from gatepost.clock import Instant
from gatepost.egress.smtp.session import Session
from gatepost.egress.smtp.tls_policy import Check, HostPolicy
from gatepost.net.tls import ClientTls, peer_chain
from gatepost.wire.dane import NotAuthentic, authenticate
from gatepost.wire.smtp_client_verdict import Fault, Verdict
from gatepost.wire.tls_report import ReportedFailure, TlsFailure

TLS_FAULTS: Final = frozenset({Fault.NO_TLS, Fault.TLS_FAILED, Fault.INJECTION})
_BY_VERIFY_CODE: Final = {  # OpenSSL's X509_V_ERR_…
    9: TlsFailure.EXPIRED,
    10: TlsFailure.EXPIRED,
    18: TlsFailure.NOT_TRUSTED,
    19: TlsFailure.NOT_TRUSTED,
    20: TlsFailure.NOT_TRUSTED,
    21: TlsFailure.NOT_TRUSTED,
    62: TlsFailure.NAME,
    64: TlsFailure.NAME,
}


class ChainRefused(ssl.SSLError):
    """A chain that does not match the TLSA records; holds why."""

    def __init__(self, found: NotAuthentic) -> None:
        super().__init__(1, f"DANE: {found.detail}")
        self.found = found

    def __str__(self) -> str:
        return f"DANE: {self.found.detail}"


def context_of(tls: ClientTls, check: Check) -> ssl.SSLContext:
    """Choose the context that makes a check."""
    match check:
        case Check.AUTHORITIES:
            return tls.verified
        case Check.TLSA:
            return tls.inspected
        case Check.NOTHING:
            return tls.opportunistic


def check_chain(transport: asyncio.Transport, policy: HostPolicy, now: Instant) -> None:
    """
    Check a server's chain against the TLSA records of its host.

    Raises:
        ChainRefused: It is another's.
    """
    chain = peer_chain(transport.get_extra_info("ssl_object"))
    found = authenticate(policy.tlsa, chain, policy.names, dt.datetime.fromtimestamp(now / 1000, dt.UTC))
    if found is not None:
        raise ChainRefused(found)


def failure_of(session: Session, verdict: Verdict, error: OSError | None) -> ReportedFailure:
    """Name what was wrong with a session's TLS, for reports."""
    return _failure(session, _result(verdict, error), verdict.detail)


def without_tls(session: Session) -> ReportedFailure:
    """Name that a session went on without TLS."""
    return _failure(session, TlsFailure.NO_STARTTLS, "")


def _failure(session: Session, result: TlsFailure, detail: str) -> ReportedFailure:
    transport = session.transport
    own = None if transport is None else transport.get_extra_info("sockname")
    peer = (session.peer or "").rpartition(":")[0].strip("[]")
    return ReportedFailure(result=result, host=session.host, sender_ip=str(own[0]) if own else "", receiver_ip=peer, detail=detail[:200])


def _result(verdict: Verdict, error: OSError | None) -> TlsFailure:
    if verdict.fault is Fault.NO_TLS:
        return TlsFailure.NO_STARTTLS
    if isinstance(error, ChainRefused):
        return TlsFailure(error.found.flaw.value)
    if isinstance(error, ssl.SSLCertVerificationError):
        return _BY_VERIFY_CODE.get(error.verify_code, TlsFailure.VALIDATION)
    return TlsFailure.VALIDATION
