"""Rules with a model: what is embedded, what is kept, and what follows from embeddings whose meaning is known."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sqlalchemy import select
from tests.dataset.collected import put_images
from tests.dataset.dual_encoder import write_dual_encoder
from tests.dataset.test_filter import decisions, status, texture
from tools.dual_encoder import HELD_OUT_FROM, caption, draw

from anomreason.dataset.filter import embeddings
from anomreason.dataset.filter.embeddings import DualEncoder, EmbeddingFolder
from anomreason.dataset.filter.filtering import filter_images
from anomreason.dataset.filter.records import FilterOptions
from anomreason.dataset.filter.rules import Rules
from anomreason.dataset.store import Store
from anomreason.dataset.tables import ImageRow
from anomreason.errors import UsageError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("models") / "tiny-clip"
    write_dual_encoder(folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for n in range(5):
        texture(n).save(folder / f"{n}.png")
    return folder


PROMPTS = {"0.png": "a red cup", "1.png": "a cup", "2.png": "a red cup", "3.png": "render"}


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def unit(*values: float) -> np.ndarray:
    vector = np.zeros(16, np.float32)
    vector[: len(values)] = values
    return vector / np.linalg.norm(vector)


def plant(store: Store, model: Path, folder: Path, images: dict[str, np.ndarray], texts: dict[str, np.ndarray]) -> None:
    """Embeddings by hand, where those of the model would be."""
    place = store.folder / "embeddings" / DualEncoder(str(model)).name
    keys = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in images]
    EmbeddingFolder(place, "images").add(keys, np.stack(list(images.values())))
    EmbeddingFolder(place, "texts").add([sha(text) for text in texts], np.stack(list(texts.values())))


def test_the_image_that_does_not_show_its_prompt_is_dropped(sqlite_store: Store, model: Path, folder: Path) -> None:
    put_images(sqlite_store, folder, PROMPTS)
    shown = {
        "0.png": unit(1, 0.1),
        "1.png": unit(0.1, 1),
        "2.png": unit(0, 1),
        "3.png": unit(0, 0, 1),
        "4.png": unit(1),
    }
    plant(sqlite_store, model, folder, shown, {"a red cup": unit(1), "a cup": unit(0, 1), "render": unit(0, 0, 1)})
    rules = Rules.model_validate({"alignment": {"model": str(model), "threshold": 0.5}})
    report = filter_images(sqlite_store, rules)
    assert status(sqlite_store) == dict.fromkeys(shown, "kept") | {"2.png": "alignment"}
    assert (report.opened, report.rules[0].unscored) == (0, 1), "the image without a prompt has no score and is kept"
    assert decisions(sqlite_store)["0.png", "alignment"][2] == pytest.approx(float(unit(1, 0.1)[0]))


def test_what_looks_less_like_a_photograph_than_like_another_text_is_dropped(
    sqlite_store: Store, model: Path, folder: Path
) -> None:
    put_images(sqlite_store, folder)
    shown = {f"{n}.png": v for n, v in enumerate([unit(1), unit(0, 1), unit(0, 0, 1), unit(1, 0.9), unit(0.9, 0, 1)])}
    texts = {"a photograph": unit(1), "an illustration": unit(0, 1), "a 3D render": unit(0, 0, 1)}
    plant(sqlite_store, model, folder, shown, texts)
    report = filter_images(sqlite_store, Rules.model_validate({"photo": {"model": str(model)}}))
    assert [name for name, reason in status(sqlite_store).items() if reason == "photo"] == ["1.png", "2.png", "4.png"]
    assert report.opened == 0


def test_images_of_nearly_one_embedding_are_a_cluster(sqlite_store: Store, model: Path, folder: Path) -> None:
    texture(3, (200, 150)).save(folder / "3-large.png")
    put_images(sqlite_store, folder, groups={"0.png": "scene", "1.png": "scene"})
    shown = {
        "0.png": unit(1),
        "1.png": unit(1, 0.05),
        "2.png": unit(1, 0.1),
        "3.png": unit(0, 1),
        "4.png": unit(0, 0, 1),
    }
    plant(sqlite_store, model, folder, shown | {"3-large.png": unit(0, 1, 0.1)}, {"x": unit(1)})
    filter_images(sqlite_store, Rules.model_validate({"embedding_duplicates": {"model": str(model)}}))
    dropped = [name for name, reason in status(sqlite_store).items() if reason == "embedding_duplicates"]
    assert dropped == ["2.png", "3.png"], "the larger stays, and images of one group stay"
    with sqlite_store.reading() as session:
        query = select(ImageRow.name, ImageRow.cluster).where(ImageRow.cluster.is_not(None))
        clusters = dict(session.execute(query).all())
    assert clusters["3.png"] == clusters["3-large.png"] != clusters["0.png"] == clusters["2.png"]


def test_embeddings_are_computed_once_and_kept_as_parquet(sqlite_store: Store, model: Path, folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"no image")
    put_images(sqlite_store, folder, PROMPTS)
    rules = Rules.model_validate(
        {"alignment": {"model": str(model), "threshold": -1}, "photo": {"model": str(model), "threshold": -2}}
    )
    first = filter_images(sqlite_store, rules)
    assert (first.opened, first.failed) == (6, {"unreadable": 1})
    parts = sorted((sqlite_store.folder / "embeddings").rglob("*.parquet"))
    assert [part.name for part in parts] == ["images-000001.parquet", "texts-000001.parquet", "texts-000002.parquet"]
    table = pq.read_table(parts[0])
    assert table.column_names == ["sha256", "embedding"]
    vectors = np.array(table.column("embedding").to_pylist(), np.float32)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    image = Image.open(folder / "2.png")
    row = table.column("sha256").to_pylist().index(hashlib.sha256((folder / "2.png").read_bytes()).hexdigest())
    assert vectors[row] == pytest.approx(DualEncoder(str(model)).images([image])[0], abs=1e-5)
    second = filter_images(sqlite_store, rules, FilterOptions(dry_run=True))
    assert second.opened == 1, "only what failed is tried again"
    assert sorted((sqlite_store.folder / "embeddings").rglob("*.parquet")) == parts


def test_other_weights_are_another_model(model: Path, tmp_path: Path) -> None:
    other = tmp_path / model.name
    write_dual_encoder(other, seed=1)
    names = [DualEncoder(str(one)).name for one in (model, other)]
    assert [name.rpartition("-")[0] for name in names] == [model.name, model.name]
    assert names[0] != names[1]


def test_a_siglip_checkpoint_is_read_too(tmp_path: Path, model: Path) -> None:
    import torch
    import transformers

    part = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**part, "vocab_size": 12, "max_position_embeddings": 12}
    config = transformers.SiglipConfig(text_config=text, vision_config={**part, "image_size": 32, "patch_size": 8})
    torch.manual_seed(0)
    transformers.SiglipModel(config).save_pretrained(tmp_path)
    transformers.SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(model).save_pretrained(tmp_path)
    encoder = DualEncoder(str(tmp_path))
    alone, beside = encoder.texts(["a cup"]), encoder.texts(["a cup", "an illustration " * 500])
    assert alone[0] == pytest.approx(beside[0], abs=1e-5), "padding is always the same"
    assert encoder.images([texture(0)]).shape == (1, 16)


@pytest.mark.parametrize("what", ["no such folder", "no model"])
def test_a_model_that_is_not_there_stops_the_filter_before_any_work(
    what: str, sqlite_store: Store, folder: Path, tmp_path: Path
) -> None:
    put_images(sqlite_store, folder)
    spec = tmp_path / "nothing" if what == "no such folder" else folder
    with pytest.raises(UsageError, match=str(spec)):
        filter_images(sqlite_store, Rules.model_validate({"dark": {}, "photo": {"model": str(spec)}}))
    assert decisions(sqlite_store) == {}


def test_embeddings_are_found_again_over_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "_OPEN_PARTS", 2)
    keys = [sha(str(n)) for n in range(12)]
    vectors = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    writer = EmbeddingFolder(tmp_path, "texts")
    for start in range(0, 12, 3):
        writer.add(keys[start : start + 3], vectors[start : start + 3])
    (tmp_path / ".texts-000009.parquet.999999999.1.part").write_bytes(b"left by a kill")
    reader = EmbeddingFolder(tmp_path, "texts")
    mixed = [*reversed(keys), sha("unknown")]
    assert np.array_equal(reader.get(mixed)[:12], vectors[::-1])
    assert np.isnan(reader.get(mixed)[12]).all()
    assert len(list(tmp_path.iterdir())) == 4


def test_a_damaged_file_of_embeddings_is_named(tmp_path: Path) -> None:
    (tmp_path / "images-000001.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(UsageError, match=r"images-000001\.parquet.*remove it"):
        EmbeddingFolder(tmp_path, "images")


def test_a_model_that_knows_such_images_tells_the_right_prompt_from_another_scenes(
    sqlite_store: Store, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    trained = Path(__file__).parents[1] / "data" / "dual_encoder"
    samples = [draw(HELD_OUT_FROM + n) for n in range(24)]
    folder = tmp_path / "scenes"
    folder.mkdir()
    prompts = {}
    for n, sample in enumerate(samples):
        sample.image.save(folder / f"{n}.png")
        described = sample if n % 2 else samples[(n + 7) % 24]
        prompts[f"{n}.png"] = caption(described.names, described.place)
    put_images(sqlite_store, folder, prompts)
    filter_images(sqlite_store, Rules.model_validate({"alignment": {"model": str(trained), "threshold": 0.65}}))
    found = status(sqlite_store)
    assert sum(found[f"{n}.png"] == "kept" for n in range(1, 24, 2)) >= 11, "with their own captions"
    assert sum(found[f"{n}.png"] == "alignment" for n in range(0, 24, 2)) >= 11, "with the captions of others"
