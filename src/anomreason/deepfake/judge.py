"""`deepfake`: how well a detector separates AI images from photographs, and explains it.

    judge("runs/judged", "truth.json", None).accuracy.value

A truth is a folder of images with `0_real/` and `1_fake/`, or a file: a list of anomalies means an AI image, a
description a photograph, unless `generated` or such a folder in the image's name says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from anomreason import archives
from anomreason.containers import HEAD, kind_of
from anomreason.errors import UnreadableImage, UsageError
from anomreason.evaluation.records import DeepfakeResult, JoinedImages, JudgedImage, SourceResult
from anomreason.evaluation.running import Progress, Settings, check_ranking, ranking
from anomreason.evaluation.signature import code_signature, semantic_signature, truth_hash
from anomreason.images import image_size
from anomreason.metrics.bertscore import BackboneSpec
from anomreason.metrics.calibration import Calibration, calibration
from anomreason.metrics.chance import CHUNK, chunks
from anomreason.metrics.deepfake import PHOTOGRAPH_RULE, Judgement, Judgements, deepfake
from anomreason.metrics.image_scores import ImageScores, Profile, SemanticSettings, score_image
from anomreason.metrics.leaks import FileFacts, Leak, leaks
from anomreason.metrics.matching import rank
from anomreason.metrics.operating import Scored, operating_curve
from anomreason.metrics.semantic import MISSING, BothScores
from anomreason.sources.annotations import ImageAnnotation, Source, key_of, named, read_source
from anomreason.sources.generated import FOLDERS, is_generated
from anomreason.sources.inputs import find_images
from anomreason.sources.joining import Entrant, Truth, chosen, entrant

if TYPE_CHECKING:
    from anomreason.deepfake.rating import ReadRating
    from anomreason.metrics.bertscore import Backbone, Similarities

T = TypeVar("T")
_CURVE, _CALIBRATION = 1, 2
"""Each kind of draw has a stream of its own."""
Explanations = dict[tuple[Profile, str, str], list[float | None]]
"""By profile, view, and `semap` or `semf1`: a score 0..1 an image in the truth's order.

None where the truth has no text (photographs), or an AI image was not answered.
"""


def judge(
    predictions: str | Path,
    truth: str | Path,
    backbone: BackboneSpec | None,
    settings: Settings = Settings(),  # noqa: B008
    *,
    subset: str | Path | None = None,
    image_folder: Path | None = None,
    progress: Progress = lambda *_: None,
) -> DeepfakeResult:
    """Every number of one detector; what `deepfake.json` holds. Arguments and errors as for `score`."""
    return score(
        predictions, truth, backbone, settings, subset=subset, image_folder=image_folder, progress=progress
    ).result


@dataclass(frozen=True)
class ScoredRun:
    """One detector beside the truth, and what came of it."""

    entry: Entrant
    truth: Truth
    folder: Path | None
    """Where the image files are looked for; the truth's names are relative to it."""
    images: Sequence[Judgement]
    explained: Explanations
    result: DeepfakeResult
    ratings: Mapping[str, tuple[ReadRating, ...]] = field(default_factory=dict)
    """Of a second opinion, by name in the truth."""

    def path(self, name: str) -> Path | None:
        """The file of an image, by its name in the truth, or its path inside an archive; None where it is not found."""
        for folder, place in self._places(name):
            if folder is not None and archives.stat(folder / place) is not None:
                return folder / place
        return None

    def _places(self, name: str) -> Iterator[tuple[Path | None, str]]:
        yield self.folder, self.truth.images[name].image
        if name in self.entry.answers:
            yield self.entry.source.image_folder, self.entry.answers[name].image

    def records(self) -> Iterator[JudgedImage]:
        """The lines of `judgements.jsonl`."""
        for place, one in enumerate(self.images):
            scores: dict[str, dict[str, dict[str, float]]] = {}
            for (profile, view, metric), values in self.explained.items():
                if (value := values[place]) is not None:
                    scores.setdefault(profile, {}).setdefault(view, {})[metric] = value
            ratings = tuple(rated.rating for rated in self.ratings.get(one.image, ()))
            yield JudgedImage(**{**asdict(one), "explained": scores, "ratings": ratings})


