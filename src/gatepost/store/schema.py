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
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import SchemaItem

from gatepost.domain.recipient import Status
from gatepost.domain.stats import FIELDS

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
    Column("source", Text, nullable=False),  # who said so: relay:NAME, mail …; empty is a person, or a refusal at delivery
    Column("sealed", LargeBinary, nullable=False),  # address, note
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
)

# What follows from a suppression: mail that waits is ended, providers' lists are told

suppression_due = _table(
    "suppression_due",  # suppressed lately: mail that waits for these addresses has to be looked for
    Column("tenant_id", Key, primary_key=True),
    Column("address_hash", Key, primary_key=True),
    Column("created_at", Instant, nullable=False),
    Column("due_at", Instant, nullable=False, index=True),
)

suppression_lift = _table(
    "suppression_lift",  # suppressions that a person lifted: what a provider said before does not count any more
    Column("tenant_id", Key, primary_key=True),
    Column("address_hash", Key, primary_key=True),
    Column("id", Key, nullable=False, unique=True),
    Column("lifted_at", Instant, nullable=False),
    Column("used_at", Instant, nullable=False, index=True),  # when a provider's list last said what it had said before
    Column("sealed", LargeBinary, nullable=False),  # address
)

relay_list = _table(
    "relay_list",  # how far a provider's own suppression list is read, and how far it is told: store.relay_lists
    Column("relay", Key, primary_key=True),
    Column("due_at", Instant, nullable=False),
    Column("state", Json, nullable=False),  # domain.relay_list.ListState without the cursor
    Column("cursor_sealed", LargeBinary, nullable=False),  # it may name an address
)

relay_listed = _table(
    "relay_listed",  # suppressions that came from a provider's own list, and when a round saw them there: store.relay_listed
    Column("relay", Key, primary_key=True),
    Column("tenant_id", Key, primary_key=True),
    Column("address_hash", Key, primary_key=True),
    Column("stream", Key, primary_key=True),
    Column("reason", Key, nullable=False),
    Column("seen_at", Instant, nullable=False),  # when the round began
    Index("ix_relay_listed_relay_seen_at", "relay", "seen_at"),
    Index("ix_relay_listed_tenant_id_address_hash", "tenant_id", "address_hash"),
    Index("ix_relay_listed_relay_address_hash", "relay", "address_hash"),
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
    Column("route", Text),  # the roads chosen for it, where they are not the message's
    Index("ix_recipient_tenant_id_address_hash_message_id", "tenant_id", "address_hash", "message_id"),
    Index("ix_recipient_tenant_id_status_message_id", "tenant_id", "status", "message_id"),
    CheckConstraint("status IN ({})".format(", ".join(f"'{status.value}'" for status in Status)), name="status"),
)

_ENDS_SOON = text("expires_at < due_at + 86400000 AND due_at < 100000000000000")

