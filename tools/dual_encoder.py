"""Makes the small dual encoder of the tests: a CLIP model of one megabyte that knows synthetic scenes and no more.

No weights of CLIP are at hand where the tests run, and what filters by embeddings do is only seen with an encoder that
puts an image and its caption side by side. This one is trained from scratch on scenes of the world `sprites` with the
captions that their truth gives. Two losses: CLIP's own over images and captions, and one over the image's patches, each
of which should lie by the name of what covers it; scenes tell that for nothing, and it teaches far more a step.

The first training gave, over 512 scenes that it was not trained on: the right caption first among 32 for 93 % of the
images, the right image for 93 % of the captions, the right caption among those of the same place for 61 %, and the own
caption above one of another scene for 99 %. One object's name alone ranks first among 32 for about half of the images:
it can tell whole scenes, and not what a single small object is, how many there are or how they stand to one another.

    python -m tools.dual_encoder tests/data/dual_encoder          # minutes on two cores
    python -m tools.dual_encoder tests/data/dual_encoder --check  # only measures
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomreason.dataset.filter.embeddings import DualEncoder
from anomreason.english import with_article
from anomreason.scenes.make import open_world
from anomreason.scenes.sprites.table import PLACES, table

SIDE, PATCH = 64, 8
DRAWN = 128
"""Edge at which a scene is drawn before it is scaled, as the processor scales other images."""
SCENES, HELD_OUT_FROM = 6_000, 50_000_000
"""Scenes to train on, by their seeds; first seed of those to measure on."""
EPOCHS, BATCH = 15, 128
LEARNING_RATE, WARM_UP = 2e-3, 50
CANDIDATES = 32
"""Captions that the right one stands among when recall is measured."""
COVERED = 0.2
"""Share of a patch that an object must cover to be its label."""
SHIFT = 4
"""Pixels by which training images are moved at most."""
START, END = "<|startoftext|>", "<|endoftext|>"


@dataclass(frozen=True)
class Sample:
    """One scene as the encoder sees it."""

    image: Image.Image
    names: tuple[str, ...]
    """Of its objects."""
    place: str
    owners: NDArray[np.uint8]
    """(DRAWN, DRAWN): 0 for background, else 1 + the index into names."""


@cache
def plurals() -> frozenset[str]:
    return frozenset(thing.name for thing in table().things if thing.plural)


def noun(name: str) -> str:
    """An object's name with its article."""
    return with_article(name, name in plurals())


def listed(phrases: Sequence[str]) -> str:
    """`a cat, a dog and a tree`."""
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def caption(names: Sequence[str], place: str, rng: random.Random | None = None) -> str:
    """What the scene shows, e.g. `a cat and a table in the kitchen`; rng: one of many ways to say it."""
    nouns = [noun(name) for name in dict.fromkeys(names)] or ["nothing"]
    where = PLACES[place].phrase
    if rng is None:
        return f"{listed(nouns)} {where}"
    rng.shuffle(nouns)
    if len(nouns) > 2 and rng.random() < 0.3:
        nouns.pop()
    form = rng.choice(("{things} {where}", "a picture of {things} {where}", "{where}: {things}", "{things}"))
    return form.format(things=listed(nouns), where=where)


def draw(seed: int) -> Sample:
    """The clean scene of a seed."""
    scene = open_world("sprites").draw(seed, size=DRAWN)
    return Sample(scene.image, tuple(o.name for o in scene.objects), scene.place, scene.owners)


def _packed(seed: int) -> tuple[bytes, tuple[str, ...], str, bytes]:
    """A sample, small, for another process."""
    sample = draw(seed)
    small = sample.image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    step = DRAWN // SIDE
    return small.tobytes(), sample.names, sample.place, sample.owners[::step, ::step].tobytes()


def words() -> list[str]:
    """What a patch can lie by: every object, then every place."""
    return [noun(thing.name) for thing in table().things] + [place.phrase for place in PLACES.values()]


def make_tokenizer(texts: Sequence[str]) -> Any:
    """CLIP's tokenizer with a vocabulary of the texts; letters that it never saw are spelt, not lost."""
    from tokenizers import pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = [START, END, *alphabet, *(letter + "</w>" for letter in alphabet)]
    backend = CLIPTokenizer(vocab={token: n for n, token in enumerate(letters)}, merges=[]).backend_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=[START, END],
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    merges = [tuple(merge) for merge in json.loads(backend.to_str())["model"]["merges"]]
    vocabulary = list(dict.fromkeys([*letters, *(a + b for a, b in merges)]))
    return CLIPTokenizer(vocab={token: n for n, token in enumerate(vocabulary)}, merges=merges)


