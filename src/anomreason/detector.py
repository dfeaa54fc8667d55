"""A detector by its options: what a command or a call of `detect` asks for, checked, with the files that it names.

    setup = set_up("gpt-4o", DetectOptions(schedule="lean", max_cost=5.0))
    setup.deciding()    # the settings of which another value is another run

`detection` opens it and gives it images.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol, TypedDict, get_args

from anomreason.agent.boxes import AUTO, CONVENTIONS
from anomreason.agent.cutouts import Crops
from anomreason.agent.forms import MOST_OBJECTS
from anomreason.agent.observer import Observer
from anomreason.agent.pipeline import AgentSettings, AnomAgent, Schedule
from anomreason.agent.roles import OF_CUTOUTS, Prompts
from anomreason.anomaly import Detection
from anomreason.errors import NoEffect, UsageError
from anomreason.images import LoadedImage
from anomreason.runs import RunFolder, provenance
from anomreason.sources.inputs import FoundImages
from anomreason.vlm.calling import Caller
from anomreason.vlm.card import CARD_NAME, DetectorCard, read_card
from anomreason.vlm.endpoint.address import checked_url, redacted_url
from anomreason.vlm.endpoint.presets import Preset, preset_of, split_preset
from anomreason.vlm.ledger import FREE, Price, price_of
from anomreason.vlm.opening import card_of
from anomreason.vlm.parts import take_in_parts
from anomreason.vlm.protocol import TINY, VLM, runs_here

MOST_SAMPLES = 100
"""Sampled answers about the source of one image."""


class DetectArguments(TypedDict, total=False):
    """The options that `detect`, `detect_async` and `plan` take by keyword; `DetectOptions` describes each."""

    schedule: Schedule
    max_objects: int
    judge_source: bool
    two_turns: bool
    source_samples: int
    abstain: tuple[float, float] | None
    temperature: float
    spread: float
    seed: int
    max_reply_tokens: int
    boxes: str
    crops: Crops
    base_urls: str | Sequence[str]
    api_key_env: str | None
    max_side: int
    in_flight: int
    timeout: float
    retries: int
    patience: float
    control_question: bool
    max_cost: float | None
    max_tokens: int | None
    outside: bool
    prompts: str | Path | None
    card: str | Path | None
    prices: str | Path | None
    device: str | None
    dtype: str | None


@dataclass(frozen=True, slots=True)
class DetectOptions(AgentSettings):
    """All options of a detection. The command line has the same names and defaults."""

    base_urls: tuple[str, ...] = ()
    """OpenAI-compatible servers to spread the calls over; empty for OpenAI's own."""
    api_key_env: str | None = None
    """Environment variable with the key for the servers; None: the one known to be for each, e.g. OPENAI_API_KEY."""
    max_side: int = 1536
    """Longest edge of the image that is sent to an endpoint, pixels. A local model's processor sets its own bound."""
    in_flight: int = 32
    """Concurrent model calls."""
    timeout: float = 120.0
    """Seconds until one attempt at a call to an endpoint is given up."""
    retries: int = 6
    """Retries after a server error."""
    patience: float = 600.0
    """Seconds to wait for a server that loads its model."""
    control_question: bool = True
    """Whether one question about an image of ours is asked when the token counts leave in doubt that the server passes
    images on to the model."""
    max_cost: float | None = None
    """Limit on the cost of the whole run, earlier parts included, US dollars; None for no limit."""
    max_tokens: int | None = None
    """Limit on the tokens of the whole run, earlier parts included; None for no limit."""
    outside: bool = False
    """Let the metadata file of a folder name images outside of that folder."""
    prompts: Path | None = None
    """Folder whose .md files replace prompts; None for the package's own."""
    card: Path | None = None
    """Checkpoint's or adapter's folder whose card says how the detector behind an endpoint is asked."""
    prices: Path | None = None
    """Price file; None for the package's own."""
    device: str | None = None
    """Device of a local model: 'cpu', 'cuda', ...; None chooses."""
    dtype: str | None = None
    """Precision of a local model: 'float32', 'bfloat16', ...; None chooses."""

    @classmethod
    def of(cls, arguments: Mapping[str, object]) -> DetectOptions:
        """Options from keyword arguments. Raises UsageError for an unknown name, with the closest valid one."""
        known = [f.name for f in fields(cls)]
        check_names(arguments, known)
        values: dict[str, Any] = dict(arguments)
        urls = values.get("base_urls", ())
        values["base_urls"] = (urls,) if isinstance(urls, str) else tuple(urls)
        for name in ("prompts", "card", "prices"):
            values[name] = Path(values[name]) if values.get(name) is not None else None
        if isinstance(band := values.get("abstain"), list):
            values["abstain"] = tuple(band)
        return cls(**values)

    def check(self) -> None:
        """Raises UsageError for a value outside its range."""
        if self.schedule not in get_args(Schedule):
            raise UsageError(f"schedule must be one of {', '.join(get_args(Schedule))}, not {self.schedule!r}")
        at_least = {"max_objects": 1, "max_side": 64, "in_flight": 1, "retries": 0, "max_reply_tokens": 16, "seed": 0}
        at_least |= {"patience": 0, "source_samples": 1}
        for url in self.base_urls:
            checked_url(url)
        for name, least in at_least.items():
            if _number(name, getattr(self, name)) < least:
                raise UsageError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if self.boxes not in CONVENTIONS:
            raise UsageError(f"boxes must be one of {', '.join(CONVENTIONS)}, not {self.boxes!r}")
        if self.crops not in get_args(Crops):
            raise UsageError(f"crops must be one of {', '.join(get_args(Crops))}, not {self.crops!r}")
        if self.max_objects > MOST_OBJECTS:
            raise UsageError(f"max_objects must be at most {MOST_OBJECTS}, not {self.max_objects}")
        if self.source_samples > MOST_SAMPLES:
            raise UsageError(f"source_samples must be at most {MOST_SAMPLES}, not {self.source_samples}")
        if self.source_samples > 1 and self.spread == 0:
            raise UsageError("spread must be more than 0 for source_samples, or all samples are the same")
        _check_band(self.abstain)
        for name in ("timeout", "max_cost", "max_tokens"):
            value = getattr(self, name)
            if value is not None and _number(name, value) <= 0:
                raise UsageError(f"{name} must be more than 0, not {value}")
        for name in ("temperature", "spread"):
            if not 0 <= _number(name, getattr(self, name)) <= 2:
                raise UsageError(f"{name} must be 0..2, not {getattr(self, name)}")


