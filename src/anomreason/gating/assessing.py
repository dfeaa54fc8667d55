"""Detects in images by their content: each once, in a cache where there is one, from several calls at a time.

found = await assess(images_of(["a.png", image]), set_up("gpt-4o"), cache)
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from anomreason import archives
from anomreason.anomaly import Detection, Failure
from anomreason.buckets import Address, checked_address, forget, is_address
from anomreason.detection import HOPELESS, Session, SharedReplies, detect_images, failure_of, open_session
from anomreason.detector import DetectorSetup
from anomreason.errors import UnreachableImage, UnreadableImage, UsageError
from anomreason.gating.cache import DetectionCache
from anomreason.images import file_bytes
from anomreason.sources.inputs import Image
from anomreason.sources.memory import GivenImages, HeldImage

WAIT = 0.05
"""Seconds between two looks at what other calls have detected."""


def images_of(given: GivenImages) -> list[Image]:
    """Each image that was given, with its content's hash; None for a file that cannot be read.

    Raises UsageError for a path that is a folder or does not exist.
    """
    forget()
    return list(hashed(map(_image, given.entries)))


def _image(entry: str | HeldImage) -> Image:
    if isinstance(entry, HeldImage):
        return Image(entry.name, Path(entry.name), entry.sha256, entry.data)
    path = checked_address(entry) if is_address(entry) else Path(entry)
    if path.is_dir():
        raise UsageError(f"{entry!r} is a folder; give the images in it one by one")
    if not isinstance(path, Address) and archives.stat(path) is None:
        raise UsageError(f"{entry!r} does not exist; give files of images (folders and globs are not searched here)")
    return Image(entry, path)


def hashed(images: Iterable[Image]) -> Iterator[Image]:
    """The images with their contents' hashes; an image in memory has one, and one that cannot be read stays as it is.

    Raises UsageError when HOPELESS consecutive images were not to be had from their bucket.
    """
    lost = 0
    for image in images:
        if image.data is not None:
            yield image  # in memory; a file may have the same name
            continue
        try:
            yield replace(image, sha256=hashlib.sha256(file_bytes(image.path)).hexdigest())
            lost = 0
        except UnreadableImage as error:
            yield image
            lost = lost + 1 if isinstance(error, UnreachableImage) else 0
            if lost >= HOPELESS:
                raise UsageError(f"{HOPELESS} consecutive images were not to be had. {error}") from None


def unassessed(images: Sequence[Image], setup: DetectorSetup, cache: DetectionCache) -> list[Image]:
    """The images that the cache holds no detection for, each content once."""
    keys = detection_keys(images, setup)
    known = cache.find(keys.values())
    return list({keys[i.sha256]: i for i in images if i.sha256 and keys[i.sha256] not in known}.values())


async def assess(
    images: Sequence[Image],
    setup: DetectorSetup,
    cache: DetectionCache | None = None,
    *,
    patient: bool = True,
    done: Callable[[int], None] = lambda _: None,
    opened: Callable[[Session], None] = lambda _: None,
) -> list[Detection]:
    """A detection for every image, in their order, under their names; what was not done has a failure that says why.

    patient: whether to wait for what other calls in this process detect with the same cache. done: gets the number of
    images with a detection, now and then. opened: gets each session, whose caller can be asked to stop.
    """
    keys = detection_keys(images, setup)
    # Under the content's hash as name, as two images may have the same name.
    left = {keys[i.sha256]: replace(i, name=keys[i.sha256]) for i in images if i.sha256}
    found: dict[str, Detection] = {}

    def one_more(detection: Detection) -> None:
        if cache:
            cache.put(detection.image, detection)
        found[detection.image] = detection
        done(len(found))

    while left:
        found |= cache.find(left) if cache else {}
        done(len(found))
        todo = [key for key in left if key not in found]
        mine = cache.claim(todo, patient) if cache else todo
        if mine:
            try:
                found |= await _detect([left[key] for key in mine], setup, cache, one_more, opened)
            finally:
                if cache:
                    cache.release()
        left = {key: image for key, image in left.items() if key not in found}
        if left and not mine:
            await asyncio.sleep(WAIT)
    return [_named(image, found[keys[image.sha256]]) if image.sha256 else _unreadable(image, setup) for image in images]


def detection_keys(images: Sequence[Image], setup: DetectorSetup) -> dict[str | None, str]:
    """By the content's hash of each image, the key under which a cache keeps its detection."""
    settings = hashlib.sha256(json.dumps(setup.deciding(), sort_keys=True, default=str).encode()).hexdigest()[:16]
    return {i.sha256: f"{settings}-{i.sha256}" for i in images if i.sha256}


async def _detect(
    images: Sequence[Image],
    setup: DetectorSetup,
    cache: DetectionCache | None,
    done: Callable[[Detection], None],
    opened: Callable[[Session], None],
) -> dict[str, Detection]:
    """The failures of those images that the session has left undone; `done` gets the detections of the others."""
    ended: set[str] = set()

    def one_more(detection: Detection) -> None:
        ended.add(detection.image)
        done(detection)

    shared = SharedReplies(cache.replies, cache.spent()) if cache else None
    async with open_session(setup, None, shared) as session:
        opened(session)
        await detect_images(images, session, one_more)
    if session.caller.budget_reached or not session.dead:
        failure = Failure(kind="budget", message="the limit on cost or tokens was reached before; raise it")
    else:
        failure = Failure(kind="endpoint", message=session.dead)
    about = {"detector": session.detector.name, "status": "failed", "failure": failure}
    return {i.name: Detection.model_validate({"image": i.name, **about}) for i in images if i.name not in ended}


def _named(image: Image, found: Detection) -> Detection:
    return found.model_copy(update={"image": image.name})


def _unreadable(image: Image, setup: DetectorSetup) -> Detection:
    try:
        file_bytes(image.path)
        failure = Failure(
            kind="unreadable_image", message=f"{str(image.path)!r} could not be read a moment ago; try again"
        )
    except UnreadableImage as error:
        failure = failure_of(error)
    return Detection(image=image.name, detector=setup.model, status="failed", failure=failure)
