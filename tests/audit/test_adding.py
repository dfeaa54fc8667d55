"""Facts about adding a generator to an audit's file: the rest of it stays as it stands."""

from pathlib import Path

import pytest
from tests.audit.audits import write_audit, write_given, write_prompts, write_recipe

from anomreason.audit.adding import add_generators
from anomreason.audit.plan import read_audit
from anomreason.errors import UsageError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_prompts(tmp_path)
    for name in ("neat", "late"):
        write_recipe(tmp_path, name, "http://127.0.0.1:9/v1")
    write_given(tmp_path, "mine")
    file = write_audit(tmp_path, ["neat.toml"], assessor='model = "tiny"  # free\n')
    file.write_text(f"# Which one is best?\n{file.read_text()}\n")
    return file


def test_generators_are_written_to_the_end_and_known_ones_are_passed_over(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file.read_text()
    monkeypatch.chdir(file.parent)
    audit, added = add_generators(Path("audit.toml"), ["late.toml", "flux.1-dev", "drawn by hand=mine"])
    assert added == ("late", "flux.1-dev", "drawn by hand")
    assert [one.name for one in audit.generators] == ["neat", *added]
    text = file.read_text()
    assert text.startswith(before.rstrip("\n"))
    assert text.endswith('\n\n[[generators]]\nname = "drawn by hand"\nimages = "mine"\n')
    again, none = add_generators(Path("audit.toml"), ["late.toml", "flux.1-dev", "drawn by hand=mine"])
    assert (none, file.read_text()) == ((), text)
    assert again.generators == audit.generators == read_audit(Path("audit.toml")).generators


def test_a_path_is_written_as_it_is_from_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent.parent)
    add_generators(file, [str(file.parent / "mine")])
    assert file.read_text().endswith('images = "mine"\n')


def test_what_cannot_be_added_leaves_the_file_as_it_is(file: Path) -> None:
    before = file.read_text()
    cases = {
        "flux": "there is no generator 'flux'; give a .toml file, a folder of images, or one of ",
        f"neat={file.parent / 'mine'}": "two of the generators are called 'neat'",
        "a/b=flux.1-dev": "name: ",
    }
    for given, message in cases.items():
        with pytest.raises(UsageError, match=message):
            add_generators(file, [str(file.parent / "late.toml"), given])
        assert file.read_text() == before


def test_nothing_is_written_when_it_is_only_asked_for(file: Path) -> None:
    before = file.read_text()
    audit, added = add_generators(file, [str(file.parent / "late.toml")], write=False)
    assert ([one.name for one in audit.generators], added, file.read_text()) == (["neat", "late"], ("late",), before)