def check_names(arguments: Collection[str], known: Collection[str]) -> None:
    """Raises UsageError for an unknown name among keyword arguments, with the closest valid one."""
    for name in arguments:
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"the options are {', '.join(known)}"
            raise UsageError(f"there is no option {name!r}; {hint}")


def _check_band(band: Any) -> None:
    if band is None:
        return
    if not isinstance(band, tuple) or len(band) != 2:
        raise UsageError(f"abstain must be two probabilities, the lowest and the highest that are unsure, not {band!r}")
    low, high = (_number("abstain", value) for value in band)
    if not 0 <= low <= high <= 1:
        raise UsageError(f"abstain must be two probabilities of 0..1, the lower first, not {low:g} {high:g}")


class Detector(Protocol):
    """Anything that turns an image into a detection."""

    name: str

    async def detect(self, loaded: LoadedImage, image: str) -> Detection: ...


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"{name} must be a number, not {value!r}")
    return value


@dataclass(frozen=True)
class DetectorSetup:
    """A model with its options, checked against each other, and the files they name, each read once a command."""

    model: str
    options: DetectOptions
    prompts: Prompts
    card: DetectorCard | None
    """How the schedule `single` asks the model; None for our own prompt."""
    price: Price | None
    """None when the price is not known."""
    vlm: VLM | None
    """The model, when its owner has opened it already."""
    in_batches: bool = False
    """Whether the calls are answered by a provider's batches, whose price is the setup's then."""

    def deciding(self) -> dict[str, object]:
        """The settings that decide the results: another value of one of them is another run."""
        agent = {f.name: getattr(self.options, f.name) for f in fields(AgentSettings)}
        del agent["max_reply_tokens"]  # cut replies are asked for again, so the first limit changes nothing
        # So that a run of a version without these goes on.
        later = {"boxes": AUTO, "two_turns": False, "source_samples": 1, "abstain": None, "crops": "never"}
        agent = {name: value for name, value in agent.items() if name not in later or value != later[name]}
        bound = {"max_side": None if runs_here(self.model) else self.options.max_side}
        named = {"card": self.card.model_dump(mode="json")} if self.card and self.options.card else {}
        unused = OF_CUTOUTS if self.options.crops == "never" else ()
        prompts = {name: text for name, text in self.prompts.hashes().items() if name not in unused}
        return {"model": self.model, **agent, **bound, "prompts": prompts, **named}

    @property
    def steps(self) -> Mapping[str, int] | None:
        """Steps that are asked of each image, and how often, where they are not those of the schedule."""
        return None

    def open_run(self, path: Path, found: FoundImages, inputs: Sequence[str]) -> RunFolder:
        """Create or continue the run folder of a detection, with all that workers have recorded in it.

        Raises RunConflict as RunFolder does.
        """
        record = {
            "command": "detect",
            "root": str(found.root),
            "inputs": list(inputs),
            "passed_over": list(found.passed_over),
            "arguments": {f.name: _plain(getattr(self.options, f.name)) for f in fields(DetectOptions)},
            **provenance().model_dump(),
        }
        run = RunFolder(path, self.deciding(), record)
        try:
            take_in_parts(run)
        except BaseException:
            run.close()
            raise
        return run

    def detector(self, caller: Caller, observer: Observer) -> Detector:
        """What turns each image into a detection, with calls to the open model."""
        return AnomAgent(caller, self.options, self.prompts, self.card, observer)


