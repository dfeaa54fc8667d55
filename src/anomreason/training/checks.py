"""Proofs that a training is what its recipe says: which modules learn, that they do, and what was saved.

Each check returns what it saw, or raises: UsageError where the recipe does not fit the model, ProofFailed where the
model does not do what it must.

    matched_modules(model, LoraPart(every=4, first=0))[:1]    # ['model.language_model.layers.0.self_attn.k_proj']
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anomreason.errors import UsageError
from anomreason.training.data.batches import ConversationEncoder
from anomreason.training.data.instance import Instance
from anomreason.training.recipe import FullPart, LoraPart

LANGUAGE, VISION, PROJECTOR = "language_model", "visual", "visual.merger"
"""Parts of a Qwen2.5-VL by their names in transformers 5."""
EXACT = 1e-5
"""Largest difference of logits in fp32, as a share of the largest logit where that is above 1."""
NEAR = 1e-2
"""The same for the same weights in 16 bits, which give the same on a CPU, and on a GPU nearly."""
ROUNDED = 0.1
"""The same for merged weights in 16 bits: merging rounds part of the change away. Each proof gives the difference."""


class ProofFailed(RuntimeError):
    """A training does not do what it must: its results cannot be trusted, and the settings are not the cause."""


@dataclass(frozen=True, slots=True)
class Proof:
    """One property that was checked."""

    name: str
    found: str
    """What the check saw, in words with numbers."""


def matched_modules(model: Any, part: LoraPart) -> list[str]:
    """Names of the modules that get adapters, sorted by layer. Raises UsageError when there are none.

    Counted from the model's own module names, not by PEFT, whose choice is then held against this one.
    """
    layers = _language_layers(model)
    wanted = set(range(part.first, layers, part.every))
    pattern = re.compile(rf"(?:^|.*\.){LANGUAGE}\.layers\.(\d+)\.(?:.*\.)?({'|'.join(map(re.escape, part.modules))})")
    found: dict[str, tuple[int, str]] = {}
    for name, _ in model.named_modules():
        match = pattern.fullmatch(name)
        if match and int(match[1]) in wanted:
            found[name] = (int(match[1]), match[2])
    lacking = [kind for kind in part.modules if kind not in {kind for _, kind in found.values()}]
    if lacking:
        which = f"every {part.every}. of {layers} language layers from {part.first}"
        raise UsageError(
            f"lora.modules: no module {lacking[0]!r} in {which}; the layers' linear modules are "
            f"{', '.join(sorted(_linear_kinds(model)))}, and lora.first must be below {layers}"
        )
    return sorted(found, key=lambda name: (found[name], name))


def adapters_on(model: Any) -> list[str]:
    """Names, without PEFT's wrapping, of the modules of a model that carry adapters."""
    names = {name.partition(".lora_A.")[0] for name, _ in model.named_parameters() if ".lora_A." in name}
    return sorted(name.removeprefix("base_model.model.") for name in names)


def check_placement(model: Any, expected: Sequence[str]) -> Proof:
    """The adapters are on the expected modules, all of them in the language model, and nothing else learns."""
    placed = adapters_on(model)
    stray = [name for name in placed if f".{VISION}." in f".{name}." or f".{LANGUAGE}." not in f".{name}."]
    if stray:
        raise ProofFailed(f"adapters outside the language model: {', '.join(stray[:3])}")
    if placed != sorted(expected):
        odd = sorted(set(placed) ^ set(expected))
        raise ProofFailed(f"{len(placed)} modules have adapters where the recipe names {len(expected)}; e.g. {odd[0]}")
    learning = [n for n, p in model.named_parameters() if p.requires_grad]
    other = [name for name in learning if ".lora_A." not in name and ".lora_B." not in name]
    if other or len(learning) != 2 * len(placed):
        raise ProofFailed(f"other weights than the adapters learn: {', '.join(other[:3]) or len(learning)}")
    return Proof("placement", f"{len(placed)} language modules have adapters, none of the vision tower or projector")


def check_trainable(model: Any, part: FullPart) -> Proof:
    """In full training: exactly the parts that the recipe names learn."""
    wrong = [n for n, p in model.named_parameters() if p.requires_grad != learns(n, part)]
    if wrong:
        raise ProofFailed(f"{wrong[0]} and {len(wrong) - 1} others do not learn as the recipe says")
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Proof("placement", f"{count:,} weights learn, {sum(p.numel() for p in model.parameters()) - count:,} do not")


