"""People, rounds of review, items, leases and tallies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "leases",
        sa.Column("round_id", NUMBER, nullable=False),
        sa.Column("candidate_id", NUMBER, nullable=False),
        sa.Column("person", sa.String(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("round_id", "candidate_id", name=op.f("pk_leases")),
    )
    op.create_index(op.f("ix_leases_round_id_person"), "leases", ["round_id", "person"], unique=False)
    op.create_table(
        "people",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.Boolean(), nullable=False),
        sa.Column("command_id", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(["command_id"], ["commands.id"], name=op.f("fk_people_command_id")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_people")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_people_token_sha256")),
    )
    op.create_table(
        "rounds",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("size", NUMBER, nullable=False),
        sa.Column("passes", NUMBER, nullable=False),
        sa.Column("command_id", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(["command_id"], ["commands.id"], name=op.f("fk_rounds_command_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rounds")),
        sa.UniqueConstraint("name", name=op.f("uq_rounds_name")),
    )
    op.create_table(
        "tallies",
        sa.Column("round_id", NUMBER, nullable=False),
        sa.Column("person", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("detector", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("gold", sa.String(), nullable=False),
        sa.Column("choice", sa.String(), nullable=False),
        sa.Column("count", NUMBER, nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["round_id"], ["rounds.id"], name=op.f("fk_tallies_round_id")),
        sa.PrimaryKeyConstraint(
            "round_id", "person", "source", "detector", "role", "kind", "gold", "choice", name=op.f("pk_tallies")
        ),
    )
    op.create_table(
        "items",
        sa.Column("round_id", NUMBER, nullable=False),
        sa.Column("candidate_id", NUMBER, nullable=False),
        sa.Column("position", NUMBER, nullable=False),
        sa.Column("rank", NUMBER, nullable=False),
        sa.Column("random", sa.Boolean(), nullable=False),
        sa.Column("gold", sa.String(), nullable=True),
        sa.Column("passes", NUMBER, nullable=False),
        sa.Column("needed", NUMBER, nullable=False),
        sa.Column("done", sa.Boolean(), nullable=False),
        sa.Column("first_person", sa.String(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["candidate_id"], ["candidates.id"], name=op.f("fk_items_candidate_id")),
        sa.ForeignKeyConstraint(["round_id"], ["rounds.id"], name=op.f("fk_items_round_id")),
        sa.PrimaryKeyConstraint("round_id", "candidate_id", name=op.f("pk_items")),
    )
    columns = ["round_id", "done", "first_person", "position"]
    op.create_index(op.f("ix_items_round_id_done_first_person_position"), "items", columns, unique=False)
