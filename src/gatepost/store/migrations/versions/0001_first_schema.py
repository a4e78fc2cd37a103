"""
The first schema.

Revision: first
Follows: nothing
"""

import sqlalchemy as sa
from alembic import op

revision = "first"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
PARTITIONED = ("message", "body", "attempt", "event", "capture")
HOT = ("queue", "recipient", "shard_lease", "node", "rollup_delta")
SHARDS = 64
VACUUM = "autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=5000, autovacuum_vacuum_cost_delay=0"


def upgrade() -> None:
    """Make every table, the leases of all shards, and on PostgreSQL the default partitions."""
    _create_tables()
    lease = sa.table("shard_lease", sa.column("shard"), sa.column("epoch"), sa.column("expires_at"))
    op.bulk_insert(lease, [{"shard": shard, "epoch": 0, "expires_at": 0} for shard in range(SHARDS)])
    op.bulk_insert(sa.table("config_version", sa.column("id"), sa.column("version")), [{"id": 1, "version": 1}])
    op.bulk_insert(sa.table("audit_head", sa.column("id"), sa.column("seq"), sa.column("hash")), [{"id": 1, "seq": 0, "hash": bytes(32)}])
    if op.get_bind().dialect.name == "postgresql":
        for name in PARTITIONED:
            op.execute(f"CREATE TABLE {name}_default PARTITION OF {name} DEFAULT")
        for name in HOT:
            # these see an update or delete per delivery: without eager vacuuming dead rows slow every scan
            op.execute(f"ALTER TABLE {name} SET ({VACUUM})")


