"""How well a detector's judgements hold when its images are compressed, scaled, cropped, blurred or seen on a screen.

    read_sweep(SetFolder(Path("set")), "gpt-4o-1a2b3c4d", names, ("jpeg-50",)).variants[0].flips["fakes"].flipped.value

The answers about the originals are those of the run; of each variant the source alone is asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anomreason.anomaly import Detection
from anomreason.deepfake.folder import SetFolder
from anomreason.deepfake.sweep_page import write_sweep_page
from anomreason.deepfake.variants import FOLDER, VARIANTS
from anomreason.errors import UsageError
from anomreason.evaluation.writing import write_record
from anomreason.metrics.robustness import SourceAnswer, SweepResult, VariantResult, robustness
from anomreason.runs import is_run, read_results, simulator_answered
from anomreason.sources.generated import by_folder

RESULT = "sweep.json"
PAGE = "sweep.html"
DETECTION = "detection"
"""The run folder of the originals, in the folder of a run."""


def run_folder(folder: SetFolder, name: str, variant: str | None = None) -> Path:
    """The run folder of the originals, or of a variant."""
    place = folder.runs / name
    return place / DETECTION if variant is None else place / FOLDER / variant


def chosen(names: Sequence[str] | None) -> tuple[str, ...]:
    """Names of variants, in the order of the tables; all of them for None. Raises UsageError for an unknown one."""
    for name in names or ():
        if name not in VARIANTS:
            raise UsageError(f"there is no variant {name!r}; the variants are {', '.join(VARIANTS)}")
    return tuple(name for name in VARIANTS if names is None or name in names)


def answered(folder: SetFolder, name: str, names: Sequence[str]) -> tuple[str, ...]:
    """The images whose originals the run judged: those of which variants are asked."""
    results = read_results(run_folder(folder, name))
    return tuple(image for image in names if image in results and _why_not(results[image]) is None)


def read_sweep(
    folder: SetFolder, name: str, names: Sequence[str], variants: Sequence[str], seed: int = 0
) -> SweepResult:
    """The result of a sweep, from its run folders. Raises UsageError where no original has an answer."""
    before = read_results(run_folder(folder, name))
    whys = {image: _why_not(before.get(image)) for image in names}
    asked = [image for image in names if whys[image] is None]
    if not asked:
        raise UsageError(f"{run_folder(folder, name)} has no judgement of any of these images; see its failures")
    kinds = Counter(by_folder(image, image) for image in asked)
    return SweepResult(
        name=name,
        detector=before[asked[0]].detector,
        simulated=simulator_answered(run_folder(folder, name)),
        images=len(asked),
        photographs=kinds[False],
        fakes=kinds[True],
        unanswered=dict(Counter(why for why in whys.values() if why is not None)),
        variants=tuple(_variant(folder, name, variant, asked, before, seed) for variant in variants),
    )


def write_sweep(folder: SetFolder, result: SweepResult) -> Path:
    """Write `sweep.json` and the page beside the card; gives the path of the page."""
    place = folder.runs / result.name
    write_record(place / RESULT, result)
    card = place / "card" / "report.html"
    return write_sweep_page(result, place / PAGE, "card/report.html" if card.is_file() else None)


def _variant(
    folder: SetFolder, name: str, variant: str, asked: Sequence[str], before: dict[str, Detection], seed: int
) -> VariantResult:
    place = run_folder(folder, name, variant)
    after = read_results(place) if is_run(place) else {}
    failures: Counter[str] = Counter()
    pairs = []
    for image in asked:
        if (why := _why_not(after.get(image))) is not None:
            failures[why] += 1
        else:
            pairs.append((_answer(image, before[image]), _answer(image, after[image])))
    found = robustness(pairs, np.random.default_rng(seed))
    meaning = VARIANTS[variant].meaning
    return VariantResult(**dict(found), variant=variant, meaning=meaning, failures=dict(failures))


def _why_not(detection: Detection | None) -> str | None:
    """Why there is no verdict; None where there is one."""
    if detection is None:
        return "missing"
    if detection.failure is not None:
        return detection.failure.kind
    source = detection.source
    if source is None:
        return "not asked"
    return source.failure.kind if source.failure is not None else None


def _answer(image: str, detection: Detection) -> SourceAnswer:
    source = detection.source
    verdict = source.answer if source is not None else None
    return SourceAnswer(bool(by_folder(image, image)), verdict or "unsure", detection.p_generated)
