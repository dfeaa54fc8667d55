"""Opens what a recipe names: the base's encoder, the conversations, and the model on this device, ready to learn.

data = prepare(read_recipe("tiny-lora"), ["scenes/"], ["held-out/"])
print(data.made.table())
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anomreason.agent.source import read_source
from anomreason.errors import ParseError, UsageError, require
from anomreason.images import load_image
from anomreason.training.checks import VISION, learns
from anomreason.training.data.batches import ConversationEncoder, lengths_of
from anomreason.training.data.conversations import ConversationSet, make_instances
from anomreason.training.data.instance import Annotated, ConversationLength, Dropped, Instance
from anomreason.training.data.questions import Questions
from anomreason.training.data.sources import read_annotated
from anomreason.training.recipe import LoraPart, Recipe
from anomreason.vlm.card import DetectorCard, read_card
from anomreason.vlm.local.model import end_ids
from anomreason.vlm.local.processor import Reader
from anomreason.vlm.local.weights import Checkpoint, folder_of, load_model, require_libraries
from anomreason.vlm.protocol import VLMOptions

LIGHT = ("*.json", "*.jinja", "*.txt")
"""Files of a checkpoint without its weights: all that planning and counting tokens need."""
_LIBRARIES = ("trl", "peft", "datasets", "accelerate", "transformers", "torch")


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What a training learns from and is watched on, in the tokens of its base."""

    recipe: Recipe
    folder: Path
    """The base's; without weights where it came from the hub and was only planned with."""
    encoder: ConversationEncoder
    instances: tuple[Instance, ...]
    lengths: tuple[ConversationLength, ...]
    """Of each instance."""
    held_out: tuple[Instance, ...]
    made: ConversationSet | None = None
    """What is learnt, with what was left out; None for conversations that were not made here."""


def prepare(recipe: Recipe, train: Sequence[str | Path] = (), held_out: Sequence[str | Path] = ()) -> TrainingData:
    """Read the sources (those given, else the recipe's) and make conversations.

    Of a source with a split, `train` is learnt and `test` held out. A base with a card is asked in the card's own words
    and nothing else: a small model knows no other question. Raises UsageError for what cannot be read, and for images
    that would be learnt and held out.
    """
    folder, encoder = _open_base(recipe)
    made = _made(recipe, train or recipe.data.train, "train", (folder, encoder))
    watched = _made(recipe, held_out or recipe.data.held_out, "test", (folder, encoder))
    learnt = {one.image.resolve() for one in made.instances}
    both = sorted({one.name for one in watched.instances if one.image.resolve() in learnt})
    if both:
        raise UsageError(
            f"{len(both)} images are both learnt from and held out (the first is {both[0]}), so scores would flatter; "
            "name other ones by --held-out"
        )
    return TrainingData(recipe, folder, encoder, made.instances, made.lengths, watched.instances, made)


def with_conversations(
    recipe: Recipe, instances: Sequence[Instance], held_out: Sequence[Instance] = ()
) -> TrainingData:
    """Training data of conversations of your own. Raises UsageError for one that does not fit, UnreadableImage."""
    folder, encoder = _open_base(recipe)
    learnt, watched = _opened(instances), _opened(held_out)
    lengths = lengths_of(encoder, learnt)
    lengths_of(encoder, watched)
    return TrainingData(recipe, folder, encoder, learnt, tuple(lengths), watched)


def open_encoder(folder: Path, card: DetectorCard | None, max_tokens: int | None = None) -> ConversationEncoder:
    """The encoder of a checkpoint; weights are not read. max_tokens: None allows all that the model holds.

    Raises UsageError for a folder without a usable processor or without a token that ends a reply.
    """
    from transformers import AutoConfig, GenerationConfig

    reader = Reader(folder, card)
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    try:
        generation = GenerationConfig.from_pretrained(folder, local_files_only=True)
    except OSError:  # an older checkpoint has no such file
        generation = GenerationConfig.from_model_config(config)
    ends = end_ids(generation.eos_token_id, reader.tokenizer.eos_token_id)
    if not ends:
        raise UsageError(f"{folder} does not say which token ends a reply; add eos_token_id to its config")
    context = config.get_text_config().max_position_embeddings
    return ConversationEncoder(reader, ends, min(max_tokens or context, context))


def require_training(recipe: Recipe) -> None:
    """Raise MissingExtra unless everything that the recipe needs is installed; imports nothing heavy."""
    require("training", "train", *_LIBRARIES)
    require_libraries()
    if recipe.model.four_bit:
        require("training on 4-bit weights (model.four_bit)", "qlora", "bitsandbytes")


def require_conversations(data: TrainingData) -> None:
    """Raise UsageError when there are none."""
    if not data.instances:
        raise UsageError(
            "there are no conversations to learn from; name sources by --data, or by data.train in the recipe, and "
            "read above what was left out of them"
        )


def device_here() -> str:
    """Where this process trains: its own GPU where there is one, else the CPU."""
    import torch
    from accelerate import PartialState

    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{PartialState().local_process_index}"


