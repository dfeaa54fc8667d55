"""Finds, checks and loads the checkpoint and adapter that `local:` names.

Only loading imports torch and transformers.

    >>> checkpoint = find_checkpoint("tiny")  # or "Qwen/Qwen2.5-VL-3B-Instruct+my-adapter"
    >>> load_model(checkpoint, VLMOptions()).config.model_type
    'qwen2_5_vl'
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

from anomreason.errors import UsageError, require
from anomreason.metrics.encoder import usable_device
from anomreason.vlm.card import CARD_NAME, DetectorCard, read_card
from anomreason.vlm.protocol import TINY, VLMOptions

_LIBRARIES = ("torch", "transformers", "accelerate", "peft", "llguidance", "huggingface_hub")
_HUB_ID = re.compile(r"\w(?:[\w.-]*\w)?/\w(?:[\w.-]*\w)?")
_FORMS = (
    "For a checkpoint on this machine name its folder (with detect: --model local:FOLDER). For a model of the Hugging "
    "Face hub write OWNER/NAME (with detect: --model local:OWNER/NAME)"
)
_WANTED = ["*.json", "*.safetensors", "*.jinja", "*.txt"]
"""Of a hub repository. Weights in any other form can hold code and are never loaded."""
_DTYPES = ("float32", "bfloat16", "float16")
_TAIL = 1 << 16
BUNDLED = Path(__file__).parents[1] / "tiny"
"""The checkpoint that comes with the package; its README is the model card."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The folders of a model."""

    spec: str
    base: Path
    adapter: Path | None
    card: DetectorCard | None
    """The adapter's, else the checkpoint's."""

    @property
    def name(self) -> str:
        """The spec and a short hash of the weights: another training run in the same folder is another model."""
        folders = [self.base, *([self.adapter] if self.adapter else [])]
        return f"local:{self.spec}@{fingerprint(folders)}"


def require_libraries() -> None:
    """Raise MissingExtra unless everything a local model needs is installed; imports nothing heavy."""
    require("local models", "local", *_LIBRARIES)


def find_checkpoint(spec: str) -> Checkpoint:
    """The folders of `PATH_OR_ID` or `BASE+ADAPTER`, fetched from the hub where needed. Raises UsageError."""
    base_name, adapter_name = _split(spec)
    base = folder_of(base_name)
    adapter = folder_of(adapter_name) if adapter_name is not None else None
    _check_base(base)
    if adapter is not None:
        _check_adapter(adapter)
    return Checkpoint(spec, base, adapter, _card(base, adapter))


def find_card(spec: str) -> DetectorCard | None:
    """The card of `PATH_OR_ID` or `BASE+ADAPTER`; of what is on the hub only the card is fetched. Raises UsageError."""
    base, adapter = _split(spec)
    return _card(folder_of(base, [CARD_NAME]), folder_of(adapter, [CARD_NAME]) if adapter is not None else None)


def _card(base: Path, adapter: Path | None) -> DetectorCard | None:
    return (read_card(adapter) if adapter else None) or read_card(base)


def load_model(source: Checkpoint, options: VLMOptions) -> Any:
    """The model in evaluation mode on its device. Raises UsageError for weights or options that cannot be used."""
    import torch
    from safetensors import SafetensorError
    from transformers import Qwen2_5_VLForConditionalGeneration
    from transformers.utils import logging

    logging.disable_progress_bar()  # it would show inside ours
    device = usable_device(options.device)
    try:
        model, report = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            source.base,
            dtype=getattr(torch, _dtype(options.dtype, device)),
            device_map=None if device == "cpu" else {"": device},
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise UsageError(
                f"{str(source.base)!r} does not fit into the memory of {device}; take a smaller model"
            ) from error
        raise UsageError(f"{str(source.base)!r} cannot be loaded ({error}); fetch the checkpoint again") from error
    if report["missing_keys"]:
        some = ", ".join(sorted(report["missing_keys"])[:3])
        raise UsageError(f"{str(source.base)!r} lacks weights of a Qwen2.5-VL ({some} ...); fetch the checkpoint again")
    return (_with_adapter(model, source.adapter) if source.adapter else model).eval()


def _split(spec: str) -> tuple[str, str | None]:
    """Base and adapter. A path that exists as a whole is a path, and so are the halves around any one '+'."""
    if "+" not in spec or Path(spec).exists():
        return spec, None
    places = [i for i, letter in enumerate(spec) if letter == "+"]
    halves = [(spec[:i], spec[i + 1 :]) for i in places]
    for base, adapter in halves:
        if all(half == TINY or Path(half).exists() or _HUB_ID.fullmatch(half) for half in (base, adapter)):
            return base, adapter
    return halves[0]


