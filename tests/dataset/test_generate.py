"""Images for the prompts of a dataset: each made once, whatever happens; money counted; reasons kept."""

import hashlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import func, select, update
from tests.dataset.generators.images_server import ImagesServer, images_server
from tests.dataset.generators.painter import Painter, painter_recipe
from tests.dataset.planting import Plan, plant
from tests.forking import exit_codes
from typer.testing import CliRunner

from anomreason.cli import app
from anomreason.dataset.generate import GenerateOptions, GenerateReport, Work, generate, plan_generation
from anomreason.dataset.generators.recipe import GeneratorRecipe
from anomreason.dataset.store import Store, add_new, open_store
from anomreason.dataset.tables import CommandRow, GenerationRow, ImageRow, PromptRow, SourceRow
from anomreason.errors import RunConflict, UsageError

TEN = [f"cup number {n}" for n in range(10)]


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def prompts(store: Store, *texts: str) -> None:
    with store.command("collect", {}) as command, store.writing() as session:
        add_new(session, PromptRow, [{"sha256": sha(t), "text": t, "command_id": command.id} for t in texts])


def run(store: Store, painter: Painter, *recipes: GeneratorRecipe, **options: Any) -> GenerateReport:
    chosen = GenerateOptions(**options)
    return generate(store, recipes or (painter_recipe(),), chosen, opener=lambda recipe: painter)


def generations(store: Store) -> list[tuple[Any, ...]]:
    """All that is recorded of what was asked for, apart from ids, times and commands."""
    columns = (GenerationRow.generator, PromptRow.text, GenerationRow.seed, GenerationRow.status, GenerationRow.message)
    images = (ImageRow.sha256, ImageRow.path, ImageRow.name, ImageRow.phash, ImageRow.settings)
    query = select(*columns, *images).join(PromptRow, GenerationRow.prompt_id == PromptRow.id)
    query = query.outerjoin(ImageRow, GenerationRow.image_id == ImageRow.id)
    with store.reading() as session:
        return sorted(map(tuple, session.execute(query).all()), key=str)


def statuses(store: Store) -> dict[str, str]:
    return {f"{text} {seed}": status for _, text, seed, status, *_ in generations(store)}


def cost(store: Store) -> float | None:
    with store.reading() as session:
        return session.scalar(select(func.sum(GenerationRow.cost)))


def test_every_prompt_gets_an_image_of_each_generator_and_seed(store: Store) -> None:
    prompts(store, "a cup", "a dog")
    recipes = painter_recipe("flux"), painter_recipe("sd")
    options, painters = GenerateOptions(seeds=(0, 7)), [Painter(style="flux"), Painter(style="sd")]
    opened = iter(painters)
    seen: list[tuple[int, int]] = []
    report = generate(store, recipes, options, lambda *step: seen.append(step), opener=lambda recipe: next(opened))
    assert [(one.generator, one.images, one.done, one.left) for one in report.generators] == [
        ("flux", 4, 4, 0),
        ("sd", 4, 4, 0),
    ]
    assert seen == [(n, 8) for n in range(9)]
    assert all(painter.closed for painter in painters)
    with store.reading() as session:
        images = session.execute(
            select(SourceRow.name, PromptRow.text, ImageRow.seed)
            .select_from(ImageRow)
            .join(SourceRow)
            .join(PromptRow, ImageRow.prompt_id == PromptRow.id)
        ).all()
    assert sorted(map(tuple, images)) == [(g, p, s) for g in ("flux", "sd") for p in ("a cup", "a dog") for s in (0, 7)]


def test_an_image_lies_in_the_dataset_and_names_what_it_came_from(store: Store) -> None:
    prompts(store, "a cup")
    run(store, Painter(), painter_recipe("flux", licence="CC0-1.0", width=64, height=64), seeds=(7,))
    with store.reading() as session:
        image = session.scalars(select(ImageRow)).one()
        source = session.scalars(select(SourceRow)).one()
    assert (source.name, source.kind, source.generator, source.licence) == ("flux", "ai", "flux", "CC0-1.0")
    path = store.path(image.path)
    assert image.path == f"images/{image.sha256[:3]}/{image.sha256}.png"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == image.sha256
    with Image.open(path) as opened:
        assert (opened.format, opened.size, opened.info) == ("PNG", (16, 16), {})
    assert (image.name, image.seed, image.status) == (f"{sha('a cup')[:16]}-7.png", 7, "kept")
    assert (image.width, image.height, image.format, image.bytes) == (16, 16, "PNG", path.stat().st_size)
    assert image.phash is not None
    assert image.facts["mode"] == "RGB"
    assert image.settings is not None
    assert image.settings["recipe"]["width"] == 64
    assert (image.settings["made_by"], image.settings["mood"]) == ({"program": "painter"}, "calm")


