"""The form of each step's answer: its JSON schema, and what is repaired or shortened while a reply is read as it.

>>> schema_of(Findings)["required"]
['findings', 'nothing_found']
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    model_validator,
)

from anomreason.agent.boxes import BOX_KEYS, RawBox, read_box
from anomreason.anomaly import Anomaly, Basis, Region, SceneObject
from anomreason.errors import ParseError, shown
from anomreason.textform import read_severity, says_no_anomalies

Notes = list[str]
"""What was assumed, repaired or left out while a reply was read, in sentences for a person. Readers append to it."""
MOST_OBJECTS = 40
"""Objects that one reply may list, so the most that `max_objects` can ask for."""
MOST_PARTS = 6
"""Parts that one object may list."""


@dataclass(eq=False)
class Reading:
    """One reading of a reply."""

    notes: Notes
    numbers: dict[str, list[object]] = field(default_factory=dict)
    """Scores and severities as the reply writes them."""


def _score(value: object, info: ValidationInfo) -> float:
    try:
        number = read_severity(value)
    except ParseError as e:
        raise ValueError(ParseError(f"{shown(value)} is not a number from 0 to 100", write=e.write)) from e
    if isinstance(info.context, Reading):
        info.context.numbers.setdefault(str(info.field_name), []).append(value)
    return number


def _note(info: ValidationInfo, note: str) -> None:
    """Add a note, where the reader of the reply keeps notes."""
    if isinstance(info.context, Reading):
        info.context.notes.append(note)


def _at_most(longest: int) -> BeforeValidator:
    """Shortens a longer text: its beginning says what there is to say."""

    def shorten(value: object, info: ValidationInfo) -> object:
        if not isinstance(value, str) or len(value.strip()) <= longest:
            return value
        _note(info, f"the text {info.field_name!r} of a reply was shortened to {longest} characters")
        return value.strip()[: longest - 1] + "…"

    return BeforeValidator(shorten)


def _first(most: int) -> BeforeValidator:
    """Takes one entry for a list of it, null for an empty one, repeated anomalies once, and the first `most`."""

    def listed(value: object, info: ValidationInfo) -> object:
        if value is None or (isinstance(value, str) and _is_none(value)):
            return []
        entries = [e for e in value if e is not None and e != {}] if isinstance(value, list) else [value]
        entries = _once([e for e in entries if not _names_nothing(e)], info)
        if len(entries) > most:
            _note(info, f"a reply held {len(entries)} {info.field_name}, of which the first {most} were read")
        return entries[:most]

    return BeforeValidator(listed)


def _is_none(text: str) -> bool:
    return text.strip(" .-*").casefold() in ("", "none", "n/a", "null", "no anomaly") or says_no_anomalies(text)


def _names_nothing(entry: object) -> bool:
    """Whether an anomaly is none, such as one with the name 'None'."""
    if not isinstance(entry, dict) or "phenomenon" not in entry:
        return False
    texts = [str(entry[key] or "") for key in ("name", "phenomenon") if key in entry]
    return all(map(_is_none, texts))


def _once(entries: list[Any], info: ValidationInfo) -> list[Any]:
    """Each entry once; a repeated anomaly keeps the ids of all."""
    found: dict[object, Any] = {}
    for number, entry in enumerate(entries):
        key = _identity(entry) if isinstance(entry, dict) else None
        same = found.setdefault(number if key is None else key, entry)
        if same is not entry and isinstance(same.get("from"), list) and isinstance(entry.get("from"), list):
            found[key] = {**same, "from": list(dict.fromkeys(map(str, same["from"] + entry["from"])))}
    if len(found) < len(entries):
        _note(info, repeated([e.get("name") for e in entries if isinstance(e, dict)]))
    return list(found.values())


def repeated(names: Sequence[object]) -> str:
    """A note on names of which some came several times."""
    name, count = Counter(map(str, names)).most_common(1)[0]
    return f"the model repeated itself: {shown(name)} came {count} times in one reply and counts once"


def _identity(entry: Mapping[str, Any]) -> object:
    """What two entries share that are the same anomaly, or the same object at the same place; None: not comparable."""
    values = {str(k).lower(): v for k, v in entry.items()}
    keys = ("name", "phenomenon", "objects") if "phenomenon" in values else ("name", "description", "box")
    if not values.get("name") or not values.get(keys[1]) or (keys[2] == "box" and not values.get("box")):
        return None
    return tuple(" ".join(re.findall(r"\w+", str(values.get(k)).casefold())) for k in keys)


def _some(name: str) -> str:
    if _is_none(name):
        raise ValueError(ParseError(f"{name!r} is no anomaly", write="leave the list empty when nothing is wrong"))
    return name


def _ids(value: object) -> object:
    """`1`, `"1, 2"` and `["#1"]` for a list of ids."""
    if isinstance(value, str) and re.fullmatch(r"[\s\d,;#]*", value):
        return re.findall(r"\d+", value)
    if isinstance(value, list):
        return [v.strip(" #") if isinstance(v, str) else v for v in value]
    return value


def _cutout(value: object) -> object:
    """The number of a cut-out; 0, the whole image, for what names none."""
    number = re.fullmatch(r"\D{0,20}(\d{1,2})\W*", str(value))
    return int(number[1]) if number and int(number[1]) <= MOST_OBJECTS else 0


def _names(value: object) -> object:
    """`[{"name": "hand"}]` for a list of names."""
    if not isinstance(value, list):
        return value
    return [v["name"] if isinstance(v, dict) and len(v) < 3 and "name" in v else v for v in value]


def _sure(value: object, info: ValidationInfo) -> float | None:
    """How sure a proposal is; None, with a note, for what is no number from 0 to 100. It decides nothing."""
    if value is None or value == "":
        return None
    try:
        number = read_severity(value)
    except ParseError:
        number = -1.0
    if 0 <= number <= 100 and not 0 < number < 1:
        return number
    _note(info, f"how sure a proposal is was left out: {shown(value)} is not a number from 0 to 100")
    return None


def _counts(value: object) -> object:
    """`{"hands": 2}` for a list of counts; entries without a number, such as "cannot be counted", are left out."""
    if isinstance(value, dict):
        value = [value] if "part" in value else [{"part": part, "count": count} for part, count in value.items()]
    counted = []
    for entry in value if isinstance(value, list) else ():
        part, count = (entry.get("part"), str(entry.get("count")).strip()) if isinstance(entry, dict) else (None, "")
        if isinstance(part, str) and 0 < len(part.strip()) <= 100 and re.fullmatch(r"\d{1,3}(\.0)?", count, re.ASCII):
            counted.append({"part": part, "count": int(float(count))})
    return counted


def _parts(value: object) -> object:
    """`{"left hand": [...]}` for a list of parts; what has no name or no box is left out."""
    if isinstance(value, dict):
        value = [value] if "name" in value else [{"name": name, "box": box} for name, box in value.items()]
    parts = []
    for entry in value if isinstance(value, list) else ():
        part = {plain_key(key): field for key, field in entry.items()} if isinstance(entry, dict) else {}
        name = part.get("name", part.get("part"))
        if isinstance(name, str) and name.strip() and any(part.get(key) is not None for key in BOX_KEYS):
            parts.append(part | {"name": name})
    return parts


Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), _at_most(200)]
Prose = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1500), _at_most(1500)]
Remark = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=800),
    _at_most(800),
    BeforeValidator(lambda value: "" if value is None else value),
]


AnomalyName = Annotated[Name, AfterValidator(_some)]
Thousandth = Annotated[int, Field(ge=0, le=1000)]
FourThousandths = Annotated[list[Thousandth], Field(min_length=4, max_length=4)]
Box = Annotated[
    RawBox | None, BeforeValidator(lambda value: read_box(value), json_schema_input_type=FourThousandths | None)
]
Score = Annotated[
    float,
    Field(ge=0, le=100),
    BeforeValidator(_score, json_schema_input_type=Annotated[int, Field(ge=0, le=100)]),
]
Ids = Annotated[list[Annotated[int, Field(ge=1, le=1000)]], Field(max_length=60), _first(60), BeforeValidator(_ids)]
Sure = Annotated[
    float | None,
    Field(ge=0, le=100),
    BeforeValidator(_sure, json_schema_input_type=Annotated[int, Field(ge=0, le=100)]),
]
Names = Annotated[list[Name], Field(max_length=12), _first(12), BeforeValidator(_names)]
Flag = Annotated[bool | None, BeforeValidator(lambda value: value, json_schema_input_type=bool)]
"""Says again whether a list is empty: may be missing where the list holds something."""
Person = Annotated[bool, BeforeValidator(lambda value: False if value is None else value)]


def plain_key(key: object) -> str:
    """A key in lower case with underscores: `noAnomalies` and `No anomalies` are `no_anomalies`."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", str(key))
    return "_".join(re.split(r"[\s_-]+", words.strip().lower()))


