"""Detects in the images of jobs, one after another or many at a time, with one open model and what it answered before.

    async with open_detecting(setup, Path("runs/serve")) as detecting:
        found = await detecting.detect(job, data)

Every reply of the model is kept, so that what was answered before a kill -9 is not paid for again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path

from anomreason.agent.observer import Observer
from anomreason.anomaly import Detection, Failure, Usage
from anomreason.detection import open_caller
from anomreason.detector import Detector, DetectorSetup
from anomreason.errors import StorageError, UnreadableImage
from anomreason.gating.assessing import detection_keys
from anomreason.gating.cache import DetectionCache
from anomreason.images import load_image
from anomreason.planning import USUAL_OBJECTS, estimate
from anomreason.serve.allowances import Allowances
from anomreason.serve.jobs import ImageJob
from anomreason.sources.inputs import Image
from anomreason.vlm.calling import Caller
from anomreason.vlm.ledger import calls_since

CACHE = "detections"
"""Folder of the detections by image content, in the folder of the jobs."""
IN_FILE = 10_000
"""Calls in `calls.jsonl` after which it is rolled away: each start reads it."""
REACHED = "the service's limit on cost or tokens is reached; ask its owner to raise it"
_USUAL_SIZE = (1024, 1024)


@dataclass
class Detecting:
    """An open model with its caller, and the detections that are kept."""

    setup: DetectorSetup
    caller: Caller
    allowances: Allowances
    """The caller's budget."""
    detector: Detector
    observer: Observer
    cache: DetectionCache
    folder: Path
    endpoint_failures: int = 0
    """Consecutive images that failed at the endpoint."""
    earlier: dict[str, Usage] = field(default_factory=dict)
    """What calls for jobs that have not ended used in earlier processes, by job."""

    def __post_init__(self) -> None:
        # Half of the processors stay free for taking images, also when many come at once.
        self._opening = asyncio.Semaphore(max(1, (os.cpu_count() or 2) // 2))
        objects = min(USUAL_OBJECTS, self.setup.options.max_objects)
        self._usual = lru_cache(1000)(lambda sent: estimate(self.setup, [sent], 1, objects).usage)

    def key(self, sha256: str) -> str:
        """Under which the detection of this image by this detector is kept."""
        return self._settings + sha256

    @cached_property
    def _settings(self) -> str:
        """The part of each key that stands for the settings."""
        return detection_keys([Image("", Path(), "-")], self.setup)["-"].removesuffix("-")

    def usual(self, size: tuple[int, int] = _USUAL_SIZE) -> Usage:
        """What an image of this size in pixels is expected to use."""
        scale = min(1.0, self.setup.options.max_side / max(size))
        sent = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
        return self._usual(sent)

    def recall(self, jobs: Collection[str], since: float) -> None:
        """Read what the calls for these jobs used in earlier processes; since: when the first was sent."""
        self.caller.ledger.images.clear()
        for call in calls_since(self.folder, since) if jobs else ():
            if call.image in jobs:
                self.earlier[call.image] = self.earlier.get(call.image, Usage()) + call.usage
        self._roll()

    def used(self, job: str) -> Usage:
        """What the calls for a job have used so far, in all processes."""
        return self.earlier.get(job, Usage()) + self.caller.ledger.images.get(job, Usage())

    def forget(self, job: str) -> None:
        """The job has ended."""
        self.earlier.pop(job, None)
        self.caller.ledger.images.pop(job, None)
        self._roll()

    def _roll(self) -> None:
        if self.caller.ledger.in_file >= IN_FILE:
            with suppress(StorageError):  # tried again when the next job has ended
                self.caller.ledger.roll()

    async def detect(self, job: ImageJob, data: bytes) -> Detection:
        """Detect in the image of a job, which counts as used by it. Raises Stopped when asked to stop."""
        name, used = job.name, None
        if not await self.caller.begin_image():
            return self._failed(name, Failure(kind="budget", message=REACHED))
        try:
            max_side = None if self.caller.vlm.bounds_pixels else self.setup.options.max_side
            async with self._opening:
                loaded = await asyncio.to_thread(load_image, Path(name), max_side, data)
            with self.allowances.charging(job.client, job.id):
                detection = await self.detector.detect(loaded, job.id)
            used = detection.usage
            if detection.status == "ok" and (blind := await self.observer.blindness()) and self.observer.blind:
                detection = self._failed(name, Failure(kind="endpoint", message=blind))
        except UnreadableImage as error:
            detection = self._failed(name, Failure(kind="unreadable_image", message=str(error)))
        finally:
            self.caller.end_image(job.id, used)
        at_endpoint = detection.failure is not None and detection.failure.kind == "endpoint"
        self.endpoint_failures = self.endpoint_failures + 1 if at_endpoint else 0
        used = self.used(job.id)
        return detection.model_copy(
            update={"image": name, "file_size": len(data), "usage": used if used.calls else detection.usage}
        )

    def _failed(self, name: str, failure: Failure) -> Detection:
        return Detection(image=name, detector=self.detector.name, status="failed", failure=failure)


@asynccontextmanager
async def open_detecting(setup: DetectorSetup, folder: Path) -> AsyncIterator[Detecting]:
    """Open the model and the files in a folder; raises as `detection.open_caller` and `DetectionCache` do."""
    with DetectionCache(folder / CACHE) as cache:
        async with open_caller(setup, folder) as opened:
            options = setup.options
            allowances = Allowances(opened.ledger, options.max_cost, options.max_tokens)
            caller = replace(opened, budget=allowances)
            observer = Observer(caller, options.control_question, options.max_reply_tokens)
            yield Detecting(setup, caller, allowances, setup.detector(caller, observer), observer, cache, folder)
