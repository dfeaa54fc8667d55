"""Detecting in one image or many: what is asked, who looks, how far a run has come.

    from anomreason import detect
    detection = detect("photo.jpg", model="gpt-4o")

Knows runs, models and agents; prints nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol, get_args, overload

from anomreason.agent.pipeline import AgentSettings, AnomAgent, Schedule
from anomreason.agent.roles import Prompts
from anomreason.anomaly import Detection, Failure
from anomreason.errors import Stopped, UnreadableImage, UsageError
from anomreason.images import LoadedImage, load_image
from anomreason.runs import Done, RunFolder, provenance
from anomreason.sources.inputs import Image, find_images
from anomreason.vlm.cache import ReplyStore
from anomreason.vlm.calling import Caller, Patience
from anomreason.vlm.card import CARD_NAME, DetectorCard, read_card
from anomreason.vlm.ledger import Budget, Ledger, price_of
from anomreason.vlm.opening import open_vlm
from anomreason.vlm.protocol import TINY, VLM, VLMOptions, runs_here

HOPELESS = 20
"""Images in a row lost to the server after which a run stops: a wrong key need not be tried 20,000 times."""


@dataclass(frozen=True, slots=True)
class DetectOptions(AgentSettings):
    """Everything that can be set about a detection. The command line has the same names and defaults."""

    base_urls: tuple[str, ...] = ()
    """OpenAI-compatible servers to spread the calls over; empty for OpenAI's own."""
    max_side: int = 1536
    """Longest edge of what an endpoint is shown, pixels. A local model's processor sets its own bound."""
    in_flight: int = 32
    """Model calls at once."""
    timeout: float = 120.0
    """Seconds until one attempt at a call is given up."""
    retries: int = 6
    """Further attempts after a server's fault."""
    max_cost: float | None = None
    """US dollars that the whole run may cost, earlier parts included."""
    max_tokens: int | None = None
    """Tokens that the whole run may use, earlier parts included."""
    prompts: Path | None = None
    """Folder whose .md files replace prompts."""
    card: Path | None = None
    """Checkpoint's or adapter's folder whose card says how the detector behind an endpoint is asked."""
    prices: Path | None = None
    """Price file instead of the package's own."""
    device: str | None = None
    dtype: str | None = None

    def agent(self) -> AgentSettings:
        return AgentSettings(**{f.name: getattr(self, f.name) for f in fields(AgentSettings)})

    def check(self) -> None:
        """Raises UsageError for a value that cannot be meant."""
        if self.schedule not in get_args(Schedule):
            raise UsageError(f"schedule must be one of {', '.join(get_args(Schedule))}, not {self.schedule!r}")
        for name in (
            "max_objects",
            "max_side",
            "in_flight",
            "retries",
            "max_reply_tokens",
            "seed",
            "timeout",
            "temperature",
        ):
            _number(name, getattr(self, name))
        at_least = {"max_objects": 1, "max_side": 64, "in_flight": 1, "retries": 0, "max_reply_tokens": 16, "seed": 0}
        for name, least in at_least.items():
            if getattr(self, name) < least:
                raise UsageError(f"{name} must be at least {least}, not {getattr(self, name)}")
        for name in ("timeout", "max_cost", "max_tokens"):
            value = getattr(self, name)
            if value is not None and _number(name, value) <= 0:
                raise UsageError(f"{name} must be more than 0, not {value}")
        for name in ("temperature", "spread"):
            if not 0 <= _number(name, getattr(self, name)) <= 2:
                raise UsageError(f"{name} must be 0..2, not {getattr(self, name)}")

    def deciding(self, model: str, prompts: Prompts) -> dict[str, Any]:
        """The settings that decide the results: another value of one of them is another run."""
        agent = {f.name: getattr(self, f.name) for f in fields(AgentSettings)}
        del agent["max_reply_tokens"]  # cut replies are asked for again, so the first cap changes nothing
        shown = {"max_side": None if runs_here(model) else self.max_side}
        card = self.detector_card()
        asked = {"card": card.model_dump(mode="json")} if card else {}
        return {"model": model, **agent, **shown, "prompts": prompts.hashes(), **asked}

    def detector_card(self) -> DetectorCard | None:
        """The card in the folder that was named. Raises UsageError when there is none."""
        found = read_card(self.card) if self.card else None
        if self.card and found is None:
            raise UsageError(f"{self.card} holds no {CARD_NAME}; name the folder that training has written")
        return found


