"""Real pipelines of diffusers, tiny and random: what their images depend on, and what cannot be loaded."""

import shutil
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.dataset.generators.tiny_pipelines import make_tiny_hidream

from anomreason.dataset.generators.diffusion import DiffusionGenerator, load_pipeline
from anomreason.dataset.generators.protocol import Generated, ImageRequest
from anomreason.dataset.generators.recipe import GeneratorRecipe
from anomreason.errors import UsageError

CUP, DOG = "a cup on a table", "a dog in the rain"


def recipe(folder: Path, settings: dict[str, Any] | None = None, **part: object) -> GeneratorRecipe:
    diffusers = {"model": str(folder), "steps": 2, "guidance": 3.5, "device": "cpu", **part}
    settings = {"max_sequence_length": 32} if settings is None else settings
    return GeneratorRecipe.model_validate(
        {"name": "tiny", "width": 16, "height": 24, "diffusers": diffusers, "settings": settings}
    )


def made(generator: DiffusionGenerator, *requests: ImageRequest) -> list[Generated]:
    """The results of one batch."""
    return [one for results in generator.generate([requests]) for one in results]


def pixels(result: Generated) -> Any:
    assert result.image is not None, result.message
    with Image.open(BytesIO(result.image.data)) as image:
        assert (image.format, image.info) == ("PNG", {})
        return np.asarray(image).astype(int)


@pytest.fixture(scope="module", params=["tiny_sd3", "tiny_flux"])
def folder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


def test_the_same_seed_gives_the_same_bytes_and_another_seed_or_prompt_others(folder: Path) -> None:
    images = [
        made(DiffusionGenerator(recipe(folder)), ImageRequest(prompt, seed))[0].image
        for prompt, seed in ((CUP, 0), (CUP, 0), (CUP, 1), (DOG, 0))
    ]
    assert all(image is not None and (image.width, image.height) == (16, 24) for image in images)
    first, again, seed, prompt = (image.data for image in images if image is not None)
    assert first == again
    assert len({first, seed, prompt}) == 3


def test_the_size_of_a_batch_does_not_change_an_image(folder: Path) -> None:
    generator = DiffusionGenerator(recipe(folder, batch=3))
    requests = [ImageRequest(CUP, 0), ImageRequest(DOG, 7), ImageRequest(CUP, 1)]
    for alone, together in zip(requests, made(generator, *requests), strict=True):
        assert np.abs(pixels(made(generator, alone)[0]) - pixels(together)).max() <= 1, "rounding apart"


def test_an_image_names_what_it_was_made_by(tiny_flux: Path) -> None:
    made_by = DiffusionGenerator(recipe(tiny_flux)).made_by
    assert made_by.keys() == {"diffusers", "transformers", "torch", "device", "dtype"}
    assert (made_by["device"], made_by["dtype"]) == ("cpu", "float32")


def test_a_negative_prompt_reaches_the_pipeline(tiny_sd3: Path) -> None:
    plain, other = (
        made(DiffusionGenerator(recipe(tiny_sd3, **part)), ImageRequest(CUP, 0))[0]
        for part in ({}, {"negative_prompt": "blurry"})
    )
    assert np.abs(pixels(plain) - pixels(other)).max() > 0