def set_up(model: str | VLM, options: DetectOptions = DetectOptions(), given: Collection[str] = ()) -> DetectorSetup:
    """Check the options and read the prompts, card and prices that they name.

    given: names of the options that the caller has set; the schedule suits the model unless `schedule` is among them.
    Raises UsageError for values that cannot be used and for combinations that cannot work, NoEffect for a given
    option that has no effect with this model and schedule or cannot be used with it.
    """
    if not isinstance(model, str) and not hasattr(model, "ask"):
        raise UsageError(f"model must be a name such as 'gpt-4o' or an open VLM, not {model!r}")
    name, vlm = (model, None) if isinstance(model, str) else (model.name, model)
    preset = preset_of(name) if vlm is None else None
    if preset is not None:
        name, options = split_preset(name)[1], _with_preset(preset, options, given)
    options.check()
    card = read_card(options.card) if options.card else None
    if options.card and card is None:
        raise UsageError(f"{options.card} holds no {CARD_NAME}; name the folder that training has written")
    own: DetectorCard | None = card_of(name) if vlm is None else getattr(vlm, "card", None)
    if "schedule" not in given:
        options = replace(options, schedule="single" if card or own else "lean")
    if (card or _is_bundled(name)) and options.schedule != "single":
        why = f"{name} was trained on one question only"
        raise NoEffect("schedule", why, f"{why}: use the schedule single")
    for option in ("judge_source", "two_turns"):
        if _is_bundled(name) and getattr(options, option):
            why = f"{name} was trained on one question only"
            raise NoEffect(option, why, f"{why}: leave {option} ({_flag(option)}) out")
    asked = (card or own) if options.schedule == "single" else None
    if asked and asked.source:
        options = replace(options, two_turns=True)
    here = runs_here(name) if vlm is None else vlm.bounds_pixels
    if options.schedule != "lean" or (here and options.crops == "auto"):
        options = replace(options, crops="never")
    price = FREE if preset is not None and preset.own else price_of(name, options.prices)
    setup = DetectorSetup(name, options, Prompts.load(options.prompts), asked, price, vlm)
    idle = _without_effect(setup)
    for option in sorted(given):
        if option in idle and getattr(options, option) not in (None, ()):
            why = f"has no effect with {idle[option]}"
            raise NoEffect(option, f"it {why}", f"{option} ({_flag(option)}) {why}; leave it out")
    return setup


