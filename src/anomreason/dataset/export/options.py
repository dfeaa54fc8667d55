"""What an export is asked for, and what it reports.

ExportOptions(format="parquet", verdicts=("accepted", "unsure"))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from anomreason.anomaly import Result
from anomreason.dataset.tables import Outcome
from anomreason.errors import UsageError
from anomreason.training.data.questions import Task

Images = Literal["copy", "link", "none"]
"""`link`: hard links where the file system can, copies elsewhere. `none`: the export names images and holds none."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Which images and anomalies are exported, and in which form."""

    format: str = "imagefolder"
    scheme: str = "default"
    """Division into splits."""
    split: str | None = None
    """Only this split; None: all."""
    verdicts: tuple[str, ...] = (Outcome.ACCEPTED.value,)
    """Outcomes whose candidates go in. Candidates that a published dataset, a scene or a person brought count as
    accepted until somebody judges them."""
    accepted_only: bool = False
    """Only what people accepted here: not what a published dataset, a scene or a person brought."""
    min_agreement: float | None = None
    """Of the people who judged a candidate, the least share that must have said what its outcome says, 0..1."""
    beside_known: bool = False
    """Also a detector's candidates of images whose anomalies are known: without, a published dataset, a scene or a
    person's own annotation is the complete list of the image."""
    with_steps: bool = False
    """Also what the detectors said on the way: objects, all candidates, and what people edited."""
    images: Images = "copy"
    task: Task = "anomalies"
    """Of the chat formats: what is asked and answered, as in `anomreason train`."""
    seed: int = 0
    """Of the chat formats: order of the anomalies and wording of the question."""
    shard_bytes: int = 450_000_000
    """Of Parquet: images of one file."""

    def check(self) -> None:
        """Raises UsageError for values that mean nothing."""
        outcomes = [outcome.value for outcome in Outcome]
        for verdict in self.verdicts:
            if verdict not in outcomes:
                raise UsageError(f"unknown verdict {verdict!r}; choose from {', '.join(outcomes)}")
        if not self.verdicts:
            raise UsageError(f"no verdict is given; choose from {', '.join(outcomes)}")
        if self.accepted_only and self.verdicts != (Outcome.ACCEPTED.value,):
            raise UsageError("--accepted-only and --verdict contradict each other; leave one of the two out")
        if self.min_agreement is not None and not 0 <= self.min_agreement <= 1:
            raise UsageError(f"the least agreement is {self.min_agreement!r}; give a share from 0 to 1")
        if self.images not in get_args(Images):
            raise UsageError(f"unknown way {self.images!r} with images; choose from {', '.join(get_args(Images))}")
        if self.task not in get_args(Task):
            raise UsageError(f"unknown task {self.task!r}; choose from {', '.join(get_args(Task))}")
        if self.shard_bytes < 1:
            raise UsageError(f"a shard of {self.shard_bytes} bytes holds nothing; give more")

    def settings(self) -> dict[str, object]:
        """As the manifest holds them."""
        return {**asdict(self), "verdicts": sorted(self.verdicts)}


class SplitCount(Result):
    """What one split holds."""

    images: int = 0
    anomalies: int = 0


Counts = dict[str, SplitCount]
"""By split."""


class ExportReport(Result):
    """What an export did."""

    out: str
    format: str
    splits: Counts
    files: int
    bytes: int
    """Of all files together."""
    left_out: dict[str, int]
    """Images by reason: `unverified`, `not_annotated`, `detection_failed`, `out_of_domain`, `no_split`, `missing`,
    `changed`, and what only one format leaves out."""
    unverified: int
    """Candidates of kept images that nobody has verified and that are not in the export."""
    beside_known: int
    """A detector's candidates that were left out because the anomalies of their image are known."""
    without_region: int
    """Anomalies without a region."""
    problems: tuple[str, ...]
    """The first images whose files could not be exported, each with what is wrong."""
    split_by: str | None
    """The scheme; None: the dataset is not split, and all is in one split."""

    @property
    def images(self) -> int:
        return sum(count.images for count in self.splits.values())

    @property
    def anomalies(self) -> int:
        return sum(count.anomalies for count in self.splits.values())


def split_counts(counts: Mapping[str, tuple[int, int]]) -> Counts:
    """Images and anomalies by split as records, sorted."""
    return {split: SplitCount(images=i, anomalies=a) for split, (i, a) in sorted(counts.items())}
