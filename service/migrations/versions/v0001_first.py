"""The first schema: jobs, results, idempotency keys, API keys, processes."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this version."""
    _create_jobs()
    _create_content()
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(12), primary_key=True),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("scopes", sa.String(100), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double()),
        sa.Column("revoked_at", sa.Double()),
    )
    op.create_table(
        "processes",
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("device", sa.String(64)),
        sa.Column("beat_at", sa.Double(), nullable=False),
    )


def downgrade() -> None:
    """Go back to an empty database."""
    for table in ("processes", "api_keys", "idempotency", "results", "jobs"):
        op.drop_table(table)


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("owner", sa.String(100), nullable=False),
        sa.Column("case_id", sa.String(128)),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("request", sa.Text()),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(32)),
        sa.Column("problem", sa.Text()),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double()),
        sa.Column("finished_at", sa.Double()),
        sa.Column("not_before", sa.Double(), nullable=False),
        sa.Column("taken_until", sa.Double(), nullable=False),
        sa.Column("queued_at", sa.Double()),
        sa.Column("sends", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(200)),
        sa.Column("lease_until", sa.Double()),
    )
    op.create_index("jobs_by_owner", "jobs", ["owner", "created_at", "id"])
    op.create_index("jobs_by_state", "jobs", ["state", "created_at", "id"])


def _create_content() -> None:
    op.create_table(
        "results",
        sa.Column("job_id", sa.String(32), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("preview", sa.LargeBinary()),
    )
    op.create_table(
        "idempotency",
        sa.Column("owner", sa.String(100), primary_key=True),
        sa.Column("key_digest", sa.String(64), primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("job_id", sa.String(32), sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    )
    op.create_index("idempotency_by_job", "idempotency", ["job_id"])
