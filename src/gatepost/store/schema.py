"""
The tables, once, for both databases.

`message`, `body`, `attempt`, `event` and `capture` are facts: rows are inserted and, when their day is over, dropped. On
PostgreSQL they are RANGE-partitioned by the time inside their key. `recipient` holds the current state, `queue` only work
still to do. Instants are BIGINT milliseconds. Texts that order or partition are compared byte by byte on both engines.

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

REVISION = "0001"
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
)

api_key = _table(
    "api_key",
    Column("id", Key, primary_key=True),
    Column("tenant_id", Key, nullable=False),
    Column("name", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("secret_hash", LargeBinary, nullable=False, unique=True),
    Column("hint", Text, nullable=False),
    Column("trust_networks", Json, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("revoked_at", Instant),
    CheckConstraint("mode IN ('live', 'test')", name="mode"),
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
    Column("private_pem", Text, nullable=False),
    Column("public", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    UniqueConstraint("domain_id", "selector"),
    CheckConstraint("status IN ('pending', 'active', 'retired')", name="status"),
)

suppression = _table(
    "suppression",
    Column("tenant_id", Key, primary_key=True),
    Column("address", Key, primary_key=True),
    Column("stream", Key, primary_key=True),  # empty: every stream
    Column("id", Key, nullable=False, unique=True),
    Column("reason", Text, nullable=False),
    Column("note", Text, nullable=False),
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
    Column("envelope_from", Text, nullable=False),
    Column("from_", Text, nullable=False),
    Column("from_domain", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("message_id_header", Text, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("is_8bit", Boolean, nullable=False),
    Column("is_smtputf8", Boolean, nullable=False),
    Column("is_sandbox", Boolean, nullable=False),
    Column("route", Text, nullable=False),
    Column("tags", Json, nullable=False),
    Column("metadata", Json, nullable=False),
    Column("scheduled_at", Instant),
    Column("expires_at", Instant, nullable=False),
    Column("options", Json, nullable=False),
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
    Column("address", Text, nullable=False),
    Column("address_key", Key, nullable=False),
    Column("kind", Text, nullable=False),
    Column("site", Text, nullable=False),
    Column("status", Key, nullable=False),
    Column("reason", Text),
    Column("attempts", Integer, nullable=False),
    Column("last_reply", Text),
    Column("last_host", Text),
    Column("updated_at", Instant, nullable=False),
    Column("final_at", Instant),
    Column("notify", Text),
    Column("orcpt", Text),
    Index("ix_recipient_tenant_id_address_key_message_id", "tenant_id", "address_key", "message_id"),
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
    Column("detail", Text),
    Column("code", Integer),
    Column("enhanced", Text),
    Column("reply", Text),
    Column("route", Text, nullable=False),
    Column("host", Text),
    Column("peer", Text),
    Column("tls", Text),
    Column("started_at", Instant, nullable=False),
    Column("finished_at", Instant, nullable=False),
    Column("transcript", Text, nullable=False),
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
    Column("data", Json, nullable=False),
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
    Column("request_hash", LargeBinary, nullable=False),
    Column("response", Text, nullable=False),
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
