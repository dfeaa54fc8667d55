"""The page of an audit: it opens with the answer, shows every image, and nothing that came from outside is executed."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from tests.audit.studies import by_rates, study

from anomreason.anomaly import Anomaly, Detection
from anomreason.audit.analysis import analyse
from anomreason.audit.page import write_audit_page
from anomreason.audit.sentences import answer
from anomreason.audit.study import AuditPrompt, Study

HOSTILE = "</script><img src=x onerror=alert(1)>"


def with_files(made: Study, folder: Path) -> Study:
    images = []
    for number, image in enumerate(made.images):
        path = folder / "made images" / f"{number} #%.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (300, 200), (number % 256, 90, 200)).save(path)
        images.append(image if image.missing else replace(image, path=path))
    return replace(made, images=tuple(images))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path]:
    rates = {"good": 0.3, f"bad{HOSTILE}": 3.0}
    good = by_rates(rates, 20)
    made = study(
        list(rates),
        20,
        lambda g, p, s: (
            "missing: refused" if p == 1 and g == "good" else "failed: endpoint" if p == 2 else good(g, p, s)
        ),
        assessors=("one", HOSTILE),
    )
    anomaly = Anomaly(name=HOSTILE, phenomenon=HOSTILE, reasoning="no", severity=3, kind=HOSTILE)
    said = dict(made.assessments["one"])
    said["good/p003-0"] = Detection(image="good/p003-0", detector=HOSTILE, status="ok", anomalies=(anomaly,))
    prompts = (AuditPrompt(id="p000", text=HOSTILE, tags=(HOSTILE,)), *made.prompts[1:])
    folder = tmp_path_factory.mktemp("audit")
    made = with_files(replace(made, prompts=prompts, assessments={"one": said, HOSTILE: said}), folder)
    return made, write_audit_page(analyse(made), made, folder / "report.html")


def rows(page: Path, number: int) -> list[list[object]]:
    text = (page.parent / "report" / "audit" / f"{number}.js").read_text(encoding="utf-8")
    found = re.fullmatch(r"anomreasonAudit\.prompt\((\d+),(.*)\);\n", text)
    assert found
    assert int(found[1]) == number
    value: list[list[object]] = json.loads(found[2])
    return value


def test_the_page_opens_with_the_answer_and_has_every_metric_and_assessor(written: tuple[Study, Path]) -> None:
    made, page = written
    text = page.read_text(encoding="utf-8")
    result = analyse(made)
    assert answer(result.assessors[0], "cap")[0].split("bad")[0] in text
    assert "0 = completely implausible to 100 = fully realistic" in text
    for metric in ("cap", "mai", "af", "cap_of_means"):
        assert text.count(f'class="cut a1 m-{metric}"') == 1
    assert "Table 3 of the paper" in text
    assert "Hunyuan" in text
    assert "Simulated answers" not in text


def test_nothing_from_outside_becomes_markup(written: tuple[Study, Path]) -> None:
    _, page = written
    text = page.read_text(encoding="utf-8")
    assert "<img src=x" not in text
    assert "onerror=alert(1)" in text  # escaped, but there
    assert len(re.findall(r"<script", text)) == 2
    assert text.count("</script>") == 2


def test_every_image_has_its_preview_its_file_and_what_was_found(written: tuple[Study, Path]) -> None:
    made, page = written
    found = rows(page, 0)
    assert len(found) == len(made.generators) * len(made.seeds)
    for preview, source, note, said in found:
        assert (page.parent / "report" / "thumbs" / str(preview)).is_file()
        assert str(source).startswith("made%20images/")
        assert "%23%25.png" in str(source)
        assert note is None
        assert isinstance(said, list)
        assert len(said) == 2
    assert [row[:3] for row in rows(page, 1)[:2]] == [[None, None, "refused"]] * 2
    assert [row[3] for row in rows(page, 1)[:2]] == [[None, None]] * 2
    assert {str(row[3]) for row in rows(page, 2)} == {"['endpoint', 'endpoint']"}
    assert rows(page, 3)[0][3] == [[[3.0, HOSTILE, HOSTILE, "no"]]] * 2


def test_a_second_page_makes_no_preview_again_and_drops_what_is_not_there_any_more(tmp_path: Path) -> None:
    made = with_files(study(["a", "b"], 4, by_rates({"a": 1, "b": 2}, 4)), tmp_path)
    page = write_audit_page(analyse(made), made, tmp_path / "report.html")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "report" / "thumbs").iterdir()}
    first = page.read_bytes()
    write_audit_page(analyse(made), made, tmp_path / "report.html")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "report" / "thumbs").iterdir()} == before
    assert page.read_bytes() == first
    fewer = replace(
        made, prompts=made.prompts[:2], images=tuple(i for i in made.images if i.prompt in {"p000", "p001"})
    )
    write_audit_page(analyse(fewer), fewer, tmp_path / "report.html")
    assert {path.name for path in (tmp_path / "report" / "audit").iterdir()} == {"0.js", "1.js"}


def test_an_image_that_is_gone_or_damaged_is_said_so(tmp_path: Path) -> None:
    made = with_files(study(["a", "b"], 2, lambda g, p, s: [1.0]), tmp_path)
    paths = [image.path for image in made.images if image.path]
    paths[0].unlink()
    paths[1].write_bytes(b"no image")
    page = write_audit_page(analyse(made), made, tmp_path / "report.html")
    gone, damaged, *_ = rows(page, 0)
    assert gone[:2] == damaged[:2] == [None, None]
    assert str(gone[2]).startswith("the image cannot be opened")
    assert gone[3] == [[[1.0, "Six fingers", "Odd hand.", "Hands have five."]]]


def test_images_that_browsers_cannot_show_get_a_copy(tmp_path: Path) -> None:
    made = study(["a", "b"], 1, lambda g, p, s: [1.0], seeds=(0,))
    Image.new("RGB", (40, 30)).save(tmp_path / "x.tiff")
    made = replace(made, images=tuple(replace(i, path=tmp_path / "x.tiff") for i in made.images))
    page = write_audit_page(analyse(made), made, tmp_path / "report.html")
    source = str(rows(page, 0)[0][1])
    assert source.startswith("report/pictures/")
    assert (tmp_path / source).is_file()
