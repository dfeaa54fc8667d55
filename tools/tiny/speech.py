"""The small model as its second stage trains it: prompt, answers as tokens, and the loss of what it says.

What is held out of training is never denied: neither the thing where such an anomaly is told nor the anomaly behind the
thing. Knows no shards and no steps.

    speech = Speech(Path("base"), TinyShape())
    speech.loss(speech.features(pictures), [speech.said(told) for told in answers])
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from tools.tiny.corpus import colour_words, held_out, plainest, thing_words
from tools.tiny.exchange import AnswerTokens, Exchange
from tools.tiny.model import TinyShape
from tools.tiny.tower import Tower, autocast, patches_of, precision

from anomreason.anomaly import KINDS, Anomaly, Kind
from anomreason.scenes.phrases import levels
from anomreason.scenes.scene import Slots
from anomreason.scenes.sprites.table import SpriteThing, table
from anomreason.textform import write_anomalies
from anomreason.vlm.card import DetectorCard

CARD = DetectorCard(prompt="What cannot be so in this scene?", out_of_domain="This is no scene that I know.")


def answer_of(told: dict[str, Any]) -> str:
    """What the model is to say of one picture of a shard."""
    if told["answer"] is None:
        return str(CARD.out_of_domain)
    return write_anomalies(Anomaly(**one) for one in told["answer"])


class Speech:
    """Model and tokenizer, with what is the same for all pictures."""

    def __init__(self, folder: Path, shape: TinyShape) -> None:
        import torch
        from PIL import Image
        from transformers import Qwen2_5_VLForConditionalGeneration

        from anomreason.vlm.local.processor import Reader

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

    def said(self, told: dict[str, Any]) -> AnswerTokens:
        """The answer for one picture of a shard."""
        ids = self.ids(answer_of(told))
        newline = self.tokenizer.convert_tokens_to_ids("Ċ")
        about, kind, last = list[int](), 0, 0
        for token in ids:
            kind += token == last == newline
            about.append(1 + KINDS.index(told["kinds"][kind]) if token in self.words else 0)
            last = token
        if told["answer"] is None:
            return AnswerTokens(tuple(ids), tuple(about))
        return AnswerTokens(tuple(ids), tuple(about), silent=len(ids) - 1 if told["answer"] else 0)

    def loss(self, features: Any, answers: Sequence[AnswerTokens], silence: float = 1.0) -> Any:
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

    def alarm(self, thing: SpriteThing, kind: Kind) -> AnswerTokens:
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
        return AnswerTokens(tuple(ids), tuple((1 + KINDS.index(kind)) * (one in self.words) for one in ids))

    def ids(self, answer: str) -> list[int]:
        found: list[int] = self.tokenizer(answer, add_special_tokens=False)["input_ids"]
        return [*found, self.end]
