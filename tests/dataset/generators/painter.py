"""A generator for tests: draws what only prompt and seed decide, and behaves as the prompt asks."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import ClassVar

from pydantic import JsonValue
from tests.dataset.generators.images_server import drawn

from anomreason.dataset.generators.protocol import Generated, ImageRequest, generated
from anomreason.dataset.generators.recipe import GeneratorRecipe


class Painter:
    """Implements `ImageGenerator`."""

    made_by: ClassVar[dict[str, JsonValue]] = {"program": "painter"}

    def __init__(self, batch: int = 1, before: Callable[[int], None] = lambda made: None, style: str = "") -> None:
        """before: called before each batch, with the number of requests so far. style: changes every image."""
        self.batch, self.before, self.style = batch, before, style
        self.asked: list[ImageRequest] = []
        self.sizes: list[int] = []
        self.closed = False

    def generate(self, batches: Iterable[Sequence[ImageRequest]]) -> Generator[Sequence[Generated], None, None]:
        for batch in batches:
            self.before(len(self.asked))
            self.asked += batch
            self.sizes.append(len(batch))
            yield [self._result(request) for request in batch]

    def _result(self, request: ImageRequest) -> Generated:
        word = request.prompt.partition(" ")[0]
        if word == "refused":
            return Generated(request, "refused", "the filter said no", seconds=0.5)
        if word == "blank":
            return generated(request, drawn("blank").resize((1, 1)).resize((8, 8)))
        if word in ("failed", "hopeless"):
            return Generated(request, "failed", "no luck", charged=word == "failed", stop=word == "hopeless")
        seed = 0 if word == "seedless" else request.seed
        text = "placeholder" if word == "placeholder" else f"{self.style} {request.prompt} {seed}"
        made = generated(request, drawn(text))
        return Generated(request, made.status, image=made.image, seconds=2.0, charged=True, notes={"mood": "calm"})

    def close(self) -> None:
        self.closed = True


def painter_recipe(name: str = "painter", price: float | None = None, **more: object) -> GeneratorRecipe:
    """A recipe for it; where it leads is never opened."""
    endpoint = {"base_url": "https://painter.example/v1", "model": "p", "price_per_image": price}
    return GeneratorRecipe.model_validate({"name": name, "endpoint": endpoint, **more})
