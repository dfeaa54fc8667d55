"""One image or prompt as an input names it, and what a row says of it: prompt, source, seed, settings, group.

>>> described({"prompt": "a cup", "generator": "flux", "seed": "7"}, ImageEntry("a.png", "a.png")).prompt
'a cup'
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from anomreason.anomaly import Anomaly
from anomreason.dataset.store import storable
from anomreason.errors import UsageError, shown
from anomreason.sources.generated import FOLDERS, by_folder

SourceKind = Literal["ai", "photograph", "unknown"]
IMAGES = "images"
"""Folder of the dataset that holds copies, in folders named by the first three digits of their hash: 4,096 folders hold
less than 5,000 files each up to some 19 million images."""
MAX_PROMPT = 1_000_000
"""Characters; a longer prompt is refused, with the reason `long_prompt`."""
PROMPT_KEYS = ("prompt", "text_prompt", "prompt_t2i", "text", "caption")
"""Columns that hold a prompt; the first that is there counts."""
SETTINGS_KEYS = (
    *("settings", "model", "version", "steps", "num_inference_steps", "guidance_scale", "cfg_scale", "cfg", "sampler"),
    *("scheduler", "negative_prompt", "aspect_ratio", "style", "quality"),
)
"""Columns that say how an image was generated."""
ROW_KEYS = frozenset(
    (*PROMPT_KEYS, *SETTINGS_KEYS, "seed", "source", "generator", "generated", "kind", "licence", "license", "group")
)
"""All columns that are read, in lower case; the others are not."""
_MOST_SEED = 1 << 63


@dataclass(frozen=True, slots=True)
class ImageSource:
    """Where images come from, as far as it is known."""

    name: str
    kind: SourceKind = "unknown"
    generator: str | None = None
    licence: str | None = None
    terms: str | None = None


@dataclass(frozen=True, slots=True)
class Remark:
    """Something about an image or a row that people should know."""

    reason: str
    """One word to list by."""
    message: str


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """One image that an input names, or a row that names none."""

    place: str
    """As `FileRow.path`."""
    name: str
    """As its source calls it."""
    path: Path = Path()
    """What to open; where the bytes are given, their name in messages."""
    size: int | None = None
    mtime: int | None = None
    """Bytes and nanoseconds since 1970 of the file on disk; None where there is none."""
    data: bytes | None = None
    """The image's bytes, where no file holds them alone."""
    source: ImageSource | None = None
    """None for a row of a list of prompts."""
    prompt: str | None = None
    seed: int | None = None
    settings: Mapping[str, Any] | None = None
    group: str | None = None
    anomalies: tuple[Anomaly, ...] | None = None
    """What a scene is known to hold; None where nothing is known."""
    remark: Remark | None = None
    unreadable: Remark | None = None
    """Why no image can be read."""


@dataclass(frozen=True, slots=True)
class PromptEntry:
    """One prompt of a list."""

    place: str
    """File and row, for what is recorded about it."""
    text: str = ""
    group: str | None = None
    tags: tuple[str, ...] = ()
    mtime: int | None = None
    """Of the list, as in `ImageEntry`; for what cannot be stored."""
    unreadable: Remark | None = None


@dataclass(frozen=True, slots=True)
class SourceRule:
    """Which source an image belongs to: as the user says, else as its row, else as its input."""

    name: str | None = None
    kind: SourceKind | None = None
    generator: str | None = None
    licence: str | None = None
    terms: str | None = None

    def source(self, default: str, name: str, values: Mapping[str, Any]) -> ImageSource:
        """default: the input's name; name: the image's, whose folders `0_real` and `1_fake` count.

        Raises UsageError for a name with both folders.
        """
        generated = by_folder(name, f"image {name!r}")
        kind = self.kind or _KINDS.get(_text(values, "kind") or "") or _kind_of(generated, values)
        generator = self.generator or _text(values, "generator")
        called = self.name or _text(values, "source")
        if generated is not None:
            below = _folder_below(name)
            generator = generator or (below if kind == "ai" else None)
            called = called or below or f"{default} {'AI images' if generated else 'photographs'}"
        kind = "ai" if kind == "unknown" and generator else kind
        licence = self.licence or _text(values, "licence") or _text(values, "license")
        return ImageSource(called or generator or default, kind, generator, licence, self.terms)


_KINDS: dict[str, SourceKind] = {"ai": "ai", "photograph": "photograph"}


def _kind_of(generated: bool | None, values: Mapping[str, Any]) -> SourceKind:
    stated = values.get("generated") if generated is None else generated
    return "ai" if stated is True else "photograph" if stated is False else "unknown"


def _folder_below(name: str) -> str | None:
    """The folder within `0_real` or `1_fake`: `flux` in `1_fake/flux/7.png`; None for an image right in it."""
    folders = name.split("/")[:-1]
    at = max((n for n, folder in enumerate(folders) if folder in FOLDERS), default=len(folders))
    return folders[at + 1] if at + 1 < len(folders) else None


def described(
    values: Mapping[str, Any], entry: ImageEntry, default: str = "", rule: SourceRule = SourceRule()
) -> ImageEntry:
    """The entry with what a row, or a file beside it, says of the image."""
    plain = {key.strip().lower(): value for key, value in values.items() if isinstance(key, str)}
    prompt, remark = prompt_in(plain)
    try:
        source = rule.source(default, entry.name, plain)
    except UsageError as error:
        remark = Remark("unclear_kind", str(error))
        source = ImageSource(rule.name or default)
    seed = _seed(plain.get("seed"))
    keys = SETTINGS_KEYS if seed is not None else (*SETTINGS_KEYS, "seed")
    settings = {key: _storable(plain[key]) for key in keys if _is_setting(plain.get(key))}
    return replace(
        entry,
        source=source,
        prompt=prompt,
        seed=seed,
        settings=settings or None,
        group=_text(plain, "group"),
        remark=remark,
    )


def prompt_in(values: Mapping[str, Any]) -> tuple[str | None, Remark | None]:
    """The prompt of a row with plain keys (None: it has none), and what keeps it from being stored."""
    key = next((key for key in PROMPT_KEYS if values.get(key) is not None), None)
    if key is None:
        return None, None
    text = values[key]
    if not isinstance(text, str):
        return None, Remark("bad_prompt", f"the prompt is {shown(text)}; write a text")
    if len(text) > MAX_PROMPT:
        return None, Remark(
            "long_prompt", f"the prompt has {len(text):,} characters; at most {MAX_PROMPT:,} are stored"
        )
    return (storable(text) if text.strip() else None), None


def _text(values: Mapping[str, Any], key: str) -> str | None:
    value = values.get(key)
    return storable(value.strip())[:500] if isinstance(value, str) and value.strip() else None


def _seed(value: Any) -> int | None:
    try:
        number = int(value) if isinstance(value, int | str) and not isinstance(value, bool) else None
    except ValueError:
        return None
    return number if number is not None and abs(number) < _MOST_SEED else None


def _is_setting(value: Any) -> bool:
    """Whether a value says something, and is small enough to be kept beside each image."""
    return value not in (None, "", {}) and len(repr(value)) <= 10_000


def _storable(value: Any) -> Any:
    """A value as any database's JSON holds it."""
    if isinstance(value, Mapping):
        return {storable(str(key)): _storable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(one) for one in value]
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return None if value is None else storable(str(value))
