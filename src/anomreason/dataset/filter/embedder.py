"""Embeds the images of a pool and their prompts, and compares them.

embedder.ensure_images("openai/clip-vit-large-patch14", looked)
embedder.alignment("openai/clip-vit-large-patch14", looked)  # cosine of each image and its prompt
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from sqlalchemy import select

from anomreason.dataset.filter.embeddings import (
    BATCH,
    PART,
    DualEncoder,
    EmbeddingFolder,
    Vectors,
    ensure_texts,
    text_key,
)
from anomreason.dataset.filter.measuring import (
    CollectedFile,
    Failures,
    ImageMeasurer,
    ImageTask,
    RuleFailure,
    open_image,
)
from anomreason.dataset.filter.pixels import Floats
from anomreason.dataset.filter.pool import Ints, Mask, batches
from anomreason.dataset.tables import PromptRow

FOLDER = "embeddings"
"""In the dataset's folder."""


def embed_images(encoder: DualEncoder, threads: int, files: Sequence[CollectedFile]) -> list[Vectors | RuleFailure]:
    """The embeddings of images, (dim,) each."""
    with ThreadPoolExecutor(threads) as pool:
        opened = list(pool.map(lambda file: open_image(file.path, file.sha256), files))
    good = [image for image in opened if not isinstance(image, RuleFailure)]
    vectors = iter(encoder.images(good) if good else ())
    return [image if isinstance(image, RuleFailure) else next(vectors) for image in opened]


class ImageEmbedder:
    """The embeddings of a pool's images and prompts, by any number of models."""

    def __init__(self, measurer: ImageMeasurer, device: str | None) -> None:
        self.measurer, self.pool, self._device = measurer, measurer.pool, device
        self._models: dict[str, tuple[DualEncoder, EmbeddingFolder, EmbeddingFolder]] = {}
        self._failures: dict[str, Failures] = {}

    def open(self, spec: str) -> tuple[DualEncoder, EmbeddingFolder, EmbeddingFolder]:
        """The model, and its embeddings of images and of texts. Raises UsageError, MissingExtra."""
        if spec not in self._models:
            encoder = DualEncoder(spec, self._device)
            folder = self.measurer.store.folder / FOLDER / encoder.name
            self._models[spec] = encoder, EmbeddingFolder(folder, "images"), EmbeddingFolder(folder, "texts")
        return self._models[spec]

    def ensure_images(self, spec: str, looked: Mask) -> Failures:
        """Embed those of `looked` that have no embedding yet; gives those that could not be opened."""
        encoder, folder, _ = self.open(spec)
        failures = self._failures.setdefault(spec, {})
        wanted = (p for p in np.flatnonzero(looked).tolist() if p not in failures and self.pool.key(p) not in folder)
        left = np.fromiter(wanted, np.int64)
        keys: list[str] = []
        vectors: list[Vectors] = []
        task: ImageTask[Vectors] = partial(embed_images, encoder)
        for embedded in self.measurer.results(task, left, failures, BATCH):
            keys += [file.sha256 for file, _ in embedded]
            vectors += [vector for _, vector in embedded]
            if len(keys) >= PART:
                folder.add(keys, np.stack(vectors))
                keys, vectors = [], []
        if keys:
            folder.add(keys, np.stack(vectors))
        return failures

    def alignment(self, spec: str, looked: Mask) -> Floats:
        """(n,) Cosine of image and prompt; NaN without prompt or embedding."""
        self._ensure_prompts(spec, looked)
        _, images, texts = self.open(spec)
        score = np.full(len(self.pool), np.nan)
        for batch in batches(np.flatnonzero(looked & (self.pool.prompt > 0))):
            wanted = self.pool.prompt[batch].tolist()
            with self.measurer.store.reading() as session:
                query = select(PromptRow.id, PromptRow.sha256).where(PromptRow.id.in_(set(wanted)))
                keys = dict(session.execute(query).all())
            prompts = texts.get([keys[one] for one in wanted])
            score[batch] = (images.get([self.pool.key(p) for p in batch]) * prompts).sum(1)
        return score

    def contrast(self, spec: str, good: Sequence[str], other: Sequence[str], looked: Mask) -> Floats:
        """(n,) Cosine with the best of the good texts minus that with the best of the others; NaN without embedding."""
        encoder, images, texts = self.open(spec)
        ensure_texts(encoder, texts, [*good, *other])
        for_it, against = (texts.get([text_key(one) for one in some]) for some in (good, other))
        score = np.full(len(self.pool), np.nan)
        for batch in batches(np.flatnonzero(looked)):
            vectors = images.get([self.pool.key(p) for p in batch])
            if vectors.shape[1] == for_it.shape[1]:
                score[batch] = (vectors @ for_it.T).max(1) - (vectors @ against.T).max(1)
        return score

    def all_images(self, spec: str) -> tuple[Ints, Vectors]:
        """Places of all images with an embedding, and the embeddings."""
        _, folder, _ = self.open(spec)
        places = np.fromiter((p for p in range(len(self.pool)) if self.pool.key(p) in folder), np.int64)
        parts = [folder.get([self.pool.key(p) for p in batch]) for batch in batches(places)]
        return places, np.concatenate(parts) if parts else np.empty((0, 1), np.float32)

    def _ensure_prompts(self, spec: str, looked: Mask) -> None:
        encoder, _, texts = self.open(spec)
        for batch in batches(np.unique(self.pool.prompt[looked & (self.pool.prompt > 0)]), PART):
            with self.measurer.store.reading() as session:
                wanted = PromptRow.id.in_(batch.tolist())
                keys = session.execute(select(PromptRow.id, PromptRow.sha256).where(wanted)).all()
                missing = [id for id, key in keys if key not in texts]
                prompts = session.scalars(select(PromptRow.text).where(PromptRow.id.in_(missing))).all()
            ensure_texts(encoder, texts, prompts)
