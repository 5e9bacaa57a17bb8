"""Cohorts: manifests of many cases, and the place of a cohort's jobs in the queue."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this version."""
    op.create_table(
        "cohorts",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("owner", sa.String(100), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("columns", sa.Text(), nullable=False),
        sa.Column("items", sa.Integer(), nullable=False),
        sa.Column("key_digest", sa.String(64)),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("removed_at", sa.Double()),
    )
    op.create_index("cohorts_by_owner", "cohorts", ["owner", "created_at", "id"])
    op.create_index("cohorts_by_key", "cohorts", ["owner", "key_digest"], unique=True)
    op.create_table(
        "cohort_items",
        sa.Column("cohort_id", sa.String(32), sa.ForeignKey("cohorts.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("item", sa.Integer(), primary_key=True),
        sa.Column("cells", sa.Text(), nullable=False),
    )
    cohort_id = sa.Column("cohort_id", sa.String(32), sa.ForeignKey("cohorts.id"))
    # SQLite adds a column with its reference, but no constraint to a table that is there.
    op.add_column("jobs", cohort_id, inline_references=True)
    op.add_column("jobs", sa.Column("item", sa.Integer(), nullable=False, server_default="0"))
    op.create_index("jobs_by_cohort", "jobs", ["cohort_id", "item"], unique=True)
    op.drop_index("jobs_by_state", "jobs")
    op.create_index("jobs_by_state", "jobs", ["state", "item", "created_at", "id"])


def downgrade() -> None:
    """Go back to the version before; the jobs of cohorts go."""
    op.execute("DELETE FROM jobs WHERE item > 0")
    op.drop_index("jobs_by_state", "jobs")
    op.create_index("jobs_by_state", "jobs", ["state", "created_at", "id"])
    op.drop_index("jobs_by_cohort", "jobs")
    op.drop_column("jobs", "item")
    op.drop_column("jobs", "cohort_id")
    op.drop_table("cohort_items")
    op.drop_table("cohorts")