def learns(name: str, part: FullPart) -> bool:
    """Whether full training changes the parameter of this name."""
    if f".{PROJECTOR}." in f".{name}":
        return part.projector
    return part.vision or f".{VISION}." not in f".{name}"


@dataclass
class GradientWatch:
    """Checks gradients before the first optimizer step, and before the first one after weights have moved."""

    lora: bool
    moved: bool = False
    """Whether an optimizer step with a learning rate above zero was made."""
    first: Proof | None = None
    second: Proof | None = None

    def look(self, model: Any, rate: float) -> Proof | None:
        """Called before every optimizer step, with its learning rate; gives a new proof. Raises ProofFailed."""
        found = None
        if self.first is None:
            found = self.first = self._first(list(model.named_parameters()))
        elif self.moved and self.second is None:
            found = self.second = self._second(list(model.named_parameters()))
        self.moved = self.moved or rate > 0
        return found

    @property
    def done(self) -> bool:
        return self.second is not None

    def _first(self, parameters: Sequence[tuple[str, Any]]) -> Proof:
        frozen = [n for n, p in parameters if not p.requires_grad and p.grad is not None]
        if frozen:
            raise ProofFailed(f"frozen weights have a gradient: {', '.join(frozen[:3])}")
        if not self.lora:
            count = _all_move(p for p in parameters if p[1].requires_grad)
            return Proof("first step", f"a gradient on all {count} learning tensors, none on frozen ones")
        count = _all_move(p for p in parameters if ".lora_B." in p[0])
        # B is zero at first, so no gradient can have come through it to A yet.
        early = [n for n, p in parameters if ".lora_A." in n and p.grad is not None and bool(p.grad.any())]
        fresh = all(not bool(p.any()) for n, p in parameters if ".lora_B." in n)
        if early and fresh:
            raise ProofFailed(f"adapters were not zero at the start: {early[0]} has a gradient before the first step")
        rest = "none anywhere else" if fresh else "none on frozen weights (the adapters had learnt before)"
        return Proof("first step", f"a gradient on all {count} adapter B, {rest}")

    def _second(self, parameters: Sequence[tuple[str, Any]]) -> Proof:
        count = _all_move(p for p in parameters if p[1].requires_grad)
        kinds = ", A and B of each adapter" if self.lora else ""
        return Proof("after the first step", f"a gradient on all {count} learning tensors{kinds}")


def check_pixels(encoder: ConversationEncoder, instances: Sequence[Instance]) -> Proof:
    """The processor keeps real images within the pixel budget, and gives each patch group one token."""
    reader, seen = encoder.reader, []
    images = reader.processor.image_processor
    for instance in instances:
        try:
            prepared = encoder.prepare(instance, ())
        except RuntimeError as error:  # the reader's own check of the budget
            raise ProofFailed(f"{instance.name}: {error}") from error
        time, height, width = prepared.grids[0].tolist()
        area = time * height * width * images.patch_size**2
        tokens = int(prepared.kinds.sum())
        if tokens * images.merge_size**2 != time * height * width:
            raise ProofFailed(f"{instance.name}: {tokens} image tokens for {height}x{width} patches")
        seen.append(area)
    pixels = f"{min(seen):,}" if min(seen) == max(seen) else f"{min(seen):,} to {max(seen):,}"
    budget = f"{reader.min_pixels:,} to {reader.max_pixels:,}"
    return Proof("pixels", f"{len(seen)} images were scaled to {pixels} pixels; {budget} are allowed")


def check_loss_mask(encoder: ConversationEncoder, instances: Sequence[Instance]) -> Proof:
    """No loss on image, prompt or padding; every answer is learnt up to the token that ends it."""
    learnt = total = 0
    for instance in instances:
        row = encoder.encode(instance)
        mask = row.labels != -100
        if bool((mask & (row.prepared.kinds != 0)).any()):
            raise ProofFailed(f"{instance.name}: image tokens carry loss")
        prompt = encoder.prepare(instance, ()).width
        if bool(mask[:prompt].any()) or not bool(mask[prompt]):
            raise ProofFailed(f"{instance.name}: the loss does not begin where the prompt ends")
        if int(row.labels[-1]) not in encoder.ends:
            raise ProofFailed(f"{instance.name}: the last token that is learnt does not end a reply")
        learnt, total = learnt + int(mask.sum()), total + len(mask)
    return Proof("loss", f"{learnt:,} of {total:,} tokens carry loss: answers with their end, no prompt, no image")


