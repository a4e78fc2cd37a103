"""What the API takes, as structs: their names, bounds and words are the ones in `/openapi.json`."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from gatepost.domain.access import Scope
from gatepost.domain.message import DEFAULT_STREAM

Strings = dict[str, str]

EMAIL = "`ann@example.net` or `Ann Example <ann@example.net>`"


class Body(Struct, forbid_unknown_fields=True, kw_only=True):
    """A body or a part of one; unknown fields are refused."""


class AddressObject(Body):
    """A mailbox in two parts, which avoids quoting."""

    email: str
    name: str | None = None


Mailbox = str | AddressObject
Mailboxes = Annotated[list[Mailbox], Meta(description=f"mailboxes, each {EMAIL} or an object", max_length=1000)] | None
Moment = Annotated[
    str,
    Meta(description="date and time with offset, RFC 3339", examples=["2026-11-24T02:00:00Z"], extra_json_schema={"format": "date-time"}),
]


class AttachmentBody(Body):
    """One file."""

    filename: str
    content: Annotated[
        str,
        Meta(description="the bytes in base64 (RFC 4648 §4), padded, without line breaks", extra_json_schema={"contentEncoding": "base64"}),
    ]
    content_type: str = "application/octet-stream"
    disposition: Literal["attachment", "inline"] = "attachment"
    content_id: Annotated[str, Meta(description="for images that the HTML shows with cid:")] | None = None


class TrackingBody(Body):
    """What is found out about readers; what is null, or left out, is as the stream has it."""

    opens: Annotated[bool, Meta(description="a pixel at the end of the HTML")] | None = None
    clicks: Annotated[bool, Meta(description="links of the HTML lead over the gateway")] | None = None
    text: Annotated[bool, Meta(description="links of the plain text too")] | None = None
    force: Annotated[bool, Meta(description="also where codes are sent, which are not tracked otherwise")] = False


Variables = Annotated[dict[str, Any], Meta(description="values for {{ name }} in subject, text and html", max_length=1000)]
Metadata = Annotated[Strings, Meta(description="your own names and values, given back with every event", max_length=100)]
HeaderFields = Annotated[Strings, Meta(description="further header fields", max_length=500)]
Tags = Annotated[list[str], Meta(description="words to find messages by", max_length=50)]


class Personalization(Body):
    """What differs for one message of several."""

    to: Mailboxes = None
    cc: Mailboxes = None
    bcc: Mailboxes = None
    subject: str | None = None
    headers: HeaderFields | None = None
    variables: Variables | None = None
    metadata: Metadata | None = None


class MessageBody(Body):
    """A message to send."""

    sender: Mailbox = field(name="from")
    to: Mailboxes = None
    cc: Mailboxes = None
    bcc: Mailboxes = None
    reply_to: Mailboxes = None
    subject: str | None = None
    text: str | None = None
    html: str | None = None
    template: Annotated[str, Meta(description="not supported yet: only null is taken")] | None = None
    variables: Variables | None = None
    attachments: Annotated[list[AttachmentBody], Meta(max_length=1000)] | None = None
    headers: HeaderFields | None = None
    tags: Tags | None = None
    metadata: Metadata | None = None
    stream: Annotated[str, Meta(description="codes, transactional or bulk", max_length=100)] = "transactional"
    tracking: TrackingBody | None = None
    unsubscribe: (
        Annotated[
            bool,
            Meta(description="one-click unsubscription (RFC 8058), and a page for links to gatepost:unsubscribe; null is the stream's"),
        ]
        | None
    ) = None
    scheduled_at: Moment | None = None
    ttl_s: Annotated[int, Meta(ge=1, le=365 * 86400, description="seconds after which it is worth nothing any more")] | None = None
    expires_at: Moment | None = None
    require_tls: (
        Annotated[
            bool, Meta(description="deliver only over TLS with a certificate that is verified, by DANE or by an authority; else wait")
        ]
        | None
    ) = None
    route: (
        Annotated[
            str,
            Meta(min_length=1, max_length=200, description="name of a route that may be asked for, or sandbox; operators may give roads"),
        ]
        | None
    ) = None


class SendBody(MessageBody):
    """A message to send, or several that share what is not personalized."""

    personalizations: (
        Annotated[list[Personalization], Meta(min_length=1, max_length=1000, description="one message each; instead of to, cc and bcc")]
        | None
    ) = None


Mode = Annotated[
    Literal["strict", "permissive"], Meta(description="strict takes all messages or none; permissive takes those that are valid")
]


class BatchBody(Body):
    """Independent messages."""

    messages: Annotated[list[MessageBody], Meta(min_length=1, max_length=500)]
    mode: Mode = "strict"


class RawBatchBody(Body):
    """A batch whose messages are read one by one, so that each can be refused for itself."""

    messages: list[Raw]
    mode: Mode = "strict"


class Glimpse(Struct):
    """All of a message that tells how urgent it is; the rest is skipped."""

    stream: str = DEFAULT_STREAM


class BatchGlimpse(Struct):
    """The same of a batch."""

    messages: list[Glimpse] = field(default_factory=list)


class RescheduleBody(Body):
    """A new time for a scheduled message."""

    scheduled_at: Moment


class DomainBody(Body):
    """A domain to send from."""

    name: Annotated[str, Meta(min_length=1, max_length=1000, examples=["acme.example"])]


Scopes = Annotated[
    list[Scope], Meta(min_length=1, max_length=50, description="what it may do; without it everything that the caller may do in the tenant")
]
Domains = Annotated[list[str], Meta(max_length=100, description="sender's domains that it may use; empty is every domain of the tenant")]
Streams = Annotated[list[str], Meta(max_length=10, description="streams that it may use; empty is every stream")]
Cidrs = Annotated[list[str], Meta(max_length=100, description="networks that it may come from; empty is everywhere")]
KeyLimits = Annotated[list[str], Meta(max_length=20, description="its own limits, such as messages=10/minute, besides the tenant's")]
KeyName = Annotated[str, Meta(min_length=1, max_length=100, description="for people: what uses it")]
KeyModeText = Annotated[Literal["live", "test"], Meta(description="mail sent with a test key never leaves the sandbox")]
OverlapS = Annotated[int, Meta(ge=0, le=30 * 86400, description="seconds for which the old secret is taken, too")]


class CredentialBody(Body):
    """A key or an OAuth client to make. Nobody gives more than they have; what is left open is taken over from the caller."""

    name: KeyName
    mode: KeyModeText = "live"
    scopes: Scopes | None = None
    domains: Domains = []
    streams: Streams = []
    cidrs: Cidrs = []
    limits: KeyLimits = []
    expires_at: Moment | None = None


class KeyBody(CredentialBody):
    """A key to make. Nobody gives more than they have; what is left open is taken over from the caller."""


class KeyChangesBody(Body):
    """What to change of a key; what is missing stays as it is. An empty list narrows nothing any more."""

    name: KeyName | None = None
    scopes: Scopes | None = None
    domains: Domains | None = None
    streams: Streams | None = None
    cidrs: Cidrs | None = None
    limits: KeyLimits | None = None


class RotateBody(Body):
    """How to exchange a secret."""

    overlap_s: OverlapS = 3600


class OAuthClientBody(CredentialBody):
    """An OAuth client to make. Nobody gives more than they have; what is left open is taken over from the caller."""

    jwks: (
        Annotated[
            dict[str, Any],
            Meta(description="public keys (RFC 7517); the client then proves itself by private_key_jwt and gets no secret"),
        ]
        | None
    ) = None


Strictness = Literal["off", "warn", "refuse"] | None | UnsetType
"""Null goes back to the gateway's own value."""


