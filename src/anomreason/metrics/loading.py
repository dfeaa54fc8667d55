"""A backbone found, checked, loaded and cut to the layers a BERTScore needs.

Knows nothing of texts. Importing it is light; `load` imports torch and transformers. Try it:

    >>> encoder, layer = load("distilbert-base-uncased")

Layers are counted and cut as by bert_score 0.3.13 (https://github.com/Tiiiger/bert_score, `utils.py`).
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anomreason.errors import MissingExtra, UsageError
from anomreason.metrics.encoder import Encoder

DEFAULT_LAYERS = {
    "bert-base-multilingual-cased": 9,
    "bert-base-uncased": 9,
    "bert-large-uncased": 18,
    "deberta-xlarge-mnli": 40,
    "distilbert-base-uncased": 5,
    "distilroberta-base": 5,
    "mt5-base": 11,
    "mt5-large": 19,
    "mt5-small": 8,
    "roberta-base": 10,
    "roberta-large": 17,
    "roberta-large-mnli": 19,
    "xlm-roberta-base": 9,
    "xlm-roberta-large": 17,
}
"""Layer by the last part of a hub id or path: the ones bert_score 0.3.13 takes (`model2layers`)."""
PRECISIONS = ("fp32", "bf16")
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_ENCODERS = {"mt5": "MT5EncoderModel", "t5": "T5EncoderModel", "umt5": "UMT5EncoderModel"}
_LAYER_LISTS = ("encoder.layer", "transformer.layer", "encoder.block", "encoder.layers", "layer", "layers", "block")


def load(
    spec: str,
    layer: int | None = None,
    precision: str = "fp32",
    device: str | None = None,
    revision: str | None = None,
) -> tuple[Encoder, int]:
    """The encoder of a folder or hub id, and its layer. device: None takes a GPU where there is one.

    Raises MissingExtra without torch and transformers, UsageError for what cannot be loaded or run as asked.
    """
    _require_libraries()
    if precision not in PRECISIONS:
        raise UsageError(f"{precision!r} is no precision for scores; choose one of {', '.join(PRECISIONS)}")
    place = _place(spec)
    layer = DEFAULT_LAYERS.get(Path(place).name) if layer is None else layer
    where = _device(device)
    with _quiet():
        model, tokenizer = _open(place, revision)
        depth = _depth(model)
        if layer is None:
            raise UsageError(f"no layer is known for {spec!r}; name one of its layers 1 to {depth} (--layer)")
        if not 1 <= layer <= depth:
            raise UsageError(f"{spec!r} has no layer {layer}; name one of 1 to {depth}")
        _cut(model, layer)
        encoder = Encoder(model, tokenizer, precision)
        encoder.settle(where)
    return encoder, layer


def _require_libraries() -> None:
    for library in ("torch", "transformers"):
        try:
            found = importlib.util.find_spec(library)
        except (ImportError, ValueError):
            found = None
        if found is None:
            raise MissingExtra("BERTScore", "score")


def _place(spec: str) -> str:
    path = Path(spec).expanduser()
    if spec and path.is_dir():
        if not (path / "config.json").is_file():
            raise UsageError(f"{spec} holds no config.json, so it is no backbone; name the folder of a checkpoint")
        return str(path.resolve())
    if spec and path.exists():
        raise UsageError(f"{spec!r} is a file; name the folder that holds the backbone")
    if not _HUB_ID.fullmatch(spec):
        raise UsageError(f"there is no folder {spec!r}; name a backbone's folder or a hub model")
    return spec


def _open(place: str, revision: str | None) -> tuple[Any, Any]:
    """Model in evaluation mode, float32, on the CPU, without decoder and pooler; tokenizer."""
    import torch
    import transformers

    here = {"local_files_only": True} if Path(place).is_dir() else {"revision": revision}
    try:
        config = transformers.AutoConfig.from_pretrained(place, **here)
        kind = getattr(transformers, _ENCODERS.get(config.model_type, "AutoModel"))
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, **here)
        model, report = kind.from_pretrained(place, dtype=torch.float32, output_loading_info=True, **here)
    except Exception as error:
        # Hub client, tokenizers and loaders raise a dozen unrelated kinds; what the user can do is the same.
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UsageError(
            f"the backbone {place!r} cannot be loaded ({reason}); check the name and the connection, or name a folder "
            "that holds config, tokenizer and weights"
        ) from error
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
    if missing:
        raise UsageError(f"{place!r} lacks weights of its encoder ({', '.join(missing[:3])} ...); fetch it again")
    if hasattr(model, "encoder") and hasattr(model, "decoder"):
        model = model.encoder
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model.eval(), tokenizer


def _layers(model: Any) -> tuple[Any, str, Any]:
    """The module that holds the list of layers, the list's name, the list. Raises UsageError when there is none."""
    import torch

    for path in _LAYER_LISTS:
        *way, name = path.split(".")
        holder = model
        for part in way:
            holder = getattr(holder, part, None)
        found = getattr(holder, name, None)
        if isinstance(found, torch.nn.ModuleList):
            return holder, name, found
    raise UsageError(f"the layers of a model of type {model.config.model_type!r} are unknown; name another backbone")


def _depth(model: Any) -> int:
    return int(model.config.num_hidden_layers) if model.config.model_type == "albert" else len(_layers(model)[2])


def _cut(model: Any, layer: int) -> None:
    """Drop the layers above; what stands after the last layer, such as T5's norm, stays, as in bert_score."""
    if model.config.model_type == "albert":
        model.encoder.config.num_hidden_layers = layer  # one group of weights, run again and again
        return
    holder, name, layers = _layers(model)
    setattr(holder, name, layers[:layer])


def _device(asked: str | None) -> str:
    import torch

    if asked is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=asked)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"the device {asked!r} cannot be used here ({reason}); try 'cpu'") from error
    return asked


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and notes of the loader on a user's terminal; what matters is raised."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
