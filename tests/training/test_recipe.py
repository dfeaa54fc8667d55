"""Facts about recipes: what the package carries, and the message for a wrong one."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from anomreason.errors import UsageError
from anomreason.training.recipe import read_recipe

SHIPPED = ["anomreasonor-3b", "anomreasonor-7b", "anomreasonor-7b-deepfake", "full-tiny", "qlora-24gb", "tiny-lora"]


def test_the_package_carries_its_recipes_each_saying_what_it_is() -> None:
    folder = files("anomreason.training") / "recipes"
    assert sorted(file.name.removesuffix(".toml") for file in folder.iterdir()) == SHIPPED
    assert all(len(read_recipe(name).about) > 20 for name in SHIPPED)


def test_the_papers_recipe_is_what_the_paper_says() -> None:
    recipe = read_recipe("anomreasonor-7b")
    assert recipe.model.base == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert (recipe.model.min_pixels, recipe.model.max_pixels) == (50_176, 614_656)
    assert recipe.lora is not None
    assert recipe.lora.modules == ("q_proj", "k_proj", "v_proj")
    assert (recipe.lora.every, recipe.lora.rank, recipe.lora.alpha, recipe.lora.dropout) == (4, 8, 16, 0.5)
    assert (recipe.batch.per_device, recipe.batch.accumulation, recipe.batch.devices) == (4, 8, 4)
    assert recipe.effective_batch == 128
    assert recipe.steps.epochs == 1


def test_the_deepfake_recipe_differs_in_dropout_and_task_alone() -> None:
    one, other = read_recipe("anomreasonor-7b"), read_recipe("anomreasonor-7b-deepfake")
    assert one.lora is not None
    assert other.lora is not None
    assert other.lora.dropout == 0.9
    assert other.data.task == "authenticity"
    same = {"about": "", "data": one.data, "lora": one.lora}
    assert other.model_copy(update=same) == one.model_copy(update=same)


def test_a_file_is_read_and_its_name_does_not_hide_the_packages_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.toml").write_text('seed = 7\n[model]\nbase = "x"\n[full]\nvision = true\n', encoding="utf-8")
    assert read_recipe(tmp_path / "mine.toml").seed == 7
    (tmp_path / "tiny-lora").mkdir()
    monkeypatch.chdir(tmp_path)
    assert read_recipe("tiny-lora").lora is not None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[model]\nbase = "x"\n[lora]\nrnak = 8', "unknown setting 'lora.rnak'; did you mean 'lora.rank'?"),
        ('[model]\nbase = "x"\n[zzz]\nq = 8', "unknown setting 'zzz'; known settings: about, model.base,"),
        ('[model]\nbase = "x"\n[lora]\nrank = 0', "lora.rank: input should be greater than or equal to 1 (it is 0)"),
        ('[model]\nbase = "x"\n[lora]\ndropout = 1.0', "lora.dropout: input should be less than 1 (it is 1.0)"),
        ("[lora]\nrank = 8", "'model' is missing; add it"),
        ('[model]\nbase = "x"', "give one of the sections [lora] and [full]"),
        ('[model]\nbase = "x"\n[lora]\n[full]', "give one of the sections [lora] and [full]"),
        ('[model]\nbase = "x"\nfour_bit = true\n[full]', "model.four_bit freezes the weights"),
        ('[model]\nbase = "x"\nmin_pixels = 900\nmax_pixels = 800\n[lora]', "min_pixels 900 is larger than max_pixels"),
        ('[model]\nbase = "x"\n[lora]\nmodules = "q_proj"', "lora.modules: input should be a valid tuple"),
        ("[model\n", "is not valid TOML"),
        ("\udcff", "is not valid TOML"),
    ],
)
def test_a_wrong_setting_is_named_with_file_and_key(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(UsageError) as caught:
        read_recipe(file)
    assert str(file) in str(caught.value)
    assert told in str(caught.value)


def test_an_unknown_recipe_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no recipe 'anomreasonor-8b'; .*anomreasonor-7b, "):
        read_recipe("anomreasonor-8b")
    with pytest.raises(UsageError, match="cannot be read"):
        read_recipe(tmp_path / "none.toml")
