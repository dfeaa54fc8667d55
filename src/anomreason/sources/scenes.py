"""Reading a folder of scenes: `metadata.jsonl`, one line a picture, with all that is known of it.

Knows nothing of predictions and scores. Whatever is wrong with the file is a UsageError that names file and line.

    known = read_scenes("scenes/")
    print(sum(not one.twin_of for one in known), "scenes")
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from anomreason.anomaly import Kind, Region, Text
from anomreason.errors import ParseError, UsageError
from anomreason.metrics.planted import MOST, KnownAnomaly, KnownImage, KnownObject, check
from anomreason.textform import parse_json
from anomreason.textform.fields import shown

METADATA = "metadata.jsonl"


def region_from(value: Any) -> Any:
    """[x0, y0, x1, y1] as the object that `Region` reads; anything else as it stands."""
    four = isinstance(value, list) and len(value) == 4
    return dict(zip(("x0", "y0", "x1", "y1"), value, strict=True)) if four else value


Box = Annotated[Region, BeforeValidator(region_from)]


class _Line(BaseModel):
    """Other keys are for other readers."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class _Anomaly(_Line):
    kind: Kind
    severity: float = Field(ge=0, le=100)
    objects: Annotated[list[Text], Field(min_length=1)]
    region: Box | None = None


class _Object(_Line):
    name: Text
    synonyms: list[Text] = []


class _Picture(_Line):
    file_name: Text
    anomalies: Annotated[list[_Anomaly], Field(max_length=MOST)]
    objects: list[_Object]
    twin_of: str = ""
    mended: int = -1

    def known(self) -> KnownImage:
        return KnownImage(
            self.file_name,
            tuple(KnownAnomaly(a.kind, tuple(a.objects), a.severity, a.region) for a in self.anomalies),
            tuple(KnownObject(o.name, tuple(o.synonyms)) for o in self.objects),
            self.twin_of,
            self.mended,
        )


def read_scenes(path: str | Path) -> list[KnownImage]:
    """The pictures of a folder of scenes (or of its `metadata.jsonl`), in the file's order. Raises UsageError."""
    path = Path(path)
    file = path / METADATA if path.is_dir() else path
    known = [_picture(line, f"{file}, line {number}") for number, line in _lines(file)]
    if not known:
        raise UsageError(f"{file} lists no pictures; make scenes with: anomreason scenes make")
    try:
        check(known)
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from None
    return known


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"{file} does not exist; give a folder that `anomreason scenes make` wrote") from None
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: not UTF-8 at byte {error.start}; save the file as UTF-8") from None
    # Not splitlines: a text may hold other separators of lines.
    yield from ((n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip())


def _picture(line: str, where: str) -> KnownImage:
    try:
        value = parse_json(line)
    except ParseError as error:
        raise UsageError(f"{where}: {error}") from None
    if not isinstance(value, dict):
        raise UsageError(f"{where}: write one JSON object a line, not {shown(value)}")
    try:
        return _Picture.model_validate(value).known()
    except ValidationError as error:
        blame = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, blame["loc"])) or "the line"
        raise UsageError(f"{where}: {shown(place)}: {blame['msg']}; write it as `scenes make` does") from None