def make_model(vocabulary: int) -> Any:
    """A CLIP model with random weights."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    towers = {"hidden_size": 96, "intermediate_size": 256, "num_attention_heads": 3, "projection_dim": 96}
    vision = {"image_size": SIDE, "patch_size": PATCH, "num_hidden_layers": 3}
    text = {"vocab_size": vocabulary, "max_position_embeddings": 64, "num_hidden_layers": 1}
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    return CLIPModel(CLIPConfig(vision_config=towers | vision, text_config=towers | text | ids, projection_dim=96))


def make_processor(tokenizer: Any) -> Any:
    from transformers import CLIPImageProcessorPil, CLIPProcessor

    size = {"shortest_edge": SIDE}
    return CLIPProcessor(CLIPImageProcessorPil(size=size, crop_size={"height": SIDE, "width": SIDE}), tokenizer)


def train(scenes: int, epochs: int) -> tuple[Any, Any]:
    """A trained model and its processor."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(1)  # products this small lose more by waiting for each other than they gain
    rng, began = random.Random(0), time.monotonic()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        packed = pool.map(_packed, range(scenes), chunksize=50)
    print(f"{scenes:,} scenes drawn, {time.monotonic() - began:.0f} s", flush=True)
    vocabulary = words()
    tokenizer = make_tokenizer(
        [*vocabulary, *(caption(names, place, rng) for _, names, place, _ in packed for _ in range(2))]
    )
    model, processor = make_model(len(tokenizer)), make_processor(tokenizer)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens")
    shape = (scenes, SIDE, SIDE)
    images = torch.frombuffer(bytearray(b"".join(p[0] for p in packed)), dtype=torch.uint8).view(*shape, 3)
    owners = torch.frombuffer(bytearray(b"".join(p[3] for p in packed)), dtype=torch.uint8).view(*shape)
    index = {word: n for n, word in enumerate(vocabulary)}
    most = max(len(p[1]) for p in packed)
    labels = torch.full((scenes, most + 1), -100)  # (scenes, 1 + objects): the place, then each object
    for n, (_, names, place, _) in enumerate(packed):
        known = [index[PLACES[place].phrase], *(index[noun(name)] for name in names)]
        labels[n, : len(known)] = torch.tensor(known)
    mean, std = (torch.tensor(getattr(processor.image_processor, key)) for key in ("image_mean", "image_std"))
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, LEARNING_RATE, betas=(0.9, 0.98))
    steps = epochs * (scenes // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share(step, steps))
    generator = torch.Generator().manual_seed(0)
    model.train()
    for step in range(steps):
        if step % (scenes // BATCH) == 0:
            order = torch.randperm(scenes, generator=generator)
        batch = order[(step % (scenes // BATCH)) * BATCH :][:BATCH]
        pixels, maps = _moved(images[batch], owners[batch], rng)
        pixels = ((pixels / 255 * rng.uniform(0.85, 1.15)).clamp(0, 1) - mean) / std
        texts = tokenizer(
            [caption(packed[n][1], packed[n][2], rng) for n in batch.tolist()], padding=True, return_tensors="pt"
        )
        seen = model.vision_model(pixel_values=pixels.permute(0, 3, 1, 2))
        image = functional.normalize(model.visual_projection(seen.pooler_output), dim=-1)
        patches = model.visual_projection(model.vision_model.post_layernorm(seen.last_hidden_state[:, 1:]))
        text = functional.normalize(model.get_text_features(**texts).pooler_output, dim=-1)
        shown, places = labels[batch].gather(1, _covering(maps)).unique(return_inverse=True)
        named = tokenizer([vocabulary[n] for n in shown.tolist()], padding=True, return_tensors="pt")
        name = functional.normalize(model.get_text_features(**named).pooler_output, dim=-1)
        scale = model.logit_scale.exp().clamp(max=100)
        alike, target = scale * image @ text.T, torch.arange(len(batch))
        whole = (functional.cross_entropy(alike, target) + functional.cross_entropy(alike.T, target)) / 2
        near = scale * functional.normalize(patches, dim=-1) @ name.T
        dense = functional.cross_entropy(near.flatten(0, 1), places.flatten())
        optimizer.zero_grad()
        (whole + dense).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 25 == 0 or step == steps - 1:
            seconds = time.monotonic() - began
            print(
                f"step {step}/{steps}: captions {whole.item():.3f}, patches {dense.item():.3f}, {seconds:.0f} s",
                flush=True,
            )
    return model.eval(), processor


def _share(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / WARM_UP) * (0.02 + 0.98 * (1 + math.cos(math.pi * step / steps)) / 2)


def _moved(images: Any, owners: Any, rng: random.Random) -> tuple[Any, Any]:
    """The batch, moved by some pixels and mirrored or not; edges are repeated."""
    from torch.nn import functional

    x, y = rng.randint(-SHIFT, SHIFT), rng.randint(-SHIFT, SHIFT)
    both = functional.pad(images.permute(0, 3, 1, 2).float(), [SHIFT] * 4, mode="replicate").permute(0, 2, 3, 1)
    maps = functional.pad(owners[:, None].float(), [SHIFT] * 4, mode="replicate")[:, 0].long()
    rows, columns = slice(SHIFT + y, SHIFT + y + SIDE), slice(SHIFT + x, SHIFT + x + SIDE)
    both, maps = both[:, rows, columns], maps[:, rows, columns]
    return (both.flip(2), maps.flip(2)) if rng.random() < 0.5 else (both, maps)


def _covering(maps: Any) -> Any:
    """(n, patches): the owner with the largest part of each patch; 0 where no object covers COVERED of it."""
    import torch

    n, count = len(maps), SIDE // PATCH
    cut = maps.view(n, count, PATCH, count, PATCH).transpose(2, 3).reshape(n, count * count, PATCH * PATCH)
    shares = torch.nn.functional.one_hot(cut, int(maps.max()) + 1).float().mean(2)
    shares[..., 0] = COVERED
    return shares.argmax(-1)


def save(model: Any, processor: Any, folder: Path) -> None:
    """In half precision, as a folder that `from_pretrained` opens."""
    folder.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(folder)
    processor.save_pretrained(folder)


@dataclass(frozen=True)
class Recall:
    """How often the right one ranks first among CANDIDATES, as shares of the scenes."""

    caption: float
    """The image's own caption among those of other scenes."""
    image: float
    """The caption's own image among other scenes."""
    same_place: float
    """The own caption among captions of the same place, where only objects tell them apart."""
    swapped: float
    """The own caption against one other, both of any place: what telling a wrong prompt from the right one comes to."""


def recall(folder: Path, scenes: int, first: int = HELD_OUT_FROM) -> Recall:
    """Measured over so many scenes that were not trained on, with the encoder as `dataset filter` opens it."""
    samples = [draw(seed) for seed in range(first, first + scenes)]
    texts = [caption(sample.names, sample.place) for sample in samples]
    encoder, rng = DualEncoder(str(folder)), random.Random(0)
    alike = encoder.images([sample.image for sample in samples]) @ encoder.texts(texts).T  # (images, texts)
    found: dict[str, list[bool]] = {field.name: [] for field in fields(Recall)}
    for n, sample in enumerate(samples):
        others = [k for k in range(scenes) if texts[k] != texts[n]]
        chosen = rng.sample(others, CANDIDATES - 1)
        near = [k for k in others if samples[k].place == sample.place][: CANDIDATES - 1]
        found["caption"].append(bool(alike[n, n] > alike[n, chosen].max()))
        found["image"].append(bool(alike[n, n] > alike[chosen, n].max()))
        found["same_place"] += [bool(alike[n, n] > alike[n, near].max())] if near else []
        found["swapped"].append(bool(alike[n, n] > alike[n, chosen[0]]))
    return Recall(**{name: sum(hits) / len(hits) for name, hits in found.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true", help="only measure what is there")
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args()
    if not options.check:
        save(*train(options.scenes, options.epochs), options.folder)
    size = sum(file.stat().st_size for file in options.folder.iterdir())
    print(f"{size / 1e6:.2f} MB; over 512 scenes that it was not trained on: {recall(options.folder, 512)}")


if __name__ == "__main__":
    main()
