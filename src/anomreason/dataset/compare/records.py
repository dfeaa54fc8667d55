"""What a comparison of people with a detector finds: one typed record, written as JSON.

DatasetComparison.model_validate_json(Path("out/compare.json").read_text()).kinds
"""

from __future__ import annotations

from typing import Literal

from anomreason.anomaly import Result
from anomreason.evaluation.records import EncodedTexts
from anomreason.metrics.published import SOURCE
from anomreason.runs import Provenance
from anomreason.stats import Estimate


class PaperFigures(Result):
    """The paper's own numbers of anomalies, to be shown beside ours."""

    source: str = f"{SOURCE}, appendix F"
    images: int = 1000
    people: float = 4.884
    """Anomalies an image that people found."""
    detector: float = 8.290
    """Those that AnomAgent found."""


class PersonImages(Result):
    """Which images one person annotated."""

    person: str
    finished: int
    """Kept images that the person finished, also those without any anomaly."""
    shared: int
    """Those of them that the detector answered: these are compared."""
    begun: int
    """Images with anomalies of this person that they did not finish; left out."""
    unreadable: int
    """Annotations that are no anomaly as they stand in the store; left out."""


class SideCount(Result):
    """How much one side found."""

    name: str
    images: int
    annotations: int
    """Lists of anomalies: one an image and person."""
    anomalies: int
    empty: int
    """Lists without any anomaly."""
    per_list: Estimate
    """Anomalies an image, of one person or the detector; its interval is a bootstrap over images."""


class KindCount(Result):
    """One kind, on both sides, over the same images."""

    kind: str
    """As it was named; `no kind` for anomalies without one."""
    people: int
    detector: int
    """Anomalies, all lists together."""
    people_per_image: Estimate
    """Anomalies of the kind in one person's list of an image."""
    detector_per_image: Estimate
    difference: Estimate
    """Detector minus people, from common resamples of the images."""
    missed_by: Literal["people", "detector"] | None
    """Whose number is lower, where the interval of the difference excludes 0; not corrected for the number of kinds."""


class ChanceAgreement(Result):
    """The same anomalies of the first side, matched with those of another image."""

    images: int
    share_of_first: dict[float, float | None]
    share_of_second: dict[float, float | None]
    semf1: float | None
    """Of the view `full`."""


class SideAgreement(Result):
    """How much of what one side found the other found too, over the images that both annotated."""

    first: str
    second: str
    images: int
    annotations: int
    """Pairs of lists: one an image, and person where several are pooled."""
    share_of_first: dict[float, Estimate]
    """By least similarity of a match: share of the first side's anomalies that have a partner at the second."""
    share_of_second: dict[float, Estimate]
    """Likewise of the second side's."""
    semf1: dict[str, Estimate]
    """By view: SemF1 with the first side as predictions and the second as truth, mean over images."""
    semf1_back: dict[str, Estimate]
    """With the second side as predictions and the first as truth."""
    chance: ChanceAgreement | None
    """None for a single image."""


class ComparedTexts(Result):
    """What compared the texts."""

    backbone: dict[str, str | int]
    """Name, layer, hash of the weights, precision."""
    thresholds: tuple[float, ...]
    texts: EncodedTexts


class DatasetComparison(Result):
    """People's own annotations against a detector's, on the images that both covered."""

    dataset: str
    detector: str
    simulated: bool
    """Whether the detector's answers are prepared ones."""
    images: int
    """That at least one of the people finished and the detector answered; all numbers are of these."""
    failed: dict[str, int]
    """Of the images that people finished, those on which the detector failed, by kind; left out."""
    missing: int
    """Those that the detector was never given; left out."""
    people: tuple[PersonImages, ...]
    pooled: SideCount
    """All people together."""
    sides: tuple[SideCount, ...]
    """The detector, then each person."""
    difference: Estimate
    """Anomalies an image, detector minus people, from common resamples of the images."""
    kinds: tuple[KindCount, ...]
    """The most frequent first."""
    agreement: tuple[SideAgreement, ...]
    """The detector with all people, with each of them, and people with each other; empty without a backbone."""
    compared: ComparedTexts | None
    """None without a backbone."""
    paper: PaperFigures
    seed: int
    code: Provenance
