"""
What a smarthost's greeting, encryption and authentication say of it, without any mail.

Arrives: an open session, or why there is none. Leaves: a `Probe`.
Not here: connecting (courier).
"""

from dataclasses import dataclass

from gatepost.egress.courier import Batch, BatchRecipient, Probe
from gatepost.egress.smtp.session import Session
from gatepost.egress.smtp.tokens import TokenFailed
from gatepost.wire.smtp_client_verdict import Fault, Stage, Verdict


@dataclass(frozen=True, slots=True)
class ProbeFacts:
    """
    What a probe met.

    Attributes:
        verdict: Why there is no session.
        has_credentials: The relay has a user and a password, or a token.
        detail: What stopped it before it connected; empty otherwise.
    """

    verdict: Verdict | None
    session: Session | None
    has_credentials: bool
    detail: str = ""


_PATIENCE_S = 30.0
"""A relay that takes longer to answer would hold up what its probe is for; mail itself may still try it."""


def probe_batch(route: str) -> Batch:
    """Make what stands for a mail that is never sent."""
    nobody = BatchRecipient(n=0, address="", attempt=1)
    return Batch(
        message_id="", route=route, site=f"probe:{route}", domain="", envelope_from="", recipients=(nobody,), content=b"",
        patience_s=_PATIENCE_S,
    )  # fmt: skip


def probe_of(facts: ProbeFacts, failed: TokenFailed | None, host: str, latency_ms: int) -> Probe:
    """Say what a probe found."""
    session, verdict = facts.session, facts.verdict
    if session is not None:
        is_authenticated = True if facts.has_credentials else None
        return Probe(
            is_reachable=True, is_authenticated=is_authenticated, latency_ms=latency_ms, host=host, peer=session.peer, tls=session.tls
        )  # fmt: skip
    if failed is not None:
        is_refused = False if failed.is_refused else None
        return Probe(is_reachable=failed.is_refused, is_authenticated=is_refused, latency_ms=latency_ms, detail=facts.detail, host=host)
    if verdict is None:
        detail = facts.detail or f"{host} has no address that can be reached"
        return Probe(is_reachable=False, is_authenticated=None, latency_ms=latency_ms, detail=detail, host=host)
    is_refused_key = (verdict.stage is Stage.AUTH and verdict.reply is not None and verdict.reply.code // 100 == 5) or (
        verdict.fault is Fault.NO_AUTH
    )
    return Probe(
        is_reachable=is_refused_key, is_authenticated=False if is_refused_key else None, latency_ms=latency_ms, host=host,
        detail=verdict.detail or str(verdict.reply or ""),
    )  # fmt: skip
