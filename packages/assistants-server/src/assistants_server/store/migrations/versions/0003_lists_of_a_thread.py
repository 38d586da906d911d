"""Messages and runs of a thread in the order of their lists"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("messages", "runs"):
        op.create_index(
            op.f(f"ix_{table}_thread_id_created_at_seq"),
            table,
            ["thread_id", "created_at", "seq"],
            unique=False,
        )
