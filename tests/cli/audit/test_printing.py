"""What an audit prints: the answer first, failures beside the numbers, no control characters of a model."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from tests.audit.studies import by_rates, study

from anomreason.audit.analysis import analyse
from anomreason.cli.audit.printing import print_audit


def test_an_audit_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    rates = {"best": 0.3, "near": 1.0, "far\x1b[31m": 4.0}
    made = by_rates(rates, 40)

    def severities(generator: str, p: int, seed: int) -> Sequence[float] | str:
        return "missing: refused" if generator == "near" and p == 3 else made(generator, p, seed)

    one = study(list(rates), 40, severities, assessors=("one", "two"))
    print_audit(analyse(replace(one, simulated=True)))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    lines = out.splitlines()
    assert lines[0].startswith("SIMULATED")
    assert lines[1] == "Audit: 3 generators, 40 prompts, 2 seeds"
    assert out.count("one: 39 prompts common to all ranked generators") == 1
    assert "best is the most plausible of 3 generators." in out
    assert "best is more plausible than near: CAP is lower by" in out
    assert "2 refused" in out
    assert "fails at: anatomy:" in out
    assert "one and two find the same generator better in 3 of 3 pairs, the opposite in none" in " ".join(out.split())
    assert "lower is better and 0 is flawless; severity runs from 0 (implausible) to 100 (realistic)" in out


def test_pairs_that_are_not_told_apart_say_why_and_what_would(capsys: pytest.CaptureFixture[str]) -> None:
    print_audit(analyse(study(["a", "b"], 30, by_rates({"a": 1.0, "b": 1.1}, 30))))
    out = capsys.readouterr().out
    assert "no: not significant" in out
    assert "The data hold no order of the two generators." in out
    assert "1-2" in out


def test_of_each_pair_the_more_plausible_one_stands_first(capsys: pytest.CaptureFixture[str]) -> None:
    print_audit(analyse(study(["a", "b"], 30, by_rates({"a": 4.0, "b": 0.3}, 30))))
    row = next(line.split() for line in capsys.readouterr().out.splitlines() if line.split()[:2] == ["b", "a"])
    value, low, to, high = row[2:6]
    assert to == "to"
    assert float(low) < float(value) < float(high) < 0
