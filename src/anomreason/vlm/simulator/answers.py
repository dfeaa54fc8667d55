"""What the simulator says: one small function a step, and `STEPS`, which names them.

Steps that show the picture answer from the truth, all others from the text of their prompt alone, as a model would.
Knows nothing of HTTP, failures or tokens.

    STEPS["single"].answer(Asked(Tag("a.jpg", "AnomalyFormatter", "single"), "", truth.picture("a.jpg"), Draw(0, b"")))
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, FiniteFloat, ValidationError

from anomreason.anomaly import Anomaly, Region
from anomreason.vlm.protocol import Tag
from anomreason.vlm.simulator import words
from anomreason.vlm.simulator.truth import SCENE, PictureTruth

Answer = dict[str, Any] | str
"""A dict is sent as JSON, a str as it is."""

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

_SURVIVAL = 0.3  # chance that a later look takes a candidate which is not true for true


class Draw:
    """Chances that depend on the seed and on what was asked, never on the order of calls."""

    def __init__(self, seed: int, content: bytes) -> None:
        self._key = hashlib.blake2b(content, key=str(seed).encode()[:64], digest_size=32).digest()

    def chance(self, *what: object) -> float:
        """A number in [0, 1), always the same for the same `what`."""
        text = "\x1f".join(map(str, what)).encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.blake2b(text, key=self._key, digest_size=6).digest()) / 2**48

    def pick(self, options: Sequence[T], *what: object) -> T:
        return options[int(self.chance(*what) * len(options))]


@dataclass(frozen=True)
class Asked:
    """One question as the answering functions see it."""

    tag: Tag
    text: str
    """All text of the prompt."""
    truth: PictureTruth
    """Of the picture shown; empty for steps that do not look."""
    draw: Draw
    misses: float = 0.0
    hallucinations: float = 0.0
    schema: Mapping[str, Any] = field(default_factory=dict)


class Candidate(BaseModel):
    """A candidate line of a prompt."""

    id: int
    name: str
    phenomenon: str
    reasoning: str
    objects: list[str] = []


class _AskedObject(BaseModel):
    object: str


class _DraftObject(BaseModel):
    name: str
    description: str = ""
    person: bool = False
    box: list[FiniteFloat] | None = None


_ESCAPES = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<`\x85\u2028\u2029"})


def to_json(value: Any) -> str:
    """JSON on one line, also for readers who know exotic line ends; texts in it cannot break a tag or a fence."""
    return json.dumps(value, ensure_ascii=False).translate(_ESCAPES)


def _lines(lines: Iterable[str], model: type[M]) -> list[M]:
    found = []
    for line in (line.strip() for line in lines):
        if line.startswith("{"):
            try:
                found.append(model.model_validate_json(line))
            except ValidationError:
                continue  # another kind of line
    return found


def _split(text: str) -> tuple[list[str], list[str]]:
    """Lines outside and inside `<notes>` blocks."""
    outside: list[str] = []
    inside: list[str] = []
    noted = False
    for line in text.split("\n"):
        if line.strip() in ("<notes>", "</notes>"):
            noted = line.strip() == "<notes>"
        else:
            (inside if noted else outside).append(line)
    return outside, inside


def _candidates(asked: Asked) -> list[Candidate]:
    return _lines(_split(asked.text)[0], Candidate)


def _box(region: Region | None) -> list[int] | None:
    """Integers 0..1000, at least one wide and high."""
    if region is None:
        return None
    x0, y0 = (min(round(v * 1000), 999) for v in (region.x0, region.y0))
    return [x0, y0, max(round(region.x1 * 1000), x0 + 1), max(round(region.y1 * 1000), y0 + 1)]


def _finding(anomaly: Anomaly) -> dict[str, Any]:
    return anomaly.model_dump(mode="json", include={"name", "phenomenon", "reasoning", "objects"})


def _seen(asked: Asked, anomalies: Iterable[Anomaly]) -> list[Anomaly]:
    return [a for a in anomalies if asked.draw.chance("miss", a.name, a.phenomenon) >= asked.misses]


def _invented(asked: Asked, about: str, other: str | None = None) -> list[dict[str, Any]]:
    if asked.draw.chance("invent", about) >= asked.hallucinations:
        return []
    finding: dict[str, Any] = dict(asked.draw.pick(words.INVENTIONS, "invention", about))
    finding["phenomenon"] = finding["phenomenon"].format(object=about)
    objects = [name for name in (about, other) if name not in (None, SCENE)]
    return [finding | {"objects": objects}]


def _is_relation(anomaly: Anomaly) -> bool:
    return len(anomaly.objects) > 1


def _findings(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {"findings": found, "nothing_found": not found}


def _most_objects(schema: Mapping[str, Any]) -> int | None:
    try:
        limit = schema["properties"]["objects"]["maxItems"]
    except (KeyError, TypeError):
        return None
    return limit if isinstance(limit, int) and limit > 0 else None


def _drafted_box(asked: Asked, name: str, region: Region) -> list[int] | None:
    """Exact, or up to a hundredth of the picture off when the simulated model errs."""
    exact = _box(region)
    if exact is None or not (asked.misses or asked.hallucinations):
        return exact
    moved = [v + round(asked.draw.chance("box", name, side) * 20) - 10 for side, v in enumerate(exact)]
    x0, y0, x1, y1 = (max(0, min(v, 1000)) for v in moved)
    return [x0, y0, x1, y1] if x0 < x1 and y0 < y1 else exact


def objects(asked: Asked) -> dict[str, Any]:
    listed = [
        {
            "name": shown.name,
            "description": shown.description,
            "person": bool(words.PERSON.search(shown.name)),
            "box": _drafted_box(asked, shown.name, shown.box),
        }
        for shown in asked.truth.visible()
    ]
    return {"objects": listed[: _most_objects(asked.schema)]}


def merge(asked: Asked) -> dict[str, Any]:
    united: dict[str, list[_DraftObject]] = {}
    for match in re.finditer(r"```json\s*", asked.text):
        try:
            draft, _ = json.JSONDecoder().raw_decode(asked.text, match.end())
            items = [_DraftObject.model_validate(item) for item in draft["objects"]]
        except (ValueError, TypeError, KeyError, RecursionError):
            continue  # a fenced block that is no draft
        for item in items:
            united.setdefault(item.name, []).append(item)
    merged = []
    for same in united.values():
        boxes = [o.box for o in same if o.box and len(o.box) == 4]
        box = [round(sum(sides) / len(boxes)) for sides in zip(*boxes, strict=True)] or None
        merged.append(same[0].model_dump() | {"box": box})
    return {"objects": merged}


def _prose(asked: Asked, about: str, found: list[dict[str, Any]]) -> str:
    """150-300 words that hold `found` losslessly: a finding is one line of JSON."""
    name = " ".join(about.split())
    filler = sorted(words.FILLER, key=lambda sentence: asked.draw.chance("filler", sentence))
    count = 7 if found else 9
    opening = [asked.draw.pick(words.OPENINGS, "opening"), *filler[:4]]
    parts = [" ".join(opening).format(object=name)]
    for finding in found:
        parts += [asked.draw.pick(words.BEFORE_FINDING, finding["name"]), to_json(finding)]
    parts.append(" ".join([*filler[4:count], words.CLOSING if found else words.CLEAN]).format(object=name))
    return "\n\n".join(parts)


def attributes_prose(asked: Asked) -> str:
    about = asked.tag.object or SCENE
    true = [_finding(a) for a in _seen(asked, asked.truth.about(about)) if not _is_relation(a)]
    return _prose(asked, about, true + _invented(asked, about))


def relations_prose(asked: Asked) -> str:
    about = asked.tag.object or SCENE
    others = [o.name for o in asked.truth.visible() if o.name not in (about, SCENE)]
    other = asked.draw.pick(others, "other") if others else None
    true = [_finding(a) for a in _seen(asked, asked.truth.about(about)) if _is_relation(a)]
    return _prose(asked, about, true + (_invented(asked, about, other) if other else []))


class _Noted(BaseModel):
    name: str
    phenomenon: str
    reasoning: str
    objects: list[str]


def notes_findings(asked: Asked) -> dict[str, Any]:
    return _findings([found.model_dump() for found in _lines(_split(asked.text)[1], _Noted)])


def review_prose(asked: Asked) -> str:
    parts = [words.REVIEW_OPENING]
    for candidate in _candidates(asked):
        name, view = " ".join(candidate.name.split()), asked.draw.pick(words.VIEWS, candidate.id)
        parts.append(f"Candidate {candidate.id}, {name}: {view}")
    return "\n\n".join([*parts, words.REVIEW_CLOSING])


def review(asked: Asked) -> dict[str, Any]:
    candidates = _candidates(asked)
    checks = [_check(c, 70 + int(asked.draw.chance("score", c.id) * 26), words.PLAUSIBLE) for c in candidates]
    return {"checks": checks} | _findings([_merged(same) for same in _same(candidates)])


def _same(candidates: list[Candidate]) -> list[list[Candidate]]:
    groups: dict[tuple[str, str], list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault((candidate.name, candidate.phenomenon), []).append(candidate)
    return list(groups.values())


def _merged(same: list[Candidate]) -> dict[str, Any]:
    return same[0].model_dump(exclude={"id"}) | {"from": [c.id for c in same]}


def _check(candidate: Candidate, score: int, reason: str) -> dict[str, Any]:
    return {"id": candidate.id, "score": score, "reason": reason}


def _is(candidate: Candidate, anomaly: Anomaly) -> bool:
    return (candidate.name, candidate.phenomenon) == (anomaly.name, anomaly.phenomenon)


def _survives(asked: Asked, candidate: Candidate) -> bool:
    return asked.draw.chance("survives", candidate.name, candidate.phenomenon) < _SURVIVAL


def verify(asked: Asked) -> dict[str, Any]:
    checks = []
    for candidate in _candidates(asked):
        spread = asked.draw.chance("score", candidate.id)
        if any(_is(candidate, a) for a in asked.truth.anomalies):
            checks.append(_check(candidate, 85 + int(spread * 16), words.TRUE))
        elif _survives(asked, candidate):
            checks.append(_check(candidate, 55 + int(spread * 20), words.PLAUSIBLE))
        else:
            checks.append(_check(candidate, 3 + int(spread * 30), words.ABSENT))
    return {"checks": checks}


def scan(asked: Asked) -> dict[str, Any]:
    true = [_finding(a) for a in _seen(asked, asked.truth.about(SCENE)) if not a.objects]
    return _findings(true + _invented(asked, SCENE))


def inspect(asked: Asked) -> dict[str, Any]:
    entries = []
    for name in [line.object for line in _lines(asked.text.split("\n"), _AskedObject)]:
        true = _seen(asked, asked.truth.about(name))
        found = [{"kind": "relation" if _is_relation(a) else "attribute"} | _finding(a) for a in true]
        found += [{"kind": "attribute"} | finding for finding in _invented(asked, name)]
        look = asked.draw.pick(words.LOOKS, "look", name).format(object=name)
        entries.append({"object": name, "look": look, "findings": found})
    return {"objects": entries}


def _anomaly(anomaly: Anomaly) -> dict[str, Any]:
    severity = int(anomaly.severity) if anomaly.severity.is_integer() else anomaly.severity
    return {
        "name": anomaly.name,
        "phenomenon": anomaly.phenomenon,
        "reasoning": anomaly.reasoning,
        "severity": severity,
        "objects": list(anomaly.objects),
        "box": _box(anomaly.region),
    }


def _middling(asked: Asked, finding: dict[str, Any]) -> dict[str, Any]:
    severity = 40 + int(asked.draw.chance("severity", finding["name"]) * 25)
    kept = {key: finding[key] for key in ("name", "phenomenon", "reasoning")}
    objects = [name for name in finding["objects"] if name != SCENE]
    return kept | {"severity": severity, "objects": objects, "box": None}


def single(asked: Asked) -> dict[str, Any]:
    found = [_anomaly(a) for a in _seen(asked, asked.truth.anomalies)]
    found += [_middling(asked, finding) for finding in _invented(asked, SCENE)]
    return {"anomalies": found, "no_anomalies": not found}


def finish(asked: Asked) -> dict[str, Any]:
    rest = _candidates(asked)
    names = [a.name for a in asked.truth.anomalies]
    found = []
    for anomaly in asked.truth.anomalies:
        named = [c for c in rest if c.name == anomaly.name]
        if names.count(anomaly.name) > 1:
            named = [c for c in named if _is(c, anomaly)]
        if named:
            found.append(_anomaly(anomaly) | {"from": [c.id for c in named]})
        rest = [c for c in rest if c not in named]
    for same in _same(rest):
        if _survives(asked, same[0]):
            found.append(_middling(asked, same[0].model_dump()) | {"from": [c.id for c in same]})
    return {"anomalies": found, "no_anomalies": not found}


def look_again(asked: Asked) -> dict[str, Any]:
    return verify(asked) | finish(asked)


def source(asked: Asked) -> str:
    return {True: "generated", False: "photograph", None: "unsure"}[asked.truth.generated]


class Step(NamedTuple):
    """How one step is answered, and whether its request must show the picture."""

    answer: Callable[[Asked], Answer]
    looks: bool = True


STEPS: dict[str, Step] = {
    "objects-1": Step(objects),
    "objects-2": Step(objects),
    "objects-3": Step(objects),
    "draft": Step(objects),
    "merge": Step(merge, looks=False),
    "attributes-1": Step(attributes_prose),
    "attributes-2": Step(notes_findings, looks=False),
    "relations-1": Step(relations_prose),
    "relations-2": Step(notes_findings, looks=False),
    "review-1": Step(review_prose, looks=False),
    "review-2": Step(review, looks=False),
    "summary": Step(review, looks=False),
    "verify": Step(verify),
    "scan": Step(scan),
    "inspect": Step(inspect),
    "format": Step(finish),
    "finish": Step(finish),
    "look-again": Step(look_again),
    "single": Step(single),
    "source": Step(source),
}
