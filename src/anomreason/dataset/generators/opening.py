"""Opens the generator that a recipe describes.

generator = open_generator(read_generator("flux.1-dev"))
"""

from __future__ import annotations

from anomreason.dataset.generators.protocol import ImageGenerator
from anomreason.dataset.generators.recipe import GeneratorRecipe


def open_generator(recipe: GeneratorRecipe) -> ImageGenerator:
    """Load the pipeline, or check address and key of the endpoint.

    Raises UsageError for what cannot be opened, MissingExtra where diffusers is not installed.
    """
    if recipe.endpoint is not None:
        from anomreason.dataset.generators.endpoint import EndpointGenerator

        return EndpointGenerator(recipe)
    from anomreason.dataset.generators.diffusion import DiffusionGenerator

    return DiffusionGenerator(recipe)
