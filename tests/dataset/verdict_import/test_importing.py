"""Verdicts given in Label Studio and Prodigy come back: once each, by whom and when, and nothing is lost in silence."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from tests.dataset.export.filling import HAND, SHADOW, SIGN, Filler
from typer.testing import CliRunner

from anomreason.cli import app
from anomreason.dataset.export import ExportOptions, export
from anomreason.dataset.store import Store
from anomreason.dataset.tables import CandidateRow, CommandRow, Origin, VerdictRow
from anomreason.dataset.verdict_import import import_verdicts
from anomreason.errors import UsageError

SEEN = ("accepted", "unverified", "rejected")
Row = dict[str, Any]


@pytest.fixture
def judged(store: Store) -> Store:
    """Three candidates of two images, one of which ada accepted with an edit, and an image without any."""
    with store.command("collect", {}) as command, store.writing() as session:
        make = Filler(store, session, command.id)
        flux = make.source("flux")
        one = make.image(flux, "one.png")
        make.judge(make.candidate(one, HAND), "accept", edit={"name": "A sixth finger"})
        make.candidate(one, SHADOW, 1)
        two = make.image(flux, "two.png")
        make.candidate(two, SIGN, origin=Origin.DETECTOR)
        make.searched(make.image(flux, "clean.png"))
    return store


def label_studio(store: Store, folder: Path) -> list[Row]:
    """The tasks as Label Studio holds them after they were imported into it, by name."""
    export(store, folder, ExportOptions("label-studio", verdicts=SEEN, images="none"))
    tasks = [t for file in sorted(folder.glob("tasks-*.json")) for t in json.loads(file.read_text(encoding="utf-8"))]
    tasks.sort(key=lambda task: str(task["data"]["name"]))
    return [
        {
            "id": 100 + number,
            "annotations": [],
            "file_upload": "0b1f-tasks.json",
            "drafts": [],
            **task,
            "meta": {},
            "created_at": "2026-02-01T09:00:00.000000Z",
            "inner_id": number,
            "total_annotations": 1,
            "project": 4,
        }
        for number, task in enumerate(tasks, 1)
    ]


def annotation(choice: str, by: object, at: str = "2026-02-02T10:00:00.250000Z", **more: Any) -> Row:
    """An annotation as Label Studio exports it."""
    number = more.pop("id", 1)
    verdict = {"value": {"choices": [choice]}, "id": "q", "from_name": "verdict", "to_name": "image", "type": "choices"}
    box = {"value": {"x": 1, "rectanglelabels": ["anatomy"]}, "from_name": "kind", "type": "rectanglelabels"}
    return {
        "id": number,
        "completed_by": by,
        "result": [box, {**verdict, "origin": "manual"}],
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2026-02-02T09:59:00.000000Z",
        "updated_at": at,
        "lead_time": 3.5,
        "unique_id": f"unique-{number}",
        **more,
    }


def write(path: Path, tasks: object) -> Path:
    path.write_text(json.dumps(tasks), encoding="utf-8")
    return path


def verdicts(store: Store) -> list[tuple[str, str, str]]:
    """Name of the candidate, person and choice of all that were imported."""
    query = select(CandidateRow.name, VerdictRow.person, VerdictRow.choice).join_from(VerdictRow, CandidateRow)
    with store.reading() as session:
        imported = query.join(CommandRow, CommandRow.id == VerdictRow.command_id).where(CommandRow.name != "collect")
        return [tuple(row) for row in session.execute(imported.order_by(VerdictRow.id))]  # type: ignore[misc]


def outcomes(store: Store) -> dict[str, str]:
    with store.reading() as session:
        return dict(session.execute(select(CandidateRow.name, CandidateRow.outcome)).all())  # type: ignore[arg-type]


def test_what_people_say_in_label_studio_decides_here(judged: Store, tmp_path: Path) -> None:
    sign, hand, clean, shadow = label_studio(judged, tmp_path / "out")
    assert [t["data"]["name"] for t in (sign, hand, clean, shadow)] == [
        SIGN["name"],
        "A sixth finger",
        "No anomaly is known",
        "No shadow",
    ]
    cleo = {"id": 2, "email": "cleo@example.org", "first_name": "", "last_name": ""}
    sign["annotations"] = [annotation("ACCEPT", cleo, id=1)]
    hand["annotations"] = [annotation("REJECT", 3, id=2)]
    shadow["annotations"] = [annotation("UNSURE", 3, id=3), annotation("REJECT", cleo, id=4, was_cancelled=True)]
    clean["annotations"] = [annotation("ACCEPT", 3, id=5)]
    file = write(tmp_path / "project-4.json", [sign, hand, clean, shadow])
    report = import_verdicts(judged, [file], "label-studio", {"3": "ben"})
    assert (report.new, report.known, report.people) == (3, 0, {"ben": 2, "cleo@example.org": 1})
    assert (report.left_out, report.rows) == ({"no_candidate": 1, "skipped": 1}, ())
    assert sorted(verdicts(judged)) == [
        (SIGN["name"], "cleo@example.org", "accept"),
        ("No shadow", "ben", "unsure"),
        ("Six fingers", "ben", "reject"),
    ]
    assert outcomes(judged) == {SIGN["name"]: "accepted", "No shadow": "unsure", "Six fingers": "disputed"}
    assert report.outcomes == {"accepted": 1, "disputed": 1, "unsure": 1}
    with judged.reading() as session:
        row = session.scalars(select(VerdictRow).where(VerdictRow.person == "cleo@example.org")).one()
        assert (row.at, row.seconds, row.round) == (datetime(2026, 2, 2, 10, 0, 0, 250000, UTC), 3.5, 0)
        settings, done = session.execute(
            select(CommandRow.settings, CommandRow.report).where(CommandRow.id == row.command_id)
        ).one()
        assert (settings["from"], settings["files"], done["new"]) == ("label-studio", [str(file)], 3)


def test_the_same_file_changes_nothing_and_a_verdict_changed_there_counts_anew(judged: Store, tmp_path: Path) -> None:
    sign = label_studio(judged, tmp_path / "out")[0]

    def run(choice: str, at: str) -> tuple[int, int, str]:
        sign["annotations"] = [annotation(choice, "ben", at)]
        report = import_verdicts(judged, [write(tmp_path / "p.json", [sign])], "label-studio")
        return report.new, report.known, outcomes(judged)[SIGN["name"]]

    assert run("ACCEPT", "2026-02-02T10:00:00Z") == (1, 0, "accepted")
    assert run("ACCEPT", "2026-02-02T10:00:00Z") == (0, 1, "accepted")
    assert run("ACCEPT", "2026-02-02T10:07:00Z") == (0, 1, "accepted")  # a box was moved
    assert run("REJECT", "2026-02-02T11:00:00Z") == (1, 0, "rejected")
    assert run("ACCEPT", "2026-02-02T10:30:00Z") == (0, 1, "rejected")  # an older export
    assert run("ACCEPT", "2026-02-02T12:00:00Z") == (1, 0, "accepted")


def test_what_a_person_said_here_since_is_not_overruled(judged: Store, tmp_path: Path) -> None:
    hand = label_studio(judged, tmp_path / "out")[1]
    hand["annotations"] = [annotation("REJECT", "x", "2025-12-31T00:00:00Z")]
    report = import_verdicts(judged, [write(tmp_path / "p.json", [hand])], "label-studio", {"x": "ada"})
    assert (report.new, report.left_out, outcomes(judged)["Six fingers"]) == (0, {"later_verdict": 1}, "accepted")
    assert report.rows[0].place == "p.json, task 1"


def test_rows_that_do_not_belong_here_or_cannot_be_read_are_named(judged: Store, tmp_path: Path) -> None:
    good = label_studio(judged, tmp_path / "out")[0]
    good["annotations"] = [annotation("ACCEPT", "ben")]

    def changed(annotations: object = None, **data: Any) -> Row:
        return {**good, "data": {**good["data"], **data}, "annotations": annotations or good["annotations"]}

    tasks = [
        changed(candidate=999),
        changed(candidate=2**70),
        changed(sha256="0" * 64),
        changed(phenomenon="Another one."),
        changed([annotation("MAYBE", "ben")]),
        changed([annotation("ACCEPT", None)]),
        changed([annotation("ACCEPT", "ben", "yesterday")]),
        changed([7, annotation("ACCEPT", "ben", result=[])]),
        {"id": 1, "candidate": 3, "verdict": "ACCEPT"},  # JSON-MIN
        "task",
        good,
    ]
    report = import_verdicts(judged, [write(tmp_path / "p.json", tasks)], "label-studio")
    assert (report.new, verdicts(judged)) == (1, [(SIGN["name"], "ben", "accept")])
    reasons = {"unknown_candidate": 1, "other_image": 1, "other_text": 1, "nobody": 1, "unreadable": 7}
    assert report.left_out == dict(sorted(reasons.items()))
    assert sum(report.left_out.values()) == len(report.rows) == 11
    named = {row.place: row.message for row in report.rows}
    assert "its candidate is a huge number" in named["p.json, task 2"]
    assert "JSON-MIN" in named["p.json, task 9"]


def prodigy(store: Store, folder: Path) -> dict[str, Row]:
    """Our tasks by name."""
    export(store, folder, ExportOptions("prodigy", verdicts=SEEN, images="none"))
    rows = [json.loads(line) for file in folder.glob("*.jsonl") for line in file.read_text("utf-8").splitlines()]
    return {row.get("text", "").partition("\n")[0]: row for row in rows}


def answered(row: Row, answer: str, session: str | None = "anomalies-ben", time: int | None = 1770026400) -> str:
    """A line as `prodigy db-out` writes it."""
    times = {} if time is None else {"_timestamp": time, "_annotator_id": session}
    return json.dumps({**row, "_view_id": "image", "answer": answer, **times, "_session_id": session})


def test_what_people_say_in_prodigy_decides_here(judged: Store, tmp_path: Path) -> None:
    tasks = prodigy(judged, tmp_path / "out")
    sign, hand, shadow = tasks[SIGN["name"]], tasks["A sixth finger"], tasks["No shadow"]
    lines = [
        answered(sign, "accept"),
        answered(sign, "reject", time=1770026500),
        answered(hand, "ignore", "anomalies-cleo"),
        answered(shadow, "accept", None, None),
        answered(tasks[""], "accept"),
        json.dumps(hand),  # never shown to anybody: its answer is ours
        answered(shadow, "perhaps"),
        answered(shadow, "accept", time=10**30),
        '{"text": "torn',
    ]
    file = tmp_path / "anomalies.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    report = import_verdicts(judged, [file], "prodigy", {"anomalies-ben": "ben"})
    assert report.people == {"ben": 2, "anomalies-cleo": 1}
    assert report.left_out == {"no_candidate": 1, "nobody": 1, "unanswered": 1, "unreadable": 3}
    assert outcomes(judged) == {SIGN["name"]: "rejected", "No shadow": "unverified", "Six fingers": "accepted"}
    assert [row.place for row in report.rows if row.reason == "nobody"] == ["anomalies.jsonl, line 4"]
    again = import_verdicts(judged, [file], "prodigy", {"anomalies-ben": "ben", "": "dora"})
    assert (again.new, again.known, again.people) == (1, 3, {"dora": 1})
    assert import_verdicts(judged, [file], "prodigy", {"": "dora"}).new == 0
    assert outcomes(judged)["No shadow"] == "accepted"


@pytest.mark.parametrize("make", [label_studio, prodigy])
def test_our_own_export_says_nothing_new(judged: Store, tmp_path: Path, make: Callable[..., object]) -> None:
    make(judged, tmp_path / "out")
    tool = "label-studio" if make is label_studio else "prodigy"
    files = sorted((tmp_path / "out").glob("tasks-*.json" if tool == "label-studio" else "*.jsonl"))
    report = import_verdicts(judged, files, tool, {"": "ada"})
    assert (report.new, report.left_out["unanswered"]) == (0, 3 if tool == "label-studio" else 4)


def test_files_of_another_form_are_refused(sqlite_store: Store, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('{"text": 1}\n{"text": 2}\n', encoding="utf-8")
    with pytest.raises(UsageError, match=r"a\.json: .*export the project as JSON \(not JSON-MIN\)"):
        import_verdicts(sqlite_store, [file], "label-studio")
    with pytest.raises(UsageError, match="unknown tool 'brat'; choose from label-studio, prodigy"):
        import_verdicts(sqlite_store, [file], "brat")
    with sqlite_store.reading() as session:
        assert session.scalar(select(func.count()).select_from(VerdictRow)) == 0


def test_the_command_says_what_became_of_all_rows(tmp_path: Path) -> None:
    from anomreason.dataset.store import open_store

    with open_store(tmp_path / "data", create=True) as store:
        with store.command("collect", {}) as command, store.writing() as session:
            make = Filler(store, session, command.id)
            make.candidate(make.image(make.source("flux"), "one.png"), HAND)
        (task,) = label_studio(store, tmp_path / "out")
    task["annotations"] = [annotation("ACCEPT", 1, id=1), annotation("REJECT", "eve=\u202e", id=2)]
    file = write(tmp_path / "p.json", [task, {"data": {"candidate": 5}, "annotations": [annotation("ACCEPT", 1)]}])
    arguments = ["dataset", "import-verdicts", str(tmp_path / "data"), str(file), "--from", "label-studio"]
    ran = CliRunner().invoke(app, [*arguments, "--person", "1=ada"])
    assert ran.exit_code == 0, ran.output
    assert "2 new verdicts; 0 verdicts were there already\nada: 1 verdict\neve=\\u202e: 1 verdict\n" in ran.stdout
    assert "1 candidate by now: 1 disputed\n" in ran.stdout
    assert "Left out: 1 row, unknown_candidate (this dataset has no such candidate)\n  p.json, task 2: " in ran.stdout
    ran = CliRunner().invoke(app, [*arguments, "--json"])
    assert json.loads(ran.stdout)["known"] == 2
