"""Facts about what may reach a terminal: no control character, C1 control or direction mark of a model or file name."""

import json
import re
import sys
import webbrowser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomreason.anomaly import Anomaly, Detection, Failure
from anomreason.cli import main
from anomreason.cli.output import json_line, open_in_browser, printable, say
from anomreason.cli.runs import calls
from anomreason.cli.summary import Summary
from anomreason.vlm.ledger import Call

EVIL = "\x1b]0;owned\x07\x9b31m\x85\u202egnp.exe\u2066\u200e\r\b\x7f\ufeff"
STEERS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


@given(st.text(st.characters(exclude_categories=())))
def test_nothing_unprintable_is_printed(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)


@given(st.dictionaries(st.text(), st.text()))
def test_json_stays_the_same_json(value: dict[str, str]) -> None:
    line = json_line(json.dumps(value, ensure_ascii=False))
    assert json.loads(line) == value
    assert line.isprintable()


def test_json_keeps_what_can_be_read() -> None:
    assert json_line('{"a": "Zoë 🙂 \u202e \U000e0001"}') == '{"a": "Zoë 🙂 \\u202e \\udb40\\udc01"}'


def test_lines_stay_lines(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"{EVIL}\nsecond")
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 2
    assert not STEERS.search(out)


@pytest.mark.parametrize("many", [1, 3])
def test_a_summary_prints_names_and_answers_safely(capsys: pytest.CaptureFixture[str], many: int) -> None:
    anomaly = Anomaly(name=EVIL + "[bold]", phenomenon=EVIL, reasoning=EVIL, severity=3, kind="floating")
    summary = Summary()
    for n in range(many):
        summary.add(Detection(image=f"{n}{EVIL}", detector=EVIL, status="ok", anomalies=(anomaly,), notes=(EVIL,)))
    if many > 1:
        failure = Failure(kind="endpoint", message=EVIL)
        summary.add(Detection(image=EVIL, detector="m", status="failed", failure=failure))
    summary.print(many)
    assert not STEERS.search(capsys.readouterr().out)


def test_failures_that_quote_a_reply_are_one_line_a_kind(capsys: pytest.CaptureFixture[str]) -> None:
    summary = Summary()
    for n in range(4):
        message = f"the model did not answer in the requested form, twice. It wrote {f'{n} words ' * 60}. Use another."
        failure = Failure(kind="unparsable", message=message)
        summary.add(Detection(image=f"{n}.png", detector="m", status="failed", failure=failure))
    summary.print(4)
    [line] = (line for line in capsys.readouterr().out.splitlines() if "<-" in line)
    assert line.endswith("Use another.  <- 0.png, 1.png, 2.png, 3.png")
    assert len(line) < 400


def test_a_ledger_is_printed_safely(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.json").write_text("{}")
    call = Call(
        *("a.png", EVIL, f"[red]{EVIL}", None, 0, 1, EVIL, "m", 1, 0, 1),
        cost=None,
        seconds=1.0,
        started=1.0,
        key=None,
    )
    (tmp_path / "calls.jsonl").write_text(call.line() + "\n")
    calls(tmp_path)
    out = capsys.readouterr().out
    assert "[red]" in out
    assert not STEERS.search(out)


def test_errors_are_printed_safely(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["anomreason", "detect", f"{EVIL}.png", "--model", "sim:x"])
    with pytest.raises(SystemExit) as left:
        main()
    out, err = capsys.readouterr()
    assert left.value.code == 2
    assert not STEERS.search(out + err)


def test_only_a_browser_with_a_window_of_its_own_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    class Window(webbrowser.BaseBrowser):
        def open(self, url: str, new: int = 0, autoraise: bool = True) -> bool:
            opened.append(url)
            return True

    monkeypatch.setattr(webbrowser, "get", Window)
    open_in_browser("http://a")
    monkeypatch.setattr(webbrowser, "get", lambda: webbrowser.GenericBrowser("lynx"))
    open_in_browser("http://b")
    assert opened == ["http://a"]