class Detector(Protocol):
    """Anything that turns an image into a detection."""

    name: str

    async def detect(self, picture: LoadedImage, image: str) -> Detection: ...


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"{name} must be a number, not {value!r}")
    return value


@dataclass
class Session:
    """One model with its caller, for as long as a command runs. Close it."""

    model: str
    options: DetectOptions
    prompts: Prompts
    run: RunFolder | None = None
    vlm: VLM | None = None
    caller: Caller = field(init=False)
    card: DetectorCard | None = field(init=False)
    dead: str | None = None
    """What the server said last, once so many images in a row were lost to it that going on makes no sense."""

    def __post_init__(self) -> None:
        self.card = self.options.detector_card()
        if (self.model == TINY or self.card) and self.options.schedule != "single":
            raise UsageError(f"{self.model} has learnt one question only; ask it with the schedule single")
        price = price_of(self.model, self.options.prices)
        folder = self.run.path if self.run else None
        ledger = Ledger(folder / "calls.jsonl" if folder else None, price)
        budget = Budget(ledger, self.options.max_cost, self.options.max_tokens)
        options = self.options
        vlm_options = VLMOptions(options.base_urls, options.timeout, options.in_flight, options.device, options.dtype)
        self._own = self.vlm is None
        self.vlm = self.vlm or open_vlm(self.model, vlm_options)
        local = runs_here(self.model)
        patience = Patience(
            retries=options.retries,
            timeout=None if local else options.timeout,
            max_reply_tokens=max(8192, options.max_reply_tokens),
        )
        store = ReplyStore(folder / "responses.sqlite") if folder else None
        self.caller = Caller(self.vlm, ledger, store, budget, options.in_flight, patience)

    def detector(self) -> Detector:
        return AnomAgent(self.caller, self.options.agent(), self.prompts, self.card)

    async def close(self) -> None:
        # A pool of connections belongs to this event loop and opens anew; a model in memory is its owner's to close.
        if self._own or getattr(self.caller.vlm, "reopens", False):
            await self.caller.vlm.close()
        self.caller.ledger.close()
        if self.caller.store:
            self.caller.store.close()


