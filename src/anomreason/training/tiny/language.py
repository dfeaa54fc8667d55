"""Second stage: a language model learns to say what the trained vision tower has seen. The tower rests.

Answers are in the ordinary text form, in one wording for each kind of violation. What the tower makes of a picture is
computed once and kept; the language model then reads it many times. Words of things begin as what the tower's head of
things learnt, so that to say a word is to pass on what is seen. The thing is said before what is wrong with it; no
combination of the two that is held out of training is ever denied, neither the thing where such an anomaly is told nor
the anomaly behind the thing. Things are exchanged for others, in what is seen and in what is said, so that what often
has a kind is not said for what rarely has it. Stops and resumes at any time.

    train_language(Path("language"), Path("base"), shards, LanguageSettings(steps=1500))
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from anomreason.anomaly import Anomaly
from anomreason.scenes.phrases import levels, plainest
from anomreason.scenes.scene import KINDS, Kind, Slots
from anomreason.scenes.sprites.table import SpriteThing, table
from anomreason.textform import write_anomalies
from anomreason.training.tiny.corpus import (
    Shard,
    colour_words,
    held_out,
    read_shard,
    thing_names,
    thing_words,
    usable,
    varying_words,
)
from anomreason.training.tiny.exchange import EXCHANGEABLE, Exchange, Said
from anomreason.training.tiny.model import TinyShape, make_tiny
from anomreason.training.tiny.tower import Tower, autocast, mean, patches_of, precision
from anomreason.vlm.card import DetectorCard

CARD = DetectorCard(prompt="What cannot be so in this scene?", out_of_domain="This is no scene that I know.")

SHIFTS = 0.15, 0.8
"""How much of what wrong things have more than sound ones is seen in an alarm. Of things that training never showed so
the tower shows that much."""


@dataclass(frozen=True)
class LanguageSettings:
    steps: int
    batch: int = 48
    rate: float = 2e-3
    warm_up: int = 100
    decay: float = 0.4
    seed: int = 0
    save_every: int = 250
    steps_a_shard: int = 60
    """Steps after each shard whose features are computed, until all are; those are drawn from all that are there."""
    shape: TinyShape = field(default_factory=TinyShape)
    kinds: tuple[Kind, ...] = ()
    """Pictures in which another kind stands are left out; empty: none is."""
    read: float = 0.0
    """Share of the batches that are texts alone, of every kind: words are known before their pictures are."""
    silence: float = 1.0
    """While the rate falls: what it costs to go on where nothing more is wrong, beside what any other wrong word costs.
    Below 1 it is sooner said that something is wrong. Until then 1."""
    exchanged: float = 0.0
    """Share of the answers in which a thing is exchanged for another one; see `exchange.py`."""
    alarmed: float = 0.0
    """Share of the clean scenes in which one thing is seen as wrong things are, and said to be so."""
    start: Path | None = None
    """The state.pt of another training, whose model is that to begin with."""


def answer_of(told: dict[str, Any]) -> str:
    """What the model is to say of one picture of a shard."""
    if told["answer"] is None:
        return str(CARD.out_of_domain)
    return write_anomalies(Anomaly(**one) for one in told["answer"])


def make_model(
    folder: Path, tower: Path, shards: Sequence[Path], shape: TinyShape, seed: int, words: Path | None = None
) -> Path:
    """An untrained model around the trained tower, with a tokenizer made from the answers of these shards.

    words: what the tower's head of things learnt; where the words for things begin.
    """
    import torch
    from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

    told = [one for path in shards for one in json.loads((path / "answers.json").read_text(encoding="utf-8"))]
    make_tiny(folder, [CARD.prompt, *map(answer_of, told)], CARD, shape, seed, varying_words())
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)
    model.model.visual.load_state_dict(torch.load(tower))
    if words:
        _meant(model, AutoTokenizer.from_pretrained(folder), torch.load(words))
    model.save_pretrained(folder)
    return folder


def _meant(model: Any, tokenizer: Any, words: Any) -> None:
    """Give the words for things the directions of the head of things, a little longer than words are else."""
    import torch

    vectors = model.get_input_embeddings().weight
    length = 2 * float(vectors.detach().norm(dim=1).mean())
    with torch.no_grad():
        for names, row in zip(thing_words(), words[1:], strict=True):
            for word in names:
                ids = tokenizer(word, add_special_tokens=False)["input_ids"]
                if len(ids) == 1:
                    vectors[ids[0]] = row / row.norm() * length


class Speech:
    """Model and tokenizer, with what is the same for all pictures."""

    def __init__(self, folder: Path, shape: TinyShape) -> None:
        import torch
        from PIL import Image
        from transformers import Qwen2_5_VLForConditionalGeneration

        from anomreason.vlm.local_processor import Reader

        reader = Reader(folder, CARD)
        said = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": CARD.prompt}]}]
        self.processor, self.prompt = reader.processor, reader._render(said)
        blank = Image.new("RGB", (shape.side, shape.side))
        made = self.processor(text=[self.prompt], images=[blank], return_tensors="pt")
        self.tokenizer = reader.tokenizer
        self.prefix = made["input_ids"][0]  # (prefix,)
        self.model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        self.tower = Tower(self.model.model.visual, shape.side)
        self.places = self.prefix == self.model.config.image_token_id
        self.end = self.tokenizer.convert_tokens_to_ids("<|im_end|>")
        self.pad = self.tokenizer.pad_token_id
        words = [*chain(*thing_words()), *colour_words()]
        self.words = {ids[0] for ids in map(self.ids, words) if len(ids) == 2}
        self.apart, self.never = self._held_out()
        self.exchange = Exchange(self.ids, self.words)
        self._positions = self._all_positions(made)

    def _held_out(self) -> tuple[Any, Any]:
        """What is not denied: (kinds, vocabulary), words for things that are held out with a kind; and (vocabulary,
        vocabulary), behind such words what the names of anomalies of the kind go on with."""
        import torch

        size = len(self.tokenizer)
        apart = torch.zeros(len(KINDS) + 1, size, dtype=torch.bool)
        never = torch.zeros(size, size, dtype=torch.bool)
        for thing, words in zip(table().things, thing_words(), strict=True):
            for kind in (kind for kind in KINDS if held_out(kind, thing.name)):
                for ids in map(self.ids, words):
                    apart[1 + KINDS.index(kind), ids[0]] = len(ids) == 2
                for level in levels(kind):
                    name = plainest(kind, level, Slots(thing.name, "there", "that", "so", thing.plural))[0]
                    first, second, *_ = self.ids(name)
                    never[first, second] = first in self.words
        return apart, never

    def _all_positions(self, made: Any, longest: int = 400) -> Any:
        """(3, prefix + longest): rotary positions of the prefix and of any answer behind it."""
        import torch

        grown = torch.cat([self.prefix, torch.full((longest,), self.pad)])[None]
        kinds = torch.cat([made["mm_token_type_ids"][0], torch.zeros(longest, dtype=torch.long)])[None]
        positions, _ = self.model.model.get_rope_index(
            grown, mm_token_type_ids=kinds, image_grid_thw=made["image_grid_thw"]
        )
        return positions[:, 0]

    def features(self, pictures: Any) -> Any:
        """(pictures, side, side, 3) bytes -> (pictures, tokens, width)."""
        import torch

        with autocast():
            return self.tower(torch.from_numpy(patches_of(pictures)).to(precision()))

    def said(self, told: dict[str, Any]) -> Said:
        """The answer for one picture of a shard."""
        ids = self.ids(answer_of(told))
        newline = self.tokenizer.convert_tokens_to_ids("Ċ")
        about, kind, last = list[int](), 0, 0
        for token in ids:
            kind += token == last == newline
            about.append(1 + KINDS.index(told["kinds"][kind]) if token in self.words else 0)
            last = token
        if told["answer"] is None:
            return Said(tuple(ids), tuple(about))
        return Said(tuple(ids), tuple(about), silent=len(ids) - 1 if told["answer"] else 0)

    def loss(self, features: Any, answers: Sequence[Said], silence: float = 1.0) -> Any:
        """Mean over the tokens of the answers; their ends are learnt too. silence: see LanguageSettings."""
        import torch
        import torch.nn.functional as F

        longest = max(len(answer.ids) for answer in answers)
        count, width = len(self.prefix), len(self.prefix) + longest
        ids = torch.full((len(answers), width), self.pad)
        goal = torch.full((len(answers), longest), -100)
        about, weight = torch.zeros_like(goal), torch.ones(goal.shape)
        for k, answer in enumerate(answers):
            ids[k, :count] = self.prefix
            ids[k, count : count + len(answer.ids)] = torch.tensor(answer.ids)
            goal[k, : len(answer.ids)] = torch.tensor(answer.ids)
            about[k, : len(answer.ids)] = torch.tensor(answer.about)
            if answer.silent is not None:
                weight[k, answer.silent] = silence
        core = self.model.model.language_model
        with autocast():
            shown = core.embed_tokens(ids).to(precision())
            where = torch.nn.functional.pad(self.places, (0, longest)).expand(len(answers), -1)
            shown = shown.masked_scatter(where[..., None], features.to(precision()))
            positions = self._positions[:, None, :width].expand(-1, len(answers), -1)
            hidden = core(inputs_embeds=shown, position_ids=positions, use_cache=False).last_hidden_state
            wanted = goal != -100
            logits = self.model.lm_head(hidden[:, count - 1 : width - 1][wanted])
        before = ids[:, count - 1 : width - 1][wanted]
        hidden = (self.apart[about[wanted]] | self.never[before]).scatter(1, goal[wanted][:, None], value=False)
        logits = logits.float().masked_fill(hidden, -1e4)
        lost = F.cross_entropy(logits, goal[wanted], reduction="none")
        return (lost * weight[wanted]).sum() / weight[wanted].sum()

    def alarm(self, thing: SpriteThing, kind: Kind) -> Said:
        """The beginning of an answer that tells of such an anomaly: of its name what is the same for every level."""
        slots = Slots(thing.name, "there", "that", "so", thing.plural)
        names = [plainest(kind, level, slots)[0] for level in levels(kind)]
        texts = [write_anomalies([Anomaly(name=n, phenomenon="-", reasoning="-", severity=0)]) for n in names]
        named = texts[0][: texts[0].index(names[0]) + len(names[0])]
        ids = list[int]()
        for same in zip(*map(self.ids, texts), strict=False):
            if len(set(same)) > 1 or not named.startswith(self.tokenizer.decode([*ids, same[0]])):
                break
            ids.append(same[0])
        return Said(tuple(ids), tuple((1 + KINDS.index(kind)) * (one in self.words) for one in ids))

    def ids(self, answer: str) -> list[int]:
        found: list[int] = self.tokenizer(answer, add_special_tokens=False)["input_ids"]
        return [*found, self.end]


class Spoken:
    """Features and answers of shards, computed as they are asked for and kept on the disk."""

    def __init__(
        self,
        speech: Speech,
        folder: Path,
        shards: Sequence[Path],
        kinds: Sequence[Kind],
        exchanged: float = 0.0,
        alarmed: float = 0.0,
    ) -> None:
        import torch

        self.speech, self.folder, self.left, self.kinds = speech, folder, list(shards), kinds
        self.exchanged, self.alarmed = exchanged, alarmed
        self.rows: list[tuple[Any, list[Said], Any]] = []
        self.texts: list[Said] = []
        most = 1 + len(thing_names())
        width = speech.model.config.text_config.hidden_size
        self._sums, self._counts = torch.zeros(most, width), torch.zeros(most, 1)
        self._wrong, self._wrongs = torch.zeros(len(KINDS) + 1, width), torch.zeros(len(KINDS) + 1, 1)
        folder.mkdir(parents=True, exist_ok=True)

    def more(self) -> bool:
        """Take in one shard more; False when none is left."""
        import torch

        if not self.left:
            return False
        path = self.left.pop(0)
        shard, kept = read_shard(path), self.folder / f"{path.name}.pt"
        fit = usable(shard, self.kinds)
        if not kept.exists():
            torch.save(self._features(shard, fit), kept.with_suffix(".part"))
            kept.with_suffix(".part").rename(kept)
        said = [self.speech.said(told) for told in shard.answers]
        features = torch.load(kept, mmap=True)
        things = torch.from_numpy(shard.things[fit].reshape(len(fit), -1)).long()
        self.rows.append((features, [said[k] for k in fit], things))
        self._sums.index_add_(0, things.flatten(), features.flatten(0, 1).float())
        self._counts += torch.bincount(things.flatten(), minlength=len(self._counts))[:, None]
        wrong = torch.from_numpy(shard.kinds[fit].reshape(len(fit), -1)).long()
        means = self._sums / self._counts.clamp(min=1)
        self._wrong.index_add_(0, wrong.flatten(), (features.float() - means[things]).flatten(0, 1))
        self._wrongs += torch.bincount(wrong.flatten(), minlength=len(self._wrongs))[:, None]
        self.texts += said
        return True

    def _features(self, shard: Shard, fit: Sequence[int]) -> Any:
        import torch

        with torch.no_grad():
            parts = [
                self.speech.features(shard.pictures[list(fit[k : k + 100])]).bfloat16() for k in range(0, len(fit), 100)
            ]
        return torch.cat(parts)

    def batch(self, rng: np.random.Generator, count: int) -> tuple[Any, list[Said]]:
        """Pictures of one shard with answers of similar length, so that little is padding."""
        import torch

        features, answers, things = self.rows[int(rng.integers(len(self.rows)))]
        pool = rng.choice(len(answers), size=count * 4, replace=False)
        pool = pool[np.argsort([len(answers[k].ids) + rng.random() for k in pool])]
        start = int(rng.integers(4)) * count
        chosen = pool[start : start + count]
        rows = [self._row(rng, features[k], answers[k], things[k]) for k in chosen]
        return torch.stack([seen for seen, _ in rows]), [answer for _, answer in rows]

    def _row(self, rng: np.random.Generator, seen: Any, answer: Said, things: Any) -> tuple[Any, Said]:
        """Sometimes with a thing exchanged: its tokens move by what lies between the two things' means. Of clean scenes
        sometimes with an alarm: a thing's tokens move by what wrong things have more than sound ones."""
        if answer.silent == 0:
            return self._alarmed(rng, seen, things) or (seen, answer) if rng.random() < self.alarmed else (seen, answer)
        found = self.speech.exchange(rng, answer) if rng.random() < self.exchanged else None
        if found is None:
            return seen, answer
        said, old, new = found
        shown = things == 1 + old
        if not self._counts[1 + new] or not shown.any():
            return seen, answer
        means = self._sums[[1 + old, 1 + new]] / self._counts[[1 + old, 1 + new]]
        return seen + shown[:, None] * (means[1] - means[0]).to(seen.dtype), said

    def _alarmed(self, rng: np.random.Generator, seen: Any, things: Any) -> tuple[Any, Said] | None:
        there = sorted(set(things.unique().tolist()) - {0})
        if not there:
            return None
        thing = table().things[there[int(rng.integers(len(there)))] - 1]
        kinds = [kind for kind in (*EXCHANGEABLE, "function") if not held_out(kind, thing.name)]
        kind = kinds[int(rng.integers(len(kinds)))]
        more = self._wrong[1 + KINDS.index(kind)] / self._wrongs[1 + KINDS.index(kind)].clamp(min=1)
        shown = things == 1 + thing_names().index(thing.name)
        return seen + shown[:, None] * (rng.uniform(*SHIFTS) * more).to(seen.dtype), self.speech.alarm(thing, kind)

    def reading(self, rng: np.random.Generator, count: int) -> tuple[Any, list[Said]]:
        """Answers of any kind, and nothing to be seen."""
        import torch

        chosen = rng.choice(len(self.texts), size=count, replace=False)
        return torch.zeros_like(self.rows[0][0][:1]).expand(count, -1, -1), [self.texts[k] for k in chosen]


