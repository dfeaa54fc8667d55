"""Facts about the file of an audit: what is wrong in it is told with its place, before anything is paid."""

from pathlib import Path

import pytest
from tests.audit.audits import write_audit, write_given, write_prompts, write_recipe

from anomreason.audit.plan import Audit, GivenGenerator, read_audit
from anomreason.errors import UsageError
from anomreason.runs import settings_difference

URL = "http://127.0.0.1:9/v1"


def audit(folder: Path, text: str | None = None) -> Audit:
    """The audit of this text, or of a whole one."""
    write_prompts(folder)
    write_recipe(folder, "neat", URL)
    file = write_audit(folder, ["neat.toml"], assessor='model = "tiny"\n')
    if text is not None:
        file.write_text(text)
    return read_audit(file)


def test_a_short_file_is_enough(tmp_path: Path) -> None:
    found = audit(tmp_path)
    assert (found.out, found.seeds, found.max_cost) == (tmp_path / "audit", (0, 1), None)
    assert [prompt.text for prompt in found.prompts] == ["a cup", "a dog", "a lamp"]
    assert found.prompts[0].tags == ("objects",)
    assert [one.name for one in found.generators] == ["neat"]
    assert [(one.name, one.setup.options.schedule) for one in found.assessors] == [("tiny", "single")]
    assert found.images == 6


def test_the_prompts_that_come_with_the_package_and_its_recipes_are_named_without_a_path(tmp_path: Path) -> None:
    found = audit(
        tmp_path,
        'prompts = "photo-246"\nlimit = 1\n[[generators]]\nrecipe = "flux.1-dev"\nname = "flux 50"\n'
        '[[generators]]\nrecipe = "flux.1-dev"\n[[assessors]]\nmodel = "gpt-4o"\n',
    )
    assert (len(found.prompts), [one.name for one in found.recipes]) == (1, ["flux 50", "flux.1-dev"])


def test_an_assessor_takes_the_options_of_detect_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "prompts").mkdir()
    options = 'schedule = "paper"\nbase_url = "http://127.0.0.1:1/v1"\nmax_cost = 3\nin_flight = 2\nmax_side = 640\n'
    file = write_audit(tmp_path, ["neat.toml"], assessor=f'model = "m"\n{options}')
    write_prompts(tmp_path)
    write_recipe(tmp_path, "neat", URL)
    chosen = read_audit(file).assessors[0].setup.options
    assert (chosen.schedule, chosen.base_urls, chosen.max_cost) == ("paper", ("http://127.0.0.1:1/v1",), 3.0)
    assert (chosen.in_flight, chosen.max_side) == (2, 640)


def test_paths_are_relative_to_the_file_and_where_the_program_runs_changes_no_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_prompts(tmp_path)
    write_given(tmp_path, "mine")
    (tmp_path / "truth.json").write_text("{}")
    file = write_audit(tmp_path, ["mine"])
    far = read_audit(file)
    monkeypatch.chdir(tmp_path)
    near = read_audit(Path("audit.toml"))
    assert far.assessors[0].setup.model == f"sim:{tmp_path / 'truth.json'}"
    assert near.assessors[0].setup.model == "sim:truth.json"
    assert not settings_difference(far.assessors[0].setup.deciding(), near.assessors[0].setup.deciding())
    given = far.generators[0]
    assert isinstance(given, GivenGenerator)
    assert (given.name, given.folder) == ("mine", tmp_path / "mine")


PART = '[[generators]]\nrecipe = "neat.toml"\n'
TINY = '[[assessors]]\nmodel = "tiny"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'prompts' is missing; add it; 'generators' is missing; add it; 'assessors' is missing"),
        ("prompts = ", "is not valid TOML"),
        (f'prompt = "x"\n{PART}{TINY}', r"unknown setting 'prompt'; did you mean 'prompts'\?"),
        (f'prompts = "prompts.jsonl"\n{TINY}[[generators]]\nrecipe = "neat.toml"\nnames = "x"',
         r"unknown setting 'generators.1.names'; did you mean 'generators.1.name'\?"),
        (f'prompts = "prompts.jsonl"\n{PART}{PART}{TINY}', "two of the generators are called 'neat'"),
        (f'prompts = "prompts.jsonl"\n{PART}{TINY}{TINY}', "two of the assessors are called 'tiny'"),
        (f'prompts = "prompts.jsonl"\n{TINY}[[generators]]\nname = "x"', "generators.1: give one of recipe and images"),
        (f'prompts = "prompts.jsonl"\n{TINY}[[generators]]\nrecipe = "neat.toml"\nmanifest = "m.csv"',
         "a manifest belongs to images"),
        (f'prompts = "prompts.jsonl"\n{TINY}[[generators]]\nrecipe = "flux"', "there is no generator 'flux'"),
        (f'prompts = "prompts.jsonl"\n{PART}[[assessors]]\nmodel = "tiny"\nmax_sides = 3',
         r"assessors.1: unknown setting 'max_sides'; did you mean 'max_side'\?"),
        (f'prompts = "prompts.jsonl"\n{PART}[[assessors]]\nmodel = "m"\nin_flight = "many"',
         "assessors.1: in_flight: .*valid integer"),
        (f'prompts = "prompts.jsonl"\n{PART}[[assessors]]\nmodel = "tiny"\nmax_cost = 3',
         r"assessors.1: max_cost \(--max-cost\) has no effect with 'tiny'"),
        (f'prompts = "prompts.jsonl"\n{PART}[[assessors]]\nname = ".."\nmodel = "tiny"', "write some letters"),
        (f'prompts = "prompts.jsonl"\nmax_cost = 3\n{PART}[[assessors]]\nmodel = "m"',
         "max_cost needs the price of each model, and that of 'm' is not known"),
        (f'prompts = "prompts.jsonl"\nseeds = []\n{PART}{TINY}', "seeds: .*at least 1"),
        (f'prompts = "prompts.jsonl"\nseeds = [1, 1]\n{PART}{TINY}', "seeds: write each seed once"),
        (f'prompts = "prompts.jsonl"\nseeds = [-1]\n{PART}{TINY}', "seeds.1: .*greater than or equal to 0"),
        (f'prompts = "no-pack"\n{PART}{TINY}', "there is no pack 'no-pack'"),
        (f'prompts = "twice.txt"\n{PART}{TINY}', "two of the prompts have the text 'a cup'"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_the_file_is_told_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "twice.txt").write_text("a cup\na dog\na cup\n")
    with pytest.raises(UsageError, match=message):
        audit(tmp_path, text)
