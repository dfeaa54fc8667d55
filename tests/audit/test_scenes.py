"""Scene generators of known rates of violations come out in their true order, by the truth and by one who errs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anomreason.anomaly import Anomaly, Detection
from anomreason.audit.analysis import analyse
from anomreason.audit.results import AssessorResult
from anomreason.audit.sentences import places_text
from anomreason.audit.study import AuditImage, AuditPrompt, Study
from anomreason.scenes.make import SceneSettings, make_scenes
from anomreason.sources.scenes import read_scenes

RATES = {"one": 0.05, "two": 0.4, "three": 0.42, "four": 0.95}
PROMPTS = 80


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The same number is the same clean scene for every generator, as a prompt is the same."""
    folder, images, said = tmp_path_factory.mktemp("scenes"), [], {}
    for name, rate in RATES.items():
        make_scenes(folder / name, SceneSettings(n=PROMPTS, seed=5, size=64, violation_rate=rate, twins=False), jobs=1)
        for number, one in enumerate(read_scenes(folder / name)):
            image = AuditImage(name, f"p{number:03}", 0, folder / name / Path(one.image))
            images.append(image)
            said[image.key] = Detection(image=image.key, detector="truth", status="ok", anomalies=tuple(one.anomalies))
    prompts = tuple(AuditPrompt(id=f"p{number:03}", text="a scene") for number in range(PROMPTS))
    return Study(prompts, tuple(RATES), (0,), tuple(images), {"truth": said})


def erring(said: Detection, draw: np.random.Generator) -> Detection:
    """20 % of the anomalies missed, and one invented in 10 % of the images."""
    found = [anomaly for anomaly in said.anomalies if draw.random() >= 0.2]
    if draw.random() < 0.1:
        found.append(Anomaly(name="x", phenomenon="y", reasoning="z", severity=float(draw.uniform(0, 60))))
    return said.model_copy(update={"anomalies": tuple(found)})


def places(found: AssessorResult, metric: str = "mai") -> dict[str, str]:
    return {g.generator: places_text(g, metric) for g in found.generators}  # type: ignore[arg-type]


def test_the_truth_tells_the_order_and_the_closest_share_their_places(known: Study) -> None:
    found = analyse(known).assessors[0]
    for metric in ("mai", "af", "cap"):
        assert places(found, metric) == {"one": "1", "two": "2–3", "three": "2–3", "four": "4"}


def test_who_misses_and_invents_tells_no_false_order(known: Study) -> None:
    draw = np.random.default_rng(1)
    said = {key: erring(one, draw) for key, one in known.assessments["truth"].items()}
    found = analyse(replace(known, assessments={"errs": said})).assessors[0]
    assert places(found) == {"one": "1", "two": "2–3", "three": "2–3", "four": "4"}
    for pair in found.pairs:
        if pair.better and pair.worse:
            assert RATES[pair.better] < RATES[pair.worse]
