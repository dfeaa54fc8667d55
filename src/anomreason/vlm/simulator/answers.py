"""What the simulator replies: one function for each step of the agents, named in `STEPS`.

Steps that show the image answer from the truth, all others from the text of their prompt alone, as a model would.

    STEPS["single"](Query(Tag("a.jpg", "AnomalyFormatter", "single"), "", truth.image("a.jpg"), Dice(0, b"")))
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from anomreason.anomaly import Anomaly, PartCount, Region
from anomreason.textform.jsontext import values_in
from anomreason.vlm.protocol import Tag
from anomreason.vlm.simulator.truth import SCENE, ImageTruth

Content = dict[str, Any] | str
"""A dict is sent as JSON, a str as it is."""
T = TypeVar("T")

_SURVIVAL = 0.3  # chance that a second look takes a candidate for true that is not
_PERSON = re.compile(
    r"\b(person|people|man|men|woman|women|boy|girl|child|children|kid|baby|lady|guy|player|worker|crowd|face|hand)s?\b",
    re.IGNORECASE,
)
_EDGE = {
    "name": "Edge melts into the background",
    "phenomenon": "Along one side {object} has no edge and flows into what lies behind it.",
    "reasoning": "Solid objects have an outline; it does not dissolve into other objects.",
}
"""The invented anomaly."""
_LOOK = "I followed the edges of {object}, counted its parts and compared their sizes, joints, surfaces and shadows."
_PROSE = 4 * (
    "I look at {object} part by part, compare what I see with what I know, count what can be counted and return to the "
    "places where mistakes usually show: outline, joints, size, light, shadow, texture and what it rests on. "
)
"""As long as a model's free text, so that simulated token counts are realistic."""


class Dice:
    """Chances that depend on the seed and on the content of a request, never on the order of requests."""

    def __init__(self, seed: int, content: bytes) -> None:
        self._key = hashlib.blake2b(content, key=str(seed).encode()[:64], digest_size=32).digest()

    def chance(self, *what: object) -> float:
        """A number in [0, 1), always the same for the same `what`."""
        text = "\x1f".join(map(str, what)).encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.blake2b(text, key=self._key, digest_size=6).digest()) / 2**48

    def pick(self, options: Sequence[T], *what: object) -> T:
        return options[int(self.chance(*what) * len(options))]


@dataclass(frozen=True)
class Query:
    """One request as the answering functions see it."""

    tag: Tag
    text: str
    """All text of the prompt."""
    truth: ImageTruth
    """Of the image in the request; empty for steps that do not show it."""
    dice: Dice
    misses: float = 0.0
    hallucinations: float = 0.0
    schema: Mapping[str, Any] = field(default_factory=dict)
    word: str = ""
    """The answer to the source question; the other steps do not ask for it."""


class Note(BaseModel):
    """An anomaly that stands in a prompt as one line of JSON; a candidate has an id."""

    name: str
    phenomenon: str
    reasoning: str
    objects: list[str] = []
    id: int = 0
    sure: int | None = None
    innocent: str = ""