class PolicyBody(Body):
    """Rules with their new strictness; what is left out stays as it is, and null goes back to the gateway's own value."""

    recipient_domains: Strictness = UNSET
    typos: Strictness = UNSET
    disposable: Strictness = UNSET
    roles: Strictness = UNSET
    attachments: Strictness = UNSET
    macros: Strictness = UNSET
    active_content: Strictness = UNSET
    encrypted_archives: Strictness = UNSET
    variables_links: Strictness = UNSET
    variables_markup: Strictness = UNSET
    links: Strictness = UNSET
    html: Strictness = UNSET
    spam: Strictness = UNSET
    alignment: Strictness = UNSET


class SuppressionBody(Body):
    """An address that must get no mail."""

    address: Annotated[str, Meta(min_length=1, max_length=1000)]
    stream: Annotated[str, Meta(max_length=100, description="only for this stream; null is every stream")] | None = None
    reason: Annotated[
        str,
        Meta(
            min_length=1, max_length=100, pattern="^[a-z][a-z0-9_]*$", description="a word such as manual, bounce, complaint, unsubscribe"
        ),
    ] = "manual"
    note: Annotated[str, Meta(max_length=1000)] = ""
    expires_at: Moment | None = None


class SuppressionsBody(Body):
    """Several addresses at once; all of them, or none when one is not valid."""

    suppressions: Annotated[list[SuppressionBody], Meta(min_length=1, max_length=1000)]