def train_language(folder: Path, base: Path, shards: Sequence[Path], given: LanguageSettings) -> Path:
    """Trains the language half of the model in `base` (see `make_model`); writes it to folder/model, and log.jsonl."""
    import torch

    from anomreason.training.tiny.muon import Muon

    folder.mkdir(parents=True, exist_ok=True)
    speech = Speech(base, given.shape)
    if given.start:
        speech.model.load_state_dict(torch.load(given.start)["model"])
    for parameter in speech.model.model.visual.parameters():
        parameter.requires_grad_(False)
    matrices, others = halves(speech.model.model.language_model)
    optimizers = [
        Muon(matrices, given.rate),
        torch.optim.AdamW(others, lr=given.rate, weight_decay=0.01, betas=(0.9, 0.98)),
    ]
    state, first = folder / "state.pt", 0
    if state.exists():
        held = torch.load(state)
        speech.model.load_state_dict(held["model"])
        for optimizer, there in zip(optimizers, held["optimizers"], strict=True):
            optimizer.load_state_dict(there)
        first = held["step"]
    spoken = Spoken(speech, folder / "features", shards, given.kinds, given.exchanged, given.alarmed)
    sums = list[float]()
    began = time.monotonic()
    for step in range(given.steps):
        if step % given.steps_a_shard == 0:
            spoken.more()
        if step < first:
            continue
        left = (given.steps - step) / (given.steps * given.decay)
        rate = given.rate * min((step + 1) / given.warm_up, 1.0, left)
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = rate
        rng = np.random.default_rng([given.seed, 1, step])
        batch = spoken.reading if given.read and rng.random() < given.read else spoken.batch
        loss = speech.loss(*batch(rng, given.batch), silence=given.silence if left < 1 else 1.0)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*matrices, *others], 1.0)
        for optimizer in optimizers:
            optimizer.step()
        sums.append(float(loss.detach()))
        if (step + 1) % given.save_every == 0 or step + 1 == given.steps:
            line = {"step": step + 1, "loss": float(np.mean(sums)), "seconds": time.monotonic() - began, "rate": rate}
            sums = []
            with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)
            whole = {
                "model": speech.model.state_dict(),
                "optimizers": [o.state_dict() for o in optimizers],
                "step": step + 1,
            }
            torch.save(whole, folder / "state.part")
            (folder / "state.part").replace(state)
    return save(speech, base, folder / "model")


def mean_model(folder: Path, base: Path, states: Sequence[Path], shape: TinyShape) -> Path:
    """Writes the mean of these state.pt, which began from `base`, as a model in `folder`."""
    import torch

    speech = Speech(base, shape)
    speech.model.load_state_dict(mean([torch.load(state)["model"] for state in states]))
    return save(speech, base, folder)


def save(speech: Speech, base: Path, folder: Path) -> Path:
    """The model in half precision, with all that a checkpoint needs beside it."""
    import shutil

    import torch

    if not folder.exists():
        shutil.copytree(base, folder)
    dtype = speech.model.dtype
    speech.model.to(torch.bfloat16).save_pretrained(folder)
    speech.model.to(dtype)
    return folder


def halves(module: Any) -> tuple[list[Any], list[Any]]:
    """Matrices inside layers, which Muon trains, and all other parameters."""
    named = list(module.named_parameters())
    inside = [p for n, p in named if p.ndim == 2 and "layers." in n]
    there = {id(p) for p in inside}
    return inside, [p for _, p in named if id(p) not in there]
