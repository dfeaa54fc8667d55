"""The protocol of a vision-language model: it answers one request about images.

A `VLM` makes exactly one attempt: retries, budgets, caching and the reading of replies are `calling.Caller`'s.

    vlm = open_vlm("gpt-4o")  # anomreason.vlm.opening
    reply = await vlm.ask(Request(("What is odd here?", image.encoded), Tag(image="a.jpg", role="", step="")))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

from anomreason.anomaly import Usage
from anomreason.images import Encoded
from anomreason.textform import find_json

Finish = Literal["stop", "length", "refused", "unknown"]
"""How a reply ended; `unknown` when the server gave no reason, or one that we do not know."""
TINY = "tiny"
"""The spec of the model that comes with the package."""
Part = str | Encoded


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the reply is drawn."""

    temperature: float = 0.0
    max_tokens: int = 2048
    """Cap of the reply, in tokens."""
    seed: int | None = None
    logprobs: bool = False
    """Ask for the log-probabilities of the alternatives of the answer's first token."""


@dataclass(frozen=True, slots=True)
class Tag:
    """Where a request comes from: for the ledger and the X-Anomreason-* headers. Never part of what the model sees."""

    image: str
    role: str
    step: str
    object: str | None = None
    sample: int = 0
    """Which of several draws of the same request this is; part of the cache key."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `parts` are the user's message in order; `turns` continue it as (assistant, user) pairs."""

    parts: tuple[Part, ...]
    tag: Tag
    schema: Mapping[str, Any] | None = None
    """JSON schema that the reply must satisfy, with bounded strings, numbers and arrays; None for free text."""
    sampling: Sampling = Sampling()
    turns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Reply:
    """One reply, unchanged."""

    text: str
    finish: Finish
    usage: Usage
    """With calls=1; tokens as reported by the endpoint; cost is filled in by the ledger."""
    model: str
    """The model that answered, as it names itself."""
    logprobs: Mapping[str, float] = field(default_factory=dict)
    """Alternatives of the token that begins the answer, and their natural log-probabilities; empty when not given."""
    sent_notes: tuple[str, ...] = ()
    """How the images were changed for this server, in words."""

    def __post_init__(self) -> None:
        # Half a surrogate pair (a cut emoji) can be in JSON, but in no file.
        object.__setattr__(self, "text", self.text.encode("utf-8", "replace").decode())

    @cached_property
    def parsed(self) -> Any:
        """The JSON value the text holds (bare or fenced), or None when there is none."""
        return find_json(self.text)


class VLM(Protocol):
    """A vision-language model."""

    name: str
    """What identifies the model in results and cache keys."""
    bounds_pixels: bool
    """True when the model's own processor bounds the image, so that it is sent at full size."""

    async def ask(self, request: Request) -> Reply:
        """One attempt. Raises EndpointError; a refusal or a cut reply is a Reply with that finish."""

    async def close(self) -> None:
        """Release connections and memory."""


@dataclass(frozen=True, slots=True)
class VLMOptions:
    """How to reach or load a model. The defaults are those of the command line."""

    base_urls: tuple[str, ...] = ()
    """Servers to spread requests over; empty for OpenAI's own."""
    timeout: float = 120.0
    """Seconds after which one attempt is abandoned."""
    in_flight: int = 32
    """Concurrent calls."""
    device: str | None = None
    """Device of a local model: 'cpu', 'cuda', ...; None takes a GPU if there is one."""
    api_key_env: str | None = None
    """Environment variable with the key for all servers; None: the one that is known to be for each."""
    dtype: str | None = None
    """Number format of a local model: 'float32', 'bfloat16', ...; None takes the device's usual one."""


def runs_here(spec: str) -> bool:
    """Whether the spec names a model that is loaded into this process."""
    return spec == TINY or spec.startswith("local:")