def test_what_brought_no_image_keeps_its_reason_and_only_failures_are_tried_again(store: Store) -> None:
    prompts(store, "a cup", "refused cup", "blank cup", "failed cup")
    first = run(store, painter := Painter()).generators[0]
    assert (first.done, first.refused, first.blank, first.failed, first.left) == (1, 1, 1, 1, 0)
    assert first.messages["the filter said no"] == 1
    assert len(first.messages) == 3
    assert len(painter.asked) == 4
    again = run(store, painter := Painter()).generators[0]
    assert [request.prompt for request in painter.asked] == ["failed cup"]
    assert (again.before, again.done, again.failed) == (3, 0, 1)
    assert set(statuses(store).items()) == {(f"{word} cup 0", word) for word in ("refused", "blank", "failed")} | {
        ("a cup 0", "done")
    }
    with store.reading() as session:
        assert session.scalar(select(func.count()).select_from(ImageRow)) == 1
        assert session.scalars(select(CommandRow.report).where(CommandRow.name == "generate")).all()[-1] == {
            "generators": [again.model_dump(mode="json")]
        }


def test_nothing_is_opened_or_made_when_all_is_there(sqlite_store: Store) -> None:
    prompts(sqlite_store, "a cup")
    run(sqlite_store, Painter())

    def fail(recipe: GeneratorRecipe) -> Painter:
        raise AssertionError("opened for nothing")

    report = generate(sqlite_store, [painter_recipe()], opener=fail)
    assert (report.generators[0].before, report.generators[0].done) == (1, 0)
    prompts(sqlite_store, "a dog")
    run(sqlite_store, painter := Painter(), seeds=(0, 1))
    assert [(r.prompt, r.seed) for r in painter.asked] == [("a cup", 1), ("a dog", 0), ("a dog", 1)]


def test_a_placeholder_in_place_of_an_image_is_seen_and_a_seed_without_effect_is_said(sqlite_store: Store) -> None:
    prompts(sqlite_store, "placeholder 1", "placeholder 2", "seedless")
    report = run(sqlite_store, Painter(), seeds=(0, 1)).generators[0]
    assert statuses(sqlite_store)["placeholder 2 0"] == "refused"
    assert report.messages == {
        "the bytes are those of seed 0": 2,
        "the bytes are those of image 1, which has another prompt": 2,
    }
    assert (report.done, report.refused) == (4, 2)


def test_the_prompts_can_be_chosen(store: Store) -> None:
    """Prompts 1 to 4 have images of flux, 1 to 3 also of sd, of which that of 3 is dropped; 5 and 6 have none."""
    plant(store, Plan({"flux": 4, "sd": 3}, prompts=6, candidates=0))
    with store.writing() as session:
        third = select(ImageRow.id).join(SourceRow).where(SourceRow.name == "sd", ImageRow.prompt_id == 3)
        session.execute(update(ImageRow).where(ImageRow.id == third.scalar_subquery()).values(status="dropped"))
    cases: list[tuple[dict[str, Any], int]] = [
        ({}, 6),
        ({"limit": 2}, 2),
        ({"kept": True}, 4),
        ({"kept": True, "limit": 3}, 3),
        ({"sources": ("flux",)}, 4),
        ({"sources": ("sd",)}, 3),
        ({"sources": ("sd",), "kept": True}, 2),
    ]
    for options, count in cases:
        plan = plan_generation(store, [painter_recipe()], GenerateOptions(**options))[0]
        assert (plan.images, plan.left) == (count, count), options
    run(store, painter := Painter(), **options)
    assert [request.prompt for request in painter.asked] == [f"Prompt number {n}, photograph" for n in (0, 1)]


def test_batches_are_full_and_the_same_after_a_stop(sqlite_store: Store) -> None:
    prompts(sqlite_store, *TEN)
    work = Work()

    def stop(made: int) -> None:
        work.stopping = made >= 4

    painter = Painter(batch=4, before=stop)
    report = generate(sqlite_store, [painter_recipe()], work=work, opener=lambda recipe: painter)
    assert (report.generators[0].stopped, report.generators[0].left) == ("interrupted", 2)
    assert painter.sizes == [4, 4]
    run(sqlite_store, painter := Painter(batch=4))
    assert painter.sizes == [2]
    assert len(statuses(sqlite_store)) == 10


def test_a_generator_that_only_fails_is_given_up_and_the_next_one_begins(sqlite_store: Store) -> None:
    prompts(sqlite_store, *(f"failed cup {n}" for n in range(15)))
    report = run(sqlite_store, Painter(), painter_recipe("one"), painter_recipe("two"))
    assert [(one.failed, one.left, one.stopped) for one in report.generators] == [(10, 5, "failures")] * 2


