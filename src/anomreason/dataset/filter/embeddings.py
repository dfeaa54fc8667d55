"""Embeddings of images and texts by CLIP and SigLIP checkpoints, computed once and kept as Parquet.

    vectors = EmbeddingFolder(Path("data/embeddings/clip-1a2b3c4d"), "images").get([sha256])

`DATA/embeddings/MODEL/images-000001.parquet` and `texts-000001.parquet` have the columns `sha256` (of the image file's
bytes, or of the text in UTF-8) and `embedding` (of length 1). Files are only ever added, each whole.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from anomreason.errors import UsageError, require
from anomreason.files import remove_drafts, write_atomically

if TYPE_CHECKING:
    from PIL import Image

Vectors = npt.NDArray[np.float32]
PART = 1000
"""Rows of one file: the most that a kill loses."""
_OPEN_PARTS = 4
"""Files whose vectors are held in memory."""
BATCH = 32
"""Images or texts that a model takes at a time."""
_LARGEST_TEXT = 10_000
"""Characters of a text that are tokenized; no checkpoint takes more than some hundred words."""


class EmbeddingFolder:
    """The embeddings of one model, of images or of texts."""

    def __init__(self, folder: Path, kind: Literal["images", "texts"]) -> None:
        """Raises UsageError for a file that cannot be read."""
        self.folder, self.kind = folder, kind
        folder.mkdir(parents=True, exist_ok=True)
        remove_drafts(folder)
        self._files = sorted(folder.glob(f"{kind}-*.parquet"))
        self._places: dict[bytes, tuple[int, int]] = {}
        self._parts: OrderedDict[int, Vectors] = OrderedDict()
        for number, file in enumerate(self._files):
            self._note(number, self._read(file, ["sha256"]).column("sha256").to_pylist())

    def __contains__(self, sha256: str) -> bool:
        return bytes.fromhex(sha256) in self._places

    def get(self, sha256: Sequence[str]) -> Vectors:
        """(n, dim) Their embeddings; a row of NaN for one that is not there, and dim 1 when none is."""
        places = [self._places.get(bytes.fromhex(one)) for one in sha256]
        rows = [None if place is None else self._part(place[0])[place[1]] for place in places]
        dim = next((len(row) for row in rows if row is not None), 1)
        missing = np.full(dim, np.nan, np.float32)
        return np.stack([missing if row is None else row for row in rows]) if rows else np.empty((0, dim), np.float32)

    def add(self, sha256: Sequence[str], vectors: Vectors) -> None:
        """Write one file more. Raises StorageError."""
        number = 1 + max((int(file.stem.rpartition("-")[2]) for file in self._files), default=0)
        lengths = pa.list_(pa.float32(), vectors.shape[1])
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), type=lengths)
        buffer = io.BytesIO()
        pq.write_table(pa.table({"sha256": pa.array(sha256), "embedding": column}), buffer)
        file = self.folder / f"{self.kind}-{number:06}.parquet"
        write_atomically(file, buffer.getvalue())
        self._files.append(file)
        self._note(len(self._files) - 1, sha256)

    def _note(self, part: int, sha256: Sequence[str]) -> None:
        self._places.update((bytes.fromhex(one), (part, row)) for row, one in enumerate(sha256))

    def _part(self, number: int) -> Vectors:
        if number not in self._parts:
            column = self._read(self._files[number], ["embedding"]).column("embedding").combine_chunks()
            self._parts[number] = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
            while len(self._parts) > _OPEN_PARTS:
                self._parts.popitem(last=False)
        self._parts.move_to_end(number)
        return self._parts[number]

    @staticmethod
    def _read(file: Path, columns: list[str]) -> Any:
        try:
            return pq.read_table(file, columns=columns)
        except (OSError, pa.ArrowException) as error:
            reason = str(error).partition("\n")[0]
            raise UsageError(
                f"{str(file)!r} cannot be read ({reason}); remove it, and the same command computes its embeddings anew"
            ) from None


class TextEmbedder(Protocol):
    """Turns texts into vectors."""

    name: str
    """Of the folder of its embeddings."""

    def texts(self, texts: Sequence[str]) -> Vectors:
        """(n, dim) of length 1."""


class DualEncoder:
    """A checkpoint that puts images and texts into one space. The weights are loaded when they are first needed."""

    def __init__(self, spec: str, device: str | None = None) -> None:
        """spec: a folder, or a hub id, which is fetched. device: None takes a GPU if there is one.

        Raises MissingExtra without torch and transformers, UsageError when there is no such checkpoint.
        """
        require("rules with a model", "local", "torch", "transformers", "huggingface_hub")
        from anomreason.vlm.local.weights import fingerprint, folder_of

        self.spec, self._device = spec, device
        self._folder = folder_of(spec)
        if not (self._folder / "config.json").is_file():
            raise UsageError(f"{spec!r} holds no config.json, so it is no checkpoint; name the folder of one")
        name = re.sub(r"[^\w.-]+", "-", spec if not Path(spec).is_dir() else Path(spec).resolve().name)[-80:]
        self.name = f"{name}-{fingerprint([self._folder])}"
        """Of the folder of its embeddings: another training's weights have another."""
        self._loaded: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """A worker process loads the weights itself."""
        return {**vars(self), "_folder": self._folder.absolute(), "_loaded": None}

    def images(self, images: Sequence[Image.Image]) -> Vectors:
        """(n, dim) of length 1."""
        _, processor, _ = self._load()
        inputs = processor(images=[image.convert("RGB") for image in images], return_tensors="pt")
        return self._run("get_image_features", {"pixel_values": inputs["pixel_values"]})

    def texts(self, texts: Sequence[str]) -> Vectors:
        """(n, dim) of length 1; of a long text the first words count."""
        model, _, tokenizer = self._load()
        config = model.config.text_config
        # SigLIP was trained on padded texts and looks at the last token.
        padding = "max_length" if model.config.model_type.startswith("siglip") else True
        limit = config.max_position_embeddings
        heads = [text[:_LARGEST_TEXT] for text in texts]
        inputs = tokenizer(heads, padding=padding, truncation=True, max_length=limit, return_tensors="pt")
        wanted = {name: inputs[name] for name in ("input_ids", "attention_mask") if name in inputs}
        return self._run("get_text_features", wanted)

    def _run(self, method: str, inputs: dict[str, Any]) -> Vectors:
        import torch

        model, _, _ = self._load()
        with torch.inference_mode():
            output = getattr(model, method)(**{name: tensor.to(model.device) for name, tensor in inputs.items()})
            vectors = torch.nn.functional.normalize(output.pooler_output.float(), dim=-1)
        result: Vectors = vectors.cpu().numpy()
        return result

    def _load(self) -> Any:
        if self._loaded is None:
            import torch
            import transformers

            from anomreason.metrics.encoder import quiet_loading, usable_device

            device = usable_device(self._device)
            options = {"local_files_only": True}
            try:
                with quiet_loading():
                    model = transformers.AutoModel.from_pretrained(
                        self._folder, dtype=torch.float32, use_safetensors=True, **options
                    )
                    if not all(hasattr(model, f"get_{what}_features") for what in ("image", "text")):
                        raise ValueError(f"a {model.config.model_type!r} model gives no embeddings of images and texts")
                    processor = transformers.AutoImageProcessor.from_pretrained(self._folder, **options)
                    tokenizer = transformers.AutoTokenizer.from_pretrained(self._folder, **options)
            except Exception as error:
                # Loaders raise a dozen unrelated kinds; what the user can do about them is the same.
                reason = str(error).strip().partition("\n")[0] or type(error).__name__
                raise UsageError(
                    f"the model {self.spec!r} cannot be loaded ({reason}); name a CLIP or SigLIP checkpoint with "
                    "safetensors weights, tokenizer and image processor"
                ) from error
            self._loaded = model.to(device).eval(), processor, tokenizer
        return self._loaded


def text_key(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def ensure_texts(encoder: TextEmbedder, folder: EmbeddingFolder, texts: Sequence[str]) -> None:
    """Embed those texts that the folder lacks."""
    keys: list[str] = []
    vectors: list[Vectors] = []
    left = list({key: text for text in texts if (key := text_key(text)) not in folder}.items())
    for start in range(0, len(left), BATCH):
        part = left[start : start + BATCH]
        keys += [key for key, _ in part]
        vectors.append(encoder.texts([text for _, text in part]))
        if len(keys) >= PART or start + BATCH >= len(left):
            folder.add(keys, np.concatenate(vectors))
            keys, vectors = [], []
