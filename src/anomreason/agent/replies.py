"""The answer of each step: its JSON schema, and the strict reading of the reply.

A reply that is not in the asked form is a ParseError whose message can be shown to the model; nothing is filled in.

    >>> read_proposals('{"findings": [], "nothing_found": true}')
    ()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from anomreason.agent.boxes import BOX_KEYS, BoxReader, RawBox, read_box
from anomreason.anomaly import Anomaly, Region, SceneObject
from anomreason.errors import ParseError, first_error
from anomreason.textform import find_json, read_anomalies, read_severity, says_no_anomalies

Notes = list[str]
"""What was assumed, repaired or left out while a reply was read, in sentences for a person. Readers append to it."""
MOST_OBJECTS = 40
"""Objects that one reply may list, so the most that `max_objects` can ask for."""


def _score(value: object) -> float:
    try:
        return read_severity(value)
    except ParseError as e:
        raise ValueError(str(e)) from e


def _note(info: ValidationInfo, note: str) -> None:
    """Add a note, where the reader of the reply keeps notes."""
    if isinstance(info.context, list):
        info.context.append(note)


def _at_most(longest: int) -> BeforeValidator:
    """Shortens a longer text: its beginning says what there is to say."""

    def shorten(value: object, info: ValidationInfo) -> object:
        if not isinstance(value, str) or len(value.strip()) <= longest:
            return value
        _note(info, f"the text {info.field_name!r} of a reply was shortened to {longest} characters")
        return value.strip()[: longest - 1] + "…"

    return BeforeValidator(shorten)


Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), _at_most(200)]
Prose = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1500), _at_most(1500)]
Remark = Annotated[str, StringConstraints(strip_whitespace=True, max_length=800), _at_most(800)]
Thousandth = Annotated[int, Field(ge=0, le=1000)]
Box = Annotated[
    RawBox | None,
    BeforeValidator(
        lambda value: read_box(value),
        json_schema_input_type=Annotated[list[Thousandth], Field(min_length=4, max_length=4)] | None,
    ),
]
Score = Annotated[
    float,
    Field(ge=0, le=100),
    BeforeValidator(_score, json_schema_input_type=Annotated[int, Field(ge=0, le=100)]),
]
Ids = Annotated[list[Annotated[int, Field(ge=1, le=1000)]], Field(max_length=60)]
Names = Annotated[list[Name], Field(max_length=12)]


class _Form(BaseModel):
    """Further keys in a reply are ignored; the schema forbids them."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)


class _Boxed(_Form):
    """What may have a box, which models also write under the keys of `BOX_KEYS`."""

    @model_validator(mode="before")
    @classmethod
    def _find_box(cls, value: Any) -> Any:
        key = next((k for k in BOX_KEYS if value.get(k) is not None), None) if isinstance(value, dict) else None
        return {**value, "box": read_box(value[key], key)} if key else value


class ObjectItem(_Boxed):
    name: Name
    description: Remark
    person: bool
    box: Box = None

    def scene_object(self, region: Region | None) -> SceneObject:
        return SceneObject(name=self.name, description=self.description, region=region, person=self.person)


class Objects(_Form):
    objects: Annotated[list[ObjectItem], Field(min_length=1, max_length=MOST_OBJECTS)]


class ProposedAnomaly(_Form):
    """An anomaly that one step proposes."""

    name: Name
    phenomenon: Prose
    reasoning: Prose
    objects: Names = []


class Findings(_Form):
    findings: Annotated[list[ProposedAnomaly], Field(max_length=12)]
    nothing_found: bool


class InspectedAnomaly(ProposedAnomaly):
    kind: Literal["attribute", "relation"]


class Inspection(_Form):
    object: Name
    look: Remark
    findings: Annotated[list[InspectedAnomaly], Field(max_length=8)]


class Inspected(_Form):
    objects: Annotated[list[Inspection], Field(min_length=1, max_length=12)]


class Check(_Form):
    """The score that a second look gives one candidate."""

    id: Annotated[int, Field(ge=1, le=1000)]
    score: Score
    reason: Remark


class Checks(_Form):
    checks: Annotated[list[Check], Field(max_length=1000)]


class MergedAnomaly(ProposedAnomaly):
    sources: Ids = Field(alias="from")