def test_what_failed_before_waits_until_the_others_had_their_turn(sqlite_store: Store) -> None:
    failing = [f"failed cup {n}" for n in range(10)]
    prompts(sqlite_store, *failing, "a cup", "a dog")
    assert run(sqlite_store, Painter()).generators[0].left == 2
    again = run(sqlite_store, painter := Painter()).generators[0]
    assert [request.prompt for request in painter.asked] == ["a cup", "a dog", *failing]
    assert (again.done, again.failed, again.left) == (2, 10, 0)


def test_a_failure_that_all_would_share_ends_the_generator_at_once(sqlite_store: Store) -> None:
    prompts(sqlite_store, "hopeless", *TEN)
    report = run(sqlite_store, Painter()).generators[0]
    assert (report.failed, report.left, report.stopped) == (1, 10, "failures")


def test_the_limit_on_the_cost_holds_over_commands_and_generators(store: Store) -> None:
    prompts(store, "refused cup", *TEN)
    first = run(store, Painter(), painter_recipe("one", price=0.25), max_cost=1.0).generators[0]
    assert (first.refused, first.done, first.left, first.cost, first.stopped) == (1, 4, 6, 1.0, "cost")
    assert cost(store) == 1.0
    again = run(store, painter := Painter(), painter_recipe("two", price=0.05), max_cost=1.0)
    assert (again.generators[0].stopped, painter.asked) == ("cost", [])
    more = run(store, Painter(), painter_recipe("one", price=0.25), max_cost=1.5).generators[0]
    assert (more.done, more.cost, more.left) == (2, 0.5, 4)
    assert cost(store) == 1.5


def test_a_failed_request_that_may_have_been_charged_counts(sqlite_store: Store) -> None:
    prompts(sqlite_store, "failed cup", "hopeless")
    for times in (1, 2):
        run(sqlite_store, Painter(), painter_recipe(price=0.25))
        assert cost(sqlite_store) == 0.25 * times


def test_the_cost_must_be_known_for_a_limit(sqlite_store: Store) -> None:
    prompts(sqlite_store, "a cup")
    with pytest.raises(UsageError, match=r"max_cost needs the price .* 'painter' does not say it: add price_per_image"):
        run(sqlite_store, Painter(), max_cost=1.0)


def test_other_settings_under_one_name_are_refused_once_there_are_images(store: Store) -> None:
    prompts(store, "failed cup")
    run(store, Painter(), painter_recipe(settings={"quality": "superb"}))
    prompts(store, "a cup")
    run(store, Painter(), painter_recipe(settings={"quality": "low"}))
    run(store, Painter(), painter_recipe(about="the same", settings={"quality": "low"}))
    with pytest.raises(RunConflict, match=r"'painter' made images here with other settings \(settings.quality: 'low'"):
        run(store, Painter(), painter_recipe(settings={"quality": "high"}))


@pytest.mark.parametrize(
    ("recipes", "options", "message"),
    [
        ([], {}, "no generator is given"),
        (["one", "one"], {}, "two of the recipes have the name 'one'"),
        (["photographs"], {}, "a source 'photographs' of kind 'photograph'"),
        (["one"], {"seeds": ()}, "the seeds .* cannot be used"),
        (["one"], {"seeds": (-1,)}, "the seeds .* cannot be used"),
        (["one"], {"seeds": (1, 1)}, "hold one twice"),
        (["one"], {"limit": 0}, "limit must be at least 1"),
        (["one"], {"sources": ("photograph",)}, r"no source 'photograph'; did you mean 'photographs'\?"),
    ],
)
def test_what_cannot_be_asked_is_an_error_before_anything_is_made(
    sqlite_store: Store, recipes: list[str], options: dict[str, Any], message: str
) -> None:
    plant(sqlite_store, Plan({"photographs": 1}, prompts=1))
    with pytest.raises(UsageError, match=message):
        generate(sqlite_store, [painter_recipe(name) for name in recipes], GenerateOptions(**options))


KILLED = """
import itertools, os, signal, sys
from pathlib import Path
from sqlalchemy import event
from sqlalchemy.orm import Session
from tests.dataset.generators.painter import Painter, painter_recipe
from anomreason.dataset.generate import generate
from anomreason.dataset.store import open_store

folder, moment, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
counter = itertools.count(1)
def reached(*_):
    if next(counter) == count:
        os.kill(os.getpid(), signal.SIGKILL)
before = reached if moment == "before_batch" else lambda made: None
with open_store(folder) as store:
    if moment != "before_batch":
        event.listen(Session, moment, reached)
    generate(store, [painter_recipe(price=0.25)], opener=lambda recipe: Painter(batch=2, before=before))
"""


