"""
Opening one SMTP connection: dialled, greeted, encrypted and checked as a policy asks, ready for mail.

Arrives: one address of one host, and how to speak there. Leaves: a session with what it has shown, or the verdict why there is none.
Standards: RFC 3207, RFC 8314 (TLS from the first byte), RFC 7672 §3 (DANE), RFC 8689 §4.2.1.
Not here: which host, what TLS has to fulfil and what is tried next (courier, tls_policy), the dialogue (wire.smtp_client).
Bugs: none known.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from gatepost.clock import Clock
from gatepost.domain.route import Source
from gatepost.egress.courier import Batch
from gatepost.egress.smtp.session import Session, remember_tls
from gatepost.egress.smtp.tls_check import TLS_FAULTS, ChainRefused, check_chain, context_of, failure_of, without_tls
from gatepost.egress.smtp.tls_policy import Check, HostPolicy, Proof
from gatepost.egress.smtp.tls_results import TlsResults
from gatepost.net.dial import Dialer
from gatepost.net.tls import ClientTls
from gatepost.settings import Egress
from gatepost.wire.smtp_client import Credentials, Phase, SmtpClient, TlsLevel
from gatepost.wire.smtp_client_verdict import Fault, Stage, Verdict
from gatepost.wire.socks5 import ProxyFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """
    One address of one host, and how to speak there.

    Attributes:
        is_secure_domain: DNSSEC vouches for its being a host of the recipients' domain, so its TLSA records were looked for.
    """

    host: str
    address: str
    port: int
    policy: HostPolicy
    is_implicit_tls: bool = False
    is_secure_domain: bool = False
    credentials: Credentials | None = None

    def __str__(self) -> str:
        return f"{self.host} ({self.address}) port {self.port}"


class Opener:
    """Opens connections of one courier."""

    def __init__(
        self, *, egress: Egress, dialer: Dialer, tls: ClientTls, clock: Clock, hostname: str, timeouts_s: Mapping[Stage, float],
        results: TlsResults,
    ) -> None:  # fmt: skip
        """
        Args:
            hostname: Our name in EHLO, where the source has none of its own.
            results: Where the results of TLS are counted.
        """
        self._egress = egress
        self._dialer = dialer
        self._tls = tls
        self._clock = clock
        self._hostname = hostname
        self._timeouts_s = timeouts_s
        self._results = results

    async def open(
        self, batch: Batch, target: Target, level: TlsLevel, check: Check, *, is_counted: bool
    ) -> tuple[Session, Verdict | None]:
        """
        Open one connection.

        Args:
            check: What the certificate is checked against.
            is_counted: It is the way that the policy asks for, and so counts in reports.

        Returns:
            The session; with the verdict why it is not ready for mail, where it is not.

        Raises:
            asyncio.CancelledError: The caller was cancelled; the connection is cut.
        """
        hostname = batch.source.hostname or self._hostname
        client = SmtpClient(hostname=hostname, tls=level, credentials=target.credentials, is_encrypted=target.is_implicit_tls)
        scale = self._egress.timeout_scale
        session = Session(client=client, host=target.host, site=batch.site, timeouts_s=self._timeouts_s, data_block_s=180 * scale)
        session.patience_s = batch.patience_s
        context = context_of(self._tls, check)
        failed: OSError | None = None
        verdict: Verdict | None = None
        try:
            await self._dial(session, target, context if target.is_implicit_tls else None, batch.source)
            await session.progress()
            if client.phase is Phase.HANDSHAKE:
                await self._encrypt(session, target, context, check)
        except OSError as error:
            failed, fault = error, _fault_of(error, client.stage)
            detail = f"{target}: {_reason(error, fault)}"
            if client.phase is Phase.CLOSED:  # uvloop reports the end of the connection first
                client.transcript.note(detail)
            session.abort(detail)
            verdict = Verdict(stage=client.stage, fault=fault, detail=detail)
        except BaseException as error:
            session.abort("cancelled" if isinstance(error, asyncio.CancelledError) else "given up")
            raise
        if verdict is None:
            verdict = _verdict(batch, target, session, check)
        if is_counted:
            self._count(target.policy, session, verdict, failed)
        if verdict is None:
            remember_tls(session, context)
        return session, verdict

    def _count(self, policy: HostPolicy, session: Session, verdict: Verdict | None, error: OSError | None) -> None:
        """Count a session for TLS reports: by the first way it was tried, for what follows is not what the policy asks."""
        if policy.reported is None or not self._results.is_on:
            return
        if verdict is not None:
            if verdict.fault in TLS_FAULTS:
                self._results.note(policy.reported, failure_of(session, verdict, error))
        else:
            self._results.note(policy.reported, None if session.client.is_encrypted else without_tls(session))

    async def _dial(self, session: Session, target: Target, tls: ssl.SSLContext | None, source: Source) -> None:
        session.client.stage = Stage.CONNECT
        await self._dialer.connect(
            lambda: session,
            target.address,
            target.port,
            timeout_s=_least(self._egress.connect_timeout_s, session),
            tls=tls,
            server_hostname=target.policy.server_name if tls else None,
            source=source,
        )
        if source.proxy:
            session.peer = f"[{target.address}]:{target.port}" if ":" in target.address else f"{target.address}:{target.port}"

    async def _encrypt(self, session: Session, target: Target, context: ssl.SSLContext, check: Check) -> None:
        if session.transport is None or session.transport.is_closing():
            raise ConnectionResetError("the connection was closed before the TLS handshake")
        name, timeout_s = target.policy.server_name, _least(self._timeouts_s[Stage.TLS], session)
        transport = await self._dialer.start_tls(session, session.transport, context, server_hostname=name, timeout_s=timeout_s)
        if check is Check.TLSA:
            try:
                check_chain(transport, target.policy, self._clock.now())
            except ChainRefused:
                transport.abort()
                raise
        await session.encrypted(transport)


def _least(seconds: float, session: Session) -> float:
    return seconds if session.patience_s is None else min(seconds, session.patience_s)


def _verdict(batch: Batch, target: Target, session: Session, check: Check) -> Verdict | None:
    """Say why a session is not ready for this mail, or keep what it has shown."""
    client = session.client
    if client.phase is not Phase.READY:
        return client.refusal or Verdict(stage=client.stage, fault=Fault.LOST, detail="the connection was closed")
    session.proof = Proof(
        host=session.host,
        is_encrypted=client.is_encrypted,
        is_verified=client.is_encrypted and check is Check.AUTHORITIES,
        is_dane=client.is_encrypted and check is Check.TLSA,
        was_asked_for_dane=target.is_secure_domain and not batch.ignores_tls_policy,
        offers_requiretls="REQUIRETLS" in client.extensions,
    )
    if batch.needs_requiretls and not session.proof.offers_requiretls:
        session.quit()
        detail = "5.7.30 the server does not promise to keep the message encrypted (REQUIRETLS), which its sender requires"
        return Verdict(stage=Stage.EHLO, fault=Fault.NO_REQUIRETLS, detail=detail)
    return None


def _fault_of(error: OSError, stage: Stage) -> Fault:
    if isinstance(error, ProxyFailed):
        return Fault.PROXY_FAILED
    if isinstance(error, socket.gaierror):
        return Fault.UNRESOLVED
    return Fault.TLS_FAILED if isinstance(error, ssl.SSLError) or stage is Stage.TLS else Fault.LOST


def _reason(error: OSError, fault: Fault) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS failed, the certificate is not valid: {error.verify_message}"
    if isinstance(error, ChainRefused):
        return str(error)
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or 'no common ground'}"
    if isinstance(error, socket.gaierror):
        words = "the name is not known"
    elif isinstance(error, ProxyFailed):
        words = str(error)
    elif isinstance(error, TimeoutError):
        words = "timed out"
    else:
        words = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
    return f"TLS failed: {words}" if fault is Fault.TLS_FAILED else words