class Reviewed(_Form):
    checks: Annotated[list[Check], Field(max_length=1000)]
    findings: Annotated[list[MergedAnomaly], Field(max_length=12)]
    nothing_found: bool


class AnomalyItem(_Boxed):
    name: Name
    phenomenon: Prose
    reasoning: Prose
    severity: Score
    objects: Names = []
    box: Box = None

    def anomaly(self, region: Region | None = None) -> Anomaly:
        return Anomaly(
            name=self.name,
            phenomenon=self.phenomenon,
            reasoning=self.reasoning,
            severity=self.severity,
            objects=tuple(self.objects),
            region=region,
        )


class Anomalies(_Form):
    anomalies: Annotated[list[AnomalyItem], Field(max_length=25)]
    no_anomalies: bool


class SourcedAnomaly(AnomalyItem):
    sources: Ids = Field(alias="from")


class Report(_Form):
    anomalies: Annotated[list[SourcedAnomaly], Field(max_length=25)]
    no_anomalies: bool


class CheckedReport(_Form):
    checks: Annotated[list[Check], Field(max_length=1000)]
    anomalies: Annotated[list[SourcedAnomaly], Field(max_length=25)]
    no_anomalies: bool


F = TypeVar("F", bound=_Form)
T = TypeVar("T")
Reader = Callable[[str, Notes], T]
"""Reads a reply and appends to the notes. Raises ParseError."""


@cache
def schema_of(form: type[_Form]) -> dict[str, Any]:
    """JSON schema of a form: no references, nothing optional, no further keys, everything bounded."""
    whole = form.model_json_schema(by_alias=True)
    plain: dict[str, Any] = _plain(whole, whole.get("$defs", {}))
    return plain