def in_half(recipe: Recipe) -> bool:
    """Whether training on this machine computes in bf16."""
    import torch

    if recipe.model.precision == "auto":
        return bool(torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False))
    return recipe.model.precision == "bf16"


def weights_dtype(recipe: Recipe) -> str:
    """Of the weights in memory. Weights that learn stay in fp32, or small steps would be rounded away."""
    return "bfloat16" if recipe.lora is not None and in_half(recipe) else "float32"


def card_of(recipe: Recipe, prompt: str) -> DetectorCard:
    """How to ask a detector that was trained by this recipe."""
    model = recipe.model
    return DetectorCard(
        prompt=prompt, answer=recipe.data.answer, min_pixels=model.min_pixels, max_pixels=model.max_pixels
    )


def first_turn(instances: Sequence[Instance]) -> dict[str, str]:
    """What a card says of the first turn of conversations about an image's source: the question and both answers.

    Of several wordings of the question, the most frequent one. Empty for conversations of one turn, or about others.
    """
    first = [(one.turns[0].text, one.turns[1].text) for one in instances if len(one.turns) == 4]
    own = Questions.load().authenticity
    words = {"generated": own.generated, "photograph": own.photograph}
    try:
        words |= {read_source(answer): answer for _, answer in first}
    except ParseError:
        return {}
    if not first or "unsure" in words:
        return {}
    return {"source": Counter(question for question, _ in first).most_common(1)[0][0], **words}


def load_base(recipe: Recipe, source: Checkpoint) -> Any:
    """The model in the recipe's precision. Raises UsageError for what cannot be loaded."""
    if source.adapter is not None:
        raise UsageError(
            f"model.base: {source.spec!r} is a base with an adapter; merge the two first (anomreason merge), then name "
            "the merged folder"
        )
    if recipe.model.four_bit:
        return _four_bit(source.base)
    return load_model(source, VLMOptions(device=device_here(), dtype=weights_dtype(recipe)))


def prepare_full(recipe: Recipe, model: Any) -> None:
    """Freeze what full training leaves as it is."""
    assert recipe.full is not None
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(learns(name, recipe.full))


def lora_config(part: LoraPart, layers: int) -> Any:
    """PEFT's settings for the recipe's adapters on a model with so many language layers."""
    from peft import LoraConfig

    return LoraConfig(
        r=part.rank,
        lora_alpha=part.alpha,
        lora_dropout=part.dropout,
        target_modules=list(part.modules),
        layers_to_transform=list(range(part.first, layers, part.every)),
        # The vision tower's are called blocks.
        layers_pattern="layers",
        bias="none",
        task_type="CAUSAL_LM",
    )


def _open_base(recipe: Recipe) -> tuple[Path, ConversationEncoder]:
    """Folder and encoder of the recipe's base, within the recipe's pixels and length."""
    require_training(recipe)
    folder = folder_of(recipe.model.base, LIGHT)
    return folder, open_encoder(folder, card_of(recipe, "-"), recipe.data.max_tokens)


def _made(
    recipe: Recipe, sources: Sequence[str | Path], part: str, base: tuple[Path, ConversationEncoder]
) -> ConversationSet:
    images: list[Annotated] = []
    dropped: list[Dropped] = []
    for source in sources:
        read = read_annotated(Path(source), part=part)
        several = len(sources) > 1
        images += [replace(one, name=f"{Path(source).name}/{one.name}") if several else one for one in read]
        dropped += read.dropped
    folder, encoder = base
    card = read_card(folder)
    question = recipe.data.prompt or (card.prompt if card else None)
    questions = Questions.load()
    if question is not None and recipe.data.task == "anomalies":
        questions = questions.only(question)
    made = make_instances(images, recipe.data.task, encoder, recipe.seed, questions)
    return replace(made, dropped=(*dropped, *made.dropped))


def _opened(instances: Sequence[Instance]) -> tuple[Instance, ...]:
    """With size and hash of each image."""
    found: dict[Path, tuple[tuple[int, int], str]] = {}
    for one in instances:
        if one.image not in found:
            image = load_image(one.image, max_side=None)
            found[one.image] = (image.width, image.height), image.sha256
    return tuple(replace(one, size=found[one.image][0], sha256=found[one.image][1]) for one in instances)


def _four_bit(folder: Path) -> Any:
    import torch
    from transformers import BitsAndBytesConfig, Qwen2_5_VLForConditionalGeneration

    if device_here() == "cpu":
        # On a CPU the library packs weights anew when they are evaluated, and cannot train on them afterwards.
        raise UsageError("model.four_bit needs a GPU; set it to false, or train where there is one")
    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=[f"model.{VISION}", "lm_head"],
    )
    try:
        return Qwen2_5_VLForConditionalGeneration.from_pretrained(
            folder,
            quantization_config=quantised,
            dtype=torch.bfloat16,
            device_map={"": device_here()},
            use_safetensors=True,
            local_files_only=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise UsageError(f"{folder} cannot be loaded in 4 bits ({error}); set model.four_bit = false") from error
