"""`detect` and `detect_async`: find anomalies from Python.

from anomreason import detect
detection = detect("photo.jpg", model="gpt-4o")
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Unpack, overload

from anomreason.anomaly import Detection, Usage
from anomreason.detection import found_images, remaining
from anomreason.detector import DetectOptions, set_up
from anomreason.errors import UsageError
from anomreason.runs import read_results
from anomreason.sources.memory import ImageInput, ImageInputs, given_images
from anomreason.spread.cluster import SpreadArguments, SpreadOptions
from anomreason.spread.handover import open_engine
from anomreason.vlm.protocol import VLM


@overload
async def detect_async(  # type: ignore[overload-overlap]  # a str is a sequence of str, too
    images: ImageInput, *, model: str | VLM, run: str | Path | None = None, **options: Unpack[SpreadArguments]
) -> Detection: ...
@overload
async def detect_async(
    images: ImageInputs, *, model: str | VLM, run: str | Path | None = None, **options: Unpack[SpreadArguments]
) -> list[Detection]: ...
async def detect_async(
    images: ImageInput | ImageInputs,
    *,
    model: str | VLM,
    run: str | Path | None = None,
    **options: Unpack[SpreadArguments],
) -> Detection | list[Detection]:
    """Find semantic anomalies: one image gives a Detection, a sequence of inputs a list of them.

    images: a path or an image in memory (see `sources.memory`); or a sequence of these, of folders, globs and
    manifests; or a mapping of names to images. model: as `--model`, or an open VLM, which stays open. run: a folder to
    record in and to continue from, which keeps images in memory below `images/`; None keeps nothing. options: see
    `DetectOptions`; those of the command line, `base_urls` for `--base-url`. engine, workers, ray_address: as
    `SpreadOptions.of` has them; `engine="ray"` needs `run`. There is no question before money is spent: set max_cost or
    max_tokens, or ask `plan` first.
    Raises UsageError for inputs and options that cannot be used. An image that fails has a Detection with a `failure`
    and without `anomalies`, so check `status` first.
    """
    spread, asked = SpreadOptions.of(options)
    setup = set_up(model, DetectOptions.of(asked), asked)
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
            async with open_engine(setup, folder, spread) as session:
                todo = [image.written() for image in todo] if folder else todo
                await session.detect(todo, lambda d: results.update({d.image: d}))
    if folder:
        results = read_results(folder.path)
    ordered = _by_given_names(listed.asked, results)
    return ordered[0] if given.single else ordered


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
    images: ImageInput, *, model: str | VLM, run: str | Path | None = None, **options: Unpack[SpreadArguments]
) -> Detection: ...
@overload
def detect(
    images: ImageInputs, *, model: str | VLM, run: str | Path | None = None, **options: Unpack[SpreadArguments]
) -> list[Detection]: ...
def detect(
    images: ImageInput | ImageInputs,
    *,
    model: str | VLM,
    run: str | Path | None = None,
    **options: Unpack[SpreadArguments],
) -> Detection | list[Detection]:
    """As `detect_async`, which describes the arguments, for code without an event loop of its own."""
    if asyncio._get_running_loop() is not None:
        raise UsageError("an event loop is running here (a notebook?): use `await detect_async(...)` instead")
    work: Coroutine[Any, Any, Detection | list[Detection]] = detect_async(images, model=model, run=run, **options)
    return asyncio.run(work)
