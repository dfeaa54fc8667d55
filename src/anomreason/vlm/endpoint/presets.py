"""Servers by a short name, with their address, key and known habits.

>>> preset_of("ollama:qwen2.5vl:7b").base_url
'http://127.0.0.1:11434/v1'
"""

from __future__ import annotations

import os
import re
import tomllib
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Literal
from urllib.parse import urlsplit

from anomreason.anomaly import Record
from anomreason.errors import UsageError
from anomreason.vlm.protocol import TINY

_VARIABLE = re.compile(r"\$\{(\w+)\}")


class Preset(Record):
    """What is known of a server. `presets.toml` explains the fields."""

    about: str
    source: str
    base_url: str
    key: str | None = None
    own: bool = False
    tried: str | None = None
    """What was run here against it; None: nothing, so that all of it comes from documentation."""
    leaves_out: tuple[Literal["response_format", "seed", "temperature", "logprobs"], ...] = ()
    boxes: str | None = None
    in_flight: int | None = None
    max_reply_tokens: int | None = None

    def url(self) -> str:
        """The base URL with its environment variables filled in. Raises UsageError for one that is not set."""
        for name in _VARIABLE.findall(self.base_url):
            if not os.environ.get(name, "").strip():
                raise UsageError(
                    f"the environment variable {name} is not set: set it to the address of your resource, e.g. "
                    f"https://NAME.openai.azure.com, or give --base-url"
                )
        return _VARIABLE.sub(lambda found: os.environ[found[1]].strip().rstrip("/"), self.base_url)


@cache
def presets() -> dict[str, Preset]:
    """All presets by name."""
    text = files("anomreason.vlm.endpoint").joinpath("presets.toml").read_text(encoding="utf-8")
    return {name: Preset.model_validate(entry) for name, entry in tomllib.loads(text).items()}


def split_preset(spec: str) -> tuple[str | None, str]:
    """The preset's name and the model's: `vllm:Qwen/Qwen2.5-VL-7B-Instruct`; None for a spec without a preset.

    Raises UsageError for a preset without a model.
    """
    name, colon, model = spec.partition(":")
    if not colon or name not in presets():
        return None, spec
    if not model.strip():
        raise UsageError(f"{spec!r} names no model; write {name}:NAME, with the name that the server knows")
    return name, model


def preset_of(spec: str) -> Preset | None:
    """The preset that a spec names; None when it names none."""
    name, _ = split_preset(spec)
    return presets()[name] if name else None


def own_server(url: str) -> str | None:
    """The name of the program that usually listens at this address of one's own machine; None for another address."""
    own = (preset for preset in presets().values() if preset.own and preset.base_url == url.rstrip("/"))
    return next((preset.about.partition(" on this machine")[0] for preset in own), None)


def near_spec(spec: str) -> str | None:
    """The form that a mistyped spec may stand for: `tiny` or that of a preset; None when none is close.

    >>> near_spec("olama:qwen2.5vl:7b"), near_spec("tinny"), near_spec("gpt-4o")
    ('ollama:qwen2.5vl:7b', 'tiny', None)
    """
    kind, colon, name = spec.partition(":")
    near = get_close_matches(kind.lower(), [*presets(), *([] if colon else [TINY])], 1, 0.75)
    return near[0] if near and near[0] == TINY else f"{near[0]}:{name or 'NAME'}" if near else None


def left_out(urls: tuple[str, ...]) -> set[str]:
    """Fields of a request that one of these servers is known to refuse or to ignore, by its host."""
    hosts = {urlsplit(url).hostname for url in urls}
    remote = [preset for preset in presets().values() if not preset.own and not _VARIABLE.search(preset.base_url)]
    return {field for preset in remote if urlsplit(preset.base_url).hostname in hosts for field in preset.leaves_out}