def logits_of(model: Any, encoder: ConversationEncoder, instances: Sequence[Instance], last: int = 64) -> Any:
    """(rows, last, vocabulary) float32 on the CPU: the logits at the end of each conversation, one row at a time."""
    import torch

    found = []
    with as_at_inference(model), torch.inference_mode():
        for instance in instances:
            batch = encoder.collate([encoder.encode(instance)])
            del batch["labels"]
            inputs = {key: value.to(model.device) for key, value in batch.items()}
            keep = min(last, inputs["input_ids"].shape[1])
            logits = model(**inputs, logits_to_keep=keep, use_cache=False).logits[0].float().cpu()
            found.append(torch.nn.functional.pad(logits, (0, 0, last - keep, 0)))
    return torch.stack(found)


@contextmanager
def as_at_inference(model: Any) -> Iterator[None]:
    """Make a model in training compute as when it is loaded for detection: no dropout, no autocast around it."""
    training, wrapped = model.training, vars(model).get("forward")
    # Where accelerate keeps the forward that it has put into autocast.
    plain = vars(model).get("_original_forward")
    model.eval()
    if plain is not None:
        model.forward = plain
    try:
        yield
    finally:
        if plain is not None:
            model.forward = wrapped
        model.train(training)


def check_same(name: str, before: Any, after: Any, allowed: float = EXACT) -> Proof:
    """Two models give the same logits. `allowed`: largest difference, as a share of the largest logit above 1."""
    far, share = difference(before, after)
    if not share <= allowed:  # also where one of them is not a number
        raise ProofFailed(f"{name}: logits differ by {far:.3g} ({share:.2g} of the largest), {allowed:g} is allowed")
    return Proof(name, f"logits differ by at most {far:.2g}, {share:.1g} of the largest")


def difference(before: Any, after: Any) -> tuple[float, float]:
    """Largest difference of two sets of logits, and the same as a share of the largest logit, or of 1."""
    far = float((before - after).abs().max())
    return far, far / max(1.0, float(before.abs().max()))


def check_all_used(saved: Mapping[str, Any], model: Any) -> Proof:
    """Every tensor of a saved adapter is in the model that was loaded with it, and that has no other."""
    loaded = {_plain(name): p for name, p in model.named_parameters() if ".lora_A." in name or ".lora_B." in name}
    file = {_plain(name): tensor for name, tensor in saved.items()}
    if file.keys() != loaded.keys():
        odd = sorted(file.keys() ^ loaded.keys())[0]
        where = "the file alone" if odd in file else "the model alone"
        raise ProofFailed(f"{odd} is in {where}: {len(file)} tensors were saved, {len(loaded)} are in the model")
    other = [name for name, tensor in file.items() if not _equal(tensor, loaded[name])]
    if other:
        raise ProofFailed(f"{other[0]} was loaded with other values than were saved")
    empty = [name for name, tensor in file.items() if not bool(tensor.any())]
    if empty:
        raise ProofFailed(f"{empty[0]} and {len(empty) - 1} others are all zero, so they do nothing")
    return Proof("tensors", f"all {len(file)} tensors of the adapter are in the loaded model, none is zero")


def read_tensors(folder: Path) -> dict[str, Any]:
    """Tensors of a saved adapter."""
    from safetensors.torch import load_file

    return dict(load_file(folder / "adapter_model.safetensors"))


def _language_layers(model: Any) -> int:
    pattern = re.compile(rf"(?:^|.*\.){LANGUAGE}\.layers\.(\d+)")
    return 1 + max((int(m[1]) for name, _ in model.named_modules() if (m := pattern.fullmatch(name))), default=-1)


def _linear_kinds(model: Any) -> set[str]:
    import torch

    inside = f".{LANGUAGE}.layers."
    return {n.rpartition(".")[2] for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and inside in n}


def _all_move(parameters: Iterable[tuple[str, Any]]) -> int:
    """How many there are. Raises ProofFailed when one has no gradient, or one that is no number."""
    count = 0
    for name, parameter in parameters:
        if parameter.grad is None or not bool(parameter.grad.any()):
            raise ProofFailed(f"{name} gets no gradient, so it would never learn")
        if not bool(parameter.grad.isfinite().all()):
            raise ProofFailed(f"the gradient of {name} is not finite; lower steps.learning_rate or train in fp32")
        count += 1
    if not count:
        raise ProofFailed("nothing learns: no tensor has a gradient")
    return count


def _plain(name: str) -> str:
    """A tensor's name without what PEFT puts around and into it."""
    return name.removeprefix("base_model.model.").replace(".default.", ".")


def _equal(one: Any, other: Any) -> bool:
    import torch

    return bool(torch.equal(one.float().cpu(), other.detach().float().cpu()))