def in_batches(setup: DetectorSetup) -> DetectorSetup:
    """The same detection by a provider's batches, without the control question, which would take a round of its own.

    Raises UsageError for a model that is not behind an endpoint.
    """
    if runs_here(setup.model) or setup.model.startswith("sim:"):
        raise UsageError(f"{setup.model} answers at once, in this process: leave --batch out")
    price = setup.price.in_batch if setup.price else None
    return replace(setup, options=replace(setup.options, control_question=False), price=price, in_batches=True)


def _with_preset(preset: Preset, options: DetectOptions, given: Collection[str]) -> DetectOptions:
    """The options with the server's address, key and known habits, where the caller did not set them."""
    known = {"boxes": preset.boxes, "in_flight": preset.in_flight, "max_reply_tokens": preset.max_reply_tokens}
    if not options.base_urls:
        options = replace(options, base_urls=(preset.url(),))
        known |= {"api_key_env": preset.key}
    chosen: dict[str, Any] = {name: value for name, value in known.items() if value is not None and name not in given}
    return replace(options, **chosen)


def _flag(option: str) -> str:
    """The option's name on the command line."""
    return "--base-url" if option == "base_urls" else "--" + option.replace("_", "-")


def _is_bundled(model: str) -> bool:
    """Whether this is the model that comes with the package, with or without an adapter."""
    return runs_here(model) and re.split("[+@]", model.removeprefix("local:"))[0] == TINY


def _without_effect(setup: DetectorSetup) -> dict[str, str]:
    """The options without effect with this model and schedule, each with the reason."""
    model, schedule, idle = repr(setup.model), setup.options.schedule, dict[str, str]()
    if setup.vlm is not None:
        idle |= dict.fromkeys(("base_urls", "api_key_env", "device", "dtype"), "a model that is open already")
        if not getattr(setup.vlm, "remote", False):
            idle["control_question"] = f"{model}, which gets what it is sent"
        idle |= {"max_side": f"{model}, which bounds images itself"} if setup.vlm.bounds_pixels else {}
    elif runs_here(setup.model):
        unused = ("base_urls", "api_key_env", "timeout", "patience", "max_side", "control_question")
        idle |= dict.fromkeys(unused, f"{model}, which runs in this process")
    elif setup.model.startswith("sim:"):
        idle |= dict.fromkeys(
            ("base_urls", "api_key_env", "device", "dtype", "control_question"), f"{model}, whose answers are simulated"
        )
    else:
        idle |= dict.fromkeys(("device", "dtype"), f"{model}, which runs on a server")
    if setup.price == FREE:
        idle |= dict.fromkeys(("max_cost", "prices"), f"{model}, which costs nothing")
    if schedule != "release" and setup.options.source_samples == 1:
        idle["spread"] = f"the schedule {schedule}, which samples no call several times"
    if not setup.options.source_calls:
        idle |= dict.fromkeys(
            ("source_samples", "abstain"), "a run that does not ask for the source (--judge-source or --two-turns)"
        )
    if schedule != "lean":
        idle["crops"] = f"the schedule {schedule}, which " + (
            "shows crops of its own" if schedule == "release" else "shows the whole image only"
        )
    if schedule == "single":
        idle["max_objects"] = "the schedule single, which lists no objects"
    if setup.card and setup.card.answer == "text":
        idle["boxes"] = f"{model}, which answers without boxes"
    if setup.card and (setup.card.source or not setup.options.source_calls):
        idle["prompts"] = f"{model}, whose card holds its prompt"
    if _is_bundled(setup.model):
        idle["card"] = f"{model}, which has a card of its own"
    return idle


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return [redacted_url(v) if isinstance(v, str) else v for v in value] if isinstance(value, tuple) else value
