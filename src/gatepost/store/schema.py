"""
The tables, once, for both databases.

`message`, `body`, `attempt`, `event` and `capture` are facts: rows are inserted and, when their day is over, dropped. On
PostgreSQL they are RANGE-partitioned by the time inside their key. `recipient` holds the current state, `queue` only work
still to do. Instants are BIGINT milliseconds. Texts that order or partition are compared byte by byte on both engines.

What is private is sealed (sealing): columns that end in `sealed`, and the `data` of `body`, `capture` and `event`. Addresses
that are searched for stand as keyed hashes.

Not here: who creates the tables (migrations), who reads and writes them (one module per noun).
"""

from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import SchemaItem

from gatepost.domain.recipient import Status

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
    }
)

REVISION = "first"
"""The newest migration: what the tables below are."""

Key = Text().with_variant(Text(collation="C"), "postgresql")
"""Identifiers and other texts whose order matters: byte order on both engines."""

Instant = BigInteger

PARTITIONED = {"message": "id", "body": "message_id", "attempt": "message_id", "event": "id", "capture": "message_id"}
"""Tables that PostgreSQL keeps in one partition a day, with the column that holds the time."""


class Json(TypeDecorator[Any]):
    """JSON as text: read whole, never queried inside."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Encode a value."""
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Decode a value."""
        return None if value is None else msgspec.json.decode(value)


def _table(name: str, *items: SchemaItem, has_rowid: bool = False) -> Table:
    by = PARTITIONED.get(name)
    options: dict[str, Any] = {"sqlite_with_rowid": has_rowid}
    if by:
        options["postgresql_partition_by"] = f"RANGE ({by})"
    return Table(name, metadata, *items, **options)


tenant = _table(
    "tenant",
    Column("id", Key, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("created_at", Instant, nullable=False),
    Column("suspended_at", Instant, index=True),
    Column("policy", Json, nullable=False),  # how strictly input is looked at: tenants.policies
    Column("price_micros", BigInteger, nullable=False),  # of 1,000 recipients, in millionths of the gateway's currency
    Column("balance_micros", BigInteger),  # prepaid; NULL: not prepaid
)

tenant_limit = _table(
    "tenant_limit",
    Column("tenant_id", Key, primary_key=True),
    Column("resource", Key, primary_key=True),
    Column("per", Key, primary_key=True),
    Column("amount", BigInteger, nullable=False),
)

quota = _table(
    "quota",  # what was taken of a limit in one window, by whole slices
    Column("subject", Key, primary_key=True),  # a tenant's, key's or domain's id, or a hash of a recipient's address
    Column("resource", Key, primary_key=True),
    Column("per", Key, primary_key=True),
    Column("starts_at", Instant, primary_key=True, autoincrement=False),  # of a calendar window; 0 where it slides
    Column("used", BigInteger, nullable=False),  # a count; where it slides, the level of policy.gcra
    Column("at", Instant, nullable=False),  # as of when
    Column("expires_at", Instant, nullable=False),  # no index: one more random page for each recipient costs more than looking
)

usage = _table(
    "usage",  # what was accepted in a day; a row for each node, so that no two update the same one
    Column("tenant_id", Key, primary_key=True),
    Column("day", Key, primary_key=True),  # 2026-11-24
    Column("route", Key, primary_key=True),
    Column("node", Key, primary_key=True),
    Column("messages", BigInteger, nullable=False),
    Column("recipients", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("cost_micros", BigInteger, nullable=False),
)

balance_entry = _table(
    "balance_entry",
    Column("id", Key, primary_key=True),
    Column("tenant_id", Key, nullable=False),
    Column("at", Instant, nullable=False),
    Column("micros", BigInteger, nullable=False),
    Column("note", Text, nullable=False),
    Column("actor_id", Key, nullable=False),
    Index("ix_balance_entry_tenant_id_id", "tenant_id", "id"),
)

api_key = _table(
    "api_key",
    Column("id", Key, primary_key=True),
    Column("tenant_id", Key, nullable=False),
    Column("name", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("secret_hash", LargeBinary, nullable=False, unique=True),
    Column("previous_hash", LargeBinary),  # of the secret before the last rotation, good until previous_until
    Column("previous_until", Instant),
    Column("hint", Text, nullable=False),
    Column("trust_networks", Json, nullable=False),
    Column("scopes", Json, nullable=False),
    Column("domains", Json, nullable=False),
    Column("streams", Json, nullable=False),
    Column("networks", Json, nullable=False),
    Column("limits", Json, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("revoked_at", Instant),
    CheckConstraint("mode IN ('live', 'test')", name="mode"),
)

last_use = _table(
    "last_use",  # of a key or an OAuth client; written now and then, never on the way of a request
    Column("principal_id", Key, primary_key=True),
    Column("used_at", Instant, nullable=False),
    Column("peer", Text, nullable=False),
)

oauth_client = _table(
    "oauth_client",
    Column("id", Key, primary_key=True),
    Column("tenant_id", Key, nullable=False),
    Column("name", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("secret_hash", LargeBinary),
    Column("previous_hash", LargeBinary),  # as for keys
    Column("previous_until", Instant),
    Column("jwks", Json),  # public keys of a client that proves itself by private_key_jwt
    Column("hint", Text, nullable=False),
    Column("scopes", Json, nullable=False),
    Column("domains", Json, nullable=False),
    Column("streams", Json, nullable=False),
    Column("networks", Json, nullable=False),
    Column("limits", Json, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("revoked_at", Instant),
    CheckConstraint("mode IN ('live', 'test')", name="mode"),
)

token_key = _table(
    "token_key",  # signs access tokens; the newest signs, older ones verify until they end
    Column("id", Key, primary_key=True),
    Column("algorithm", Text, nullable=False),
    Column("private_sealed", LargeBinary, nullable=False),
    Column("public_jwk", Json, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
)

spent_token = _table(
    "spent_token",  # ids of tokens that are not taken any more: revoked, or assertions that were used once
    Column("jti", Key, primary_key=True),
    Column("expires_at", Instant, nullable=False, index=True),
)

person = _table(
    "person",
    Column("id", Key, primary_key=True),
    Column("email_hash", Key, nullable=False, unique=True),
    Column("sealed", LargeBinary, nullable=False),  # e-mail address, name, TOTP secret
    Column("is_operator", Boolean, nullable=False),
    Column("password_hash", Text),
    Column("has_totp", Boolean, nullable=False),
    Column("recovery_hashes", Json, nullable=False),
    Column("totp_used_at", Instant),  # time step of the last code: a code counts once
    Column("created_at", Instant, nullable=False),
    Column("disabled_at", Instant),
)

membership = _table(
    "membership",
    Column("person_id", Key, primary_key=True),
    Column("tenant_id", Key, primary_key=True),
    Column("role", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Index("ix_membership_tenant_id_person_id", "tenant_id", "person_id"),
    CheckConstraint("role IN ('owner', 'admin', 'developer', 'viewer')", name="role"),
)

person_identity = _table(
    "person_identity",  # a person as an OpenID provider knows them
    Column("issuer", Key, primary_key=True),
    Column("subject", Key, primary_key=True),
    Column("person_id", Key, nullable=False, index=True),
    Column("created_at", Instant, nullable=False),
)

passkey = _table(
    "passkey",
    Column("id", Key, primary_key=True),  # credential id, base64url
    Column("person_id", Key, nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    Column("sign_count", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("used_at", Instant),
)

session = _table(
    "session",
    Column("id", Key, primary_key=True),
    Column("token_hash", LargeBinary, nullable=False, unique=True),
    Column("person_id", Key, nullable=False, index=True),
    Column("tenant_id", Key),  # the one that is looked at
    Column("state", Text, nullable=False),  # what was shown: password only, or all
    Column("peer", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("proved_at", Instant, nullable=False),  # when a password or the like was last shown
    Column("seen_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False, index=True),
    CheckConstraint("state IN ('password', 'open')", name="state"),
)

one_time_link = _table(
    "one_time_link",
    Column("token_hash", LargeBinary, primary_key=True),
    Column("id", Key, nullable=False, unique=True),
    Column("purpose", Text, nullable=False),
    Column("sealed", LargeBinary, nullable=False),  # for whom
    Column("email_hash", Key, index=True),
    Column("person_id", Key),
    Column("tenant_id", Key),
    Column("role", Text),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False, index=True),
    Column("used_at", Instant),
    CheckConstraint("purpose IN ('setup', 'invitation', 'reset')", name="purpose"),
)

audit = _table(
    "audit",  # append-only; each entry's hash covers the one before
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Key, nullable=False, unique=True),
    Column("at", Instant, nullable=False),
    Column("tenant_id", Key),  # NULL: the gateway itself
    Column("actor_kind", Text, nullable=False),
    Column("actor_id", Key, nullable=False),
    Column("actor_name", Text, nullable=False),
    Column("peer", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("action", Key, nullable=False),
    Column("object_id", Key, nullable=False),
    Column("before", Json),
    Column("after", Json),
    Column("hash", LargeBinary, nullable=False),
    Index("ix_audit_tenant_id_seq", "tenant_id", "seq"),
)

audit_head = _table(
    "audit_head",
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

data_key = _table(
    "data_key",  # seals one tenant's data of one day; itself wrapped by the master key
    Column("tenant_id", Key, primary_key=True),
    Column("day", Key, primary_key=True),
    Column("wrapped", LargeBinary, nullable=False),
    Column("master_id", Key, nullable=False, index=True),
)

domain = _table(
    "domain",
    Column("id", Key, primary_key=True),
    Column("tenant_id", Key, nullable=False),
    Column("name", Key, nullable=False),
    Column("status", Text, nullable=False),
    Column("is_trusted", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("verified_at", Instant),
    UniqueConstraint("tenant_id", "name"),
    CheckConstraint("status IN ('pending', 'verified')", name="status"),
)

dkim_key = _table(
    "dkim_key",
    Column("id", Key, primary_key=True),
    Column("domain_id", Key, nullable=False, index=True),
    Column("selector", Text, nullable=False),
    Column("algorithm", Text, nullable=False),
    Column("private_sealed", LargeBinary, nullable=False),
    Column("public", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    UniqueConstraint("domain_id", "selector"),
    CheckConstraint("status IN ('pending', 'active', 'retired')", name="status"),
)

suppression = _table(
    "suppression",
    Column("tenant_id", Key, primary_key=True),
    Column("address_hash", Key, primary_key=True),
    Column("stream", Key, primary_key=True),  # empty: every stream
    Column("id", Key, nullable=False, unique=True),
    Column("reason", Text, nullable=False),
    Column("sealed", LargeBinary, nullable=False),  # address, note
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
)

message = _table(
    "message",
    Column("id", Key, primary_key=True),
    Column("tenant_id", Key, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("stream", Key, nullable=False),
    Column("lane", SmallInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("key_id", Key, nullable=False),
    Column("from_domain", Text, nullable=False),
    Column("sealed", LargeBinary, nullable=False),  # senders, subject, Message-ID, metadata, options: messages.SEALED
    Column("size_bytes", Integer, nullable=False),
    Column("is_8bit", Boolean, nullable=False),
    Column("is_smtputf8", Boolean, nullable=False),
    Column("is_sandbox", Boolean, nullable=False),
    Column("route", Text, nullable=False),
    Column("tags", Json, nullable=False),
    Column("scheduled_at", Instant),
    Column("expires_at", Instant, nullable=False),
    Index("ix_message_tenant_id_id", "tenant_id", "id"),
    Index("ix_message_tenant_id_stream_id", "tenant_id", "stream", "id"),
)

message_tag = _table(
    "message_tag",
    Column("tenant_id", Key, primary_key=True),
    Column("tag", Key, primary_key=True),
    Column("message_id", Key, primary_key=True),
)

body = _table(
    "body",
    Column("message_id", Key, primary_key=True),
    Column("encoding", Text, nullable=False),  # zstd: the bytes; blob: the blob's name
    Column("data", LargeBinary, nullable=False),
    CheckConstraint("encoding IN ('zstd', 'blob')", name="encoding"),
    has_rowid=True,
)

recipient = _table(
    "recipient",
    Column("message_id", Key, primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("tenant_id", Key, nullable=False),
    Column("address_hash", Key, nullable=False),
    Column("sealed", LargeBinary, nullable=False),  # address, ORCPT
    Column("kind", Text, nullable=False),
    Column("site", Text, nullable=False),
    Column("status", Key, nullable=False),
    Column("reason", Text),
    Column("attempts", Integer, nullable=False),
    Column("reply_sealed", LargeBinary),
    Column("last_host", Text),
    Column("updated_at", Instant, nullable=False),
    Column("final_at", Instant),
    Column("notify", Text),
    Index("ix_recipient_tenant_id_address_hash_message_id", "tenant_id", "address_hash", "message_id"),
    Index("ix_recipient_tenant_id_status_message_id", "tenant_id", "status", "message_id"),
    CheckConstraint("status IN ({})".format(", ".join(f"'{status.value}'" for status in Status)), name="status"),
)

queue = _table(
    "queue",
    Column("shard", SmallInteger, primary_key=True, autoincrement=False),
    Column("lane", SmallInteger, primary_key=True, autoincrement=False),
    Column("due_at", Instant, primary_key=True, autoincrement=False),
    Column("message_id", Key, primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("tenant_id", Key, nullable=False),
    Column("pool", Text, nullable=False),
    Column("site", Text, nullable=False),
    Column("attempt", Integer, nullable=False),  # number of the next attempt, from 1
    Column("retries", Integer, nullable=False),  # attempts so far that used up the schedule
    Column("expires_at", Instant, nullable=False),
    Index("ix_queue_message_id_n", "message_id", "n", unique=True),
)

attempt = _table(
    "attempt",
    Column("message_id", Key, primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("outcome", Text, nullable=False),
    Column("category", Text),
    Column("code", Integer),
    Column("enhanced", Text),
    Column("route", Text, nullable=False),
    Column("host", Text),
    Column("peer", Text),
    Column("tls", Text),
    Column("started_at", Instant, nullable=False),
    Column("finished_at", Instant, nullable=False),
    Column("sealed", LargeBinary, nullable=False),  # detail, reply, transcript
    CheckConstraint("outcome IN ('delivered', 'deferred', 'failed', 'unknown')", name="outcome"),
)

event = _table(
    "event",
    Column("id", Key, primary_key=True),
    Column("tenant_id", Key, nullable=False),
    Column("type", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("message_id", Key),
    Column("n", Integer),
    Column("data", LargeBinary, nullable=False),
    Index("ix_event_message_id_id", "message_id", "id"),
    Index("ix_event_tenant_id_id", "tenant_id", "id"),
)

capture = _table(
    "capture",
    Column("message_id", Key, primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False),
    Column("encoding", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
    CheckConstraint("encoding IN ('zstd', 'blob')", name="encoding"),
    has_rowid=True,
)

idempotency = _table(
    "idempotency",
    Column("tenant_id", Key, primary_key=True),
    Column("key_hash", LargeBinary, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),  # hash of the request, answer
    Column("expires_at", Instant, nullable=False, index=True),
)

shard_lease = _table(
    "shard_lease",
    Column("shard", SmallInteger, primary_key=True, autoincrement=False),
    Column("owner", Text),
    Column("epoch", BigInteger, nullable=False),
    Column("expires_at", Instant, nullable=False),
)

node = _table(
    "node",
    Column("id", Key, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("roles", Text, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("heartbeat_at", Instant, nullable=False),
)

site_state = _table(
    "site_state",
    Column("site", Key, primary_key=True),
    Column("paused_at", Instant),
    Column("note", Text, nullable=False),
)

config_version = _table(
    "config_version",
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
)