def test_kills_at_any_moment_leave_what_an_undisturbed_run_leaves(tmp_path: Path) -> None:
    def fresh(name: str) -> Store:
        store = open_store(tmp_path / name, create=True)
        prompts(store, "refused cup", *TEN)
        return store

    with fresh("whole") as whole, fresh("killed") as killed:
        run(whole, Painter(batch=2), painter_recipe(price=0.25))
        # Before a batch, after its files and before its rows, after its rows.
        moments = (("before_batch", 2), ("before_commit", 6), ("after_commit", 5))
        ends = exit_codes(KILLED, [(killed.folder, *moment) for moment in moments])
        assert ends == [-signal.SIGKILL] * 3
        run(killed, Painter(batch=2), painter_recipe(price=0.25))
        assert generations(killed) == generations(whole)
        assert (cost(whole), cost(killed)) == (2.5, 4.0), "what was on its way when killed may have been charged"
        with killed.reading() as session:
            assert session.scalar(select(func.count()).select_from(ImageRow)) == 10
        assert len(list((killed.folder / "images").rglob("*.png"))) == 10


@pytest.fixture
def server() -> Iterator[ImagesServer]:
    with images_server() as running:
        yield running


def shell(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["dataset", "generate", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def toml(tmp_path: Path, server: ImagesServer, extra: str = "", base_url: str = "") -> Path:
    file = tmp_path / "painter.toml"
    part = f'base_url = "{base_url or server.url}"\nmodel = "p"\nfirst_wait = 0.001\n'
    file.write_text(f'name = "painter"\n[endpoint]\n{part}{extra}\n')
    return file


def test_the_command_makes_images_says_what_is_missing_and_names_the_next_step(
    sqlite_store: Store, tmp_path: Path, server: ImagesServer
) -> None:
    prompts(sqlite_store, "a cup", "refused", "once 429", "empty")
    file, data = toml(tmp_path, server, "send_seed = true"), sqlite_store.folder
    assert shell(data, file, "--dry-run").startswith("painter: 4 images to make, price not known (price_per_image")
    assert not server.requests
    output = shell(data, file, code=3)
    assert "painter: 2 images made, 1 refused, 1 failed\n" in output
    assert "answered 400: Your request was rejected by our safety system.  <- 1" in output
    assert "The same command goes on with what is left." in output
    assert output.endswith(f"Next: anomreason dataset filter {data}\n")
    report = json.loads(shell(data, file, "--seeds", "0,5", "--limit", "1", "--json"))
    assert report["generators"][0].items() >= {"images": 2, "before": 1, "done": 1, "left": 0, "cost": None}.items()


def test_money_is_asked_for_before_it_is_spent(sqlite_store: Store, tmp_path: Path, server: ImagesServer) -> None:
    prompts(sqlite_store, *TEN)
    data = sqlite_store.folder
    runner = CliRunner()
    remote = toml(tmp_path, server, base_url="https://painter.example/v1")
    with pytest.raises(UsageError, match=r"their price is not known\) and there is no terminal to ask at: add --yes"):
        runner.invoke(app, ["dataset", "generate", str(data), str(remote)], catch_exceptions=False)
    dear = toml(tmp_path, server, "price_per_image = 0.25")
    assert shell(data, dear, "--dry-run") == "painter: 10 images to make, $2.50 at $0.25 each\n"
    with pytest.raises(UsageError, match=r"expected to cost more than \$1"):
        runner.invoke(app, ["dataset", "generate", str(data), str(dear)], catch_exceptions=False)
    assert not server.requests
    output = shell(data, dear, "--yes", "--max-cost", "1.5", code=4)
    assert "painter: 6 images made, 4 left, $1.50, stopped at the limit on the cost\n" in output
    assert "The same command with a higher --max-cost goes on" in output
    assert len(server.requests) == 6


def test_a_pipeline_of_diffusers_fills_a_dataset(sqlite_store: Store, tmp_path: Path, tiny_flux: Path) -> None:
    prompts(sqlite_store, "a cup", "a dog")
    file = tmp_path / "tiny.toml"
    file.write_text(
        f'name = "tiny"\nwidth = 16\nheight = 16\n[diffusers]\nmodel = "{tiny_flux}"\nsteps = 2\nbatch = 2\n'
        'device = "cpu"\n[settings]\nmax_sequence_length = 32\n'
    )
    output = shell(sqlite_store.folder, file, "--seeds", "0,1")
    assert output.startswith("tiny: 4 images made\n")
    with sqlite_store.reading() as session:
        images = session.scalars(select(ImageRow)).all()
    assert len({image.sha256 for image in images}) == 4
    assert all(image.settings and image.settings["made_by"]["device"] == "cpu" for image in images)
