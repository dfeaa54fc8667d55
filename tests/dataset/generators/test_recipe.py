"""Recipes of generators: those that ship are whole, and a wrong setting is named."""

import inspect
from pathlib import Path

import pytest

from anomreason.dataset.generators.recipe import GeneratorRecipe, known_generators, read_generator
from anomreason.errors import UsageError
from anomreason.metrics.published import published

ENDPOINT = 'name = "x"\n[endpoint]\nbase_url = "http://127.0.0.1:1/v1"\nmodel = "m"\n'
DIFFUSERS = 'name = "x"\n[diffusers]\nmodel = "folder"\n'


CLASSES = {
    "bria-3.2": "BriaPipeline",
    "flux.1-dev": "FluxPipeline",
    "hidream-i1-dev": "HiDreamImagePipeline",
    "hidream-i1-fast": "HiDreamImagePipeline",
    "hunyuanimage-2.1": "HunyuanImagePipeline",
    "lumina-image-2.0": "Lumina2Pipeline",
    "qwen-image": "QwenImagePipeline",
    "sana-1.5": "SanaPipeline",
    "sana-sprint-1.6b": "SanaSprintPipeline",
    "sdxl-lightning": "StableDiffusionXLPipeline",
    "stable-diffusion-3.5-large": "StableDiffusion3Pipeline",
    "stable-diffusion-3.5-large-turbo": "StableDiffusion3Pipeline",
}
"""What `model_index.json` of each pipeline names."""
TABLE_3 = {
    "Sana 1.5": "sana-1.5",
    "SDXL Lightning": "sdxl-lightning",
    "Sana Sprint 1.6B": "sana-sprint-1.6b",
    "Qwen-Image": "qwen-image",
    "HiDream-1-Fast": "hidream-i1-fast",
    "SDv3.5 Large": "stable-diffusion-3.5-large",
    "Janus Pro 7B": "janus-pro-7b",
    "Janus Pro 1B": "janus-pro-1b",
    "FLUX.1 [dev]": "flux.1-dev",
    "BRIA-3.2": "bria-3.2",
    "SDv3.5 Large Turbo": "stable-diffusion-3.5-large-turbo",
    "Lumina Image V2": "lumina-image-2.0",
    "HiDream-1-Dev": "hidream-i1-dev",
    "OmniGen V2": "omnigen2",
    "HunyuanImage-2.1": "hunyuanimage-2.1",
}
"""Recipes of the generators that the paper compares, by their names there."""


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


def test_each_generator_of_the_papers_table_3_has_a_recipe() -> None:
    assert set(TABLE_3) == {figure.model for figure in published(table=3)}
    assert set(TABLE_3.values()) <= set(known_generators())
    assert len(set(TABLE_3.values())) == 15


@pytest.mark.parametrize("name", [name for name in known_generators() if read_generator(name).diffusers])
def test_the_pipeline_of_a_recipe_takes_its_settings(name: str) -> None:
    """Checked against the class of diffusers; the weights are not at hand."""
    diffusers = pytest.importorskip("diffusers")
    found = read_generator(name)
    assert found.diffusers is not None
    kind = getattr(diffusers, CLASSES[name])
    takes = inspect.signature(kind.__call__).parameters
    part, size = found.diffusers, found.width is not None
    given = {"num_inference_steps": part.steps, "guidance_scale": part.guidance, "width": size or None}
    asked = {key for key, value in given.items() if value is not None} | found.settings.keys()
    asked |= {"negative_prompt"} if part.negative_prompt is not None else set()
    assert asked <= takes.keys()
    assert set(part.parts) | set(part.weights) <= inspect.signature(kind.__init__).parameters.keys()
    if part.scheduler is not None:
        takes = inspect.signature(getattr(diffusers, part.scheduler).__init__).parameters
        assert part.scheduler_settings.keys() <= takes.keys()


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
    with pytest.raises(UsageError, match=r"there is no generator 'flux'; give a .toml file or one of bria-3.2, flux"):
        read_generator("flux")


def test_only_what_shows_in_the_images_makes_another_generator(tmp_path: Path) -> None:
    first = recipe(tmp_path, f"{DIFFUSERS}steps = 4")
    same = recipe(tmp_path, f'about = "quick"\n{DIFFUSERS}steps = 4\nbatch = 8\ndevice = "cuda:1"\noffload = "model"')
    other = recipe(tmp_path, f"{DIFFUSERS}steps = 5")
    assert first.deciding() == same.deciding() != other.deciding()
    server = recipe(tmp_path, f"{ENDPOINT}timeout = 9\nprice_per_image = 0.04")
    moved = recipe(tmp_path, ENDPOINT.replace("127.0.0.1:1", "example.org"))
    assert server.deciding() == moved.deciding()