def test_weights_and_scheduler_can_be_replaced(tiny_sd3: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(next((tiny_sd3 / "transformer").glob("*.safetensors")))
    save_file({name: value * 1.5 for name, value in weights.items()}, tmp_path / "other.safetensors")
    parts: list[dict[str, Any]] = [
        {},
        {"weights": {"transformer": str(tmp_path / "other.safetensors")}},
        {"scheduler_settings": {"shift": 9.0}},
        {"scheduler": "FlowMatchEulerDiscreteScheduler", "scheduler_settings": {"shift": 9.0}},
    ]
    plain, weighed, shifted, named = (
        pixels(made(DiffusionGenerator(recipe(tiny_sd3, **part)), ImageRequest(CUP, 0))[0]) for part in parts
    )
    assert np.abs(plain - weighed).max() > 0
    assert np.abs(plain - shifted).max() > 0
    assert np.array_equal(shifted, named)


def test_weights_for_another_part_are_an_error(tiny_sd3: Path) -> None:
    weights = str(next((tiny_sd3 / "vae").glob("*.safetensors")))
    with pytest.raises(UsageError, match=r"cannot be loaded \(Error\(s\) in loading state_dict"):
        DiffusionGenerator(recipe(tiny_sd3, weights={"transformer": weights}))


def test_a_text_encoder_that_the_folder_lacks_can_lie_elsewhere(tmp_path: Path) -> None:
    pipeline, llama = make_tiny_hidream(tmp_path)
    parts = {"text_encoder_4": str(llama), "tokenizer_4": str(llama)}
    part = recipe(pipeline, parts=parts).diffusers
    assert part is not None
    loaded = load_pipeline(part, "float32", "cpu")
    shown = loaded.encode_prompt(prompt_4=CUP, prompt=CUP, prompt_2=CUP, prompt_3=CUP, max_sequence_length=8)
    assert any(np.asarray(one.detach()).shape[-1] == 16 for one in shown if one is not None), "states of the Llama"


class FakePipeline:
    """Answers as a pipeline of diffusers may."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __call__(self, prompt: list[str], generator: list[Any], width: int, height: int) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def answered(answer: Any) -> list[Generated]:
    """The results of a batch of two whose pipeline gives or raises this."""
    plain = recipe(Path("fake"), settings={}, steps=None, guidance=None)
    generator = DiffusionGenerator(plain, lambda part, dtype, device: FakePipeline(answer))
    return made(generator, ImageRequest(CUP, 0), ImageRequest(DOG, 0))


def test_what_the_safety_checker_withholds_is_refused_and_a_black_image_is_blank() -> None:
    black = Image.new("RGB", (16, 16))
    flagged = SimpleNamespace(images=[black, black], nsfw_content_detected=[True, False])
    refused, blank = answered(flagged)
    assert (refused.status, refused.message) == ("refused", "the pipeline's safety checker withheld the image")
    assert (blank.status, blank.message) == ("blank", "the whole image is of one colour (0, 0, 0)")


def test_a_pipeline_that_fails_is_recorded_and_one_without_memory_is_an_error() -> None:
    import torch

    failed = answered(ValueError("the prompt is odd"))
    assert [(one.status, one.message) for one in failed] == [("failed", "ValueError: the prompt is odd")] * 2
    with pytest.raises(UsageError, match=r"the memory of cpu is too small for 'tiny': lower diffusers.batch"):
        answered(torch.OutOfMemoryError("out of memory"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {"max_sequence_lenght": 3}}, "a FluxPipeline takes no 'max_sequence_lenght'.*did you mean 'max_"),
        ({"settings": {"clip_skip": 1}}, "takes no 'clip_skip' \\(from settings.clip_skip\\)"),
        ({"offload": "model"}, 'diffusers.offload = "model" needs a GPU'),
        ({"device": "cuda:7"}, "the device 'cuda:7' cannot be used here"),
    ],
)
def test_a_setting_that_cannot_be_used_is_said_before_any_image(
    tiny_flux: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        DiffusionGenerator(recipe(tiny_flux, **change))


def test_a_pipeline_that_cannot_be_loaded_is_an_error_that_says_what_to_do(tiny_flux: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is no folder with a model_index.json; name the folder of a diffusers"):
        DiffusionGenerator(recipe(tmp_path))
    with pytest.raises(UsageError, match=r"'no/such/folder' is no folder with a model_index.json"):
        DiffusionGenerator(recipe(Path("no/such/folder")))
    broken = shutil.copytree(tiny_flux, tmp_path / "broken")
    weights = next((broken / "transformer").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UsageError, match=r"cannot be loaded \(.*\); check the name, the connection"):
        DiffusionGenerator(recipe(broken))