async def detect_images(
    images: Sequence[Image], session: Session, done: Callable[[Detection], None] = lambda _: None
) -> None:
    """Detect in each image once; `done` gets each detection after it was recorded in the run folder.

    Returns early, without error, when the budget is reached, the session's caller was told to stop, or the server was
    found dead (`session.dead`).
    """
    detector, queue, lost = session.detector(), iter(images), 0
    max_side = None if session.caller.vlm.bounds_pixels else session.options.max_side

    async def work() -> None:
        nonlocal lost
        for image in queue:
            if session.caller.stopping or session.caller.budget_reached or session.dead:
                return
            try:
                detection = await _one(detector, image, max_side)
            except Stopped:
                return
            if session.run:
                session.run.append(detection)
            done(detection)
            failure = detection.failure
            lost = lost + 1 if failure and failure.kind == "endpoint" else 0
            if failure and lost >= HOPELESS:
                session.dead = failure.message

    workers = [asyncio.create_task(work()) for _ in range(min(session.options.in_flight, len(images)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _one(detector: Detector, image: Image, max_side: int | None) -> Detection:
    size, mtime = _stat(image.path)
    try:
        picture = await asyncio.to_thread(load_image, image.path, max_side)
    except UnreadableImage as e:
        if not e.final:
            size = mtime = None  # what is not known to be the same is tried again
        failure = Failure(kind="unreadable_image", message=str(e))
        detection = Detection(image=image.name, detector=detector.name, status="failed", failure=failure)
    else:
        detection = await detector.detect(picture, image.name)
    return detection.model_copy(update={"file_size": size, "file_mtime": mtime})


def _stat(path: Path) -> tuple[int | None, int | None]:
    try:
        found = os.stat(path)
    except OSError:
        return None, None
    return found.st_size, found.st_mtime_ns


def remaining(images: Sequence[Image], done: dict[str, Done]) -> Iterator[Image]:
    """The images that a run still has to look at: new ones, changed ones, and failures worth another try."""
    for image in images:
        before = done.get(image.name)
        if before is None or not before.final or not _unchanged(image.path, before):
            yield image


def _unchanged(path: Path, before: Done) -> bool:
    if _stat(path) == (before.size, before.mtime):
        return True
    if before.sha256 is None or not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == before.sha256


def open_run(path: Path, root: Path, inputs: Sequence[str], model: str, options: DetectOptions) -> RunFolder:
    """Create or continue the run folder of a detection. Raises RunConflict as RunFolder does."""
    prompts = Prompts.load(options.prompts)
    record = {
        "command": "detect",
        "root": str(root),
        "inputs": list(inputs),
        "arguments": {f.name: _plain(getattr(options, f.name)) for f in fields(DetectOptions)},
        **provenance(),
    }
    return RunFolder(path, options.deciding(model, prompts), record)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return [redacted(v) for v in value] if isinstance(value, tuple) else value


def redacted(url: str) -> str:
    """A URL without user name, password and query, which may hold keys."""
    head, mark, rest = url.partition("://")
    where = rest.rpartition("@")[2].partition("?")[0]
    return f"{head}{mark}{where}" if mark else url


def usual_schedule(model: str, card: Any = None) -> Schedule:
    """What is taken when none is named."""
    return "single" if model == TINY or card else "lean"


def _settings(model: str, options: dict[str, Any]) -> DetectOptions:
    known = [f.name for f in fields(DetectOptions)]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise UsageError(f"there is no option {unknown[0]!r}; the options are {', '.join(known)}")
    urls = options.get("base_urls", ())
    settings = replace(
        DetectOptions(schedule=usual_schedule(model, options.get("card"))),
        **{**options, "base_urls": (urls,) if isinstance(urls, str) else tuple(urls)},
    )
    settings.check()
    return settings


@overload
async def detect_async(
    images: str | Path, *, model: str | VLM, run: str | Path | None = None, **options: Any
) -> Detection: ...
@overload
async def detect_async(
    images: Sequence[str | Path], *, model: str | VLM, run: str | Path | None = None, **options: Any
) -> list[Detection]: ...
async def detect_async(
    images: str | Path | Sequence[str | Path], *, model: str | VLM, run: str | Path | None = None, **options: Any
) -> Detection | list[Detection]:
    """Find semantic anomalies: one image file gives a Detection, a sequence of inputs a list of them.

    images: a path; or a sequence of files, folders, globs and manifests. model: as `--model`, or an open VLM, which
    stays open. run: a folder to record in and to continue from; None keeps nothing. options: the fields of
    `DetectOptions`, which are those of the command line:
    schedule, max_objects, base_urls, judge_source, max_cost, max_tokens, in_flight, ...
    Nothing is asked before money is spent: set max_cost or max_tokens.
    Raises UsageError for inputs and options that cannot be used. What fails with one image is in its Detection: its
    `anomalies` are empty then, so ask `status` first.
    """
    one = isinstance(images, str | Path)
    if not one and (isinstance(images, bytes) or not isinstance(images, Sequence)):
        raise UsageError(f"give paths of images, not {type(images).__name__}; images in memory must be saved first")
    if not isinstance(model, str) and not hasattr(model, "ask"):
        raise UsageError(f"model must be a name such as 'gpt-4o' or an open VLM, not {model!r}")
    name = model if isinstance(model, str) else model.name
    settings = _settings(name, options)
    if one and Path(str(images)).is_dir():
        raise UsageError(
            f"{str(images)!r} is a folder; give a list to detect in many images: detect([{str(images)!r}])"
        )
    inputs = [str(images)] if isinstance(images, str | Path) else [str(i) for i in images]
    root, found = find_images(inputs)
    if one and len(found) != 1:
        raise UsageError(
            f"{inputs[0]!r} names {len(found)} images; give a list to detect in many: detect([{inputs[0]!r}])"
        )
    folder = open_run(Path(run), root, inputs, name, settings) if run is not None else None
    results: dict[str, Detection] = {}
    try:
        todo = list(remaining(found, folder.done)) if folder else found
        if todo:
            session = Session(
                name, settings, Prompts.load(settings.prompts), folder, None if isinstance(model, str) else model
            )
            try:
                await detect_images(todo, session, lambda d: results.update({d.image: d}))
            finally:
                await session.close()
    finally:
        if folder:
            folder.close()
    if folder:
        from anomreason.runs import read_results

        results = read_results(folder.path)
    ordered = [results[image.name] for image in found if image.name in results]
    return ordered[0] if one else ordered


def detect(
    images: str | Path | Sequence[str | Path], *, model: str | VLM, run: str | Path | None = None, **options: Any
) -> Any:
    """As `detect_async` (which says what can be given), for code without an event loop of its own."""
    if asyncio._get_running_loop() is not None:
        raise UsageError("an event loop is running here (a notebook?): use `await detect_async(...)` instead")
    return asyncio.run(detect_async(images, model=model, run=run, **options))
