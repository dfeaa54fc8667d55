"""From planted to scored: the simulated model, which knows the truth, is right about every scene and every twin."""

from __future__ import annotations

from pathlib import Path

import pytest

from anomreason import detect
from anomreason.evaluation.exact import evaluate_exact
from anomreason.scenes.make import SceneSettings, make_scenes


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        SceneSettings(world="sprites", n=20, seed=5, size=192),
        SceneSettings(world="rooms", n=2, seed=5, size=64),
    ],
    ids=lambda settings: settings.world,
)
def test_what_was_planted_is_found_and_nothing_else(settings: SceneSettings, tmp_path: Path) -> None:
    if settings.world == "rooms":
        pytest.importorskip("mitsuba")
    made = make_scenes(tmp_path / "scenes", settings, jobs=1)
    detect([made.folder], model=f"sim:{made.folder / 'simulator.json'}", run=tmp_path / "run")
    found = evaluate_exact(tmp_path / "run", made.folder)
    assert found.recall.n == sum(made.planted.values()) > 0
    assert (found.recall.value, found.precision.value) == (1, 1)
    assert found.twin_test.passed.value == 1
    assert found.false_anomalies.value == 0
    assert found.localisation.value > 0.9
    assert found.severity_error.value == 0
    assert found.failures == {}
