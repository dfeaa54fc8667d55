"""Facts about the log of a training and the page that shows it."""

from __future__ import annotations

import json
from pathlib import Path

from anomreason.files import read_lines
from anomreason.report.curve import DRAWN, LOG, TrainLog, curve_page


def test_lines_survive_a_kill_and_later_steps_are_cut_off(tmp_path: Path) -> None:
    log = TrainLog(tmp_path)
    log.add({"event": "data", "conversations": 3})
    for step in range(1, 6):
        log.add({"step": step, "loss": 1.0 / step})
    log.close()
    with (tmp_path / LOG).open("a") as file:
        file.write('{"step": 6, "lo')
    again = TrainLog(tmp_path, upto=3)
    again.add({"step": 4, "loss": 0.5})
    again.close()
    assert [line.get("step") for _, line in read_lines(tmp_path / LOG)] == [None, 1, 2, 3, 4]
    TrainLog(tmp_path, upto=-1).close()
    assert list(read_lines(tmp_path / LOG, appended=True)) == []


def test_the_page_is_renewed_with_every_line_and_reloads_until_the_end(tmp_path: Path) -> None:
    log = TrainLog(tmp_path, "My <training>")
    log.add({"step": 10, "steps": 20, "loss": 2.5})
    page = (tmp_path / "curve.html").read_text()
    assert 'http-equiv="refresh"' in page
    assert "Step 10 of 20." in page
    assert "My &lt;training&gt;" in page
    assert "<training>" not in page
    log.add({"step": 20, "steps": 20, "loss": 1.5})
    log.add({"step": 20, "scores": {"loss": 1.4, "SemF1": 0.61}})
    log.draw(over=True)
    log.close()
    page = (tmp_path / "curve.html").read_text()
    assert "refresh" not in page
    assert "SemF1: 0.61 at step 20" in page
    assert "training: 1.5 at step 20" in page
    assert "held out: 1.4 at step 20" in page


def test_numbers_that_json_lacks_are_null_and_not_drawn(tmp_path: Path) -> None:
    log = TrainLog(tmp_path)
    log.add({"step": 1, "loss": float("nan"), "scores": {"loss": float("inf")}})
    log.close()
    assert json.loads((tmp_path / LOG).read_text()) == {"step": 1, "loss": None, "scores": {"loss": None}}
    assert "no numbers yet" in (tmp_path / "curve.html").read_text()


def test_a_long_training_draws_no_more_points_than_can_be_seen() -> None:
    lines = [{"step": step, "loss": 5 - step / 10_000} for step in range(1, 20_001)]
    page = curve_page(lines, "long", over=True)
    assert page.count(",") < 4 * DRAWN + 200
    assert "training: 3 at step 20000" in page


def test_what_a_log_says_is_escaped() -> None:
    page = curve_page([{"event": "<script>", "found": "<img>"}, {"step": 1, "scores": {"<b>": 1.0}}], "x", over=False)
    assert "<script>" not in page
    assert "<img>" not in page
    assert "<b>" not in page


def test_the_base_and_a_warning_stand_beside_the_curve() -> None:
    lines = [
        {"event": "answers", "model": "base", "readable": 8, "answers": 8},
        {"step": 0, "scores": {"loss": 2.5, "semf1": 0.61, "semap": 0.5}},
        {"step": 9, "steps": 9, "loss": 1.0},
        {"event": "answers", "model": "trained", "readable": 1, "answers": 8, "warning": "7 of 8 cannot be <read>"},
    ]
    page = curve_page(lines, "x", over=True)
    assert "Base model before training: loss 2.5; asked its own question: semf1 0.61, semap 0.5." in page
    assert "Base model: 8 of 8 sample answers can be read" in page
    assert "Trained model: 1 of 8 sample answers can be read" in page
    assert "7 of 8 cannot be &lt;read&gt;." in page
    assert 'role="alert"' not in curve_page(lines[:3], "x", over=True)
