"""Facts about what `detect` says at the end of a run."""

import json
from collections.abc import Callable
from pathlib import Path

from typer.testing import CliRunner

from anomreason.cli import app


def test_calls_that_were_cut_off_are_told_from_those_that_came_without_counts(
    world: Callable[..., Path], tmp_path: Path
) -> None:
    truth, run = world(2), tmp_path / "run"
    line = ["detect", str(truth.parent), "--model", f"sim:{truth}", "--run", str(run), "--no-report"]
    CliRunner().invoke(app, [*line, "--schedule", "single", "--limit", "1"])
    ledger = run / "calls.jsonl"
    call = json.loads(ledger.read_text().splitlines()[0])
    for started, outcome in enumerate(("killed", "killed", "ok"), 1):
        call |= {"outcome": outcome, "estimated": True, "started": started}
        ledger.write_text(ledger.read_text() + json.dumps(call) + "\n")
    said = CliRunner().invoke(app, [*line, "--schedule", "single"])
    assert said.exit_code == 0, said.output
    assert (
        "estimated for 3 of 5 calls: 1 came without usable token counts, 2 cut off before the answer came (killed, "
        "timed out or connection lost)." in said.stderr
    )
