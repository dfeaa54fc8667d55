"""The fields of one anomaly: under which labels they come, and what a value must be to count.

The reader of a list of anomalies adds to a message which one it was.

    >>> read_severity("25/100 (noticeable but not highly disruptive).")
    25.0
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from anomreason.anomaly import Anomaly
from anomreason.errors import ParseError, shown

FIELDS = {"name": "Name", "phenomenon": "Phenomenon", "reasoning": "Reasoning", "severity": "Severity Score"}
"""Fields of an anomaly and the labels they are written under, in the order of the text form."""
LABELS = {
    "name": "name",
    "anomaly name": "name",
    "phenomenon": "phenomenon",
    "observed phenomenon": "phenomenon",
    "observed": "phenomenon",
    "reasoning": "reasoning",
    "explanation": "reasoning",
    "severity score": "severity",
    "severity": "severity",
}
"""Labels as they are read, in the form that `plain` gives them, and their fields."""
_ONE_NUMBER = "write one number from 0 (completely implausible) to 100 (fully realistic)"


def plain(label: str) -> str:
    """A label or key in lower case, words apart by one space."""
    return " ".join(label.lower().replace("_", " ").split())


def anomaly_from_mapping(mapping: object) -> Anomaly:
    """One anomaly from a JSON object with the published keys, in any case, or their shorter variants.

    Keys: Name; Observed Phenomenon, Phenomenon or Observed; Reasoning or Explanation; Severity Score or Severity; and,
    if given, objects (a list of names). Other keys are left alone. Raises ParseError, naming the key and what to write.
    """
    if not isinstance(mapping, Mapping):
        raise ParseError(f"an anomaly is an object with the keys {', '.join(FIELDS.values())}, not {shown(mapping)}")
    fields: dict[str, object] = {}
    for key, value in mapping.items():
        label = LABELS.get(plain(key)) if isinstance(key, str) and len(key) < 40 else None
        if label and label in fields:
            raise twice(label)
        if label:
            fields[label] = value
    objects = mapping.get("objects")
    objects = () if objects is None else objects
    if not isinstance(objects, list | tuple) or not all(isinstance(o, str) and o.strip() for o in objects):
        raise ParseError(f"'objects' is {shown(objects)}", write="write a list of names of objects")
    return _build(fields, tuple(objects))


def anomaly_from_json(mapping: Any) -> Anomaly:
    """One anomaly from a JSON object of ours: as `anomaly_from_mapping`, with `kind` and `region` where given.

    region: [x0, y0, x1, y1] ([]: not known), or an object with x0, y0, x1, y1 and, if known, polygon. Raises
    ParseError, naming the key and what to write.
    """
    anomaly = anomaly_from_mapping(mapping)
    given = {key: mapping[key] for key in ("kind", "region") if mapping.get(key) not in (None, [])}
    if not given:
        return anomaly
    try:
        return Anomaly.model_validate(dict(anomaly) | given)
    except ValidationError as error:
        blame = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if blame["loc"][0] == "kind":
            wrong = f"'kind' is {shown(given['kind'])}"
            raise ParseError(wrong, write="write a label of at most 100 characters") from None
        place = "".join(f" {part}" for part in blame["loc"][1:])
        raise ParseError(
            f"the region is {shown(given['region'])}:{place} {blame['msg']}",
            write="write [x0, y0, x1, y1] in fractions 0..1 with x0 < x1 and y0 < y1, or an object with these and a "
            "polygon of which they are the bounding box",
        ) from None


def _build(fields: Mapping[str, object], objects: tuple[str, ...] = ()) -> Anomaly:
    for field, label in FIELDS.items():
        value = fields.get(field)
        if value is None:
            asked = _ONE_NUMBER if field == "severity" else "write it in plain words"
            raise ParseError(f"'{label}' is missing", write=f"{asked} after '{label}:'")
        if field != "severity" and not isinstance(value, str):
            raise ParseError(f"'{label}' is {shown(value)}", write="write it as one text")
    severity = read_severity(fields["severity"])
    try:
        return Anomaly.model_validate({**fields, "severity": severity, "objects": objects})
    except ValidationError as error:
        blame = error.errors(include_url=False, include_context=False, include_input=False)[0]
        label = FIELDS.get(str(blame["loc"][0]), str(blame["loc"][0]))
        what = "is blank" if blame["type"] == "string_too_short" else "holds characters that are not text"
        raise ParseError(f"'{label}' {what}", write="write it in plain words") from None


def numbered(number: int, fields: object) -> Anomaly:
    """One anomaly; a ParseError says which one it is about."""
    try:
        return anomaly_from_mapping(fields)
    except ParseError as error:
        name = fields.get("name", fields.get("Name")) if isinstance(fields, Mapping) else None
        called = f" ({shown(name)})" if isinstance(name, str) and name.strip() else ""
        raise ParseError(f"Anomaly {number}{called}: {error.wrong}", write=error.write) from None


def twice(field: str, where: str = "") -> ParseError:
    """What is wrong with an anomaly that has a field two times."""
    write = "write it once per anomaly, and start each anomaly with its name"
    return ParseError(f"{where}'{FIELDS[field]}' stands twice", write=write)


_SEVERITY = re.compile(
    r"(?P<value>-?(?>[0-9]{1,20}(?:\.[0-9]{0,40})?(?:e-?[0-9]{1,3})?))(?![0-9a-z])"
    r"[\s*_`\"'\])]*+(?P<scale>(?:/|\(?out of|of)\s*(?P<of>[0-9]{1,9})|%)?(?P<tail>.*)",
    re.I | re.DOTALL,
)
_RANGE = re.compile(r"\s*(?:\(?\s*(?:[-–—~/,;+…]|\.\.|to\b|or\b|and\b|through\b)[\s(]*)?[0-9]", re.I)
_NUMBERS = re.compile(r"[0-9]+")


def read_severity(value: object) -> float:
    """0 (completely implausible) .. 100 (fully realistic), from a number or a text like `5/100 (highly unrealistic).`

    Raises ParseError for anything that is not one number on that scale: a range, another scale, a word.
    """
    wrong = ParseError(f"'{FIELDS['severity']}' is {shown(value)}", write=_ONE_NUMBER)
    if isinstance(value, int | float) and not isinstance(value, bool):
        number: float = value
    elif isinstance(value, str):
        match = _SEVERITY.match(value.strip(" \t\r\n*_`\"'[("))
        if not match or not _one_number_of_100(match):
            raise wrong
        number = float(match["value"])
    else:
        raise wrong
    if not 0 <= number <= 100:
        raise wrong
    return float(number) + 0.0  # never -0.0


def _one_number_of_100(match: re.Match[str]) -> bool:
    """Whether what stands beside the number is a remark, and not a second number or another scale."""
    tail = match["tail"]
    if _RANGE.match(tail) or (match["of"] or "100") != "100":
        return False
    return bool(match["scale"]) or set(_NUMBERS.findall(tail)) <= {"0", "100"}