_ESCAPES = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<`\x85\u2028\u2029"})


def to_json(value: Any) -> str:
    """JSON on one line, whatever counts as a line end; texts in it cannot break a tag or a fence."""
    return json.dumps(value, ensure_ascii=False).translate(_ESCAPES)


def _notes(query: Query) -> tuple[list[Note], list[Note]]:
    """The candidates in the prompt, and what an earlier step wrote inside `<notes>`."""
    candidates: list[Note] = []
    written: list[Note] = []
    inside = False
    for line in map(str.strip, query.text.split("\n")):
        if line in ("<notes>", "</notes>"):
            inside = line == "<notes>"
        elif line.startswith("{"):
            with suppress(ValidationError):  # another kind of line
                note = Note.model_validate_json(line)
                (written if inside else candidates).append(note)
    return [note for note in candidates if note.id], written


def _groups(candidates: Iterable[Note]) -> list[list[Note]]:
    """Equal candidates together."""
    groups: dict[tuple[str, str], list[Note]] = {}
    for candidate in candidates:
        groups.setdefault(_key(candidate), []).append(candidate)
    return list(groups.values())


def _key(anomaly: Note | Anomaly) -> tuple[str, str]:
    return anomaly.name, anomaly.phenomenon


def _box(region: Region | None) -> list[int] | None:
    """Integers 0..1000, at least one wide and high."""
    if region is None:
        return None
    x0, y0 = (min(round(v * 1000), 999) for v in (region.x0, region.y0))
    return [x0, y0, max(round(region.x1 * 1000), x0 + 1), max(round(region.y1 * 1000), y0 + 1)]


def _fields(anomaly: Note | Anomaly) -> dict[str, Any]:
    return anomaly.model_dump(mode="json", include={"name", "phenomenon", "reasoning", "objects"})


def _noticed(query: Query, anomalies: Iterable[Anomaly]) -> list[Anomaly]:
    return [a for a in anomalies if query.dice.chance("miss", *_key(a)) >= query.misses]


def _invented(query: Query, about: str) -> list[dict[str, Any]]:
    if query.dice.chance("invent", about) >= query.hallucinations:
        return []
    phenomenon = _EDGE["phenomenon"].format(object=about)
    invented = _EDGE | {"phenomenon": phenomenon, "objects": [] if about == SCENE else [about]}
    return [invented | {"sure": query.dice.pick(range(20, 60), "sure", about), "innocent": "It may be out of focus."}]


def _suspected(query: Query, anomaly: Anomaly) -> dict[str, Any]:
    """A true anomaly as it is proposed, with the doubts about it."""
    sure = query.dice.pick(range(60, 96), "sure", *_key(anomaly))
    innocent = "It may be seen at an unusual angle, or hidden in part." if sure < 80 else ""
    return _fields(anomaly) | {"sure": sure, "innocent": innocent}


def _survives(query: Query, candidate: Note) -> bool:
    return query.dice.chance("survives", *_key(candidate)) < _SURVIVAL


def _is_relation(anomaly: Anomaly) -> bool:
    return len(anomaly.objects) > 1


def _findings(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {"findings": found, "nothing_found": not found}


def _check(query: Query, candidate: Note, scores: range, reason: str) -> dict[str, Any]:
    return {"id": candidate.id, "score": query.dice.pick(scores, "score", candidate.id), "reason": reason}


def objects(query: Query) -> Content:
    listed: list[dict[str, Any]] = [
        {"name": o.name, "description": o.description, "person": bool(_PERSON.search(o.name)), "box": _box(o.box)}
        for o in query.truth.visible()
    ]
    with suppress(KeyError, TypeError):  # a schema without these
        if "parts" in query.schema["properties"]["objects"]["items"]["properties"]:
            for item, of in zip(listed, query.truth.visible(), strict=True):
                item["parts"] = [{"name": part.name, "box": _box(part.box)} for part in of.parts]
    with suppress(KeyError, TypeError):
        listed = listed[: query.schema["properties"]["objects"]["maxItems"]]
    return {"objects": listed}


def merge(query: Query) -> Content:
    """The objects of all drafts in the prompt, each name once."""
    named: dict[str, Any] = {}
    for draft in (v.value for v in values_in(query.text)):
        listed = draft.get("objects") if isinstance(draft, dict) else None
        for item in listed if isinstance(listed, list) else []:
            if isinstance(item, dict) and isinstance(item.get("name"), str):
                named.setdefault(item["name"], item)
    return {"objects": list(named.values())}


def _prose(about: str, found: Iterable[dict[str, Any]]) -> str:
    """Free text that holds each of `found` as one line of JSON."""
    return "\n\n".join([_PROSE.format(object=" ".join(about.split())), *map(to_json, found)])


def examine(query: Query) -> Content:
    """One object's attributes, or its relations to others."""
    about, relations = query.tag.object or SCENE, query.tag.step == "relations-1"
    noticed = [a for a in _noticed(query, query.truth.about(about)) if _is_relation(a) == relations]
    counted = [c.model_dump() for o in query.truth.objects if o.name == about and not relations for c in o.counts]
    return _prose(about, [*counted, *(_suspected(query, a) for a in noticed), *_invented(query, about)])


def write_down(query: Query) -> Content:
    found = _findings([note.model_dump(exclude={"id"}) for note in _notes(query)[1]])
    return found if query.tag.step == "relations-2" else {"counts": _counted(query.text)} | found


def _counted(text: str) -> list[dict[str, Any]]:
    """The counts that an earlier step wrote, one a line."""
    counts = []
    for line in text.split("\n"):
        with suppress(ValidationError):
            counts.append(PartCount.model_validate_json(line).model_dump())
    return counts


def consider(query: Query) -> Content:
    names = [f"Candidate {c.id}, {' '.join(c.name.split())}: stated clearly; I keep it." for c in _notes(query)[0]]
    return "\n\n".join([_PROSE.format(object="the list of candidates"), *names])


def review(query: Query) -> Content:
    candidates = _notes(query)[0]
    checks = [_check(query, c, range(70, 96), "It is described concretely.") for c in candidates]
    merged = [_fields(same[0]) | {"from": [c.id for c in same]} for same in _groups(candidates)]
    return {"checks": checks} | _findings(merged)


def verify(query: Query) -> dict[str, Any]:
    true = {_key(a) for a in query.truth.anomalies}
    checks = []
    for candidate in _notes(query)[0]:
        if _key(candidate) in true:
            checks.append(_check(query, candidate, range(85, 101), "It is plainly visible and cannot be so."))
        elif _survives(query, candidate):
            checks.append(_check(query, candidate, range(55, 75), "It is described concretely."))
        else:
            checks.append(_check(query, candidate, range(3, 33), "The image does not show this."))
    return {"checks": checks}


def scan(query: Query) -> Content:
    noticed = _noticed(query, query.truth.about(SCENE))
    return _findings([*(_suspected(query, a) for a in noticed), *_invented(query, SCENE)])


def inspect(query: Query) -> Content:
    entries = []
    counts = {o.name: [c.model_dump() for c in o.counts] for o in query.truth.objects}
    for name in _asked_objects(query.text):
        found = [_suspected(query, a) for a in _noticed(query, query.truth.about(name))] + _invented(query, name)
        look = {"look": _LOOK.format(object=name), "counts": counts.get(name, [])}
        entries.append({"object": name, **look, "findings": found})
    return {"objects": entries}


def _asked_objects(text: str) -> list[str]:
    """Names in the prompt's lines of the form `{"object": "the cup", ...}`."""
    names = []
    for line in text.split("\n"):
        with suppress(ValueError, RecursionError):
            value = json.loads(line)
            if isinstance(value, dict) and isinstance(value.get("object"), str):
                names.append(value["object"])
    return names


def _reported(anomaly: Anomaly) -> dict[str, Any]:
    return _fields(anomaly) | {"severity": anomaly.severity, "box": _box(anomaly.region)}


def _made_up(query: Query, found: dict[str, Any]) -> dict[str, Any]:
    """An anomaly that is not in the truth, as a report has it: of middling severity and without a box."""
    severity = query.dice.pick(range(40, 65), "severity", found["name"])
    texts = {key: found[key] for key in ("name", "phenomenon", "reasoning")}
    return texts | {"severity": severity, "objects": [o for o in found["objects"] if o != SCENE], "box": None}


def single(query: Query) -> Content:
    found = [_reported(a) for a in _noticed(query, query.truth.anomalies)]
    found += [_made_up(query, invented) for invented in _invented(query, SCENE)]
    return {"anomalies": found, "no_anomalies": not found}


def finish(query: Query) -> dict[str, Any]:
    """The true candidates as the truth has them, and those others that survive."""
    true = {_key(a): a for a in query.truth.anomalies}
    found = []
    for same in _groups(_notes(query)[0]):
        ids = {"from": [c.id for c in same]}
        if anomaly := true.get(_key(same[0])):
            found.append(_reported(anomaly) | ids)
        elif _survives(query, same[0]):
            found.append(_made_up(query, _fields(same[0])) | ids)
    return {"anomalies": found, "no_anomalies": not found}


def look_again(query: Query) -> Content:
    return verify(query) | finish(query)


def source(query: Query) -> Content:
    return query.word


def describe(query: Query) -> Content:
    listed = ", ".join(" ".join(o.name.split()) for o in query.truth.visible())
    return f"The image shows {listed}."


_DRAWN = re.compile(
    r"\b(drawings?|paintings?|watercolou?r|sketch|illustrations?|cartoon|anime|logo|render|pixel art|collage)\b",
    re.IGNORECASE,
)
_CUES = {
    "animals": r"dog|cat|horse|bird|cow|sheep|goat|fish|duck|puppy|kitten|elephant|parrot|bee|donkey|camel",
    "food": r"bread|soup|cake|fruit|rice|noodles?|pizza|salad|egg|pancake|dough|apple|meal|breakfast|dinner",
    "glass and liquids": r"glass|water|wine|juice|milk|tea|coffee|bottle|jar|aquarium|vase|pours?|pouring",
    "hands at work": r"hands?|fingers?|palms?",
    "lettering": r"sign|label|reads?|reading|letters?|menu|poster|newspaper|chalkboard|banner",
    "people in motion": r"runs?|running|jumps?|jumping|dances?|dancing|walks?|walking|climbs?|climbing|skips?",
    "physics": r"falls?|falling|wind|smoke|balances?|balanced|leans?|leaning|stack|spinning|flames?",
    "reflections": r"mirror|reflections?|reflected|puddle|shadows?|polished",
    "sport": r"football|tennis|basketball|swimmer|gymnast|goalkeeper|skater|boxing|race|ball",
    "tools and machines": r"hammer|drill|saw|lathe|machine|tools?|wrench|loom|piano|violin|printer",
    "vehicles": r"car|bus|bicycles?|bikes?|boat|ship|train|tram|truck|motorcycle|tractor|van",
}
"""Words by which a prompt for an image generator has a tag."""


def prompt_tags(query: Query) -> Content:
    """What a prompt for an image generator asks for, by its words."""
    prompts = [v.value["prompt"] for v in values_in(query.text) if isinstance(v.value, dict) and "prompt" in v.value]
    text = str(prompts[0]) if prompts else ""
    found = [tag for tag, words in _CUES.items() if re.search(rf"\b({words})\b", text, re.IGNORECASE)]
    return {"photo": not _DRAWN.search(text), "tags": found[:3]}


def opinion(query: Query) -> Content:
    """Ratings of explanations: high for what is true of the image and was seen, low for all else."""
    described = describe(query)
    seen = {_key(a) for a in _noticed(query, query.truth.anomalies)}
    ratings = []
    for note in _notes(query)[0]:
        true = _key(note) in seen or (not note.reasoning and note.phenomenon == described)
        taken_in = query.dice.chance("believed", *_key(note)) < query.hallucinations
        rating = query.dice.pick((4, 5) if true or taken_in else (1, 2), "rating", note.id)
        ratings.append({"id": note.id, "seen": "It is there." if true else "It is not there.", "rating": rating})
    return {"ratings": ratings}


LOOKING: dict[str, Callable[[Query], Content]] = {
    **dict.fromkeys(("objects-1", "objects-2", "objects-3", "draft"), objects),
    **dict.fromkeys(("attributes-1", "relations-1"), examine),
    "verify": verify,
    "scan": scan,
    "inspect": inspect,
    **dict.fromkeys(("format", "finish"), finish),
    "look-again": look_again,
    "single": single,
    "source": source,
    "describe": describe,
    "opinion": opinion,
}
"""Steps whose request must show the image."""
STEPS: dict[str, Callable[[Query], Content]] = {
    **LOOKING,
    "merge": merge,
    **dict.fromkeys(("attributes-2", "relations-2"), write_down),
    "review-1": consider,
    **dict.fromkeys(("review-2", "summary"), review),
    "prompt-tags": prompt_tags,
}
"""All steps."""
