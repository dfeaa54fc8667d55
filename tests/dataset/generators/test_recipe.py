"""Recipes of generators: those that ship are whole, and a wrong setting is named."""

from pathlib import Path

import pytest

from anomreason.dataset.generators.recipe import GeneratorRecipe, known_generators, read_generator
from anomreason.errors import UsageError

ENDPOINT = 'name = "x"\n[endpoint]\nbase_url = "http://127.0.0.1:1/v1"\nmodel = "m"\n'
DIFFUSERS = 'name = "x"\n[diffusers]\nmodel = "folder"\n'


def recipe(tmp_path: Path, text: str) -> GeneratorRecipe:
    file = tmp_path / "x.toml"
    file.write_text(text)
    return read_generator(file)


@pytest.mark.parametrize("name", known_generators())
def test_the_recipes_of_the_package_can_be_read_by_name_and_say_that_they_are_untried(name: str) -> None:
    found = read_generator(name)
    assert found.name == name
    assert found.terms is not None
    from importlib.resources import files

    text = (files("anomreason.dataset.generators") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    assert "https://" in text.partition("\n")[0], "its first line names the source of the settings"
    assert "\n# Untried: " in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "x"', r"give one of the sections \[diffusers\] and \[endpoint\]"),
        (ENDPOINT + '[diffusers]\nmodel = "folder"', r"give one of the sections \[diffusers\] and \[endpoint\]"),
        ('name = "a/b"\n[diffusers]\nmodel = "m"', "name: .*'a/b'"),
        (f"width = 512\n{ENDPOINT}", "give width and height, or neither"),
        (f'{DIFFUSERS}guidence = 3.5', "unknown setting 'diffusers.guidence'; did you mean 'diffusers.guidance'?"),
        (f"{DIFFUSERS}[settings]\nguidance_scale = 3.5", "settings.guidance_scale has a key of its own in the recipe"),
        (f'{DIFFUSERS}[settings]\nprompt = "a"', "settings.prompt is given by the program; remove it"),
        (f"{ENDPOINT}[settings]\nn = 4", "settings.n is given by the program; remove it"),
        (f"{ENDPOINT}price_per_image = -1", "endpoint.price_per_image: .*greater than or equal to 0"),
    ],
)  # fmt: skip
def test_a_recipe_that_cannot_be_used_is_an_error_that_names_the_setting(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        recipe(tmp_path, text)


def test_an_unknown_name_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"there is no generator 'flux'; give a .toml file or one of flux.1-dev, gpt"):
        read_generator("flux")


def test_only_what_shows_in_the_images_makes_another_generator(tmp_path: Path) -> None:
    first = recipe(tmp_path, f"{DIFFUSERS}steps = 4")
    same = recipe(tmp_path, f'about = "quick"\n{DIFFUSERS}steps = 4\nbatch = 8\ndevice = "cuda:1"\noffload = "model"')
    other = recipe(tmp_path, f"{DIFFUSERS}steps = 5")
    assert first.deciding() == same.deciding() != other.deciding()
    server = recipe(tmp_path, f"{ENDPOINT}timeout = 9\nprice_per_image = 0.04")
    moved = recipe(tmp_path, ENDPOINT.replace("127.0.0.1:1", "example.org"))
    assert server.deciding() == moved.deciding()