def score(
    predictions: str | Path,
    truth: str | Path,
    backbone: BackboneSpec | None,
    settings: Settings = Settings(),  # noqa: B008
    *,
    subset: str | Path | None = None,
    image_folder: Path | None = None,
    progress: Progress = lambda *_: None,
) -> ScoredRun:
    """Compare one detector with the truth.

    backbone: None leaves explanations out. image_folder: for the leak check and the page; by default the truth's
    folder, or that of the run. Raises UsageError, naming file and place.
    """
    true = read_truth(truth, subset)
    entry = entrant(read_source(predictions), true)
    images, rng = judged(entry, true), settings.rng(0)
    bare = sum(bool(one.generated) and not one.annotated for one in true.images.values())
    explained: Explanations = {}
    signature = code_signature().model_copy(update={"truth": truth_hash(true.images), "images": len(images)})
    if backbone is not None and not bare:
        opened = backbone.open()
        explained = explain(entry, true, settings.semantic, opened, progress)
        signature = semantic_signature(opened.signature, settings.semantic, true.images)
    scores = deepfake(images, rng, {" ".join(key): values for key, values in explained.items()})
    folder = image_folder or true.source.image_folder or entry.source.image_folder
    calibrated, why_not = _calibrated(images, settings.rng(_CALIBRATION))
    result = DeepfakeResult(
        **{name: value for name, value in scores if name in Judgements.model_fields},
        name=entry.source.name,
        signature=signature,
        simulated=entry.source.simulated,
        truth=str(true.source.path),
        explained=_nested(scores.explained),
        sources=tuple(SourceResult(**{**dict(one), "explained": _nested(one.explained)}) for one in scores.sources),
        rule=PHOTOGRAPH_RULE,
        undescribed=_undescribed(images, entry, true) if explained else 0,
        unexplained=_why_not(backbone, bare),
        leaks=_leaks(entry, true, folder, rng),
        joined=JoinedImages.of(entry, true.images),
        operating=operating_curve([_scored(one) for one in images], settings.rng(_CURVE)),
        calibration=calibrated,
        uncalibrated=why_not,
    )
    return ScoredRun(entry, true, folder, images, explained, result)


def _scored(image: Judgement) -> Scored:
    if image.failure is not None:
        return Scored(image.generated, None)
    return Scored(image.generated, image.p_generated, image.judged)


def _calibrated(images: Sequence[Judgement], rng: np.random.Generator) -> tuple[Calibration | None, str | None]:
    """The calibration, or why there is none."""
    known = [(i.p_generated, i.generated) for i in images if i.failure is None and i.p_generated is not None]
    if not known:
        return None, "no image has a probability (p_generated)"
    if any(not 0 <= p <= 1 for p, _ in known):
        return None, "scores (p_generated) are outside 0..1, so they are no probabilities"
    return calibration([p for p, _ in known], [generated for _, generated in known], rng), None


def _nested(flat: Mapping[str, T]) -> dict[str, dict[str, BothScores[T]]]:
    """By profile and view, from names such as `paper full semf1`."""
    found: dict[str, dict[str, dict[str, T]]] = {}
    for key, value in flat.items():
        profile, view, metric = key.split(" ")
        found.setdefault(profile, {}).setdefault(view, {})[metric] = value
    return {profile: {view: BothScores(**scores) for view, scores in views.items()} for profile, views in found.items()}


