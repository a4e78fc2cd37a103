"""What the API answers with, as structs: their names and words are the ones in `/openapi.json`."""

from typing import Any

from msgspec import UNSET, Struct, UnsetType, field

from gatepost.http.problems import ProblemError

Warnings = list[ProblemError] | UnsetType
"""Left out where there are none."""


class SentRecipient(Struct, kw_only=True, omit_defaults=True, frozen=True):
    """What became of one recipient at accept."""

    id: str
    address: str
    kind: str
    status: str
    reason: str | None = None


class SentMessage(Struct, kw_only=True, frozen=True, tag_field="object", tag="message"):
    """A message that is stored; `warnings` say what its sender should know of, although it was taken."""

    id: str
    status: str
    sandbox: bool
    recipients: list[SentRecipient]
    warnings: Warnings = UNSET


class Refusal(Struct, kw_only=True, frozen=True, tag_field="object", tag="refusal"):
    """A message of a batch that was not stored."""

    code: str
    detail: str
    errors: list[ProblemError]


class BatchAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="batch"):
    """One result for each message, in order."""

    accepted: int
    refused: int
    results: list[SentMessage | Refusal]


class Validation(Struct, kw_only=True, frozen=True, tag_field="object", tag="validation"):
    """The message would be accepted; `warnings` as sending it would give them."""

    is_valid: bool = True
    warnings: Warnings = UNSET


class PolicyAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="policy"):
    """How strict each rule on content and recipients is."""

    rules: dict[str, str]
    own: list[str]
    operator_only: list[str]


class RecipientAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="recipient"):
    """Where one recipient stands."""

    id: str
    address: str
    kind: str
    status: str
    reason: str | None
    attempts: int
    last_reply: str | None
    last_host: str | None
    updated_at: str
    final_at: str | None


class MessageAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="message"):
    """A message, without its content."""

    id: str
    status: str
    sandbox: bool
    created_at: str
    sender: str = field(name="from")
    envelope_from: str
    subject: str
    message_id: str
    stream: str
    tags: list[str]
    metadata: dict[str, str]
    source: str
    route: str
    key_id: str
    size_bytes: int
    scheduled_at: str | None
    expires_at: str
    recipients: list[RecipientAnswer]


class EventAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="event"):
    """Something that happened."""

    id: str
    type: str
    timestamp: str
    message_id: str | None
    recipient_id: str | None
    data: dict[str, Any]


class AttemptAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="attempt"):
    """One delivery attempt with what was said."""

    message_id: str
    recipient_id: str
    number: int
    outcome: str
    category: str | None
    detail: str | None
    smtp_code: int | None
    enhanced_code: str | None
    response: str | None
    route: str
    source: str | None
    host: str | None
    peer: str | None
    tls: str | None
    tls_policy: str | None
    provider_id: str | None
    started_at: str
    finished_at: str
    transcript: str


class RecipientWhy(Struct, kw_only=True, frozen=True):
    """Where a recipient is, and why."""

    id: str
    address: str
    status: str
    cause: str
    sentence: str
    evidence: dict[str, Any]
    next_attempt_at: str | None
    attempts: int
    last_reply: str | None
    last_host: str | None
    site: str


class ExplanationAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="explanation"):
    """Where a message is, and why."""

    message_id: str
    status: str
    cause: str
    sentence: str
    recipients: list[RecipientWhy]


class Changed(Struct, kw_only=True, frozen=True, tag_field="object", tag="change"):
    """How many recipients a wish took effect on."""

    id: str
    recipients: int


class RecordAnswer(Struct, kw_only=True, frozen=True):
    """A DNS record to publish."""

    type: str
    name: str
    value: str
    purpose: str
    status: str


class DomainAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="domain"):
    """A domain to send from."""

    id: str
    name: str
    status: str
    is_trusted: bool
    created_at: str
    verified_at: str | None
    records: list[RecordAnswer]


class Credential(Struct, kw_only=True, frozen=True):
    """What keys and OAuth clients have in common: without the secret."""

    id: str
    name: str
    mode: str
    hint: str
    scopes: list[str]
    domains: list[str]
    streams: list[str]
    cidrs: list[str]
    limits: list[str]
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    old_secret_until: str | None
    last_used_at: str | None = None
    last_used_from: str | None = None


class KeyAnswer(Credential, kw_only=True, frozen=True, tag_field="object", tag="key"):
    """An API key without its secret; `hint` is its end. `old_secret_until` is when the secret before the last rotation ends."""

    trust_cidrs: list[str]


class MadeKeyAnswer(KeyAnswer, kw_only=True, frozen=True, tag_field="object", tag="key"):
    """An API key with its new secret; `key` is shown this once."""

    key: str


class OAuthClientAnswer(Credential, kw_only=True, frozen=True, tag_field="object", tag="oauth_client"):
    """An OAuth client without its secret; `hint` is the secret's end, empty when the client signs assertions instead."""

    jwks: dict[str, Any] | None


class MadeOAuthClientAnswer(OAuthClientAnswer, kw_only=True, frozen=True, tag_field="object", tag="oauth_client"):
    """An OAuth client with its new secret, which is shown this once; null when it signs assertions instead."""

    client_id: str
    client_secret: str | None


class SuppressionAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="suppression"):
    """An address that gets no mail."""

    id: str
    address: str
    stream: str | None
    reason: str
    source: str | None
    note: str
    created_at: str
    expires_at: str | None


class SuppressionsAdded(Struct, kw_only=True, frozen=True, tag_field="object", tag="suppressions"):
    """How many suppressions are new and how many were there and are renewed."""

    added: int
    renewed: int


class MessagePage(Struct, kw_only=True, frozen=True):
    """Messages, the newest first."""

    data: list[MessageAnswer]
    has_more: bool


class EventList(Struct, kw_only=True, frozen=True):
    """All events of a message, the oldest first."""

    data: list[EventAnswer]
    has_more: bool = False


class AttemptList(Struct, kw_only=True, frozen=True):
    """All attempts of a message, the oldest first."""

    data: list[AttemptAnswer]
    has_more: bool = False


class DomainPage(Struct, kw_only=True, frozen=True):
    """Domains, the newest first."""

    data: list[DomainAnswer]
    has_more: bool


class OAuthClientPage(Struct, kw_only=True, frozen=True):
    """OAuth clients, the newest first."""

    data: list[OAuthClientAnswer]
    has_more: bool


class KeyPage(Struct, kw_only=True, frozen=True):
    """Keys, the newest first."""

    data: list[KeyAnswer]
    has_more: bool


class SuppressionPage(Struct, kw_only=True, frozen=True):
    """Suppressions, the newest first."""

    data: list[SuppressionAnswer]
    has_more: bool
