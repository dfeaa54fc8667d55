"""Images let through or rejected, the most plausible of several, and rewards: `gate`, `best_of` and `rewards`.

    import anomreason
    best = anomreason.best_of(images, model="gpt-4o", cache="gate-cache")
    images[best.index]

Each has an async form. The plain form works beside a running event loop (a notebook) too, and holds it up meanwhile.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, Unpack, overload

from anomreason.anomaly import Detection, Record
from anomreason.detector import DetectArguments, DetectOptions, check_names, set_up
from anomreason.errors import NoneAssessed, UsageError
from anomreason.gating.assessing import assess, images_of
from anomreason.gating.cache import DetectionCache
from anomreason.gating.limits import AssessedImage, GateResult, Limits, OnFailure, judged
from anomreason.sources.memory import GivenImages, ImageInput, ImageInputs, given_images
from anomreason.vlm.protocol import VLM

T = TypeVar("T")


class AssessArguments(DetectArguments, total=False):
    """The options of `best_of`: those of `detect`, and where detections are kept."""

    cache: str | Path | None
    """Folder that keeps detections by the content of images, so that none is paid for twice; None keeps nothing."""


class GateArguments(AssessArguments, total=False):
    """The options of `gate`: `Limits` describes what it adds."""

    max_cap: float | None
    min_severity: float | None
    max_anomalies: int | None
    on_failure: OnFailure


class RewardArguments(AssessArguments, total=False):
    """The options of `rewards`."""

    failure: float
    """The reward of an image that could not be assessed; NaN unless given."""


class BestOf(Record):
    """The most plausible of several images."""

    index: int
    """Its place among the images that were given, from 0."""
    assessed: tuple[AssessedImage, ...]
    """All of them, as given."""

    @property
    def best(self) -> AssessedImage:
        return self.assessed[self.index]


@overload
async def gate_async(images: ImageInput, *, model: str | VLM, **options: Unpack[GateArguments]) -> GateResult: ...  # type: ignore[overload-overlap]
@overload
async def gate_async(
    images: ImageInputs, *, model: str | VLM, **options: Unpack[GateArguments]
) -> list[GateResult]: ...
async def gate_async(
    images: ImageInput | ImageInputs, *, model: str | VLM, **options: Unpack[GateArguments]
) -> GateResult | list[GateResult]:
    """Whether images pass: one image gives a GateResult, a sequence or mapping of images a list of them, in order.

    images: paths of files, or images in memory (see `sources.memory`). model: as `--model`, or an open VLM, which stays
    open. options: at least one of `max_cap`, `min_severity` and `max_anomalies`; `on_failure`; `cache`; those of
    `detect`. With a cache, `max_cost` and `max_tokens` limit what all calls with it use together.
    An image that could not be assessed has not passed: `passed` is None, unless `on_failure` says otherwise.
    Raises UsageError for arguments that cannot be used.
    """
    return await _gate(images, model, options)


@overload
def gate(images: ImageInput, *, model: str | VLM, **options: Unpack[GateArguments]) -> GateResult: ...  # type: ignore[overload-overlap]
@overload
def gate(images: ImageInputs, *, model: str | VLM, **options: Unpack[GateArguments]) -> list[GateResult]: ...
def gate(
    images: ImageInput | ImageInputs, *, model: str | VLM, **options: Unpack[GateArguments]
) -> GateResult | list[GateResult]:
    """As `gate_async`, which describes the arguments."""
    return _now(lambda patient: _gate(images, model, options, patient))


async def best_of_async(images: ImageInputs, *, model: str | VLM, **options: Unpack[AssessArguments]) -> BestOf:
    """The most plausible of several images: that with the lowest CAP, among equals the lowest MAI.

    Then the one whose worst anomaly is the mildest counts, then the first. An image that could not be assessed never
    wins. images, model, options: as `gate_async` has them, without limits.
    Raises NoneAssessed when no image could be assessed, and UsageError for arguments that cannot be used.
    """
    return await _best_of(images, model, options)


def best_of(images: ImageInputs, *, model: str | VLM, **options: Unpack[AssessArguments]) -> BestOf:
    """As `best_of_async`, which describes the arguments."""
    return _now(lambda patient: _best_of(images, model, options, patient))


async def rewards_async(
    images: ImageInput | ImageInputs, *, model: str | VLM, **options: Unpack[RewardArguments]
) -> list[float]:
    """A reward for each image, for training: 1 / (1 + CAP), which is 1 for a flawless image and falls towards 0.

    One image alone gives a list of one reward, so that a training loop gets a list whatever it gives.
    It orders images as CAP does, and unlike -CAP it is bounded. An image that could not be assessed has `failure`,
    NaN unless given. images, model, options: as `gate_async` has them, without limits; a `cache` keeps detections from
    step to step. Raises UsageError for arguments that cannot be used.
    """
    return await _rewards(images, model, options)


def rewards(images: ImageInput | ImageInputs, *, model: str | VLM, **options: Unpack[RewardArguments]) -> list[float]:
    """As `rewards_async`, which describes the arguments."""
    return _now(lambda patient: _rewards(images, model, options, patient))


async def _gate(
    images: ImageInput | ImageInputs, model: str | VLM, options: GateArguments, patient: bool = True
) -> GateResult | list[GateResult]:
    _check_names(options, _GATE)
    limits, given = Limits.of(options), await asyncio.to_thread(given_images, images)
    results = [judged(d, limits) for d in await _detections(given, model, options, _GATE, patient)]
    return results[0] if given.single else results


async def _best_of(images: ImageInputs, model: str | VLM, options: AssessArguments, patient: bool = True) -> BestOf:
    given = await asyncio.to_thread(given_images, images)
    if given.single:
        raise UsageError("one image was given where several are expected; give a list of images")
    if not given.entries:
        raise UsageError("no image was given, so that none is the best; give a list of images")
    found = await _detections(given, model, options, _ASSESS, patient)
    assessed = tuple(AssessedImage.of(d) for d in found)
    return BestOf(index=most_plausible(assessed), assessed=assessed)


def most_plausible(assessed: Sequence[AssessedImage]) -> int:
    """The place of the best image, as `best_of_async` chooses it. Raises NoneAssessed when none could be assessed."""
    ranks = [
        (a.cap, a.mai, -(100.0 if a.worst is None else a.worst), index)
        for index, a in enumerate(assessed)
        if a.cap is not None and a.mai is not None
    ]
    if not ranks:
        why = next((f"; of {a.image!r}: {a.unassessed}" for a in assessed), "")
        raise NoneAssessed(f"none of {len(assessed)} images could be assessed, so that none is the best{why}")
    return min(ranks)[-1]


async def _rewards(
    images: ImageInput | ImageInputs, model: str | VLM, options: RewardArguments, patient: bool = True
) -> list[float]:
    given = await asyncio.to_thread(given_images, images)
    found = await _detections(given, model, options, _REWARDS, patient)
    failure = options.get("failure", math.nan)
    caps = [AssessedImage.of(d).cap for d in found]
    return [failure if cap is None else 1 / (1 + cap) for cap in caps]


_ASSESS = frozenset(("cache",))
_GATE = _ASSESS | {f.name for f in fields(Limits)}
_REWARDS = _ASSESS | {"failure"}
"""The options that are not those of `detect`."""


def _check_names(options: Mapping[str, object], own: frozenset[str]) -> None:
    check_names(options, [*sorted(own), *(f.name for f in fields(DetectOptions))])


async def _detections(
    given: GivenImages, model: str | VLM, options: Mapping[str, object], own: frozenset[str], patient: bool
) -> list[Detection]:
    """A detection for each image. own: names of the options that are not those of `detect`."""
    _check_names(options, own)
    asked = {name: value for name, value in options.items() if name not in own}
    setup = set_up(model, DetectOptions.of(asked), asked)
    images = await asyncio.to_thread(images_of, given)
    folder = options.get("cache")
    if folder is not None and not isinstance(folder, str | Path):
        raise UsageError(f"cache must be the path of a folder, not {folder!r}")
    with DetectionCache(Path(folder)) if folder is not None else nullcontext() as cache:
        return await assess(images, setup, cache, patient=patient)


def _now(work: Callable[[bool], Coroutine[Any, Any, T]]) -> T:
    """What the work gives. Beside a running event loop it has a loop of its own, in a thread that is waited for.

    work: is told whether it may wait for other work in this process, which stands still while a loop is held up.
    """
    if asyncio._get_running_loop() is None:
        return asyncio.run(work(True))
    result, begun = Future[T](), Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any] | None]]()

    async def watched() -> T:
        begun.set_result((asyncio.get_running_loop(), asyncio.current_task()))
        return await work(False)

    def run() -> None:
        try:
            result.set_result(asyncio.run(watched()))
        except BaseException as error:
            result.set_exception(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        return result.result()
    except KeyboardInterrupt:
        loop, task = begun.result()
        if task and not result.done():
            loop.call_soon_threadsafe(task.cancel)
        thread.join()
        raise