def read_truth(given: str | Path, subset: str | Path | None = None) -> Truth:
    """The images with their kind in `generated`. UsageError where a kind is unknown or contradictory."""
    name, path = named(str(given))
    source = _folder(name, path) if path.is_dir() and not (path / "run.json").exists() else read_source(given)
    names, unknown = chosen(source, subset)
    failed = tuple(name for name in names if source.images[name].failure is not None)
    kinds = {name: _labelled(name, source.images[name], path) for name in names if name not in failed}
    if not kinds:
        raise UsageError(f"{path} has no image to judge{'' if subset is None else f' that {subset} names'}")
    return Truth(source, kinds, (), failed, unknown)


def _folder(name: str, path: Path) -> Source:
    images = find_images([path]).images
    found = {key_of(i.name): ImageAnnotation(i.name, annotated=False) for i in images}
    return Source(name or path.resolve().name, path, "images", found, path)


def _labelled(name: str, annotation: ImageAnnotation, path: Path) -> ImageAnnotation:
    generated = is_generated(annotation, name, str(path))
    if generated is None:
        raise UsageError(
            f"{path}, image {annotation.image!r}: AI image or photograph? Put it under 0_real/ or 1_fake/, or write "
            "'generated'"
        )
    return replace(annotation, generated=generated)


def judged(entry: Entrant, truth: Truth) -> list[Judgement]:
    """The detector's judgement of each image. UsageError when it judged none, since then it was not asked to."""
    found = [_judged(name, one, entry.answers.get(name), entry.source) for name, one in truth.images.items()]
    if all(one.judged is None for one in found):
        raise UsageError(_no_judgement(entry, truth, found))
    return found


def _no_judgement(entry: Entrant, truth: Truth, found: Sequence[Judgement]) -> str:
    """Why there is nothing to score: other names, no answer that decides, or no question."""
    path, there = entry.source.path, [one for one in found if one.image in entry.answers]
    if not there and entry.source.images:
        here, true = next(iter(entry.source.images)), next(iter(truth.images))
        return (
            f"{path} has no image of the truth: its images are called like {here!r}, those of {truth.source.path} "
            f"like {true!r}; give the truth of these images, or write its names as the run has them"
        )
    if there and not any(one.asked or one.failure for one in there):
        return f"{path} has no judgement of any image; detect with --judge-source, or write 'generated'"
    unsure = sum(one.asked and one.failure is None for one in there)
    failed = sum(one.failure is not None for one in there)
    rest = [f"{unsure:,} unsure", f"{failed:,} failed", f"{len(there) - unsure - failed:,} not asked"]
    return (
        f"{path} judges no image of the truth: {', '.join(rest)} of {len(there):,}; run detect again for failures, or "
        "with a narrower --abstain or another model for answers that are unsure"
    )


def _judged(name: str, true: ImageAnnotation, answer: ImageAnnotation | None, source: Source) -> Judgement:
    place = [part for part in PurePosixPath(name).parent.parts if part not in FOLDERS]
    if answer is None or answer.failure is not None:
        kind = MISSING if answer is None else answer.failure
        known = _anomalous(true)
        return Judgement(name, bool(true.generated), None, failure=kind, source="/".join(place), anomalous=known)
    judgement = answer.generated
    if judgement is None and answer.description is not None:
        judgement = False
    if judgement is None and source.form == "published" and answer.anomalies:
        judgement = True
    return Judgement(
        image=name,
        generated=bool(true.generated),
        judged=judgement,
        p_generated=answer.p_generated,
        failure=None if judgement is not None or answer.unsure else answer.source_failure,
        claimed=len(answer.anomalies),
        source="/".join(place),
        asked=judgement is not None or answer.unsure or answer.source_failure is not None,
        anomalous=_anomalous(true),
    )


def _anomalous(true: ImageAnnotation) -> bool | None:
    return bool(true.packed) if true.generated and true.annotated else None


def _undescribed(images: Sequence[Judgement], entry: Entrant, truth: Truth) -> int:
    """Photographs judged right that score 0, since the truth describes them and the detector did not."""
    right = [one.image for one in images if one.right and not one.generated]
    return sum(truth.images[name].description is not None and entry.answers[name].description is None for name in right)