class Form(BaseModel):
    """Further keys in a reply are ignored; the schema forbids them."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _plain_keys(cls, value: object) -> object:
        """Keys in any case, with spaces, hyphens or underscores; a key as asked goes before its variants."""
        if isinstance(value, str) and value.strip() and issubclass(cls, ObjectItem):
            return {"name": value}
        if not isinstance(value, dict):
            return value
        return {plain_key(key): entry for key, entry in value.items()} | value


class _Boxed(Form):
    """What may have a box, which models also write under the keys of `BOX_KEYS`."""

    @model_validator(mode="before")
    @classmethod
    def _find_box(cls, value: Any) -> Any:
        key = next((k for k in BOX_KEYS if value.get(k) is not None), None) if isinstance(value, dict) else None
        return {**value, "box": read_box(value[key], key)} if key else value


class ObjectItem(_Boxed):
    name: Name
    description: Remark = ""
    person: Person = False
    box: Box = None

    def scene_object(self, region: Region | None) -> SceneObject:
        return SceneObject(name=self.name, description=self.description, region=region, person=self.person)


class Objects(Form):
    objects: Annotated[list[ObjectItem], Field(max_length=MOST_OBJECTS), _first(MOST_OBJECTS)]


class PartItem(_Boxed):
    name: Name
    box: Annotated[
        RawBox | None, BeforeValidator(lambda value: read_box(value), json_schema_input_type=FourThousandths)
    ] = None


class DetailedObject(ObjectItem):
    """An object that is listed with its telling parts, since cut-outs can show these."""

    parts: Annotated[list[PartItem], Field(max_length=MOST_PARTS), _first(MOST_PARTS), BeforeValidator(_parts)] = []


class DetailedObjects(Objects):
    objects: Annotated[list[DetailedObject], Field(max_length=MOST_OBJECTS), _first(MOST_OBJECTS)]  # type: ignore[assignment]


class ProposedAnomaly(Form):
    """An anomaly that one step proposes."""

    name: AnomalyName
    phenomenon: Prose
    reasoning: Prose
    objects: Names = []


class Suspicion(ProposedAnomaly):
    """An anomaly that is proposed with its doubts; a later step weighs them."""

    sure: Sure = None
    innocent: Remark = ""


class Findings(Form):
    findings: Annotated[list[Suspicion], Field(max_length=12), _first(12)] = []
    nothing_found: Flag = None


class Count(Form):
    """How many parts of one sort an object has."""

    part: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
    count: Annotated[int, Field(ge=0, le=999)]


Counts = Annotated[list[Count], Field(max_length=12), _first(12), BeforeValidator(_counts)]


class AttributeFindings(Findings):
    """What is wrong with one object in itself, and how many parts it has."""

    counts: Counts = []


class Inspection(Form):
    object: Name
    look: Remark = ""
    counts: Counts = []
    findings: Annotated[list[Suspicion], Field(max_length=8), _first(8)]


class Inspected(Form):
    objects: Annotated[list[Inspection], Field(min_length=1, max_length=12), _first(12)]


class Check(Form):
    """The score that a second look gives one candidate."""

    id: Annotated[int, Field(ge=1, le=1000)]
    score: Score
    reason: Remark = ""


class Checks(Form):
    checks: Annotated[list[Check], Field(max_length=1000), _first(1000)] = []


class MergedAnomaly(ProposedAnomaly):
    sources: Ids = Field(alias="from")


class Reviewed(Form):
    checks: Annotated[list[Check], Field(max_length=1000), _first(1000)] = []
    findings: Annotated[list[MergedAnomaly], Field(max_length=12), _first(12)] = []
    nothing_found: Flag = None


class AnomalyItem(_Boxed):
    name: AnomalyName
    phenomenon: Prose
    reasoning: Prose
    severity: Score
    objects: Names = []
    box: Box = None

    def anomaly(self, region: Region | None = None, basis: Basis | None = None) -> Anomaly:
        return Anomaly(
            name=self.name,
            phenomenon=self.phenomenon,
            reasoning=self.reasoning,
            severity=self.severity,
            objects=tuple(self.objects),
            region=region,
            basis=basis,
        )


class Anomalies(Form):
    anomalies: Annotated[list[AnomalyItem], Field(max_length=25), _first(25)] = []
    no_anomalies: Flag = None


class SourcedAnomaly(AnomalyItem):
    sources: Ids = Field(alias="from")


class Report(Form):
    anomalies: Annotated[list[SourcedAnomaly], Field(max_length=25), _first(25)] = []
    no_anomalies: Flag = None


class CheckedReport(Form):
    checks: Annotated[list[Check], Field(max_length=1000), _first(1000)] = []
    anomalies: Annotated[list[SourcedAnomaly], Field(max_length=25), _first(25)] = []
    no_anomalies: Flag = None


class EnlargedAnomaly(SourcedAnomaly):
    """An anomaly of a report that was written with cut-outs in view."""

    cutout: Annotated[int, Field(ge=0, le=MOST_OBJECTS), BeforeValidator(_cutout)] = 0


class EnlargedReport(CheckedReport):
    anomalies: Annotated[list[EnlargedAnomaly], Field(max_length=25), _first(25)] = []  # type: ignore[assignment]


@cache
def schema_of(form: type[Form]) -> dict[str, Any]:
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
