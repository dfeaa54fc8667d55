"""The questions a model is trained with: several wordings of each, with a version.

Read from the package's `prompts.toml`, or from a file of the same form.

    >>> Questions.load().version
    1
"""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError

from anomreason.anomaly import Record, Text
from anomreason.errors import UsageError, first_error

Task = Literal["anomalies", "authenticity"]
"""`anomalies`: one turn, the list of all. `authenticity`: generated or photograph, then the list or a description."""

CONTROL = re.compile(r"<\|[^|<>]{1,40}\|>|<(?:image|video|audio|bbox|ref-object|cot-process|start-image)>")
"""Tokens that end a message or stand for an image in some model: no text may hold one."""


def _plain(text: str) -> str:
    if found := CONTROL.search(text):
        raise ValueError(f"{found[0]!r} stands for an image or ends a message; remove it")
    return text


PlainText = Annotated[Text, AfterValidator(_plain)]
Wordings = Annotated[tuple[PlainText, ...], Field(min_length=1)]


class AnomalyQuestions(Record):
    """Of the task `anomalies`."""

    ask: Wordings
    """Asks for all anomalies."""


class AuthenticityQuestions(Record):
    """Of the task `authenticity`."""

    source: Wordings
    """Asks whether the image is generated or a photograph."""
    explain: Wordings
    """Asks for the list or the description, after `source` was answered."""
    generated: PlainText
    """One of the two fixed answers."""
    photograph: PlainText


class Questions(Record):
    """All questions, and the two fixed answers."""

    version: int = Field(ge=1, strict=True)
    anomalies: AnomalyQuestions
    authenticity: AuthenticityQuestions

    @classmethod
    def load(cls, path: Path | None = None) -> Questions:
        """The package's own, or a file of the same form. Raises UsageError, naming the place."""
        where = str(path or "prompts.toml")
        try:
            text = (path or files("anomreason.training.data") / "prompts.toml").read_text(encoding="utf-8")
            return cls.model_validate(tomllib.loads(text))
        except OSError as error:
            raise UsageError(f"{where} cannot be read: {error.strerror or error}") from None
        except ValidationError as error:
            raise UsageError(f"{where}: {first_error(error)}; correct it there") from None
        except ValueError as error:
            raise UsageError(f"{where} is not a TOML file of prompts: {error}") from None

    def only(self, question: str) -> Questions:
        """The same with a single question for all anomalies."""
        return self.model_copy(update={"anomalies": AnomalyQuestions(ask=(question,))})
