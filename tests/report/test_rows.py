"""A run as rows: every image once, failed ones without numbers, and every anomaly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from anomreason import detect, rows
from anomreason.errors import UsageError

World = Callable[..., Path]


def test_every_image_has_a_row_and_a_failure_has_no_numbers(world: World, tmp_path: Path) -> None:
    truth = world(3)
    (truth.parent / "zz.png").write_text("x")
    found = detect([truth.parent], model=f"sim:{truth}", run=tmp_path / "run")
    table = rows(tmp_path / "run")
    assert sorted(table, key=lambda row: str(row["image"])) == rows(found)
    by_image = {row["image"]: row for row in table}
    assert list(by_image["p000.png"])[:5] == ["image", "sha256", "detector", "status", "failure"]
    numbers = {name: by_image["p000.png"][name] for name in ("status", "anomalies", "worst_severity", "calls")}
    assert numbers == {"status": "ok", "anomalies": 4, "worst_severity": 5, "calls": 4}
    assert (by_image["p000.png"]["mai"], by_image["p000.png"]["cap"]) == (pytest.approx(3.03), pytest.approx(12.12))
    assert (by_image["p002.png"]["anomalies"], by_image["p002.png"]["cap"]) == (0, 0)
    assert (by_image["zz.png"]["status"], by_image["zz.png"]["failure"]) == ("failed", "unreadable_image")
    assert [by_image["zz.png"][name] for name in ("anomalies", "mai", "cap", "worst_severity")] == [None] * 4
    assert len({tuple(row) for row in table}) == 1  # the same columns in every row


def test_every_anomaly_has_a_row_with_its_place(world: World) -> None:
    truth = world(3)
    found = detect([truth.parent], model=f"sim:{truth}")
    table = rows(found, each="anomaly")
    assert [(row["image"], row["number"]) for row in table] == [(f"p00{i}.png", n) for i in (0, 1) for n in range(4)]
    worst = next(row for row in table if row["name"] == "Six fingers 0")
    assert (worst["severity"], worst["objects"]) == (5, "woman")
    assert (worst["role"], worst["step"]) == ("AttributeAnalyzer", "inspect")
    assert worst["score"] is not None, "of the check"
    assert [worst[name] for name in ("x0", "y0", "x1", "y1")] == [0.125, 0.1, 0.25, 0.5]
    lamp = next(row for row in table if row["severity"] == 33)
    assert [lamp[name] for name in ("x0", "y0", "x1", "y1")].count(None) in (0, 4)
    assert rows(found[2], each="anomaly") == []
    assert len(rows(found[2])) == 1


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a run folder"):
        rows(tmp_path)
    with pytest.raises(UsageError, match="each must be 'image' or 'anomaly', not 'call'"):
        rows([], each=cast(Any, "call"))
