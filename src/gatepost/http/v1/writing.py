"""How rows, and what accept says, become answers."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import UNSET
from sqlalchemy import Row

from gatepost import ids
from gatepost.accept import AcceptedMessage, RefusedMessage
from gatepost.clock import Instant, iso
from gatepost.domain.errors import Fault
from gatepost.domain.recipient import Status, message_status
from gatepost.domain.tenant import ApiKey, Credential, Domain, OAuthClient
from gatepost.http.problems import errors_of, warnings_of
from gatepost.http.v1 import answers
from gatepost.store.last_use import LastUse
from gatepost.tenants.credential_register import Made
from gatepost.tenants.domains import DomainView


def time(at: Instant | None) -> str | None:
    """Write an instant that may be missing."""
    return None if at is None else iso(at)


def sent(result: AcceptedMessage) -> answers.SentMessage:
    """Write what accept says of one message."""
    recipients = [
        answers.SentRecipient(id=one.id, address=one.address, kind=one.kind, status=one.status, reason=one.reason)
        for one in result.recipients
    ]
    return answers.SentMessage(
        id=result.id,
        status=result.status,
        sandbox=result.is_sandbox,
        recipients=recipients,
        warnings=warnings_of(result.warnings) if result.warnings else UNSET,
    )


def validation(warnings: Sequence[Fault]) -> answers.Validation:
    """Write what a check of a message found."""
    return answers.Validation(warnings=warnings_of(warnings) if warnings else UNSET)


def batch(results: Sequence[AcceptedMessage | RefusedMessage]) -> answers.BatchAnswer:
    """Write what accept says of several messages."""
    written = [sent(one) if isinstance(one, AcceptedMessage) else _refusal(one) for one in results]
    refused = sum(isinstance(one, answers.Refusal) for one in written)
    return answers.BatchAnswer(accepted=len(written) - refused, refused=refused, results=written)


def _refusal(refused: RefusedMessage) -> answers.Refusal:
    refusal = refused.as_refusal()
    return answers.Refusal(code=refusal.code, detail=refusal.detail or refusal.kind.advice, errors=errors_of(refusal))


def message(row: Row[Any], recipients: Sequence[Row[Any]]) -> answers.MessageAnswer:
    """Write a stored message."""
    return answers.MessageAnswer(
        id=row.id,
        status=message_status([Status(one.status) for one in recipients]).value,
        sandbox=row.is_sandbox,
        created_at=iso(row.created_at),
        sender=row.from_,
        envelope_from=row.envelope_from,
        subject=row.subject,
        message_id=row.message_id_header,
        stream=row.stream,
        tags=row.tags,
        metadata=row.metadata,
        source=row.source,
        route=row.route,
        key_id=row.key_id,
        size_bytes=row.size_bytes,
        scheduled_at=time(row.scheduled_at),
        expires_at=iso(row.expires_at),
        recipients=[_recipient(one) for one in recipients],
    )


def _recipient(row: Row[Any]) -> answers.RecipientAnswer:
    return answers.RecipientAnswer(
        id=ids.recipient_id(row.message_id, row.n),
        address=row.address,
        kind=row.kind,
        status=row.status,
        reason=row.reason,
        attempts=row.attempts,
        last_reply=row.last_reply,
        last_host=row.last_host,
        updated_at=iso(row.updated_at),
        final_at=time(row.final_at),
    )


def event(row: Row[Any]) -> answers.EventAnswer:
    """Write an event; instants inside it become texts."""
    return answers.EventAnswer(
        id=row.id,
        type=row.type,
        timestamp=iso(row.at),
        message_id=row.message_id,
        recipient_id=None if row.n is None or row.message_id is None else ids.recipient_id(row.message_id, row.n),
        data=_readable(row.data),
    )


def _readable(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: iso(value) if name.endswith("_at") and isinstance(value, int) else value for name, value in data.items()}


def attempt(row: Row[Any]) -> answers.AttemptAnswer:
    """Write a delivery attempt."""
    return answers.AttemptAnswer(
        message_id=row.message_id,
        recipient_id=ids.recipient_id(row.message_id, row.n),
        number=row.number,
        outcome=row.outcome,
        category=row.category,
        detail=row.detail,
        smtp_code=row.code,
        enhanced_code=row.enhanced,
        response=row.reply,
        route=row.route,
        source=row.source,
        host=row.host,
        peer=row.peer,
        tls=row.tls,
        tls_policy=row.tls_policy,
        provider_id=row.provider_id,
        started_at=iso(row.started_at),
        finished_at=iso(row.finished_at),
        transcript=row.transcript,
    )


def domain(view: DomainView) -> answers.DomainAnswer:
    """Write a domain with its records."""
    one: Domain = view.domain
    return answers.DomainAnswer(
        id=one.id,
        name=one.name,
        status=one.status.value,
        is_trusted=one.is_trusted,
        created_at=iso(one.created_at),
        verified_at=time(one.verified_at),
        records=[
            answers.RecordAnswer(type=record.type, name=record.name, value=record.value, purpose=record.purpose, status=str(record.status))
            for record in view.records
        ],
    )


def _credential(one: Credential, use: LastUse | None) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "mode": one.mode.value,
        "hint": one.hint,
        "scopes": sorted(one.scopes),
        "domains": sorted(one.domains),
        "streams": sorted(one.streams),
        "cidrs": [str(network) for network in one.networks],
        "limits": [str(limit) for limit in one.limits],
        "created_at": iso(one.created_at),
        "expires_at": time(one.expires_at),
        "revoked_at": time(one.revoked_at),
        "old_secret_until": time(one.previous_until),
        "last_used_at": None if use is None else iso(use.used_at),
        "last_used_from": None if use is None else use.peer,
    }


def _key(one: ApiKey, use: LastUse | None) -> dict[str, Any]:
    return {**_credential(one, use), "trust_cidrs": [str(network) for network in one.trust_networks]}


def _client(one: OAuthClient, use: LastUse | None) -> dict[str, Any]:
    return {**_credential(one, use), "jwks": None if one.jwks is None else dict(one.jwks)}


def key(one: ApiKey, use: LastUse | None = None) -> answers.KeyAnswer:
    """Write a key."""
    return answers.KeyAnswer(**_key(one, use))


def made_key(made: Made[ApiKey]) -> answers.MadeKeyAnswer:
    """Write a key with its new secret."""
    return answers.MadeKeyAnswer(**_key(made.credential, None), key=made.secret or "")


def client(one: OAuthClient, use: LastUse | None = None) -> answers.OAuthClientAnswer:
    """Write an OAuth client."""
    return answers.OAuthClientAnswer(**_client(one, use))


def made_client(made: Made[OAuthClient]) -> answers.MadeOAuthClientAnswer:
    """Write an OAuth client with its new secret."""
    one = made.credential
    return answers.MadeOAuthClientAnswer(**_client(one, None), client_id=one.id, client_secret=made.secret)


def suppression(row: Row[Any]) -> answers.SuppressionAnswer:
    """Write a suppression."""
    return answers.SuppressionAnswer(
        id=row.id,
        address=row.address,
        stream=row.stream or None,
        reason=row.reason,
        source=row.source or None,
        note=row.note,
        created_at=iso(row.created_at),
        expires_at=time(row.expires_at),
    )