queue = _table(
    "queue",
    Column("shard", SmallInteger, primary_key=True, autoincrement=False),
    Column("lane", SmallInteger, primary_key=True, autoincrement=False),
    Column("due_at", Instant, primary_key=True, autoincrement=False),
    Column("message_id", Key, primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("tenant_id", Key, nullable=False),
    Column("flow", BigInteger, nullable=False),  # shard, lane, and a hash of pool, site and tenant: store.flows
    Column("pool", Text, nullable=False),
    Column("site", Text, nullable=False),
    Column("attempt", Integer, nullable=False),  # number of the next attempt, from 1
    Column("retries", Integer, nullable=False),  # attempts so far that used up the schedule
    Column("expires_at", Instant, nullable=False),
    Column("tried", Integer, nullable=False),  # roads of the message's route that failed since its last wait: bit 0 is the first
    Index("ix_queue_message_id_n", "message_id", "n", unique=True),
    Index("ix_queue_flow_due_at", "flow", "due_at"),
    # only what ends within a day of its due time and is not held: most mail needs no entry
    Index("ix_queue_shard_expires_at", "shard", "expires_at", sqlite_where=_ENDS_SOON, postgresql_where=_ENDS_SOON),
)

# Actions on mail that waits: hold, release, reroute, cancel by query

queue_action = _table(
    "queue_action",
    Column("id", Key, primary_key=True),
    Column("tenant_id", Key),  # NULL: the operator's, on everybody's mail
    Column("kind", Text, nullable=False),
    Column("filter", Json, nullable=False),
    Column("route", Text),  # of a reroute: the new one
    Column("note", Text, nullable=False),
    Column("actor_id", Key, nullable=False),
    Column("actor_name", Text, nullable=False),
    Column("created_at", Instant, nullable=False, index=True),
    Column("finished_at", Instant),
    CheckConstraint("kind IN ('hold', 'release', 'reroute', 'cancel')", name="kind"),
)

queue_action_shard = _table(
    "queue_action_shard",  # how far the owner of a shard has come with an action
    Column("action_id", Key, primary_key=True),
    Column("shard", SmallInteger, primary_key=True, autoincrement=False),
    Column("place", Json, nullable=False),  # lane, due_at, message_id, n of the last row that it is done with
    Column("changed", BigInteger, nullable=False),
    Column("finished_at", Instant),
)

# Streams that tenants made, and defaults that they changed

stream = _table(
    "stream",
    Column("tenant_id", Key, primary_key=True),
    Column("name", Key, primary_key=True),
    Column("lane", SmallInteger, nullable=False),
    Column("ttl_s", BigInteger),
    Column("retry", Text),
    Column("route", Text),
    Column("window", Json),  # of sending: days, from, until, zone
    Column("tracking", Json),  # domain.engagement.Tracking: only what is on
    Column("created_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
)

_BY_PROVIDER = text("provider_id IS NOT NULL")

attempt = _table(
    "attempt",
    Column("message_id", Key, primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("outcome", Text, nullable=False),
    Column("category", Text),
    Column("code", Integer),
    Column("enhanced", Text),
    Column("route", Text, nullable=False),  # the road that was taken
    Column("source", Text),
    Column("host", Text),
    Column("peer", Text),
    Column("tls", Text),
    Column("tls_policy", Text),
    Column("provider_id", Text),
    Column("started_at", Instant, nullable=False),
    Column("finished_at", Instant, nullable=False),
    Column("sealed", LargeBinary, nullable=False),  # detail, reply, transcript
    CheckConstraint("outcome IN ('delivered', 'deferred', 'failed', 'unknown')", name="outcome"),
    # only relays name their messages
    Index("ix_attempt_provider_id", "provider_id", sqlite_where=_BY_PROVIDER, postgresql_where=_BY_PROVIDER),
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
    Column("feed", BigInteger, nullable=False),  # its place in the order of commits: store.feed
    Index("ix_event_message_id_id", "message_id", "id"),
    Index("ix_event_tenant_id_feed_id", "tenant_id", "feed", "id"),
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

# Shaping: what the owner of a site knows of what each source sends it, what operators ordered, what warming up used.

flow_state = _table(
    "flow_state",
    Column("source", Key, primary_key=True),
    Column("site", Key, primary_key=True),
    Column("pool", Key, nullable=False),
    Column("shard", SmallInteger, nullable=False, index=True),
    Column("saved_at", Instant, nullable=False),
    Column("data", Json, nullable=False),  # domain.flow.FlowState without the signal's words
    Column("signal_sealed", LargeBinary),
)

site_rule = _table(
    "site_rule",
    Column("source", Key, primary_key=True),  # empty: every source
    Column("site", Key, primary_key=True),  # *: every site
    Column("limits", Json, nullable=False),
    Column("suspended_until", Instant),
    Column("lifted_at", Instant, nullable=False),  # what the gateway itself suspended before goes on
    Column("note", Text, nullable=False),
    Column("changed_at", Instant, nullable=False),
)

warm_up_count = _table(
    "warm_up_count",
    Column("source", Key, primary_key=True),
    Column("site", Key, primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),  # days since 1970-01-01, UTC
    Column("used", BigInteger, nullable=False),  # counted up before they are sent
)

config_version = _table(
    "config_version",
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
)

# routing: rules, and what is known of roads

route = _table(
    "route",  # rules that choose the roads of a message when it is accepted
    Column("id", Key, primary_key=True),
    Column("name", Key, nullable=False, unique=True),
    Column("position", Integer, nullable=False),  # they are asked in this order
    Column("rule", Json, nullable=False),  # whom it matches, its roads and how one of them is chosen: routes.to_json
    Column("created_at", Instant, nullable=False),
)

road_state = _table(
    "road_state",  # breaker and health of each road, as the dispatch process sees them that uses it
    Column("road", Key, primary_key=True),
    Column("source", Key, primary_key=True),  # empty for a relay
    Column("machine", Key, primary_key=True),  # empty for a relay, which has one owner
    Column("state", Text, nullable=False),
    Column("since", Instant, nullable=False),
    Column("reason", Text, nullable=False),
    Column("retry_at", Instant),  # when a road that is open may be tried again
    Column("openings", Integer, nullable=False),  # in a row
    Column("score", Integer, nullable=False),  # 0 to 100
    Column("counts", Json, nullable=False),  # of the last window: attempts, failures, deferrals, complaints, latency_ms
    Column("updated_at", Instant, nullable=False),
    CheckConstraint("state IN ('closed', 'open', 'half_open')", name="state"),
)

road_override = _table(
    "road_override",  # roads that a person switched off
    Column("road", Key, primary_key=True),
    Column("disabled_at", Instant, nullable=False),
    Column("note", Text, nullable=False),
)

# --- what is looked after: store.health

watch_lease = _table(
    "watch_lease",  # which process looks after what, so that several do it once
    Column("task", Key, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("expires_at", Instant, nullable=False),
)

domain_health = _table(
    "domain_health",  # what DNS said of a sender's domain when it was last looked at
    Column("domain_id", Key, primary_key=True),
    Column("tenant_id", Key, nullable=False),
    Column("checked_at", Instant, nullable=False),
    Column("due_at", Instant, nullable=False, index=True),
    Column("state", Text, nullable=False, index=True),
    Column("failing_since", Instant),
    Column("report", Json, nullable=False),
    CheckConstraint("state IN ('ok', 'broken', 'unknown')", name="state"),
)

source_health = _table(
    "source_health",  # what others see of an address that mail leaves from
    Column("address", Key, primary_key=True),
    Column("checked_at", Instant, nullable=False),
    Column("report", Json, nullable=False),
)

relay_health = _table(
    "relay_health",  # the last probe of each relay
    Column("relay", Key, primary_key=True),
    Column("checked_at", Instant, nullable=False),
    Column("is_ok", Boolean, nullable=False),
    Column("failing_since", Instant),
    Column("report", Json, nullable=False),
)

relay_minute = _table(
    "relay_minute",  # attempts at a relay; a row for each node, so that no two update the same one
    Column("relay", Key, primary_key=True),
    Column("minute", BigInteger, primary_key=True, autoincrement=False),  # since the epoch
    Column("node", Key, primary_key=True),
    Column("attempts", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),  # by the relay's fault
    Column("slow", BigInteger, nullable=False),
    Index("ix_relay_minute_minute", "minute"),
)

# --- what relays were used for: store.relay_use

relay_use = _table(
    "relay_use",  # recipients by relay and calendar window (UTC): an hour, a day or a month
    Column("relay", Key, primary_key=True),
    Column("span", Key, primary_key=True),  # 2026-11-24T13, 2026-11-24 or 2026-11
    Column("taken", BigInteger, nullable=False),  # of the quota, ahead of use: never less than what was used
    Column("used", BigInteger, nullable=False),  # sent; counted for days only
)

# TLS on the way out: policies that were fetched (MTA-STS), and what is counted for reports (RFC 8460)

mta_sts_policy = _table(
    "mta_sts_policy",
    Column("domain", Key, primary_key=True),
    Column("record_id", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("hosts", Json, nullable=False),
    Column("max_age_s", BigInteger, nullable=False),
    Column("fetched_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("refresh_at", Instant, nullable=False, index=True),
    Column("changed_at", Instant, nullable=False, index=True),
    Column("failing_since", Instant),
    Column("error", Text, nullable=False),
    CheckConstraint("mode IN ('enforce', 'testing', 'none')", name="mode"),
)

tls_result = _table(
    "tls_result",
    Column("day", Key, primary_key=True),  # 2026-11-24, UTC
    Column("domain", Key, primary_key=True),
    Column("id", Key, primary_key=True),  # hash of policy and failure
    Column("policy", Json, nullable=False),
    Column("failure", Json),  # NULL: as the policy asks
    Column("sessions", BigInteger, nullable=False),
)

tls_report = _table(
    "tls_report",
    Column("day", Key, primary_key=True),
    Column("domain", Key, primary_key=True),
    Column("state", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("claimed_at", Instant, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("sent_to", Json, nullable=False),
    Column("detail", Text, nullable=False),
    CheckConstraint("state IN ('claimed', 'sent', 'unwanted', 'failed')", name="state"),
)

# Which mail system takes a domain: store.systems

mail_system = _table(
    "mail_system",
    Column("domain", Key, primary_key=True),
    Column("site", Text),  # NULL: not found out yet
    Column("asked_at", Instant, nullable=False),  # the newest answer counts
    Column("expires_at", Instant, nullable=False, index=True),
    Column("failing_since", Instant),  # DNS has not answered since
    Column("detail", Text, nullable=False),  # why not
)

# --- webhooks: store.webhooks (who is told, and how far they are), store.hooks (what is on its way)

webhook = _table(
    "webhook",
    Column("id", Key, primary_key=True),
    Column("tenant_id", Key, nullable=False),
    Column("sealed", LargeBinary, nullable=False),  # URL, description, headers, secrets
    Column("events", Json, nullable=False),
    Column("streams", Json, nullable=False),
    Column("batch_size", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("disabled_at", Instant),
    Column("disabled_reason", Text, nullable=False),
    Index("ix_webhook_tenant_id_id", "tenant_id", "id"),
)

webhook_state = _table(
    "webhook_state",
    Column("webhook_id", Key, primary_key=True),
    Column("owner", Text),  # the process that delivers
    Column("lease_until", Instant, nullable=False),
    Column("feed", BigInteger, nullable=False),  # the last event that was looked at, by feed and id
    Column("event_id", Key, nullable=False),
    Column("seq", BigInteger, nullable=False),  # of the last hook
    Column("failing_since", Instant),
    Column("answered_at", Instant),  # with success, the last time
)

_IS_WAITING = text("status = 'waiting'")

hook = _table(
    "hook",
    Column("webhook_id", Key, primary_key=True),
    Column("event_id", Key, primary_key=True),
    Column("tenant_id", Key, nullable=False),
    Column("type", Text, nullable=False),
    Column("message_id", Key),
    Column("seq", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("due_at", Instant, nullable=False),  # far away while an earlier hook of the message waits
    Column("attempts", Integer, nullable=False),  # of the schedule: begins anew with a replay
    Column("created_at", Instant, nullable=False),
    Column("tried_at", Instant),
    Column("code", Integer),
    Column("latency_ms", Integer),
    Column("answer_sealed", LargeBinary),  # what was answered, or why nothing was; of failures only
    Index("ix_hook_webhook_id_due_at_seq", "webhook_id", "due_at", "seq", sqlite_where=_IS_WAITING, postgresql_where=_IS_WAITING),
    Index("ix_hook_webhook_id_message_id_seq", "webhook_id", "message_id", "seq", sqlite_where=_IS_WAITING, postgresql_where=_IS_WAITING),
    CheckConstraint("status IN ('waiting', 'delivered', 'failed')", name="status"),
)

# What comes back afterwards: store.reports

report_seen = _table(
    "report_seen",  # reports that were acted on: each counts once
    Column("id", Key, primary_key=True),
    Column("at", Instant, nullable=False, index=True),
)

tally = _table(
    "tally",  # what is counted before anything is done about it: bounces of an inactive mailbox, blocks by a site
    Column("subject", Key, primary_key=True),
    Column("item", Key, primary_key=True),
    Column("at", Instant, nullable=False, index=True),
)

inbound = _table(
    "inbound",  # mail and calls that came back and wait to be worked on: store.inbound
    Column("id", Key, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("source", Key, nullable=False),  # the relay whose hook it is
    Column("received_at", Instant, nullable=False),
    Column("due_at", Instant, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("claims", Integer, nullable=False),
    Column("state", Key, nullable=False),
    Column("detail", Text, nullable=False),
    Column("sealed", LargeBinary, nullable=False),  # details, body
    Index("ix_inbound_state_due_at", "state", "due_at"),
    CheckConstraint("kind IN ('mail', 'hook')", name="kind"),
    CheckConstraint("state IN ('waiting', 'quarantined', 'unread', 'unmatched')", name="state"),
    has_rowid=True,
)

domain_report = _table(
    "domain_report",  # DMARC aggregates and TLS reports of verified domains: store.domain_reports
    Column("id", Key, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("domain", Key, nullable=False),
    Column("received_at", Instant, nullable=False, index=True),
    Column("sealed", LargeBinary, nullable=False),
    Index("ix_domain_report_domain_kind_received_at", "domain", "kind", "received_at"),
    CheckConstraint("kind IN ('dmarc', 'tls')", name="kind"),
    has_rowid=True,
)

# --- numbers: store.rollups

rollup_delta = _table(
    "rollup_delta",  # what a transaction counted, until it is added to the rollups: nobody waits for anybody
    Column("id", Key, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

rollup = _table(
    "rollup",
    Column("cube", SmallInteger, primary_key=True, autoincrement=False),  # what the label is: nothing, a site, a tag, a template
    Column("span", SmallInteger, primary_key=True, autoincrement=False),  # how long: five minutes, an hour, a day (UTC), seven days
    Column("tenant_id", Key, primary_key=True),
    Column("at", Instant, primary_key=True, autoincrement=False),
    Column("domain", Key, primary_key=True),
    Column("stream", Key, primary_key=True),
    Column("road", Key, primary_key=True),
    Column("source", Key, primary_key=True),
    Column("label", Key, primary_key=True),
    *(Column(name, Integer) for name in FIELDS),  # NULL is 0: it takes no room
)

rollup_kept = _table(
    "rollup_kept",  # since when there are rows of a span; a little later than the truth, for who reads while some are removed
    Column("span", SmallInteger, primary_key=True, autoincrement=False),
    Column("since", Instant, nullable=False),
)

# --- what senders' teams are told: store.scores, store.unusual, store.report_subscriptions

deliverability_score = _table(
    "deliverability_score",
    Column("domain_id", Key, primary_key=True),
    Column("day", Key, primary_key=True),  # 2026-11-24, UTC; today's is written anew now and then
    Column("tenant_id", Key, nullable=False),
    Column("at", Instant, nullable=False),
    Column("score", Integer),  # NULL: nothing is known
    Column("report", Json, nullable=False),  # policy.deliverability.Score
)

_IS_OPEN = text("closed_at IS NULL")

unusual_change = _table(
    "unusual_change",  # rates that left their own history, and when they came back
    Column("id", Key, primary_key=True),
    Column("tenant_id", Key, nullable=False),
    Column("metric", Key, nullable=False),
    Column("scope", Key, nullable=False),  # tenant, domain, stream, relay, site
    Column("name", Key, nullable=False),  # which one; empty for a tenant
    Column("span", Key, nullable=False),  # hour, day
    Column("opened_at", Instant, nullable=False),
    Column("seen_at", Instant, nullable=False),
    Column("closed_at", Instant),
    Column("report", Json, nullable=False),  # expected, seen, worst, recipients, detail, advice
    Index("ix_unusual_change_tenant_id_id", "tenant_id", "id"),
    Index(
        "uq_unusual_change_open", "tenant_id", "metric", "scope", "name", "span", unique=True, sqlite_where=_IS_OPEN,
        postgresql_where=_IS_OPEN,
    ),
)  # fmt: skip

report_subscription = _table(
    "report_subscription",
    Column("id", Key, primary_key=True),
    Column("tenant_id", Key, nullable=False),
    Column("kind", Key, nullable=False),
    Column("address_hash", Key, nullable=False),
    Column("person_id", Key, index=True),
    Column("sealed", LargeBinary, nullable=False),  # address
    Column("zone", Text, nullable=False),
    Column("hour", SmallInteger, nullable=False),
    Column("weekday", SmallInteger, nullable=False),
    Column("domains", Json, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("next_at", Instant, nullable=False),
    Column("told_until", Instant, nullable=False),  # end of the last period that was told of
    Column("ended_at", Instant),
    Column("ended_by", Text, nullable=False),
    UniqueConstraint("tenant_id", "kind", "address_hash"),
    Index("ix_report_subscription_next_at", "next_at", sqlite_where=text("ended_at IS NULL"), postgresql_where=text("ended_at IS NULL")),
    CheckConstraint("kind IN ('bounces', 'complaints', 'weekly')", name="kind"),
)

report_sending = _table(
    "report_sending",  # one report of one period to one receiver: whoever inserts the row sends it
    Column("subscription_id", Key, primary_key=True),
    Column("period", Key, primary_key=True),
    Column("tenant_id", Key, nullable=False),
    Column("state", Key, nullable=False),
    Column("owner", Text, nullable=False),
    Column("first_at", Instant, nullable=False),
    Column("claimed_at", Instant, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("message_id", Key),
    Column("detail", Text, nullable=False),
    Index("ix_report_sending_state_claimed_at", "state", "claimed_at"),
    CheckConstraint("state IN ('claimed', 'sent', 'empty', 'failed')", name="state"),
)

# Mailboxes over IMAP: abuse mailboxes, and where test mail landed

mailbox = _table(
    "mailbox",  # how an abuse mailbox is doing: store.mailboxes
    Column("name", Key, primary_key=True),
    Column("checked_at", Instant, nullable=False),
    Column("due_at", Instant, nullable=False),
    Column("failing_since", Instant),
    Column("failures", Integer, nullable=False),  # in a row
    Column("detail", Text, nullable=False),
)

mailbox_letter = _table(
    "mailbox_letter",  # mail of an abuse mailbox that was stored, or left; an IMAP message is known by these three
    Column("mailbox", Key, primary_key=True),  # a hash of server, user and folder
    Column("uid_validity", BigInteger, primary_key=True, autoincrement=False),
    Column("uid", BigInteger, primary_key=True, autoincrement=False),
    Column("state", Text, nullable=False),
    Column("digest", Key, nullable=False),  # a keyed hash of its content: the same mail under a new UIDVALIDITY is not read again
    Column("stored_at", Instant, nullable=False),
    Column("marked_at", Instant),  # when the mailbox was told
    Index("ix_mailbox_letter_mailbox_digest", "mailbox", "digest"),
    CheckConstraint("state IN ('stored', 'again', 'too_large', 'unreadable')", name="state"),
)

placement_test = _table(
    "placement_test",  # mail to our own mailboxes at providers: store.placement
    Column("id", Key, primary_key=True),
    Column("tenant_id", Key, nullable=False),
    Column("domain", Key, nullable=False),  # the sender's
    Column("created_at", Instant, nullable=False),
    Column("deadline_at", Instant, nullable=False),
    Column("finished_at", Instant),
    Column("marker", Key, nullable=False),  # random; in a header of its mail
    Column("occasion", Key, unique=True),  # of a daily one: sent once, by whichever process
    Column("sealed", LargeBinary, nullable=False),  # sender, subject
    Index("ix_placement_test_tenant_id_domain_created_at", "tenant_id", "domain", "created_at"),
)

placement_result = _table(
    "placement_result",  # one seed of a test
    Column("test_id", Key, primary_key=True),
    Column("seed", Key, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("message_id", Key),
    Column("outcome", Key, nullable=False),
    Column("detail", Text, nullable=False),
    Column("folder", Text, nullable=False),
    Column("found_at", Instant),
    Column("after_ms", BigInteger),
    Column("authserv_id", Text, nullable=False),
    Column("spf", Text),
    Column("dkim", Text),
    Column("dmarc", Text),
    Index("ix_placement_result_waiting", "test_id", sqlite_where=text("outcome = 'waiting'"), postgresql_where=text("outcome = 'waiting'")),
    CheckConstraint("outcome IN ('waiting', 'inbox', 'spam', 'missing', 'unknown')", name="outcome"),
)

# What recipients do with tracked mail: store.engagement

message_links = _table(
    "message_links",  # where a tracked message's links lead; a token names one of them
    Column("message_id", Key, primary_key=True),
    Column("tenant_id", Key, nullable=False),
    Column("sealed", LargeBinary, nullable=False),  # targets, a list
    Column("ends_at", Instant, nullable=False, index=True),
)

engagement = _table(
    "engagement",  # how often each recipient did something, by who it was; events tell each time
    Column("message_id", Key, primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("kind", Key, primary_key=True),  # opened, clicked, unsubscribed
    Column("visitor", Key, primary_key=True),  # counted: whom the settings count; else a class: proxy, prefetch, bot
    Column("link", Key, primary_key=True),  # of a click; empty: of any link
    Column("first_at", Instant, nullable=False),
    Column("last_at", Instant, nullable=False),
    Column("total", Integer, nullable=False),
)
