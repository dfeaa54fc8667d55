"""Calls of a service that runs for years: `calls.jsonl` is rolled away before it is long, and what is away is summed.

    calls-000001.jsonl   the oldest calls
    calls-sum.json       what the calls in the first files used: {"files": 1, "usage": {...}, "estimated": 0}

A file is renamed first and summed then, so that one that is not in the sum yet is read by the next process.

    read_sum(Path("runs/serve")).usage.cost
"""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anomreason.anomaly import Usage
from anomreason.errors import UsageError, first_error
from anomreason.files import read_object, write_atomically

_SUM = "calls-sum.json"
_FILE = re.compile(r"calls-(\d{6,})\.jsonl")


class CallsSum(BaseModel):
    """What the calls in files that were rolled away used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: int = Field(default=0, ge=0)
    """Those up to this number are counted, whether they are still there or not."""
    usage: Usage = Usage()
    estimated: int = Field(default=0, ge=0)
    """Calls whose tokens were estimated."""


def read_sum(folder: Path) -> CallsSum:
    """The sum that a folder keeps; nothing where there is none. Raises UsageError for one that is damaged."""
    file = folder / _SUM
    if not file.exists():
        return CallsSum()
    try:
        return CallsSum.model_validate(read_object(file))
    except ValidationError as error:
        remedy = f"repair it, or remove it if no calls-*.jsonl was ever removed from {folder}"
        raise UsageError(f"{file}: {first_error(error, 'the sum')}; {remedy}") from None


def write_sum(folder: Path, counted: CallsSum) -> None:
    """Raises StorageError."""
    write_atomically(folder / _SUM, counted.model_dump_json() + "\n")


def rolled_files(folder: Path) -> list[tuple[int, Path]]:
    """Number and path of each file that was rolled away and is still there, the oldest first."""
    found = ((_FILE.fullmatch(file.name), file) for file in folder.glob("calls-*.jsonl"))
    return sorted((int(name[1]), file) for name, file in found if name)


def rolled_file(folder: Path, number: int) -> Path:
    return folder / f"calls-{number:06}.jsonl"
