"""What passes between the service and its clients."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from anomreason.anomaly import Detection, FailureKind, Usage
from anomreason.gating.limits import GateResult

JobState = Literal["queued", "running", "done", "failed"]
JobFailureKind = Literal[FailureKind, "internal"]
"""`internal`: a mistake of ours, which the service's log describes."""


class JobFailure(BaseModel):
    """Why a job has no detection to show. Never an empty list of anomalies."""

    kind: JobFailureKind
    message: str


class JobProgress(BaseModel):
    """How far the calls about one image are."""

    done: int
    """Calls answered."""
    of: int
    """Calls expected for an image with the usual number of objects; grows where more are needed."""
    step: str
    """The latest step that began, in words."""


class JobReply(BaseModel):
    """One image that was sent, and what became of it."""

    id: str
    state: JobState
    name: str
    """As the client called the file."""
    sha256: str
    """Of the bytes as they were sent, hex."""
    created: datetime
    position: int | None = None
    """Jobs that are taken before it, while it is queued; else None."""
    progress: JobProgress | None = None
    """While it is running; else None."""
    cached: bool = False
    """Whether the detection was there already, so that nothing was paid."""
    detection: Detection | None = None
    """None until the job has ended. Severity: 0 = completely implausible, 100 = fully realistic."""
    failure: JobFailure | None = None
    usage: Usage = Usage()
    """What the model's calls for this job used so far, earlier tries included."""

    @property
    def ended(self) -> bool:
        return self.state in ("done", "failed")


class JobsReply(BaseModel):
    """The latest jobs of the one who asks."""

    jobs: list[JobReply]
    """The newest first."""


class GateReply(BaseModel):
    """Whether an image passes."""

    passed: bool | None
    """None while the job has not ended, and when the image could not be assessed."""
    reasons: list[str]
    """Each limit that it breaks, or why it could not be assessed."""
    result: GateResult | None
    """As `anomreason gate` has it; None while the job has not ended."""
    detection: Detection | None
    job: JobReply


class Allowance(BaseModel):
    """What one client may use, and has used. Limits are None where there is none."""

    max_cost: float | None
    """US dollars."""
    max_tokens: int | None
    rate: int | None
    """Images a minute."""
    spent: Usage


class ServiceLimits(BaseModel):
    """Bounds for all."""

    upload_bytes: int
    """Largest image file."""
    queue: int
    """Jobs that may wait."""
    max_cost: float | None
    max_tokens: int | None


class AboutReply(BaseModel):
    """Who asks, and what this service does."""

    client: str | None
    """Name of the token; None where no tokens are needed."""
    model: str
    schedule: str
    simulated: bool
    """Whether the answers come from a prepared file and not from a model."""
    judges_source: bool
    """Whether it also says if the image is AI-generated."""
    price_known: bool
    usual: Usage
    """What an image of 1024 x 1024 pixels is expected to use; `cost` is None when the price is not known."""
    allowance: Allowance
    limits: ServiceLimits
    keeps_images: bool
    """Whether images stay after their job has ended."""
    keep_days: int
    """Days after which an ended job is forgotten."""
    queued: int
    running: int
    version: str


class Health(BaseModel):
    """Whether the service works."""

    ok: bool
    problems: list[str] = []
