"""Candidates and images as the review page gets them.

items(session, [7, 8])    # with image, prompt and source; nothing of scores or verdicts
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Select, bindparam, select
from sqlalchemy.orm import Session

from anomreason.anomaly import Region
from anomreason.dataset.tables import CandidateRow, ImageRow, PromptRow, SourceRow
from anomreason.review.messages import Item, ItemImage

_IMAGE = (ImageRow.id, ImageRow.sha256, ImageRow.width, ImageRow.height, SourceRow.name, PromptRow.text)


def items(session: Session, candidates: Sequence[int]) -> list[Item]:
    """These candidates, in this order."""
    found = {row[6]: _item(tuple(row)) for row in session.execute(_items(), {"candidates": list(candidates)})}
    return [found[candidate] for candidate in candidates if candidate in found]


@cache
def _items() -> Select[*tuple[Any, ...]]:
    return (
        select(
            *_IMAGE,
            CandidateRow.id,
            CandidateRow.name,
            CandidateRow.phenomenon,
            CandidateRow.reasoning,
            CandidateRow.severity,
            CandidateRow.kind,
            CandidateRow.objects,
            CandidateRow.region,
        )
        .select_from(CandidateRow)
        .join(ImageRow, ImageRow.id == CandidateRow.image_id)
        .join(SourceRow, SourceRow.id == ImageRow.source_id)
        .outerjoin(PromptRow, PromptRow.id == ImageRow.prompt_id)
        .where(CandidateRow.id.in_(bindparam("candidates", expanding=True)))
    )


def images(session: Session, condition: Select[int]) -> list[ItemImage]:
    """The images whose ids a query gives, in its order."""
    ids = list(session.scalars(condition))
    query = (
        select(*_IMAGE)
        .select_from(ImageRow)
        .join(SourceRow, SourceRow.id == ImageRow.source_id)
        .outerjoin(PromptRow, PromptRow.id == ImageRow.prompt_id)
        .where(ImageRow.id.in_(ids))
    )
    found = {row[0]: ItemImage(**_of_image(tuple(row))) for row in session.execute(query)}
    return [found[image] for image in ids]


def _of_image(row: Sequence[Any]) -> dict[str, Any]:
    image, sha256, width, height, source, prompt = row[:6]
    src = f"/image/{image}?v={sha256[:16]}"
    return {"image": image, "width": width, "height": height, "src": src, "source": source, "prompt": prompt}


def _item(row: Sequence[Any]) -> Item:
    candidate, name, phenomenon, reasoning, severity, kind, objects, region = row[6:]
    place = region_of(region)
    return Item(
        **_of_image(row),
        candidate=candidate,
        name=name,
        phenomenon=phenomenon,
        reasoning=reasoning,
        severity=severity,
        kind=kind,
        objects=list(map(str, objects or ())),
        region=place,
        crop=None if place is None else f"/crop/{candidate}?v={row[1][:16]}",
    )


def region_of(stored: Any) -> Region | None:
    """A stored region; None without one, or where it is none."""
    try:
        return None if stored is None else Region.model_validate(stored)
    except ValidationError:
        return None
