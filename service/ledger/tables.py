"""The ledger's tables. `service.migrations` creates them; a test keeps the two equal.

Times are seconds since 1970 (UTC) in microsecond steps as double precision: the same on SQLite and PostgreSQL.
"""

from sqlalchemy import (
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(32), primary_key=True),  # uuid4, hex
    Column("owner", String(100), nullable=False),
    Column("case_id", String(128)),
    Column("state", String(16), nullable=False),
    Column("request", Text),
    Column("attempt", Integer, nullable=False),
    Column("stage", String(32)),
    Column("problem", Text),
    Column("version", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("not_before", Double, nullable=False),  # back-off: nobody may publish or claim it earlier
    Column("taken_until", Double, nullable=False),  # a dispatcher is publishing it
    Column("queued_at", Double),
    Column("sends", Integer, nullable=False),  # times it was given to the broker
    Column("worker", String(200)),
    Column("lease_until", Double),
    Column("cohort_id", String(32), ForeignKey("cohorts.id")),
    Column("item", Integer, nullable=False, server_default="0"),  # in its cohort, from 1; 0 for a case sent by itself
    Index("jobs_by_owner", "owner", "created_at", "id"),
    Index("jobs_by_end", "finished_at"),
    # The order of the queue, too: what was sent by itself goes first, then the first items of every cohort.
    Index("jobs_by_state", "state", "item", "created_at", "id"),
    Index("jobs_by_cohort", "cohort_id", "item", unique=True),
)

results = Table(
    "results",
    metadata,
    Column("job_id", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("document", Text, nullable=False),
    Column("preview", LargeBinary),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("owner", String(100), primary_key=True),
    Column("key_digest", String(64), primary_key=True),  # sha256: the caller's key may hold anything
    Column("fingerprint", String(64), nullable=False),
    Column("job_id", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Index("idempotency_by_job", "job_id"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(12), primary_key=True),  # public part of the key
    Column("name", String(100), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("scopes", String(100), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
)

processes = Table(
    "processes",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("device", String(64)),
    Column("beat_at", Double, nullable=False),
    Column("slots", Integer),  # jobs that a worker runs at once
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("job_id", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("target", String(500), nullable=False),  # the entry of the allow-list that lets the address in
    Column("address", Text, nullable=False),
    Column("status", String(16)),  # how the job ended; null until it has
    Column("ended_at", Double),
    Column("attempts", Integer, nullable=False),
    Column("due_at", Double),  # null until the job has ended
    Column("taken_until", Double, nullable=False),  # a dispatcher is delivering it
    Index("deliveries_by_target", "target", "due_at"),
)

cohorts = Table(
    "cohorts",
    metadata,
    Column("id", String(32), primary_key=True),  # uuid4, hex
    Column("owner", String(100), nullable=False),
    Column("options", Text, nullable=False),  # fields of the form that hold for every item
    Column("columns", Text, nullable=False),  # names of the manifest's columns, in order
    Column("items", Integer, nullable=False),
    Column("key_digest", String(64)),
    Column("fingerprint", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("removed_at", Double),  # to its owner it is gone; its jobs and files are being removed
    Index("cohorts_by_owner", "owner", "created_at", "id"),
    Index("cohorts_by_key", "owner", "key_digest", unique=True),
)

cohort_items = Table(
    "cohort_items",
    metadata,
    Column("cohort_id", String(32), ForeignKey("cohorts.id", ondelete="CASCADE"), primary_key=True),
    Column("item", Integer, primary_key=True),
    Column("cells", Text, nullable=False),  # the manifest's row
)
