"""A small dataset in work with rows of every sort, made of numbers alone: no image file lies behind it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from anomreason.dataset.store import Store, add_new
from anomreason.dataset.tables import (
    CandidateRow,
    DetectionRow,
    ImageRow,
    ImageState,
    Origin,
    Outcome,
    PromptRow,
    SourceRow,
    VerdictRow,
)

OUTCOMES = {"accept": Outcome.ACCEPTED, "reject": Outcome.REJECTED, "unsure": Outcome.UNSURE}


@dataclass(frozen=True)
class Plan:
    """How much to plant."""

    images: Mapping[str, int]
    """By source; 'photographs' is a source of photographs."""
    prompts: int = 0
    """Image n of a source has prompt n modulo this; 0: no image has a prompt."""
    candidates: int = 3
    """An image of a generator."""
    verdicts: bool = False
    """Whether one person judged every candidate: accept, accept, reject, accept, unsure, and so on."""


def plant(store: Store, plan: Plan) -> None:
    """Fill an empty store; the same plan gives the same rows."""
    with store.command("plant", {}) as command, store.writing() as session:
        by = {"command_id": command.id}
        texts = [f"Prompt number {n}, photograph" for n in range(plan.prompts)]
        add_new(session, PromptRow, [{"sha256": _sha(t), "text": t, **by} for t in texts])
        prompts = list(session.scalars(select(PromptRow.id).order_by(PromptRow.id)))
        for source, count in plan.images.items():
            ai = source != "photographs"
            row = SourceRow(
                name=source,
                kind="ai" if ai else "photograph",
                generator=source if ai else None,
                licence="CC0-1.0",
                **by,
            )
            session.add(row)
            session.flush()
            rows = [
                {
                    "sha256": _sha(f"{source} {n}"),
                    "path": f"images/{source}/{n:05}.png",
                    "name": f"{n:05}.png",
                    "source_id": row.id,
                    "prompt_id": prompts[n % len(prompts)] if prompts and ai else None,
                    "width": 64,
                    "height": 48,
                    "format": "PNG" if ai else "JPEG",
                    "bytes": 1000 + n,
                    "facts": {},
                    "status": ImageState.KEPT,
                    **by,
                }
                for n in range(count)
            ]
            add_new(session, ImageRow, rows)
            if ai:
                _candidates(session, row.id, plan, command.id)


def _candidates(session: Session, source: int, plan: Plan, command: int) -> None:
    images = list(session.scalars(select(ImageRow.id).where(ImageRow.source_id == source).order_by(ImageRow.id)))
    shared = {"detector": "reader lean", "command_id": command}
    add_new(
        session,
        DetectionRow,
        [
            {"image_id": i, "status": "ok", "record": {}, "calls": 3, "tokens": 3000, "cost": 0.01, **shared}
            for i in images
        ],
    )
    of_image = dict(session.execute(select(DetectionRow.image_id, DetectionRow.id)).all())
    rows, choices = [], []
    for image in images:
        for n in range(plan.candidates):
            choice = ("accept", "accept", "reject", "accept", "unsure")[(image + n) % 5]
            choices.append(choice)
            rows.append(
                {
                    "image_id": image,
                    "detection_id": of_image[image],
                    "number": n,
                    "name": f"Error {n}",
                    "phenomenon": f"The hand of image {image} has {n + 6} fingers.",
                    "reasoning": "A hand has five fingers.",
                    "severity": float((7 * image + 20 * n) % 101),
                    "kind": ("anatomy", "physics", "lettering")[n % 3],
                    "objects": ["hand"],
                    "region": {"x0": 0.1, "y0": 0.2, "x1": 0.5, "y1": 0.6},
                    "origin": Origin.DETECTOR,
                    "role": ("AttributeAnalyzer", "RelationReasoner")[n % 2],
                    "step": "inspect",
                    "score": 80.0,
                    "outcome": OUTCOMES[choice] if plan.verdicts else Outcome.UNVERIFIED,
                    **shared,
                }
            )
    add_new(session, CandidateRow, rows)
    if plan.verdicts:
        places = select(CandidateRow.id).join(ImageRow).where(ImageRow.source_id == source)
        ids = list(session.scalars(places.order_by(CandidateRow.image_id, CandidateRow.number)))
        at = datetime(2026, 1, 1, tzinfo=UTC)
        verdict = {"person": "ada", "at": at, "seconds": 4.0, "command_id": command}
        verdicts = [
            {"key": f"{i}", "candidate_id": i, "choice": c, **verdict} for i, c in zip(ids, choices, strict=True)
        ]
        add_new(session, VerdictRow, verdicts)


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
