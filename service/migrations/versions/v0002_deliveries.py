"""Webhooks still to be delivered, how many jobs a process runs at once, and the jobs that ended last."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this version."""
    op.create_table(
        "deliveries",
        sa.Column("job_id", sa.String(32), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("target", sa.String(500), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("status", sa.String(16)),
        sa.Column("ended_at", sa.Double()),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Double()),
        sa.Column("taken_until", sa.Double(), nullable=False),
    )
    op.create_index("deliveries_by_target", "deliveries", ["target", "due_at"])
    op.add_column("processes", sa.Column("slots", sa.Integer()))
    op.create_index("jobs_by_end", "jobs", ["finished_at"])


def downgrade() -> None:
    """Go back to the version before."""
    op.drop_index("jobs_by_end")
    op.drop_column("processes", "slots")
    op.drop_table("deliveries")
