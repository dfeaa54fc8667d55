"""The service: takes images, detects in them in the order in which they came, and tells how far each is.

    async with open_service(setup, ServiceOptions(Path("runs/serve"))) as service:
        job = await service.submit(upload, ANYONE)

What has not ended when the process is killed is taken up again by the next one.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from fastapi import HTTPException

from anomreason.anomaly import Detection, Usage
from anomreason.detector import DetectorSetup
from anomreason.errors import Stopped, StorageError, UnreadableImage
from anomreason.images import Encoded, image_size, load_image
from anomreason.serve.allowances import beyond
from anomreason.serve.clients import Client, Clients, Rates
from anomreason.serve.detecting import REACHED, Detecting, open_detecting
from anomreason.serve.jobs import Ending, ImageJob, JobStore, open_jobs
from anomreason.serve.messages import Allowance, JobFailure, JobProgress, JobReply
from anomreason.serve.metrics import Metrics
from anomreason.serve.uploads import Upload, Uploads
from anomreason.vlm.protocol import Tag

T = TypeVar("T")
MOST_AT_ONCE = 16
"""Images in work at a time, each of which is in memory."""
GRACE = 6.0
"""Seconds that calls in flight get to end when the service stops; Docker kills after 10."""
HEARTBEAT = 15.0
"""Seconds after which a watcher gets a sign of life when nothing has changed."""
_MOVES = 2.0
"""Seconds after which a queued job's position is sent again."""
_PAUSE = 5.0
"""Seconds before work goes on after a file could not be written."""
_FIRST = 0.25
"""Seconds for which the next job lets uploads go first: those who sent them wait, and a model's answer takes longer."""
_SMALLEST = b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"
"""An image of one pixel."""
_CLEANING = 3600.0
_DAY = 86_400.0
_UNREACHABLE = 3
"""Consecutive images failed at the endpoint after which the service is not ready."""
_STEPS = {
    "objects": "looking for objects",
    "draft": "looking for objects",
    "merge": "listing the objects",
    "attributes": "examining each object",
    "inspect": "examining the objects",
    "relations": "examining how objects relate",
    "review": "weighing what was noticed",
    "summary": "weighing what was noticed",
    "verify": "looking again at what was noticed",
    "scan": "looking over the whole image",
    "look-again": "looking again at what was noticed",
    "format": "writing down the anomalies",
    "finish": "writing down the anomalies",
    "single": "looking for anomalies",
    "source": "judging whether it is AI-generated",
    "describe": "describing the image",
}


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """Where the service keeps its jobs, and its bounds."""

    folder: Path
    """Holds jobs, replies and detections."""
    database: str | None = None
    """Address of a PostgreSQL database for the jobs; None for a file in the folder."""
    clients: Clients = Clients({})  # noqa: RUF009  # frozen
    upload_bytes: int = 20_000_000
    queue: int = 500
    """Jobs that may wait."""
    keep_images: bool = False
    """Whether images stay after their job has ended."""
    keep_days: int = 30
    """Days after which an ended job is forgotten."""


@dataclass(frozen=True, slots=True)
class _Recognized:
    """An image that was sent."""

    sha256: str
    size: tuple[int, int]
    """Width and height in pixels."""
    kept: Detection | None


@dataclass(frozen=True, slots=True, eq=False)
class _Arriving:
    """A job that is being stored."""

    client: str
    usual: Usage


@dataclass(slots=True)
class _Running:
    """A job in work."""

    job: ImageJob
    key: str
    of: int
    done: int = 0
    begun: int = 0
    step: str = "opening the image"