def _plain(node: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_plain(n, definitions) for n in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _plain(definitions[node["$ref"].rpartition("/")[2]], definitions)
    dropped = ("$defs", "title", "default", "description") if node.get("type") == "object" else ("title", "default")
    plain = {k: _plain(v, definitions) for k, v in node.items() if k not in dropped or k in node.get("required", ())}
    if node.get("type") == "object":
        plain["properties"] = {k: _plain(v, definitions) for k, v in node["properties"].items()}
        plain["required"] = list(node["properties"])
        plain["additionalProperties"] = False
    return plain


def read_form(form: type[F], text: str, notes: Notes | None = None) -> F:
    """The reply as this form. Raises ParseError with what is missing."""
    value = find_json(text)
    if not isinstance(value, dict):
        raise ParseError("there is no JSON object in the answer")
    try:
        return form.model_validate(value, context=notes)
    except ValidationError as e:
        raise ParseError(first_error(e, "the answer")) from e


def read_prose(text: str, notes: Notes | None = None) -> str:
    """Free text, not blank. Raises ParseError."""
    if not text.strip():
        raise ParseError("the answer is empty")
    return text.strip()[:8000]


def read_objects(text: str, notes: Notes | None = None) -> tuple[ObjectItem, ...]:
    """Objects in the order given, names made unique. Raises ParseError."""
    found = read_form(Objects, text, notes).objects
    names = unique_names(o.name for o in found)
    return tuple(o.model_copy(update={"name": name}) for name, o in zip(names, found, strict=True))


def unique_names(names: Iterable[str]) -> list[str]:
    """The same names, with ` #2`, ` #3` ... behind repeated ones."""
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        key = name.casefold()
        seen[key] = seen.get(key, 0) + 1
        unique.append(name if seen[key] == 1 else f"{name} #{seen[key]}")
    return unique


def read_proposals(text: str, notes: Notes | None = None) -> tuple[ProposedAnomaly, ...]:
    """Proposed anomalies; none only when the reply says so. Raises ParseError."""
    if says_no_anomalies(text):
        return ()
    reply = read_form(Findings, text, notes)
    _explicit(reply.findings, reply.nothing_found, "findings", "nothing_found")
    return tuple(reply.findings)


def inspection_reader(asked: Sequence[str]) -> Reader[tuple[Inspection, ...]]:
    """Reader of an inspection that must have an entry for each object, in any order."""

    def read(text: str, notes: Notes | None = None) -> tuple[Inspection, ...]:
        inspections = read_form(Inspected, text, notes).objects
        spoken = {i.object.casefold() for i in inspections}
        missing = [name for name in asked if name.casefold() not in spoken]
        if missing:
            raise ParseError(
                f"no entry for {', '.join(map(repr, missing))}: give one for each thing, by its exact name"
            )
        return tuple(inspections)

    return read


def checks_reader(ids: Sequence[int]) -> Reader[tuple[Check, ...]]:
    """Reader of checks that must judge each id once."""

    def read(text: str, notes: Notes | None = None) -> tuple[Check, ...]:
        checks = read_form(Checks, text, notes).checks
        _judged(checks, ids)
        return tuple(checks)

    return read


def reviewed_reader(ids: Sequence[int]) -> Reader[Reviewed]:
    """Reader of a review: every id judged, every anomaly based on known ids."""

    def read(text: str, notes: Notes | None = None) -> Reviewed:
        reply = read_form(Reviewed, text, notes)
        _judged(reply.checks, ids)
        _explicit(reply.findings, reply.nothing_found, "findings", "nothing_found")
        for finding in reply.findings:
            _known(finding.sources, ids, finding.name)
        return reply

    return read


def report_reader(ids: Sequence[int]) -> Reader[Report]:
    """Reader of a final report over candidates with these ids."""

    def read(text: str, notes: Notes | None = None) -> Report:
        if not ids and says_no_anomalies(text):
            return Report(anomalies=[], no_anomalies=True)
        reply = read_form(Report, text, notes)
        _sound_report(reply, ids)
        return reply

    return read


def checked_report_reader(ids: Sequence[int]) -> Reader[CheckedReport]:
    """Reader of a final report that also judges each candidate."""

    def read(text: str, notes: Notes | None = None) -> CheckedReport:
        if not ids and says_no_anomalies(text):
            return CheckedReport(checks=[], anomalies=[], no_anomalies=True)
        reply = read_form(CheckedReport, text, notes)
        _judged(reply.checks, ids)
        _sound_report(reply, ids)
        return reply

    return read


def read_single(text: str, notes: Notes | None = None, boxes: BoxReader | None = None) -> tuple[Anomaly, ...]:
    """Anomalies as JSON in our form, in the text form, or as the published data write them. Raises ParseError.

    boxes: places the boxes of JSON in our form; None leaves them out.
    """
    value = find_json(text)
    if isinstance(value, dict) and "no_anomalies" in value:
        reply = read_form(Anomalies, text, notes)
        _explicit(reply.anomalies, reply.no_anomalies, "anomalies", "no_anomalies")
        regions = boxes.place([a.box for a in reply.anomalies]) if boxes else [None] * len(reply.anomalies)
        return tuple(a.anomaly(region) for a, region in zip(reply.anomalies, regions, strict=True))
    return read_anomalies(text)


def read_source(text: str) -> bool | None:
    """AI image (True), photograph (False), abstained (None). Raises ParseError for anything else."""
    words = {"generated": True, "photograph": False, "photo": False, "unsure": None}
    word = text.strip().strip("\"'*.` ").casefold()
    if word not in words:
        raise ParseError('answer with one word: "generated", "photograph" or "unsure"')
    return words[word]


def _explicit(items: Sequence[object], flag: bool, key: str, flag_name: str) -> None:
    if bool(items) == flag:
        raise ParseError(
            f"{key!r} has {len(items)} entries but {flag_name!r} is {str(flag).lower()}: one must be wrong"
        )


def _judged(checks: Sequence[Check], ids: Sequence[int]) -> None:
    judged = [c.id for c in checks]
    missing = sorted(set(ids) - set(judged))
    strange = sorted(set(judged) - set(ids))
    if missing or strange or len(judged) != len(set(judged)):
        raise ParseError(f"'checks' must judge each of the ids {list(ids)} exactly once; it judges {judged}")


def _known(sources: Sequence[int], ids: Sequence[int], name: str) -> None:
    strange = sorted(set(sources) - set(ids))
    if strange:
        raise ParseError(f"{name!r} rests on ids {strange}, which were not proposed")


def _sound_report(reply: Report | CheckedReport, ids: Sequence[int]) -> None:
    _explicit(reply.anomalies, reply.no_anomalies, "anomalies", "no_anomalies")
    for anomaly in reply.anomalies:
        _known(anomaly.sources, ids, anomaly.name)
