"""Detects anomalies in one image or many: detector session and resume logic.

    async with open_session(setup, run) as session:
        await session.detect(images, print)

An image goes from `detect_images` to `agent.pipeline.AnomAgent.detect` and back into the run folder.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

from anomreason import archives
from anomreason.agent.observer import Observer
from anomreason.anomaly import Detection, Failure, Usage
from anomreason.buckets import Address
from anomreason.detector import DetectOptions, Detector, DetectorSetup
from anomreason.errors import Deferred, Stopped, UnreachableImage, UnreadableImage
from anomreason.images import load_image
from anomreason.runs import ImageStatus, RunFolder
from anomreason.sources.inputs import FoundImages, Image, find_images
from anomreason.sources.memory import GivenImages
from anomreason.vlm.batches.answers import BatchAnswers
from anomreason.vlm.batches.log import BatchLog
from anomreason.vlm.batches.model import BatchVLM, SpendingCaps
from anomreason.vlm.budget import Budget
from anomreason.vlm.cache import ReplyStore
from anomreason.vlm.calling import Caller, Patience
from anomreason.vlm.endpoint.address import redacted_url, server_urls
from anomreason.vlm.endpoint.chat import ChatFormat
from anomreason.vlm.ledger import CALLS, Ledger, read_calls
from anomreason.vlm.opening import open_vlm
from anomreason.vlm.parts import REPLIES
from anomreason.vlm.protocol import VLM, VLMOptions, runs_here

HOPELESS = 20
"""Abort after this many consecutive failures of a server or bucket: a wrong key need not be tried 20,000 times."""


def open_batch(setup: DetectorSetup, run: RunFolder, answers: Sequence[Path] = ()) -> BatchVLM:
    """The model of a setup that is `in_batches`, with the answers that these files hold; `close` it.

    Raises UsageError for files of other things.
    """
    options, urls = setup.options, server_urls(setup.options.base_urls)
    limits = SpendingCaps(setup.price, options.max_cost, options.max_tokens)
    found = BatchAnswers(answers)
    return BatchVLM(ChatFormat(setup.model, urls), redacted_url(urls[0]), BatchLog(run.path), limits, found)


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
    """Why the run stops early: HOPELESS consecutive images failed alike, or the server does not pass images on."""

    async def detect(
        self,
        images: Sequence[Image],
        done: Callable[[Detection], None],
        put_off: Callable[[str], None] = lambda _: None,
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
        model = open_model(setup) if vlm is None else vlm
        # A pool of connections belongs to this event loop and opens anew; another open model is its owner's to close.
        if vlm is None or getattr(vlm, "reopens", False):
            stack.push_async_callback(model.close)
        timeout = None if runs_here(setup.model) or batch else options.timeout
        patience = Patience(options.retries, timeout, max(8192, options.max_reply_tokens), options.patience)
        if batch:  # it counts what it writes, and a retry comes with the next files
            budget, patience = Budget(ledger), replace(patience, first_wait=0.0)
        yield Caller(model, ledger, store, budget, options.in_flight, patience, batch)


def open_model(setup: DetectorSetup) -> VLM:
    """The model of a setup, which its owner closes. Raises UsageError for a model that cannot be opened."""
    options = setup.options
    access = VLMOptions(options.base_urls, options.timeout, options.in_flight, options.device)
    return open_vlm(setup.model, replace(access, api_key_env=options.api_key_env, dtype=options.dtype))


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
    enough: Callable[[], bool] = lambda: False,
) -> None:
    """Detect in each image once; `done` gets each detection after it was recorded in the run folder.

    put_off: gets the name of each image that needs answers of a batch which are not here. enough: asked before each
    image; True leaves it and all after it to the caller.

    Returns early, without error, when the budget is reached, the session's caller was asked to stop, HOPELESS
    consecutive images failed at the endpoint or their bucket, or the server does not pass images on (`session.dead`).
    """
    caller, queue, losses = session.caller, takewhile(lambda _: not enough(), images), Losses()
    caller.expect_images(len(images))
    caller.ledger.images.clear()
    earlier = earlier_usage(session.run, images)

    async def work() -> None:
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
            session.dead = losses.after(detection) or session.dead

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
        reason = failure_of(e)
        detection = Detection(image=image.name, detector=detector.name, status="failed", failure=reason)
    except Stopped:
        return None
    finally:
        caller.end_image(image.name, used)
    used = earlier + caller.ledger.images.pop(image.name, Usage())
    return detection.model_copy(
        update={"file_size": size, "file_mtime": mtime, "usage": used if used.calls else detection.usage}
    )


_LOST = {"endpoint": "failed at the endpoint", "unreachable_image": "could not be read from where they lie"}


class Losses:
    """Counts consecutive images that failed for one reason that concerns all of them: no server, no bucket."""

    def __init__(self) -> None:
        self._kind, self._count = "", 0

    def after(self, detection: Detection) -> str | None:
        """Why the run is given up after this detection; None when it goes on."""
        failure = detection.failure
        kind = failure.kind if failure and failure.kind in _LOST else ""
        self._count = self._count + 1 if kind == self._kind else 1
        self._kind = kind
        if failure is None or not kind or self._count < HOPELESS:
            return None
        return f"{HOPELESS} consecutive images {_LOST[kind]}. {failure.message}"


def _unseen(detection: Detection, cause: str | None) -> Detection:
    """The detection as failed: its model has not seen the image."""
    kept = detection.model_dump(exclude={"anomalies", "source", "out_of_domain", "boxes"})
    failure = Failure(kind="endpoint", message=cause or "")
    return Detection.model_validate({**kept, "status": "failed", "failure": failure})


def failure_of(error: UnreadableImage) -> Failure:
    """What is recorded of an image that could not be opened."""
    lost = isinstance(error, UnreachableImage)
    return Failure(kind="unreachable_image" if lost else "unreadable_image", message=str(error))


def earlier_usage(run: RunFolder | None, images: Sequence[Image]) -> dict[str, Usage]:
    """What the calls for these images used before this process, by image: of tries that failed or were killed."""
    names = {image.name for image in images}
    found: dict[str, Usage] = {}
    for call in read_calls(run.path) if run else ():
        if call.image in names:
            found[call.image] = found.get(call.image, Usage()) + call.usage
    return found


def _stat(image: Image) -> tuple[int | None, int | None]:
    """Size and time of change of its file; of an image in memory the size alone, of one in a bucket what is known."""
    if image.data is not None:
        return len(image.data), None
    if image.stat is not None:
        return image.stat
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
    if isinstance(image.path, Address) and image.stat is None:  # each would take a question
        return before.failure != "unreadable_image"
    if _stat(image) == (before.size, before.mtime):
        return True
    if before.sha256 is None or not image.path.is_file():
        return False
    with image.path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == before.sha256


def found_images(given: GivenImages, options: DetectOptions, run: Path | None) -> FoundImages:
    """The images that were given, to be kept in the run folder where they are in memory. Raises UsageError."""
    return find_images(given.entries, options.outside, run / "images" if run else None)
