"""Detects anomalies in one image or many: options, detector session and resume logic.

    from anomreason import detect
    detection = detect("photo.jpg", model="gpt-4o")

An image goes from `detect_images` to `agent.pipeline.AnomAgent.detect` and back into the run folder.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol, TypedDict, Unpack, get_args, overload

from anomreason import archives
from anomreason.agent.boxes import AUTO, CONVENTIONS
from anomreason.agent.cutouts import Crops
from anomreason.agent.forms import MOST_OBJECTS
from anomreason.agent.observer import Observer
from anomreason.agent.pipeline import AgentSettings, AnomAgent, Schedule
from anomreason.agent.roles import OF_CUTOUTS, Prompts
from anomreason.anomaly import Detection, Failure, Usage
from anomreason.errors import Deferred, NoEffect, Stopped, UnreadableImage, UsageError
from anomreason.images import LoadedImage, load_image
from anomreason.runs import ImageStatus, RunFolder, provenance, read_results
from anomreason.sources.inputs import FoundImages, Image, find_images
from anomreason.sources.memory import GivenImages, ImageInput, ImageInputs, given_images
from anomreason.vlm.batches.answers import BatchAnswers
from anomreason.vlm.batches.log import BatchLog
from anomreason.vlm.batches.model import BatchVLM, SpendingCaps
from anomreason.vlm.budget import Budget
from anomreason.vlm.cache import ReplyStore
from anomreason.vlm.calling import Caller, Patience
from anomreason.vlm.card import CARD_NAME, DetectorCard, read_card
from anomreason.vlm.endpoint.address import checked_url, redacted_url, server_urls
from anomreason.vlm.endpoint.chat import ChatFormat
from anomreason.vlm.endpoint.presets import Preset, preset_of, split_preset
from anomreason.vlm.ledger import CALLS, FREE, Ledger, Price, price_of, read_calls
from anomreason.vlm.opening import card_of, open_vlm
from anomreason.vlm.parts import REPLIES, take_in_parts
from anomreason.vlm.protocol import TINY, VLM, VLMOptions, runs_here

HOPELESS = 20
"""Abort after this many consecutive endpoint failures: a wrong key need not be tried 20,000 times."""
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


def open_batch(setup: DetectorSetup, run: RunFolder, answers: Sequence[Path] = ()) -> BatchVLM:
    """The model of a setup that is `in_batches`, with the answers that these files hold; `close` it.

    Raises UsageError for files of other things.
    """
    options, urls = setup.options, server_urls(setup.options.base_urls)
    limits = SpendingCaps(setup.price, options.max_cost, options.max_tokens)
    found = BatchAnswers(answers)
    return BatchVLM(ChatFormat(setup.model, urls), redacted_url(urls[0]), BatchLog(run.path), limits, found)


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


@dataclass
class Session:
    """A model with its caller and files, open for as long as a command runs."""

    setup: DetectorSetup
    caller: Caller
    detector: Detector
    run: RunFolder | None = None
    observer: Observer | None = None
    batch: BatchVLM | None = None
    """The model, where its answers come from a batch."""
    dead: str | None = None
    """Why the run stops early: HOPELESS consecutive images failed at the endpoint, or it does not pass images on."""

    async def detect(
        self, images: Sequence[Image], done: Callable[[Detection], None], put_off: Callable[[str], None]
    ) -> None:
        """As `detect_images`."""
        await detect_images(images, self, done, put_off)

    def stop(self) -> None:
        """Send no new call."""
        self.caller.stopping = True

    @property
    def stopping(self) -> bool:
        return self.caller.stopping

    @property
    def spent(self) -> Usage:
        """What all calls of the run have used."""
        return self.caller.ledger.total

    @property
    def estimated(self) -> int:
        """Calls whose tokens were estimated."""
        return self.caller.ledger.estimated

    @property
    def waiting(self) -> str:
        return self.caller.waiting

    @property
    def budget_reached(self) -> bool:
        return self.caller.budget_reached

    @property
    def others(self) -> Collection[str]:
        """Names under which another model than the one asked for has answered."""
        return self.observer.others if self.observer else ()


@dataclass(frozen=True, slots=True)
class SharedReplies:
    """Where several sessions at a time keep the replies of the model, without a run."""

    file: Path
    spent: Usage
    """What was used before, which counts towards the limits."""


@dataclass(frozen=True, slots=True)
class RunPart:
    """Where one of several workers of a run records, beside the others."""

    folder: Path
    replies: Path | None
    """The replies of the run, which nobody writes at the time; None when there are none yet."""
    budget: Callable[[Ledger], Budget]
    """Makes the budget, which all workers share."""


@asynccontextmanager
async def open_caller(
    setup: DetectorSetup, folder: Path | None = None, shared: SharedReplies | None = None, part: RunPart | None = None
) -> AsyncIterator[Caller]:
    """Open the model, and the ledger and replies in `folder`; close them also when the model cannot be opened.

    shared: where replies are kept when there is no folder; part: where a worker records instead.
    Raises UsageError for a model that cannot be opened, and for max_cost without a known price.
    """
    options, vlm = setup.options, setup.vlm
    folder = part.folder if part else folder
    async with AsyncExitStack() as stack:
        ledger = Ledger(folder / CALLS if folder else None, setup.price)
        stack.callback(ledger.close)
        file = folder / REPLIES if folder else shared.file if shared else None
        store = ReplyStore(file, part.replies if part else None) if file else None
        if store:
            stack.callback(store.close)
        if store and folder:  # in a shared file the calls in flight may be those of another session
            ledger.adopt(store.unanswered())
            store.forget_unanswered()
        if shared:
            ledger.total += shared.spent
        batch = vlm if isinstance(vlm, BatchVLM) else None
        budget = part.budget(ledger) if part else Budget(ledger, options.max_cost, options.max_tokens)
        access = VLMOptions(options.base_urls, options.timeout, options.in_flight, options.device)
        access = replace(access, api_key_env=options.api_key_env, dtype=options.dtype)
        model = open_vlm(setup.model, access) if vlm is None else vlm
        # A pool of connections belongs to this event loop and opens anew; another open model is its owner's to close.
        if vlm is None or getattr(vlm, "reopens", False):
            stack.push_async_callback(model.close)
        timeout = None if runs_here(setup.model) or batch else options.timeout
        patience = Patience(options.retries, timeout, max(8192, options.max_reply_tokens), options.patience)
        if batch:  # it counts what it writes, and a retry comes with the next files
            budget, patience = Budget(ledger), replace(patience, first_wait=0.0)
        yield Caller(model, ledger, store, budget, options.in_flight, patience, batch)


@asynccontextmanager
async def open_session(
    setup: DetectorSetup,
    run: RunFolder | None = None,
    shared: SharedReplies | None = None,
    part: RunPart | None = None,
) -> AsyncIterator[Session]:
    """Open the model and the files of the run, and close them at the end; raises as `open_caller` does."""
    async with open_caller(setup, run.path if run else None, shared, part) as caller:
        observer = Observer(caller, setup.options.control_question, setup.options.max_reply_tokens)
        batch = setup.vlm if isinstance(setup.vlm, BatchVLM) else None
        yield Session(setup, caller, setup.detector(caller, observer), run, observer, batch)


async def detect_images(
    images: Sequence[Image],
    session: Session,
    done: Callable[[Detection], None] = lambda _: None,
    put_off: Callable[[str], None] = lambda _: None,
) -> None:
    """Detect in each image once; `done` gets each detection after it was recorded in the run folder.

    put_off: gets the name of each image that needs answers of a batch which are not here.

    Returns early, without error, when the budget is reached, the session's caller was asked to stop, HOPELESS
    consecutive images failed at the endpoint, or the server does not pass images on (`session.dead`).
    """
    caller, queue, failed = session.caller, iter(images), 0
    caller.expect_images(len(images))
    caller.ledger.images.clear()
    earlier = earlier_usage(session.run, images)

    async def work() -> None:
        nonlocal failed
        for image in queue:
            try:
                detection = await detect_one(image, session, earlier.pop(image.name, Usage()))
            except Deferred:
                if session.batch:
                    await session.batch.write(
                        image.name, caller.ledger.total, bool(session.run and image.name in session.run.done)
                    )
                put_off(image.name)
                continue
            if detection is None:
                return
            if session.run:
                session.run.append(detection)
            done(detection)
            if session.batch:
                session.batch.settled(image.name)
                continue
            failure = detection.failure
            failed = failed + 1 if failure and failure.kind == "endpoint" else 0
            if failure and failed >= HOPELESS:
                session.dead = hopeless(failure)

    workers = [asyncio.create_task(work()) for _ in range(min(session.setup.options.in_flight, len(images)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def detect_one(image: Image, session: Session, earlier: Usage = Usage()) -> Detection | None:  # noqa: B008
    """Detect in one image; None when the session stops, so that the image stays undecided. Records nothing but calls.

    earlier: what calls for the image have used that the session did not make. Raises Deferred when the image needs
    answers of a batch which are not here.
    """
    caller, detector = session.caller, session.detector
    # Under a cap images are finished, not begun.
    if caller.stopping or caller.budget_reached or session.dead or not await caller.begin_image():
        return None
    size, mtime = _stat(image)
    max_side = None if caller.vlm.bounds_pixels else session.setup.options.max_side
    used = None
    try:
        if caller.stopping or session.dead:  # the budget may have waited
            return None
        loaded = await asyncio.to_thread(load_image, image.path, max_side, image.data)
        if image.sha256 not in (None, loaded.sha256):
            raise UnreadableImage(f"{str(image.path)!r} has changed: it is no longer the image it was")
        detection = await detector.detect(loaded, image.name)
        used = detection.usage
        if session.observer and detection.status == "ok":
            session.dead = await session.observer.blindness() or session.dead
            detection = _unseen(detection, session.dead) if session.observer.blind else detection
    except UnreadableImage as e:
        if not e.final:
            size = mtime = None  # the file is not at fault, so a rerun tries it again
        reason = Failure(kind="unreadable_image", message=str(e))
        detection = Detection(image=image.name, detector=detector.name, status="failed", failure=reason)
    except Stopped:
        return None
    finally:
        caller.end_image(image.name, used)
    used = earlier + caller.ledger.images.pop(image.name, Usage())
    return detection.model_copy(
        update={"file_size": size, "file_mtime": mtime, "usage": used if used.calls else detection.usage}
    )


def hopeless(failure: Failure) -> str:
    """Why a run is given up after HOPELESS failures like this one."""
    return f"{HOPELESS} consecutive images failed at the endpoint. {failure.message}"


def _unseen(detection: Detection, cause: str | None) -> Detection:
    """The detection as failed: its model has not seen the image."""
    kept = detection.model_dump(exclude={"anomalies", "source", "out_of_domain", "boxes"})
    failure = Failure(kind="endpoint", message=cause or "")
    return Detection.model_validate({**kept, "status": "failed", "failure": failure})


def earlier_usage(run: RunFolder | None, images: Sequence[Image]) -> dict[str, Usage]:
    """What the calls for these images used before this process, by image: of tries that failed or were killed."""
    names = {image.name for image in images}
    found: dict[str, Usage] = {}
    for call in read_calls(run.path) if run else ():
        if call.image in names:
            found[call.image] = found.get(call.image, Usage()) + call.usage
    return found


def _stat(image: Image) -> tuple[int | None, int | None]:
    """Size and time of change of its file; of an image in memory the size alone."""
    if image.data is not None:
        return len(image.data), None
    return archives.stat(image.path) or (None, None)


def remaining(images: Sequence[Image], done: dict[str, ImageStatus]) -> Iterator[Image]:
    """The images that a run still has to process: new ones, changed ones, and failures worth another try."""
    for image in images:
        before = done.get(image.name)
        if before is None or not before.final or not _unchanged(image, before):
            yield image


def _unchanged(image: Image, before: ImageStatus) -> bool:
    if image.data is not None:
        return image.sha256 == before.sha256 if before.sha256 else len(image.data) == before.size
    if _stat(image) == (before.size, before.mtime):
        return True
    if before.sha256 is None or not image.path.is_file():
        return False
    with image.path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == before.sha256


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return [redacted_url(v) if isinstance(v, str) else v for v in value] if isinstance(value, tuple) else value


@overload
async def detect_async(  # type: ignore[overload-overlap]  # a str is a sequence of str, too
    images: ImageInput, *, model: str | VLM, run: str | Path | None = None, **options: Unpack[DetectArguments]
) -> Detection: ...
@overload
async def detect_async(
    images: ImageInputs, *, model: str | VLM, run: str | Path | None = None, **options: Unpack[DetectArguments]
) -> list[Detection]: ...
async def detect_async(
    images: ImageInput | ImageInputs,
    *,
    model: str | VLM,
    run: str | Path | None = None,
    **options: Unpack[DetectArguments],
) -> Detection | list[Detection]:
    """Find semantic anomalies: one image gives a Detection, a sequence of inputs a list of them.

    images: a path or an image in memory (see `sources.memory`); or a sequence of these, of folders, globs and
    manifests; or a mapping of names to images. model: as `--model`, or an open VLM, which stays open. run: a folder to
    record in and to continue from, which keeps images in memory below `images/`; None keeps nothing. options: see
    `DetectOptions`; those of the command line, `base_urls` for `--base-url`. There is no question before money is
    spent: set max_cost or max_tokens, or ask `plan` first.
    Raises UsageError for inputs and options that cannot be used. An image that fails has a Detection with a `failure`
    and without `anomalies`, so check `status` first.
    """
    setup = set_up(model, DetectOptions.of(options), options)
    given = await asyncio.to_thread(given_images, images)
    listed = found_images(given, setup.options, None if run is None else Path(run))
    found, first = listed.images, next(iter(given.entries), None)
    if given.single and isinstance(first, str) and (len(found) != 1 or Path(first).is_dir()):
        many = "is a folder" if Path(first).is_dir() else f"names {len(found)} images"
        raise UsageError(f"{first!r} {many}; give a list to detect in many images: detect([{first!r}])")
    results: dict[str, Detection] = {}
    inputs = [entry if isinstance(entry, str) else entry.name for entry in given.entries]
    folder = setup.open_run(Path(run), listed, inputs) if run is not None else None
    with folder or nullcontext():
        if todo := list(remaining(found, folder.done)) if folder else found:
            async with open_session(setup, folder) as session:
                todo = [image.written() for image in todo] if folder else todo
                await detect_images(todo, session, lambda d: results.update({d.image: d}))
    if folder:
        results = read_results(folder.path)
    ordered = _by_given_names(listed.asked, results)
    return ordered[0] if given.single else ordered


def found_images(given: GivenImages, options: DetectOptions, run: Path | None) -> FoundImages:
    """The images that were given, to be kept in the run folder where they are in memory. Raises UsageError."""
    return find_images(given.entries, options.outside, run / "images" if run else None)


def _by_given_names(asked: Sequence[tuple[str, str]], results: Mapping[str, Detection]) -> list[Detection]:
    """The results under the names that the caller knows; an image that was given again used nothing the second time."""
    ordered, seen = list[Detection](), set[str]()
    for given, name in asked:
        if name in results:
            again = {"usage": Usage()} if name in seen else {}
            ordered.append(results[name].model_copy(update={"image": given, **again}))
            seen.add(name)
    return ordered


@overload
def detect(  # type: ignore[overload-overlap]
    images: ImageInput, *, model: str | VLM, run: str | Path | None = None, **options: Unpack[DetectArguments]
) -> Detection: ...
@overload
def detect(
    images: ImageInputs, *, model: str | VLM, run: str | Path | None = None, **options: Unpack[DetectArguments]
) -> list[Detection]: ...
def detect(
    images: ImageInput | ImageInputs,
    *,
    model: str | VLM,
    run: str | Path | None = None,
    **options: Unpack[DetectArguments],
) -> Detection | list[Detection]:
    """As `detect_async`, which describes the arguments, for code without an event loop of its own."""
    if asyncio._get_running_loop() is not None:
        raise UsageError("an event loop is running here (a notebook?): use `await detect_async(...)` instead")
    work: Coroutine[Any, Any, Detection | list[Detection]] = detect_async(images, model=model, run=run, **options)
    return asyncio.run(work)