def folder_of(name: str, wanted: Sequence[str] = _WANTED, forms: str = _FORMS) -> Path:
    """A checkpoint's folder by its path or hub id; of the hub, files like `wanted` are fetched.

    forms: ends the message about a name that leads nowhere, with what can be given instead. Raises UsageError.

    `tiny` is the bundled one; a folder of that name is `./tiny`.
    """
    if name == TINY:
        return BUNDLED
    path = Path(name).expanduser()
    if name and path.is_dir():
        return path
    if path.exists() and name:
        raise UsageError(f"{name!r} is a file; name the folder that holds the checkpoint")
    if not _HUB_ID.fullmatch(name):
        raise UsageError(f"there is no folder {name!r}. {forms}")
    require("models of the hub", "local", "huggingface_hub")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(wanted)))
    except Exception as error:
        # The hub client raises a dozen unrelated kinds, and what the user can do about them is the same.
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UsageError(
            f"there is no folder {name!r}, and the Hugging Face hub did not give such a model ({reason}); check "
            f"the name, the connection and, for a gated model, `hf auth login`. {forms}"
        ) from error


def _base_of(adapter: Path) -> str:
    """The base model that the adapter was trained on."""
    return _read_json(adapter / "adapter_config.json").get("base_model_name_or_path") or "BASE"


def _check_base(folder: Path) -> None:
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise UsageError(f"{str(folder)!r} is an adapter; name its base too: local:{_base_of(folder)}+{folder}")
    if not (folder / "config.json").is_file():
        raise UsageError(
            f"{str(folder)!r} holds no config.json, so it is not a checkpoint; name the folder of a Qwen2.5-VL"
        )
    kind = _read_json(folder / "config.json").get("model_type")
    if kind != "qwen2_5_vl":
        raise UsageError(f"{str(folder)!r} holds a model of type {kind!r}; only Qwen2.5-VL checkpoints can be run here")


def _check_adapter(folder: Path) -> None:
    if not (folder / "adapter_config.json").is_file():
        raise UsageError(
            f"{str(folder)!r} holds no adapter_config.json; name the folder of a LoRA adapter after the '+'"
        )
    kind = _read_json(folder / "adapter_config.json").get("peft_type")
    if kind != "LORA":
        raise UsageError(f"{str(folder)!r} holds an adapter of type {kind!r}; only LoRA adapters can be used here")
    if not (folder / "adapter_model.safetensors").is_file():
        raise UsageError(f"{str(folder)!r} holds no adapter_model.safetensors; save the adapter again with safetensors")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{str(path)!r} cannot be read as JSON ({error}); fetch the folder again") from error
    if not isinstance(value, dict):
        raise UsageError(f"{str(path)!r} is not a JSON object; fetch the folder again")
    return value


def _with_adapter(model: Any, folder: Path) -> Any:
    """The model with its LoRA layers put in, not merged: merging in half precision rounds part of the change away."""
    from peft import PeftModel
    from safetensors import SafetensorError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that is going away
            # Weights that do not fit by name are left at zero with a mere warning: the adapter would do nothing.
            warnings.filterwarnings("error", message="Found missing adapter keys")
            return PeftModel.from_pretrained(model, str(folder)).get_base_model()
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, UserWarning, SafetensorError) as error:
        reason = shorten(str(error), 300, placeholder=" ...")
        raise UsageError(
            f"the adapter {str(folder)!r} does not fit its base ({reason}); it was made for {_base_of(folder)}: "
            "name that"
        ) from error


def _dtype(asked: str | None, device: str) -> str:
    import torch

    if asked is None:
        if not device.startswith("cuda"):
            return "float32"
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    if asked not in _DTYPES:
        raise UsageError(f"{asked!r} is not a dtype for a local model; choose one of {', '.join(_DTYPES)}")
    return asked


def fingerprint(folders: list[Path]) -> str:
    """Eight hex digits over name, size and last 64 KiB of each file of a model; training changes weights everywhere."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(p for pattern in _WANTED for p in folder.glob(pattern) if p.is_file()):
            size = path.stat().st_size
            digest.update(f"{path.name}\0{size}\0".encode())
            with path.open("rb") as file:
                file.seek(max(0, size - _TAIL))
                digest.update(file.read(_TAIL))
    return digest.hexdigest()[:8]
