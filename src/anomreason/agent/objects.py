"""The objects of an image: unites drafts, keeps the most prominent, decides which boxes to trust, lists for prompts."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Sequence

from anomreason.agent.replies import unique_names
from anomreason.anomaly import SceneObject

SAME = 0.5
"""Two entries with the same name and at least this IoU are the same object (the `paper` schedule's union)."""
ALIKE = 0.85
"""Two entries whose names share a word ('man', 'man in blazer') and with at least this IoU are the same object."""
AGREED = 0.3
"""A box whose mean IoU with the drafts' boxes is at least this is trusted for a crop."""
_SMALL_WORDS = frozenset(
    ("a", "an", "the", "in", "on", "of", "with", "at", "by", "left", "right", "upper", "lower", "front", "back")
)
LARGEST, SMALLEST = 0.6, 0.01
"""Shares of the image: a larger crop shows nothing new, a smaller one too little."""


def most_prominent(objects: Iterable[SceneObject], limit: int) -> tuple[SceneObject, ...]:
    """The first `limit` objects, people first, else in the order given."""
    return tuple(sorted(objects, key=lambda o: not o.person)[:limit])


def unite(drafts: Sequence[Sequence[SceneObject]]) -> list[SceneObject]:
    """Union of drafts (Eq. 2) without a call: same name and IoU >= 0.5 (or no box to compare) is the same object.

    Objects in more drafts come first; the longest description and the first box are kept.
    """
    groups: list[list[SceneObject]] = []
    for draft in drafts:
        for seen in draft:
            group = next((g for g in groups if _same(g[0], seen)), None)
            if group is None:
                groups.append([seen])
            else:
                group.append(seen)
    groups.sort(key=lambda g: -len(g))
    names = unique_names(_plain_name(g[0].name) for g in groups)
    return [
        g[0].model_copy(
            update={
                "name": name,
                "description": max((o.description for o in g), key=len),
                "person": any(o.person for o in g),
            }
        )
        for name, g in zip(names, groups, strict=True)
    ]


def _plain_name(name: str) -> str:
    """Without the number that told apart equal names inside one draft."""
    head, mark, number = name.rpartition(" #")
    return head if mark and number.isdigit() else name


def _same(a: SceneObject, b: SceneObject) -> bool:
    names = [_plain_name(o.name).casefold() for o in (a, b)]
    overlap = a.region.iou(b.region) if a.region and b.region else None
    if names[0] == names[1]:
        return overlap is None or overlap >= SAME
    shared = set(names[0].split()) & set(names[1].split()) - _SMALL_WORDS
    return overlap is not None and overlap >= ALIKE and bool(shared)


def agreed(merged: SceneObject, drafts: Sequence[Sequence[SceneObject]]) -> SceneObject:
    """A merged object with how well the drafts' boxes agree with its own: mean of the best IoU in each draft."""
    if merged.region is None:
        return merged
    best = [max((merged.region.iou(o.region) for o in draft if o.region), default=0.0) for draft in drafts]
    return merged.model_copy(update={"agreement": sum(best) / len(best)})


def croppable(seen: SceneObject) -> bool:
    """Whether a crop of the object's box is worth showing and can be trusted."""
    if seen.region is None or seen.agreement is None or seen.agreement < AGREED:
        return False
    return SMALLEST <= seen.region.area <= LARGEST


def even_groups(objects: Sequence[SceneObject], size: int) -> list[Sequence[SceneObject]]:
    """As few groups of at most `size` as possible, of nearly equal length."""
    if not objects:
        return []
    count = math.ceil(len(objects) / size)
    cuts = [round(i * len(objects) / count) for i in range(count + 1)]
    return [objects[a:b] for a, b in itertools.pairwise(cuts)]


def names_of(objects: Iterable[SceneObject]) -> str:
    """For a prompt."""
    return "; ".join(o.name for o in objects) or "(nothing else was listed)"


def object_lines(objects: Iterable[SceneObject]) -> str:
    """For a prompt: one JSON object a line."""
    return "\n".join(json.dumps({"object": o.name, "description": o.description}, ensure_ascii=False) for o in objects)


def drafts_text(drafts: Sequence[Sequence[SceneObject]]) -> str:
    """For a prompt: each draft as a fenced block in the form of the answer, boxes in thousandths."""
    blocks = []
    for draft in drafts:
        lines = ",\n ".join(json.dumps(_item(o), ensure_ascii=False) for o in draft)
        blocks.append(f'```json\n{{"objects": [{lines}]}}\n```')
    return "\n".join(blocks)


def _item(seen: SceneObject) -> dict[str, object]:
    item: dict[str, object] = {"name": seen.name, "description": seen.description, "person": seen.person}
    if seen.region is not None:
        r = seen.region
        item["box"] = [round(v * 1000) for v in (r.x0, r.y0, r.x1, r.y1)]
    return item
