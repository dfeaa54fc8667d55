"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "commands",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("git_commit", sa.String(), nullable=True),
        sa.Column("dirty", sa.Boolean(), nullable=True),
        sa.Column("begun", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended", sa.DateTime(timezone=True), nullable=True),
        sa.Column("report", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commands")),
    )
    op.create_table(
        "sources",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("generator", sa.String(), nullable=True),
        sa.Column("licence", sa.String(), nullable=True),
        sa.Column("terms", sa.String(), nullable=True),
        sa.Column("command_id", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(["command_id"], ["commands.id"], name=op.f("fk_sources_command_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sources")),
        sa.UniqueConstraint("name", name=op.f("uq_sources_name")),
    )
    op.create_table(
        "prompts",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("group", sa.String(), nullable=True),
        sa.Column("source_id", NUMBER, nullable=True),
        sa.Column("tags", sa.JSON(), nullable=True),
        sa.Column("command_id", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(["command_id"], ["commands.id"], name=op.f("fk_prompts_command_id")),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"], name=op.f("fk_prompts_source_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prompts")),
        sa.UniqueConstraint("sha256", name=op.f("uq_prompts_sha256")),
    )
    op.create_index(op.f("ix_prompts_group"), "prompts", ["group"], unique=False)
    op.create_table(
        "images",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("source_id", NUMBER, nullable=False),
        sa.Column("prompt_id", NUMBER, nullable=True),
        sa.Column("group", sa.String(), nullable=True),
        sa.Column("cluster", sa.String(), nullable=True),
        sa.Column("seed", NUMBER, nullable=True),
        sa.Column("settings", sa.JSON(), nullable=True),
        sa.Column("width", NUMBER, nullable=False),
        sa.Column("height", NUMBER, nullable=False),
        sa.Column("format", sa.String(), nullable=False),
        sa.Column("bytes", NUMBER, nullable=False),
        sa.Column("phash", NUMBER, nullable=True),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("command_id", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(["command_id"], ["commands.id"], name=op.f("fk_images_command_id")),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name=op.f("fk_images_prompt_id")),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"], name=op.f("fk_images_source_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_images")),
        sa.UniqueConstraint("sha256", name=op.f("uq_images_sha256")),
    )
    op.create_index(op.f("ix_images_cluster"), "images", ["cluster"], unique=False)
    op.create_index(op.f("ix_images_group"), "images", ["group"], unique=False)
    op.create_index(op.f("ix_images_name"), "images", ["name"], unique=False)
    op.create_index(op.f("ix_images_prompt_id"), "images", ["prompt_id"], unique=False)
    op.create_index(op.f("ix_images_source_id_status"), "images", ["source_id", "status"], unique=False)
    op.create_index(op.f("ix_images_status_reason"), "images", ["status", "reason"], unique=False)
    op.create_table(
        "decisions",
        sa.Column("image_id", NUMBER, nullable=False),
        sa.Column("filter", sa.String(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("keep", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("message", sa.String(), nullable=True),
        sa.Column("restored", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("command_id", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(["command_id"], ["commands.id"], name=op.f("fk_decisions_command_id")),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_decisions_image_id")),
        sa.PrimaryKeyConstraint("image_id", "filter", name=op.f("pk_decisions")),
    )
    op.create_index(op.f("ix_decisions_filter_keep_reason"), "decisions", ["filter", "keep", "reason"], unique=False)
    op.create_table(
        "measures",
        sa.Column("image_id", NUMBER, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("record", sa.JSON(), nullable=False),
        sa.Column("command_id", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(["command_id"], ["commands.id"], name=op.f("fk_measures_command_id")),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_measures_image_id")),
        sa.PrimaryKeyConstraint("image_id", "name", name=op.f("pk_measures")),
    )
    op.create_index(op.f("ix_measures_name"), "measures", ["name"], unique=False)
    op.create_table(
        "descriptions",
        sa.Column("image_id", NUMBER, nullable=False),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=True),
        sa.Column("message", sa.String(), nullable=True),
        sa.Column("record", sa.JSON(), nullable=True),
        sa.Column("command_id", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(["command_id"], ["commands.id"], name=op.f("fk_descriptions_command_id")),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_descriptions_image_id")),
        sa.PrimaryKeyConstraint("image_id", "author", name=op.f("pk_descriptions")),
    )
    op.create_table(
        "detections",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("image_id", NUMBER, nullable=False),
        sa.Column("detector", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("message", sa.String(), nullable=True),
        sa.Column("record", sa.JSON(), nullable=False),
        sa.Column("calls", NUMBER, nullable=False),
        sa.Column("tokens", NUMBER, nullable=False),
        sa.Column("cost", sa.Double(), nullable=True),
        sa.Column("command_id", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(["command_id"], ["commands.id"], name=op.f("fk_detections_command_id")),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_detections_image_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_detections")),
        sa.UniqueConstraint("image_id", "detector", name=op.f("uq_detections_image_id_detector")),
    )
    op.create_index(
        op.f("ix_detections_detector_status_reason"), "detections", ["detector", "status", "reason"], unique=False
    )
    op.create_table(
        "files",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("size", NUMBER, nullable=True),
        sa.Column("mtime", NUMBER, nullable=True),
        sa.Column("image_id", NUMBER, nullable=True),
        sa.Column("source_id", NUMBER, nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("message", sa.String(), nullable=True),
        sa.Column("command_id", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(["command_id"], ["commands.id"], name=op.f("fk_files_command_id")),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_files_image_id")),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"], name=op.f("fk_files_source_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_files")),
        sa.UniqueConstraint("path", name=op.f("uq_files_path")),
    )
    op.create_index(op.f("ix_files_image_id"), "files", ["image_id"], unique=False)
    op.create_index(op.f("ix_files_status_reason"), "files", ["status", "reason"], unique=False)
    op.create_table(
        "generations",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("prompt_id", NUMBER, nullable=False),
        sa.Column("generator", sa.String(), nullable=False),
        sa.Column("seed", NUMBER, nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=True),
        sa.Column("image_id", NUMBER, nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("cost", sa.Double(), nullable=True),
        sa.Column("command_id", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(["command_id"], ["commands.id"], name=op.f("fk_generations_command_id")),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_generations_image_id")),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name=op.f("fk_generations_prompt_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_generations")),
        sa.UniqueConstraint("generator", "prompt_id", "seed", name=op.f("uq_generations_generator_prompt_id_seed")),
    )
    op.create_index(op.f("ix_generations_generator_status"), "generations", ["generator", "status"], unique=False)
    op.create_table(
        "splits",
        sa.Column("scheme", sa.String(), nullable=False),
        sa.Column("image_id", NUMBER, nullable=False),
        sa.Column("split", sa.String(), nullable=False),
        sa.Column("command_id", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(["command_id"], ["commands.id"], name=op.f("fk_splits_command_id")),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_splits_image_id")),
        sa.PrimaryKeyConstraint("scheme", "image_id", name=op.f("pk_splits")),
    )
    op.create_index(op.f("ix_splits_scheme_split"), "splits", ["scheme", "split"], unique=False)
    op.create_table(
        "candidates",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("image_id", NUMBER, nullable=False),
        sa.Column("detection_id", NUMBER, nullable=True),
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("phenomenon", sa.String(), nullable=False),
        sa.Column("reasoning", sa.String(), nullable=False),
        sa.Column("severity", sa.Double(), nullable=True),
        sa.Column("kind", sa.String(), nullable=True),
        sa.Column("objects", sa.JSON(), nullable=True),
        sa.Column("region", sa.JSON(), nullable=True),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("detector", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=True),
        sa.Column("step", sa.String(), nullable=True),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("dropped", sa.String(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("command_id", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(["command_id"], ["commands.id"], name=op.f("fk_candidates_command_id")),
        sa.ForeignKeyConstraint(["detection_id"], ["detections.id"], name=op.f("fk_candidates_detection_id")),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_candidates_image_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_candidates")),
        sa.UniqueConstraint("image_id", "detector", "number", name=op.f("uq_candidates_image_id_detector_number")),
    )
    op.create_index(op.f("ix_candidates_detection_id"), "candidates", ["detection_id"], unique=False)
    op.create_index(op.f("ix_candidates_outcome_detector"), "candidates", ["outcome", "detector"], unique=False)
    op.create_index(
        op.f("ix_candidates_origin_detector_role_kind_outcome_severity"),
        "candidates",
        ["origin", "detector", "role", "kind", "outcome", "severity"],
        unique=False,
        sqlite_where=sa.text("dropped IS NULL"),
        postgresql_where=sa.text("dropped IS NULL"),
    )
    op.create_table(
        "verdicts",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("candidate_id", NUMBER, nullable=False),
        sa.Column("person", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("choice", sa.String(), nullable=False),
        sa.Column("undoes", NUMBER, nullable=True),
        sa.Column("final", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("edit", sa.JSON(), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("round", NUMBER, server_default=sa.text("0"), nullable=False),
        sa.Column("command_id", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(["candidate_id"], ["candidates.id"], name=op.f("fk_verdicts_candidate_id")),
        sa.ForeignKeyConstraint(["command_id"], ["commands.id"], name=op.f("fk_verdicts_command_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_verdicts")),
        sa.UniqueConstraint("key", name=op.f("uq_verdicts_key")),
    )
    op.create_index(op.f("ix_verdicts_candidate_id"), "verdicts", ["candidate_id"], unique=False)
    op.create_index(op.f("ix_verdicts_undoes"), "verdicts", ["undoes"], unique=False)
    op.create_index(op.f("ix_verdicts_round_person_id"), "verdicts", ["round", "person", "id"], unique=False)
