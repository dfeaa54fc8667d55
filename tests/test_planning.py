"""A plan is what the run then takes, and costs nothing to ask for."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anomreason import Usage, detect, plan
from anomreason.images import files
from anomreason.planning import calls_needed

World = Callable[..., Path]


def test_the_formulas_by_hand() -> None:
    assert [calls_needed(s, 8) for s in ("lean", "paper", "release", "single")] == [4, 52, 51, 1]
    assert calls_needed("lean", 12, source_calls=1) == 5
    assert calls_needed("lean", 0) == 2


def test_a_plan_says_what_the_run_then_takes_and_counts_only_what_is_left(world: World, tmp_path: Path) -> None:
    truth = world(3)
    model, run = f"sim:{truth}", tmp_path / "run"
    expected = plan([truth.parent], model=model, run=run, max_objects=8)
    assert (expected.images, expected.schedule, expected.usual.objects, expected.usual.usage.calls) == (
        3,
        "lean",
        8,
        12,
    )
    assert expected.usual.usage.cost == 0.0
    assert expected.usual.seconds == 15.0
    assert not run.exists()
    detections = detect([truth.parent], model=model, run=run, max_objects=8)
    assert sum(d.usage.calls for d in detections) == expected.usual.usage.calls
    left = plan([truth.parent], model=model, run=run, max_objects=8)
    assert (left.images, left.usual.usage.tokens, left.usual.seconds) == (0, 0, 0.0)


@pytest.mark.parametrize("most", [1, 6, 8])
def test_a_plan_counts_the_sheets_of_cut_outs_and_the_list_of_parts(most: int, world: World) -> None:
    image = world(1, 1200).parent / "p000.png"

    def usage(**options: str) -> Usage:
        return plan(image, model="gpt-4o", max_objects=most, **options).usual.usage  # type: ignore[arg-type]

    shown, without = usage(), usage(crops="never")
    assert shown == usage(crops="always")
    assert 3 * 765 < shown.prompt_tokens - without.prompt_tokens < 3600  # three sheets, and what is said of them
    assert 0 < shown.completion_tokens - without.completion_tokens < 600


def test_a_plan_has_a_price_where_it_is_known_and_its_upper_bound_is_that_of_the_most_objects(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    image = world(1).parent / "p000.png"
    known = plan(image, model="gpt-4o", schedule="paper", max_objects=40)
    assert (known.usual.usage.calls, known.upper.usage.calls) == (3 + 6 * 8 + 1, 3 + 6 * 40 + 1)
    assert known.usual.usage.cost is not None
    assert known.upper.usage.cost is not None
    assert 0 < known.usual.usage.cost < known.upper.usage.cost
    assert plan(image, model="unheard-of").usual.usage.cost is None


def test_the_first_rows_of_a_parquet_file_stand_for_all(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = (world(1).parent / "p000.png").read_bytes()
    pq.write_table(pa.table({"image": [image] * 200}), tmp_path / "t.parquet")
    rows = []
    monkeypatch.setattr(files.parquet, "read_row", lambda path: rows.append(int(path.name)) or image)
    assert plan(tmp_path / "t.parquet", model="gpt-4o").images == 200
    assert set(rows) == set(range(16))