def _why_not(backbone: BackboneSpec | None, bare: int) -> str | None:
    if backbone is None:
        return "no --backbone was named to compare texts with"
    return f"{bare:,} AI images of the truth have no annotated anomalies" if bare else None


def _leaks(entry: Entrant, truth: Truth, folder: Path | None, rng: np.random.Generator) -> tuple[Leak, ...]:
    """What the files alone give away; empty when there is only one kind."""
    files = [_facts(name, one, entry.answers.get(name), folder) for name, one in truth.images.items()]
    if len({file.generated for file in files}) < 2:
        return ()
    return tuple(leaks(files, rng))


def _facts(name: str, true: ImageAnnotation, answer: ImageAnnotation | None, folder: Path | None) -> FileFacts:
    """From the file where it can be found; else its type from its name, and its size as the run noted it."""
    path = None if folder is None else folder / true.image
    if path is None or not path.is_file():
        suffix = PurePosixPath(name).suffix.lower().lstrip(".")
        kind = {"jpg": "jpeg", "jpe": "jpeg", "tif": "tiff"}.get(suffix, suffix) or None
        return FileFacts(name, bool(true.generated), kind, answer.file_size if answer else None)
    try:
        with path.open("rb") as file:
            found = kind_of(file.read(HEAD))
        width, height = image_size(path)
    except (UnreadableImage, OSError):
        return FileFacts(name, bool(true.generated))
    kind = found.lower() if found else None
    return FileFacts(name, bool(true.generated), kind, path.stat().st_size, width, height)


def explain(
    entrant: Entrant, truth: Truth, settings: SemanticSettings, backbone: Backbone, progress: Progress = lambda *_: None
) -> Explanations:
    """Score the explanation of each image, whatever its judgement (Eq. 15-16 before the mean).

    An AI image is scored by its anomalies, as in `eval`. A photograph that the truth describes is scored by its
    description, as if that were one anomaly; it gets 0 where the detector gives none. `generated` of the truth must be
    known. UsageError, naming file and image, when predictions cannot be ranked as asked.
    """
    names = list(truth.images)
    check_ranking(entrant, [name for name in names if truth.images[name].generated], settings)
    found: list[ImageScores | None] = []
    for block in chunks(len(names), CHUNK) or [range(len(names))]:
        true = [truth.images[names[place]] for place in block]
        answers = [entrant.answers.get(names[place]) for place in block]
        chunk = backbone.hold([_texts(one) for one in true])
        for there, here, alike in zip(true, answers, chunk.score([_texts(one) for one in answers]), strict=True):
            found.append(_scores(there, here, alike, settings))
        progress(block.stop, len(names))
    return {
        (profile, view, metric): [None if one is None else getattr(one, metric)(profile, view) for one in found]
        for profile in settings.profiles
        for view in settings.views
        for metric in ("semap", "semf1")
    }


def _texts(answer: ImageAnnotation | None) -> dict[str, Sequence[str]]:
    if answer is None or answer.failure is not None:
        return {"phe": (), "rea": (), "description": ()}
    return {
        "phe": [f.phenomenon for f in answer.anomalies],
        "rea": [f.reasoning for f in answer.anomalies],
        "description": () if answer.description is None else (answer.description,),
    }


def _scores(
    true: ImageAnnotation, answer: ImageAnnotation | None, alike: Similarities, settings: SemanticSettings
) -> ImageScores | None:
    if not true.generated:
        alike_texts = alike.own["description"]
        places = range(len(alike_texts))
        return None if true.description is None else score_image(alike_texts, alike_texts, places, settings, true.image)
    if answer is None or answer.failure is not None:
        return None
    order = rank(*ranking(answer), settings.ranking)
    return score_image(alike.own["phe"], alike.own["rea"], order, settings, true.image)