def _create_tables() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", KEY, nullable=False),
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("previous_hash", sa.LargeBinary(), nullable=True),
        sa.Column("previous_until", sa.BigInteger(), nullable=True),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("trust_networks", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("domains", sa.Text(), nullable=False),
        sa.Column("streams", sa.Text(), nullable=False),
        sa.Column("networks", sa.Text(), nullable=False),
        sa.Column("limits", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_key"),
        sa.UniqueConstraint("secret_hash", name="uq_api_key_secret_hash"),
        sa.CheckConstraint("mode IN ('live', 'test')", name="ck_api_key_mode"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "attempt",
        sa.Column("message_id", KEY, nullable=False),
        sa.Column("n", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=True),
        sa.Column("code", sa.Integer(), nullable=True),
        sa.Column("enhanced", sa.Text(), nullable=True),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("host", sa.Text(), nullable=True),
        sa.Column("peer", sa.Text(), nullable=True),
        sa.Column("tls", sa.Text(), nullable=True),
        sa.Column("tls_policy", sa.Text(), nullable=True),
        sa.Column("provider_id", sa.Text(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("message_id", "n", "number", name="pk_attempt"),
        sa.CheckConstraint("outcome IN ('delivered', 'deferred', 'failed', 'unknown')", name="ck_attempt_outcome"),
        sqlite_with_rowid=False,
        postgresql_partition_by="RANGE (message_id)",
    )
    op.create_index(
        "ix_attempt_provider_id",
        "attempt",
        ["provider_id"],
        unique=False,
        sqlite_where=sa.text("provider_id IS NOT NULL"),
        postgresql_where=sa.text("provider_id IS NOT NULL"),
    )
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("id", KEY, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("tenant_id", KEY, nullable=True),
        sa.Column("actor_kind", sa.Text(), nullable=False),
        sa.Column("actor_id", KEY, nullable=False),
        sa.Column("actor_name", sa.Text(), nullable=False),
        sa.Column("peer", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("action", KEY, nullable=False),
        sa.Column("object_id", KEY, nullable=False),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("after", sa.Text(), nullable=True),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_audit"),
        sa.UniqueConstraint("id", name="uq_audit_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_audit_tenant_id_seq", "audit", ["tenant_id", "seq"], unique=False)
    op.create_table(
        "audit_head",
        sa.Column("id", sa.SmallInteger(), nullable=False, autoincrement=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_head"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "balance_entry",
        sa.Column("id", KEY, nullable=False),
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("micros", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("actor_id", KEY, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_balance_entry"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_balance_entry_tenant_id_id", "balance_entry", ["tenant_id", "id"], unique=False)
    op.create_table(
        "body",
        sa.Column("message_id", KEY, nullable=False),
        sa.Column("encoding", sa.Text(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("message_id", name="pk_body"),
        sa.CheckConstraint("encoding IN ('zstd', 'blob')", name="ck_body_encoding"),
        sqlite_with_rowid=True,
        postgresql_partition_by="RANGE (message_id)",
    )
    op.create_table(
        "capture",
        sa.Column("message_id", KEY, nullable=False),
        sa.Column("n", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("encoding", sa.Text(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("message_id", "n", name="pk_capture"),
        sa.CheckConstraint("encoding IN ('zstd', 'blob')", name="ck_capture_encoding"),
        sqlite_with_rowid=True,
        postgresql_partition_by="RANGE (message_id)",
    )
    op.create_table(
        "config_version",
        sa.Column("id", sa.SmallInteger(), nullable=False, autoincrement=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_config_version"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "data_key",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("day", KEY, nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("master_id", KEY, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "day", name="pk_data_key"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_data_key_master_id", "data_key", ["master_id"], unique=False)
    op.create_table(
        "deliverability_score",
        sa.Column("domain_id", KEY, nullable=False),
        sa.Column("day", KEY, nullable=False),
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("score", sa.Integer(), nullable=True),
        sa.Column("report", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("domain_id", "day", name="pk_deliverability_score"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "dkim_key",
        sa.Column("id", KEY, nullable=False),
        sa.Column("domain_id", KEY, nullable=False),
        sa.Column("selector", sa.Text(), nullable=False),
        sa.Column("algorithm", sa.Text(), nullable=False),
        sa.Column("private_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("public", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_dkim_key"),
        sa.UniqueConstraint("domain_id", "selector", name="uq_dkim_key_domain_id_selector"),
        sa.CheckConstraint("status IN ('pending', 'active', 'retired')", name="ck_dkim_key_status"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_dkim_key_domain_id", "dkim_key", ["domain_id"], unique=False)
    op.create_table(
        "domain",
        sa.Column("id", KEY, nullable=False),
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("name", KEY, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("is_trusted", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("verified_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_domain"),
        sa.UniqueConstraint("tenant_id", "name", name="uq_domain_tenant_id_name"),
        sa.CheckConstraint("status IN ('pending', 'verified')", name="ck_domain_status"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "domain_health",
        sa.Column("domain_id", KEY, nullable=False),
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("checked_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("failing_since", sa.BigInteger(), nullable=True),
        sa.Column("report", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("domain_id", name="pk_domain_health"),
        sa.CheckConstraint("state IN ('ok', 'broken', 'unknown')", name="ck_domain_health_state"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_domain_health_due_at", "domain_health", ["due_at"], unique=False)
    op.create_index("ix_domain_health_state", "domain_health", ["state"], unique=False)
    op.create_table(
        "domain_report",
        sa.Column("id", KEY, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("domain", KEY, nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_domain_report"),
        sa.CheckConstraint("kind IN ('dmarc', 'tls')", name="ck_domain_report_kind"),
        sqlite_with_rowid=True,
    )
    op.create_index("ix_domain_report_domain_kind_received_at", "domain_report", ["domain", "kind", "received_at"], unique=False)
    op.create_index("ix_domain_report_received_at", "domain_report", ["received_at"], unique=False)
    op.create_table(
        "engagement",
        sa.Column("message_id", KEY, nullable=False),
        sa.Column("n", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("kind", KEY, nullable=False),
        sa.Column("visitor", KEY, nullable=False),
        sa.Column("link", KEY, nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("message_id", "n", "kind", "visitor", "link", name="pk_engagement"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "event",
        sa.Column("id", KEY, nullable=False),
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("message_id", KEY, nullable=True),
        sa.Column("n", sa.Integer(), nullable=True),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("feed", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_event"),
        sqlite_with_rowid=False,
        postgresql_partition_by="RANGE (id)",
    )
    op.create_index("ix_event_message_id_id", "event", ["message_id", "id"], unique=False)
    op.create_index("ix_event_tenant_id_feed_id", "event", ["tenant_id", "feed", "id"], unique=False)
    op.create_table(
        "flow_state",
        sa.Column("source", KEY, nullable=False),
        sa.Column("site", KEY, nullable=False),
        sa.Column("pool", KEY, nullable=False),
        sa.Column("shard", sa.SmallInteger(), nullable=False),
        sa.Column("saved_at", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("signal_sealed", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("source", "site", name="pk_flow_state"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_flow_state_shard", "flow_state", ["shard"], unique=False)
    op.create_table(
        "hook",
        sa.Column("webhook_id", KEY, nullable=False),
        sa.Column("event_id", KEY, nullable=False),
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("message_id", KEY, nullable=True),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("tried_at", sa.BigInteger(), nullable=True),
        sa.Column("code", sa.Integer(), nullable=True),
        sa.Column("latency_ms", sa.Integer(), nullable=True),
        sa.Column("answer_sealed", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("webhook_id", "event_id", name="pk_hook"),
        sa.CheckConstraint("status IN ('waiting', 'delivered', 'failed')", name="ck_hook_status"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_hook_webhook_id_due_at_seq",
        "hook",
        ["webhook_id", "due_at", "seq"],
        unique=False,
        sqlite_where=sa.text("status = 'waiting'"),
        postgresql_where=sa.text("status = 'waiting'"),
    )
    op.create_index(
        "ix_hook_webhook_id_message_id_seq",
        "hook",
        ["webhook_id", "message_id", "seq"],
        unique=False,
        sqlite_where=sa.text("status = 'waiting'"),
        postgresql_where=sa.text("status = 'waiting'"),
    )
    op.create_table(
        "idempotency",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "key_hash", name="pk_idempotency"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_idempotency_expires_at", "idempotency", ["expires_at"], unique=False)
    op.create_table(
        "inbound",
        sa.Column("id", KEY, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("source", KEY, nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("claims", sa.Integer(), nullable=False),
        sa.Column("state", KEY, nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_inbound"),
        sa.CheckConstraint("state IN ('waiting', 'quarantined', 'unread', 'unmatched')", name="ck_inbound_state"),
        sa.CheckConstraint("kind IN ('mail', 'hook')", name="ck_inbound_kind"),
        sqlite_with_rowid=True,
    )
    op.create_index("ix_inbound_state_due_at", "inbound", ["state", "due_at"], unique=False)
    op.create_table(
        "last_use",
        sa.Column("principal_id", KEY, nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=False),
        sa.Column("peer", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("principal_id", name="pk_last_use"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "mail_system",
        sa.Column("domain", KEY, nullable=False),
        sa.Column("site", sa.Text(), nullable=True),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("failing_since", sa.BigInteger(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("domain", name="pk_mail_system"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_mail_system_expires_at", "mail_system", ["expires_at"], unique=False)
    op.create_table(
        "mailbox",
        sa.Column("name", KEY, nullable=False),
        sa.Column("checked_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("failing_since", sa.BigInteger(), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_mailbox"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "mailbox_letter",
        sa.Column("mailbox", KEY, nullable=False),
        sa.Column("uid_validity", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("uid", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("digest", KEY, nullable=False),
        sa.Column("stored_at", sa.BigInteger(), nullable=False),
        sa.Column("marked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("mailbox", "uid_validity", "uid", name="pk_mailbox_letter"),
        sa.CheckConstraint("state IN ('stored', 'again', 'too_large', 'unreadable')", name="ck_mailbox_letter_state"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_mailbox_letter_mailbox_digest", "mailbox_letter", ["mailbox", "digest"], unique=False)
    op.create_table(
        "membership",
        sa.Column("person_id", KEY, nullable=False),
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("person_id", "tenant_id", name="pk_membership"),
        sa.CheckConstraint("role IN ('owner', 'admin', 'developer', 'viewer')", name="ck_membership_role"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_membership_tenant_id_person_id", "membership", ["tenant_id", "person_id"], unique=False)
    op.create_table(
        "message",
        sa.Column("id", KEY, nullable=False),
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("stream", KEY, nullable=False),
        sa.Column("lane", sa.SmallInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("key_id", KEY, nullable=False),
        sa.Column("from_domain", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("is_8bit", sa.Boolean(), nullable=False),
        sa.Column("is_smtputf8", sa.Boolean(), nullable=False),
        sa.Column("is_sandbox", sa.Boolean(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("scheduled_at", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_message"),
        sqlite_with_rowid=False,
        postgresql_partition_by="RANGE (id)",
    )
    op.create_index("ix_message_tenant_id_id", "message", ["tenant_id", "id"], unique=False)
    op.create_index("ix_message_tenant_id_stream_id", "message", ["tenant_id", "stream", "id"], unique=False)
    op.create_table(
        "message_links",
        sa.Column("message_id", KEY, nullable=False),
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("message_id", name="pk_message_links"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_message_links_ends_at", "message_links", ["ends_at"], unique=False)
    op.create_table(
        "message_tag",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("tag", KEY, nullable=False),
        sa.Column("message_id", KEY, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "tag", "message_id", name="pk_message_tag"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "mta_sts_policy",
        sa.Column("domain", KEY, nullable=False),
        sa.Column("record_id", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("hosts", sa.Text(), nullable=False),
        sa.Column("max_age_s", sa.BigInteger(), nullable=False),
        sa.Column("fetched_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("refresh_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("failing_since", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("domain", name="pk_mta_sts_policy"),
        sa.CheckConstraint("mode IN ('enforce', 'testing', 'none')", name="ck_mta_sts_policy_mode"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_mta_sts_policy_changed_at", "mta_sts_policy", ["changed_at"], unique=False)
    op.create_index("ix_mta_sts_policy_refresh_at", "mta_sts_policy", ["refresh_at"], unique=False)
    op.create_table(
        "node",
        sa.Column("id", KEY, nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("roles", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("heartbeat_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_node"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "oauth_client",
        sa.Column("id", KEY, nullable=False),
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=True),
        sa.Column("previous_hash", sa.LargeBinary(), nullable=True),
        sa.Column("previous_until", sa.BigInteger(), nullable=True),
        sa.Column("jwks", sa.Text(), nullable=True),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("domains", sa.Text(), nullable=False),
        sa.Column("streams", sa.Text(), nullable=False),
        sa.Column("networks", sa.Text(), nullable=False),
        sa.Column("limits", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_oauth_client"),
        sa.CheckConstraint("mode IN ('live', 'test')", name="ck_oauth_client_mode"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "one_time_link",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("id", KEY, nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("email_hash", KEY, nullable=True),
        sa.Column("person_id", KEY, nullable=True),
        sa.Column("tenant_id", KEY, nullable=True),
        sa.Column("role", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("token_hash", name="pk_one_time_link"),
        sa.UniqueConstraint("id", name="uq_one_time_link_id"),
        sa.CheckConstraint("purpose IN ('setup', 'invitation', 'reset')", name="ck_one_time_link_purpose"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_one_time_link_email_hash", "one_time_link", ["email_hash"], unique=False)
    op.create_index("ix_one_time_link_expires_at", "one_time_link", ["expires_at"], unique=False)
    op.create_table(
        "passkey",
        sa.Column("id", KEY, nullable=False),
        sa.Column("person_id", KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("sign_count", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_passkey"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_passkey_person_id", "passkey", ["person_id"], unique=False)
    op.create_table(
        "person",
        sa.Column("id", KEY, nullable=False),
        sa.Column("email_hash", KEY, nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("is_operator", sa.Boolean(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("has_totp", sa.Boolean(), nullable=False),
        sa.Column("recovery_hashes", sa.Text(), nullable=False),
        sa.Column("totp_used_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_person"),
        sa.UniqueConstraint("email_hash", name="uq_person_email_hash"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "person_identity",
        sa.Column("issuer", KEY, nullable=False),
        sa.Column("subject", KEY, nullable=False),
        sa.Column("person_id", KEY, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("issuer", "subject", name="pk_person_identity"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_person_identity_person_id", "person_identity", ["person_id"], unique=False)
    op.create_table(
        "placement_result",
        sa.Column("test_id", KEY, nullable=False),
        sa.Column("seed", KEY, nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("message_id", KEY, nullable=True),
        sa.Column("outcome", KEY, nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("found_at", sa.BigInteger(), nullable=True),
        sa.Column("after_ms", sa.BigInteger(), nullable=True),
        sa.Column("authserv_id", sa.Text(), nullable=False),
        sa.Column("spf", sa.Text(), nullable=True),
        sa.Column("dkim", sa.Text(), nullable=True),
        sa.Column("dmarc", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("test_id", "seed", name="pk_placement_result"),
        sa.CheckConstraint("outcome IN ('waiting', 'inbox', 'spam', 'missing', 'unknown')", name="ck_placement_result_outcome"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_placement_result_waiting",
        "placement_result",
        ["test_id"],
        unique=False,
        sqlite_where=sa.text("outcome = 'waiting'"),
        postgresql_where=sa.text("outcome = 'waiting'"),
    )
    op.create_table(
        "placement_test",
        sa.Column("id", KEY, nullable=False),
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("domain", KEY, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("deadline_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("marker", KEY, nullable=False),
        sa.Column("occasion", KEY, nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_placement_test"),
        sa.UniqueConstraint("occasion", name="uq_placement_test_occasion"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_placement_test_tenant_id_domain_created_at", "placement_test", ["tenant_id", "domain", "created_at"], unique=False)
    op.create_table(
        "queue",
        sa.Column("shard", sa.SmallInteger(), nullable=False, autoincrement=False),
        sa.Column("lane", sa.SmallInteger(), nullable=False, autoincrement=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("message_id", KEY, nullable=False),
        sa.Column("n", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("flow", sa.BigInteger(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("site", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("tried", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("shard", "lane", "due_at", "message_id", "n", name="pk_queue"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_queue_flow_due_at", "queue", ["flow", "due_at"], unique=False)
    op.create_index("ix_queue_message_id_n", "queue", ["message_id", "n"], unique=True)
    op.create_index(
        "ix_queue_shard_expires_at",
        "queue",
        ["shard", "expires_at"],
        unique=False,
        sqlite_where=sa.text("expires_at < due_at + 86400000 AND due_at < 100000000000000"),
        postgresql_where=sa.text("expires_at < due_at + 86400000 AND due_at < 100000000000000"),
    )
    op.create_table(
        "queue_action",
        sa.Column("id", KEY, nullable=False),
        sa.Column("tenant_id", KEY, nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("filter", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("actor_id", KEY, nullable=False),
        sa.Column("actor_name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_queue_action"),
        sa.CheckConstraint("kind IN ('hold', 'release', 'reroute', 'cancel')", name="ck_queue_action_kind"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_queue_action_created_at", "queue_action", ["created_at"], unique=False)
    op.create_table(
        "queue_action_shard",
        sa.Column("action_id", KEY, nullable=False),
        sa.Column("shard", sa.SmallInteger(), nullable=False, autoincrement=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("action_id", "shard", name="pk_queue_action_shard"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "quota",
        sa.Column("subject", KEY, nullable=False),
        sa.Column("resource", KEY, nullable=False),
        sa.Column("per", KEY, nullable=False),
        sa.Column("starts_at", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subject", "resource", "per", "starts_at", name="pk_quota"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "recipient",
        sa.Column("message_id", KEY, nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("address_hash", KEY, nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("site", sa.Text(), nullable=False),
        sa.Column("status", KEY, nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("reply_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("last_host", sa.Text(), nullable=True),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("final_at", sa.BigInteger(), nullable=True),
        sa.Column("notify", sa.Text(), nullable=True),
        sa.Column("route", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("message_id", "n", name="pk_recipient"),
        sa.CheckConstraint(
            "status IN ('scheduled', 'queued', 'deferred', 'sent', 'delivered', 'bounced', 'suppressed', 'expired', 'cancelled')",
            name="ck_recipient_status",
        ),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_recipient_tenant_id_address_hash_message_id", "recipient", ["tenant_id", "address_hash", "message_id"], unique=False
    )
    op.create_index("ix_recipient_tenant_id_status_message_id", "recipient", ["tenant_id", "status", "message_id"], unique=False)
    op.create_table(
        "relay_health",
        sa.Column("relay", KEY, nullable=False),
        sa.Column("checked_at", sa.BigInteger(), nullable=False),
        sa.Column("is_ok", sa.Boolean(), nullable=False),
        sa.Column("failing_since", sa.BigInteger(), nullable=True),
        sa.Column("report", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("relay", name="pk_relay_health"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "relay_list",
        sa.Column("relay", KEY, nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("cursor_sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("relay", name="pk_relay_list"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "relay_listed",
        sa.Column("relay", KEY, nullable=False),
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("address_hash", KEY, nullable=False),
        sa.Column("stream", KEY, nullable=False),
        sa.Column("reason", KEY, nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("relay", "tenant_id", "address_hash", "stream", name="pk_relay_listed"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_relay_listed_relay_address_hash", "relay_listed", ["relay", "address_hash"], unique=False)
    op.create_index("ix_relay_listed_relay_seen_at", "relay_listed", ["relay", "seen_at"], unique=False)
    op.create_index("ix_relay_listed_tenant_id_address_hash", "relay_listed", ["tenant_id", "address_hash"], unique=False)
    op.create_table(
        "relay_minute",
        sa.Column("relay", KEY, nullable=False),
        sa.Column("minute", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("node", KEY, nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("slow", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("relay", "minute", "node", name="pk_relay_minute"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_relay_minute_minute", "relay_minute", ["minute"], unique=False)
    op.create_table(
        "relay_use",
        sa.Column("relay", KEY, nullable=False),
        sa.Column("span", KEY, nullable=False),
        sa.Column("taken", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("relay", "span", name="pk_relay_use"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "report_seen",
        sa.Column("id", KEY, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_report_seen"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_report_seen_at", "report_seen", ["at"], unique=False)
    op.create_table(
        "report_sending",
        sa.Column("subscription_id", KEY, nullable=False),
        sa.Column("period", KEY, nullable=False),
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("state", KEY, nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("claimed_at", sa.BigInteger(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("message_id", KEY, nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("subscription_id", "period", name="pk_report_sending"),
        sa.CheckConstraint("state IN ('claimed', 'sent', 'empty', 'failed')", name="ck_report_sending_state"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_report_sending_state_claimed_at", "report_sending", ["state", "claimed_at"], unique=False)
    op.create_table(
        "report_subscription",
        sa.Column("id", KEY, nullable=False),
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("kind", KEY, nullable=False),
        sa.Column("address_hash", KEY, nullable=False),
        sa.Column("person_id", KEY, nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("zone", sa.Text(), nullable=False),
        sa.Column("hour", sa.SmallInteger(), nullable=False),
        sa.Column("weekday", sa.SmallInteger(), nullable=False),
        sa.Column("domains", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("told_until", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_report_subscription"),
        sa.UniqueConstraint("tenant_id", "kind", "address_hash", name="uq_report_subscription_tenant_id_kind_address_hash"),
        sa.CheckConstraint("kind IN ('bounces', 'complaints', 'weekly')", name="ck_report_subscription_kind"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_report_subscription_next_at",
        "report_subscription",
        ["next_at"],
        unique=False,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index("ix_report_subscription_person_id", "report_subscription", ["person_id"], unique=False)
    op.create_table(
        "road_override",
        sa.Column("road", KEY, nullable=False),
        sa.Column("disabled_at", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("road", name="pk_road_override"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "road_state",
        sa.Column("road", KEY, nullable=False),
        sa.Column("source", KEY, nullable=False),
        sa.Column("machine", KEY, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("retry_at", sa.BigInteger(), nullable=True),
        sa.Column("openings", sa.Integer(), nullable=False),
        sa.Column("score", sa.Integer(), nullable=False),
        sa.Column("counts", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("road", "source", "machine", name="pk_road_state"),
        sa.CheckConstraint("state IN ('closed', 'open', 'half_open')", name="ck_road_state_state"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "rollup",
        sa.Column("cube", sa.SmallInteger(), nullable=False, autoincrement=False),
        sa.Column("span", sa.SmallInteger(), nullable=False, autoincrement=False),
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("domain", KEY, nullable=False),
        sa.Column("stream", KEY, nullable=False),
        sa.Column("road", KEY, nullable=False),
        sa.Column("source", KEY, nullable=False),
        sa.Column("label", KEY, nullable=False),
        sa.Column("messages", sa.Integer(), nullable=True),
        sa.Column("accepted", sa.Integer(), nullable=True),
        sa.Column("suppressed", sa.Integer(), nullable=True),
        sa.Column("attempted", sa.Integer(), nullable=True),
        sa.Column("sent", sa.Integer(), nullable=True),
        sa.Column("delivered", sa.Integer(), nullable=True),
        sa.Column("deferred", sa.Integer(), nullable=True),
        sa.Column("deferred_first", sa.Integer(), nullable=True),
        sa.Column("bounced", sa.Integer(), nullable=True),
        sa.Column("expired", sa.Integer(), nullable=True),
        sa.Column("cancelled", sa.Integer(), nullable=True),
        sa.Column("retried", sa.Integer(), nullable=True),
        sa.Column("complained", sa.Integer(), nullable=True),
        sa.Column("opened", sa.Integer(), nullable=True),
        sa.Column("opens", sa.Integer(), nullable=True),
        sa.Column("clicked", sa.Integer(), nullable=True),
        sa.Column("clicks", sa.Integer(), nullable=True),
        sa.Column("unsubscribed", sa.Integer(), nullable=True),
        sa.Column("machine_opens", sa.Integer(), nullable=True),
        sa.Column("machine_clicks", sa.Integer(), nullable=True),
        sa.Column("left_sent", sa.Integer(), nullable=True),
        sa.Column("left_delivered", sa.Integer(), nullable=True),
        sa.Column("left_bounced", sa.Integer(), nullable=True),
        sa.Column("left_expired", sa.Integer(), nullable=True),
        sa.Column("left_cancelled", sa.Integer(), nullable=True),
        sa.Column("bounced_invalid_recipient", sa.Integer(), nullable=True),
        sa.Column("bounced_invalid_domain", sa.Integer(), nullable=True),
        sa.Column("bounced_mailbox_inactive", sa.Integer(), nullable=True),
        sa.Column("bounced_mailbox_full", sa.Integer(), nullable=True),
        sa.Column("bounced_message_too_large", sa.Integer(), nullable=True),
        sa.Column("bounced_spam_content", sa.Integer(), nullable=True),
        sa.Column("bounced_content_rejected", sa.Integer(), nullable=True),
        sa.Column("bounced_malware", sa.Integer(), nullable=True),
        sa.Column("bounced_reputation_block", sa.Integer(), nullable=True),
        sa.Column("bounced_auth_failure", sa.Integer(), nullable=True),
        sa.Column("bounced_policy_rejected", sa.Integer(), nullable=True),
        sa.Column("bounced_relay_denied", sa.Integer(), nullable=True),
        sa.Column("bounced_rate_limited", sa.Integer(), nullable=True),
        sa.Column("bounced_network", sa.Integer(), nullable=True),
        sa.Column("bounced_expired", sa.Integer(), nullable=True),
        sa.Column("bounced_remote_system", sa.Integer(), nullable=True),
        sa.Column("bounced_suppressed", sa.Integer(), nullable=True),
        sa.Column("bounced_auto_reply", sa.Integer(), nullable=True),
        sa.Column("bounced_challenge", sa.Integer(), nullable=True),
        sa.Column("bounced_complaint", sa.Integer(), nullable=True),
        sa.Column("bounced_delivered", sa.Integer(), nullable=True),
        sa.Column("bounced_undetermined", sa.Integer(), nullable=True),
        sa.Column("wait_0", sa.Integer(), nullable=True),
        sa.Column("wait_1", sa.Integer(), nullable=True),
        sa.Column("wait_2", sa.Integer(), nullable=True),
        sa.Column("wait_3", sa.Integer(), nullable=True),
        sa.Column("wait_4", sa.Integer(), nullable=True),
        sa.Column("wait_5", sa.Integer(), nullable=True),
        sa.Column("wait_6", sa.Integer(), nullable=True),
        sa.Column("wait_7", sa.Integer(), nullable=True),
        sa.Column("wait_8", sa.Integer(), nullable=True),
        sa.Column("wait_9", sa.Integer(), nullable=True),
        sa.Column("wait_10", sa.Integer(), nullable=True),
        sa.Column("wait_11", sa.Integer(), nullable=True),
        sa.Column("wait_12", sa.Integer(), nullable=True),
        sa.Column("wait_13", sa.Integer(), nullable=True),
        sa.Column("wait_14", sa.Integer(), nullable=True),
        sa.Column("wait_15", sa.Integer(), nullable=True),
        sa.Column("wait_16", sa.Integer(), nullable=True),
        sa.Column("wait_17", sa.Integer(), nullable=True),
        sa.Column("wait_18", sa.Integer(), nullable=True),
        sa.Column("wait_19", sa.Integer(), nullable=True),
        sa.Column("wait_20", sa.Integer(), nullable=True),
        sa.Column("wait_21", sa.Integer(), nullable=True),
        sa.Column("wait_22", sa.Integer(), nullable=True),
        sa.Column("wait_23", sa.Integer(), nullable=True),
        sa.Column("wait_24", sa.Integer(), nullable=True),
        sa.Column("wait_25", sa.Integer(), nullable=True),
        sa.Column("wait_26", sa.Integer(), nullable=True),
        sa.Column("wait_27", sa.Integer(), nullable=True),
        sa.Column("wait_28", sa.Integer(), nullable=True),
        sa.Column("wait_29", sa.Integer(), nullable=True),
        sa.Column("wait_30", sa.Integer(), nullable=True),
        sa.Column("wait_31", sa.Integer(), nullable=True),
        sa.Column("wait_32", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("cube", "span", "tenant_id", "at", "domain", "stream", "road", "source", "label", name="pk_rollup"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "rollup_delta",
        sa.Column("id", KEY, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rollup_delta"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "rollup_kept",
        sa.Column("span", sa.SmallInteger(), nullable=False, autoincrement=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("span", name="pk_rollup_kept"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "route",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", KEY, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_route"),
        sa.UniqueConstraint("name", name="uq_route_name"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "session",
        sa.Column("id", KEY, nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("person_id", KEY, nullable=False),
        sa.Column("tenant_id", KEY, nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("peer", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("proved_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_session"),
        sa.UniqueConstraint("token_hash", name="uq_session_token_hash"),
        sa.CheckConstraint("state IN ('password', 'open')", name="ck_session_state"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_session_expires_at", "session", ["expires_at"], unique=False)
    op.create_index("ix_session_person_id", "session", ["person_id"], unique=False)
    op.create_table(
        "shard_lease",
        sa.Column("shard", sa.SmallInteger(), nullable=False, autoincrement=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("shard", name="pk_shard_lease"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "site_rule",
        sa.Column("source", KEY, nullable=False),
        sa.Column("site", KEY, nullable=False),
        sa.Column("limits", sa.Text(), nullable=False),
        sa.Column("suspended_until", sa.BigInteger(), nullable=True),
        sa.Column("lifted_at", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source", "site", name="pk_site_rule"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "site_state",
        sa.Column("site", KEY, nullable=False),
        sa.Column("paused_at", sa.BigInteger(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("site", name="pk_site_state"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "source_health",
        sa.Column("address", KEY, nullable=False),
        sa.Column("checked_at", sa.BigInteger(), nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("address", name="pk_source_health"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "spent_token",
        sa.Column("jti", KEY, nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("jti", name="pk_spent_token"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_spent_token_expires_at", "spent_token", ["expires_at"], unique=False)
    op.create_table(
        "stream",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("name", KEY, nullable=False),
        sa.Column("lane", sa.SmallInteger(), nullable=False),
        sa.Column("ttl_s", sa.BigInteger(), nullable=True),
        sa.Column("retry", sa.Text(), nullable=True),
        sa.Column("route", sa.Text(), nullable=True),
        sa.Column("window", sa.Text(), nullable=True),
        sa.Column("tracking", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "name", name="pk_stream"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "suppression",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("address_hash", KEY, nullable=False),
        sa.Column("stream", KEY, nullable=False),
        sa.Column("id", KEY, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "address_hash", "stream", name="pk_suppression"),
        sa.UniqueConstraint("id", name="uq_suppression_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "suppression_due",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("address_hash", KEY, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "address_hash", name="pk_suppression_due"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_suppression_due_due_at", "suppression_due", ["due_at"], unique=False)
    op.create_table(
        "suppression_lift",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("address_hash", KEY, nullable=False),
        sa.Column("id", KEY, nullable=False),
        sa.Column("lifted_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "address_hash", name="pk_suppression_lift"),
        sa.UniqueConstraint("id", name="uq_suppression_lift_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_suppression_lift_used_at", "suppression_lift", ["used_at"], unique=False)
    op.create_table(
        "tally",
        sa.Column("subject", KEY, nullable=False),
        sa.Column("item", KEY, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subject", "item", name="pk_tally"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_tally_at", "tally", ["at"], unique=False)
    op.create_table(
        "tenant",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("suspended_at", sa.BigInteger(), nullable=True),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("price_micros", sa.BigInteger(), nullable=False),
        sa.Column("balance_micros", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_tenant"),
        sa.UniqueConstraint("name", name="uq_tenant_name"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_tenant_suspended_at", "tenant", ["suspended_at"], unique=False)
    op.create_table(
        "tenant_limit",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("resource", KEY, nullable=False),
        sa.Column("per", KEY, nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "resource", "per", name="pk_tenant_limit"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tls_report",
        sa.Column("day", KEY, nullable=False),
        sa.Column("domain", KEY, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("claimed_at", sa.BigInteger(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("sent_to", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("day", "domain", name="pk_tls_report"),
        sa.CheckConstraint("state IN ('claimed', 'sent', 'unwanted', 'failed')", name="ck_tls_report_state"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tls_result",
        sa.Column("day", KEY, nullable=False),
        sa.Column("domain", KEY, nullable=False),
        sa.Column("id", KEY, nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("sessions", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "domain", "id", name="pk_tls_result"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "token_key",
        sa.Column("id", KEY, nullable=False),
        sa.Column("algorithm", sa.Text(), nullable=False),
        sa.Column("private_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("public_jwk", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_token_key"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "unusual_change",
        sa.Column("id", KEY, nullable=False),
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("metric", KEY, nullable=False),
        sa.Column("scope", KEY, nullable=False),
        sa.Column("name", KEY, nullable=False),
        sa.Column("span", KEY, nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("report", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_unusual_change"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_unusual_change_tenant_id_id", "unusual_change", ["tenant_id", "id"], unique=False)
    op.create_index(
        "uq_unusual_change_open",
        "unusual_change",
        ["tenant_id", "metric", "scope", "name", "span"],
        unique=True,
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_table(
        "usage",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("day", KEY, nullable=False),
        sa.Column("route", KEY, nullable=False),
        sa.Column("node", KEY, nullable=False),
        sa.Column("messages", sa.BigInteger(), nullable=False),
        sa.Column("recipients", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("cost_micros", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "day", "route", "node", name="pk_usage"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "warm_up_count",
        sa.Column("source", KEY, nullable=False),
        sa.Column("site", KEY, nullable=False),
        sa.Column("day", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source", "site", "day", name="pk_warm_up_count"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "watch_lease",
        sa.Column("task", KEY, nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("task", name="pk_watch_lease"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "webhook",
        sa.Column("id", KEY, nullable=False),
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("events", sa.Text(), nullable=False),
        sa.Column("streams", sa.Text(), nullable=False),
        sa.Column("batch_size", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        sa.Column("disabled_reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhook"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_webhook_tenant_id_id", "webhook", ["tenant_id", "id"], unique=False)
    op.create_table(
        "webhook_state",
        sa.Column("webhook_id", KEY, nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=False),
        sa.Column("feed", sa.BigInteger(), nullable=False),
        sa.Column("event_id", KEY, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("failing_since", sa.BigInteger(), nullable=True),
        sa.Column("answered_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("webhook_id", name="pk_webhook_state"),
        sqlite_with_rowid=False,
    )