@dataclass
class Service:
    """An open service; its workers run in the event loop that opened it."""

    options: ServiceOptions
    jobs: JobStore
    detecting: Detecting
    metrics: Metrics
    stopping: bool = False
    trouble: str | None = None
    """Why jobs cannot be worked on for now."""
    rates: Rates = field(default_factory=Rates)

    def __post_init__(self) -> None:
        self.uploads = Uploads(self.options.upload_bytes)
        self._queue: dict[str, ImageJob] = {}
        self._arriving: list[_Arriving] = []
        self._running: dict[str, _Running] = {}
        self._watchers: dict[str, set[asyncio.Event]] = {}
        self._changed = asyncio.Event()
        self._spent: dict[str, Usage] = {}
        self._expected: dict[str, Usage] = {}
        # Of their own, as decoding occupies asyncio's threads for long.
        self._threads = ThreadPoolExecutor(4, "jobs")

    async def quickly(self, work: Callable[..., T], *arguments: Any) -> T:
        """Do what waits for a disk or database in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    # What clients ask for

    def admit(self, client: Client) -> None:
        """Before an image is received. Raises HTTPException when it would be refused."""
        if self.stopping:
            raise HTTPException(503, "the service is stopping; try again in a minute", {"Retry-After": "30"})
        if wait := self.rates.wait_of(client):
            later = {"Retry-After": str(int(wait) + 1)}
            raise HTTPException(429, f"more than {client.rate} images a minute; try again in {wait:.0f} s", later)

    async def submit(self, upload: Upload, client: Client) -> JobReply:
        """Take an image: a job that has ended at once where its detection is kept, else one that is queued.

        Raises HTTPException when the queue is full or a limit on cost or tokens is reached.
        """
        self.admit(client)  # while this image was received, others may have been
        self.rates.count(client)
        try:
            image = await self.quickly(self._recognized, upload)
        except UnreadableImage as error:
            raise HTTPException(413 if error.reason == "too_large" else 415, str(error)) from None
        given = (upload.name, client.name, image.sha256, upload.data)
        if image.kept is not None:
            ending = _ending(image.kept.model_copy(update={"image": upload.name}), cached=True, usage=Usage())
            job = await self.quickly(self.jobs.add, *given, ending)
            self.metrics.ended(ending)
            return self._reply(job)
        waiting = len(self._queue) + len(self._arriving)
        if waiting >= self.options.queue:
            full = f"{waiting:,} images are waiting already; try again in a minute"
            raise HTTPException(503, full, {"Retry-After": "60"})
        usual = self.detecting.usual(image.size)
        self._check_allowance(client, usual)
        arriving = _Arriving(client.name, usual)
        self._arriving.append(arriving)
        try:
            job = await self.quickly(self.jobs.add, *given)
        finally:
            self._arriving.remove(arriving)
        self._expected[job.id] = usual
        self._queue[job.id] = job
        self._wake()
        return self._reply(job)

    def _recognized(self, upload: Upload) -> _Recognized:
        """What the file is, by its header, and its detection where that is kept. Raises UnreadableImage."""
        size = image_size(Path(upload.name), upload.data)
        sha256 = hashlib.sha256(upload.data).hexdigest()
        key = self.detecting.key(sha256)
        return _Recognized(sha256, size, self.detecting.cache.find([key]).get(key))

    def _check_allowance(self, client: Client, usual: Usage) -> None:
        if self.detecting.caller.budget_reached:
            raise HTTPException(402, REACHED)
        used = self.spent(client)
        for job in (*self._queue.values(), *(running.job for running in self._running.values())):
            if job.client == client.name:
                used += self._expected.get(job.id, usual)
        used = sum((arriving.usual for arriving in self._arriving if arriving.client == client.name), used + usual)
        too_dear = client.max_cost is not None and (used.cost or 0.0) > client.max_cost
        too_many = client.max_tokens is not None and used.tokens > client.max_tokens
        if too_dear or too_many or self.detecting.allowances.used_up(client):
            raise HTTPException(402, beyond(client, "one more image"))

    def spent(self, client: Client) -> Usage:
        """What the ended jobs of a client have used."""
        return self._spent.get(client.name, Usage())

    def allowance(self, client: Client) -> Allowance:
        return Allowance(
            max_cost=client.max_cost, max_tokens=client.max_tokens, rate=client.rate, spent=self.spent(client)
        )

    async def find(self, id: str, client: Client) -> ImageJob | None:
        """A job of this client."""
        running = self._running.get(id)
        job = running.job if running else self._queue.get(id) or await self.quickly(self.jobs.find, id)
        return job if job and job.client == client.name else None

    async def latest(self, client: Client, limit: int) -> list[JobReply]:
        """The newest jobs of a client, the newest first."""
        return [self._reply(job) for job in await self.quickly(self.jobs.latest, client.name, limit)]

    async def image(self, job: ImageJob) -> Encoded | None:
        """The image of a job as the model gets it; None when it was dropped. Raises UnreadableImage."""
        data = await self.quickly(self.jobs.image, job)
        if data is None:
            return None
        max_side = self.detecting.setup.options.max_side
        return (await asyncio.to_thread(load_image, Path(job.name), max_side, data)).encoded

    async def wait(self, id: str, client: Client, seconds: float) -> JobReply | None:
        """The job when it has ended, or as it is after so many seconds."""
        end = time.monotonic() + seconds
        with self._watching(id) as changed:
            while True:
                changed.clear()
                job = await self.find(id, client)
                reply = None if job is None else self._reply(job)
                left = end - time.monotonic()
                if reply is None or reply.ended or left <= 0 or self.stopping:
                    return reply
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), left)

    async def events(self, id: str, client: Client) -> AsyncIterator[JobReply | None]:
        """The job at each change until it has ended or the service stops; None now and then in between."""
        last: JobReply | None = None
        with self._watching(id) as changed:
            while not self.stopping:
                changed.clear()
                job = await self.find(id, client)
                if job is None:
                    return
                reply = self._reply(job)
                if reply != last:
                    yield reply
                last = reply
                if reply.ended:
                    return
                try:
                    await asyncio.wait_for(changed.wait(), _MOVES if reply.state == "queued" else HEARTBEAT)
                except TimeoutError:
                    yield None

    def problems(self) -> list[str]:
        """Why the service is not ready; empty when it is."""
        found = []
        if self.stopping:
            found.append("the service is stopping")
        if self.trouble:
            found.append(self.trouble)
        if self.detecting.endpoint_failures >= _UNREACHABLE:
            found.append(f"the last {self.detecting.endpoint_failures} images failed at the model's endpoint")
        return found

    @property
    def queued(self) -> int:
        return len(self._queue)

    @property
    def running(self) -> int:
        return len(self._running)

    @contextmanager
    def _watching(self, id: str) -> Iterator[asyncio.Event]:
        changed = asyncio.Event()
        self._watchers.setdefault(id, set()).add(changed)
        try:
            yield changed
        finally:
            self._watchers[id].discard(changed)
            if not self._watchers[id]:
                del self._watchers[id]

    def _reply(self, job: ImageJob) -> JobReply:
        ending, running = job.ending, self._running.get(job.id)
        position = list(self._queue).index(job.id) if job.id in self._queue else None
        return JobReply(
            id=job.id,
            state=ending.state if ending else "running" if running else "queued",
            name=job.name,
            sha256=job.sha256,
            created=datetime.fromtimestamp(job.created, UTC),
            position=position,
            progress=JobProgress(done=running.done, of=running.of, step=running.step) if running else None,
            cached=ending.cached if ending else False,
            detection=ending.detection if ending else None,
            failure=ending.failure if ending else None,
            usage=ending.usage if ending else self.detecting.used(job.id),
        )

    # The work

    def take_up(self) -> None:
        """Queue what earlier processes have left, before there are workers."""
        self._spent = self.jobs.spent()
        self._queue = {job.id: job for job in self.jobs.waiting()}
        self.detecting.recall(self._queue.keys(), min((job.created for job in self._queue.values()), default=0.0))
        for client in self.options.clients.by_hash.values():
            begun = (self.detecting.used(job.id) for job in self._queue.values() if job.client == client.name)
            self.detecting.allowances.add(client, sum(begun, self.spent(client)))
        self.detecting.caller.watch = self._watch_call

    async def warm_up(self) -> None:
        """Load now what is loaded at its first use, so that the first images do not wait for it."""
        self.detecting.usual()
        await self.quickly(self._recognized, Upload("", _SMALLEST))

    async def work(self) -> None:
        """Take jobs until the service stops."""
        while not self.stopping:
            await self.uploads.all_taken(_FIRST)
            taken = self._next()
            if taken is None:
                changed = self._changed
                await changed.wait()
            elif not await self._run(*taken):
                await asyncio.sleep(_PAUSE)

    async def clean(self) -> None:
        """Forget old jobs, now and then."""
        while True:
            before = time.time() - self.options.keep_days * _DAY
            with suppress(StorageError):
                await self.quickly(self.jobs.forget, before)
            await asyncio.sleep(_CLEANING)

    def stop(self) -> None:
        """Take no more images, and let calls in flight end."""
        self.stopping = self.detecting.caller.stopping = True
        self._wake()
        for watchers in self._watchers.values():
            for changed in watchers:
                changed.set()

    def close(self) -> None:
        """End what `quickly` has begun."""
        self._threads.shutdown()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _next(self) -> tuple[ImageJob, str] | None:
        """The first job whose image no other is at work on; it is queued no more."""
        keys = {running.key for running in self._running.values()}
        for job in self._queue.values():
            key = self.detecting.key(job.sha256)
            if key not in keys:
                del self._queue[job.id]
                self._running[job.id] = _Running(job, key, self.detecting.usual().calls)
                self._notify(job.id)
                return job, key
        return None

    async def _run(self, job: ImageJob, key: str) -> bool:
        """Bring a job to its end, or queue it again when the service stops or a file cannot be written; then False."""
        ended = False
        try:
            ending = await self._outcome(job, key)
            await self.quickly(self.jobs.end, job, ending)
            self._spent[job.client] = self._spent.get(job.client, Usage()) + ending.usage
            self.detecting.forget(job.id)
            self._expected.pop(job.id, None)
            self.metrics.ended(ending, time.time() - job.created)
            self.trouble = None
            ended = True
        except Stopped:
            pass
        except StorageError as error:
            self.trouble = str(error)
        except Exception:
            traceback.print_exc()
            self.trouble = "the service made a mistake with its jobs; its log says more"
        finally:
            del self._running[job.id]
            if not ended:
                self._queue = {job.id: job, **self._queue}
            self._notify(job.id)
            self._wake()
        return ended or self.stopping

    async def _outcome(self, job: ImageJob, key: str) -> Ending:
        """The detection of a job's image, from what is kept or from the model; our own mistakes as a failure."""
        try:
            kept = (await self.quickly(self.detecting.cache.find, [key])).get(key)
            if kept is not None:
                used = self.detecting.used(job.id)  # of this job, when it was killed before its end was written
                return _ending(kept.model_copy(update={"image": job.name}), cached=not used.calls, usage=used)
            data = await self.quickly(self.jobs.image, job)
            if data is None:
                lost = JobFailure(kind="internal", message="the image is no longer there; send it again")
                return Ending(None, lost, False, self.detecting.used(job.id))
            detection = await self.detecting.detect(job, data)
            await self.quickly(self.detecting.cache.put, key, detection.model_copy(update={"image": key}))
            return _ending(detection, cached=False, usage=detection.usage)
        except (Stopped, StorageError):
            raise
        except Exception:
            traceback.print_exc()
            ours = JobFailure(kind="internal", message="the service made a mistake with this image; its log says more")
            return Ending(None, ours, False, self.detecting.used(job.id))

    def _watch_call(self, tag: Tag, ended: bool) -> None:
        running = self._running.get(tag.image)
        if running is None:
            return
        if ended:
            running.done += 1
        else:
            running.begun += 1
            running.step = _STEPS.get(tag.step, _STEPS.get(tag.step.rpartition("-")[0], tag.step))
            running.of = max(running.of, running.begun)
        self._notify(tag.image)

    def _notify(self, id: str) -> None:
        for changed in self._watchers.get(id, ()):
            changed.set()


def _ending(detection: Detection, *, cached: bool, usage: Usage) -> Ending:
    failure = detection.failure
    failed = JobFailure(kind=failure.kind, message=failure.message) if failure else None
    return Ending(detection, failed, cached, usage)


@asynccontextmanager
async def open_service(setup: DetectorSetup, options: ServiceOptions) -> AsyncIterator[Service]:
    """Open the service and work until it is left; calls in flight then get GRACE seconds.

    Raises UsageError for a folder, database or model that cannot be used.
    """
    with open_jobs(options.folder, options.database, keep_images=options.keep_images) as jobs:
        async with open_detecting(setup, options.folder) as detecting:
            service = Service(options, jobs, detecting, Metrics())
            service.take_up()
            await service.warm_up()
            at_once = min(MOST_AT_ONCE, setup.options.in_flight)
            workers = [asyncio.create_task(service.work()) for _ in range(at_once)]
            cleaner = asyncio.create_task(service.clean())
            try:
                yield service
            finally:
                service.stop()
                cleaner.cancel()
                await asyncio.wait(workers, timeout=GRACE)
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, cleaner, return_exceptions=True)
                service.close()
