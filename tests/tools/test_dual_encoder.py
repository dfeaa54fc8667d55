"""What the small dual encoder of the tests can be relied on for. It knows scenes; it says nothing of other images."""

from pathlib import Path

import pytest
from tools.dual_encoder import HELD_OUT_FROM, caption, draw, recall

FOLDER = Path(__file__).parents[1] / "data" / "dual_encoder"


def test_captions_name_every_object_once_and_the_place() -> None:
    assert caption(["cat", "grapes", "cat", "umbrella"], "kitchen") == "a cat, grapes and an umbrella in the kitchen"
    sample = draw(HELD_OUT_FROM)
    assert all(name in caption(sample.names, sample.place) for name in sample.names)


def test_the_right_caption_ranks_first_for_most_scenes_that_it_was_not_trained_on() -> None:
    pytest.importorskip("torch", exc_type=ImportError)
    pytest.importorskip("transformers", exc_type=ImportError)
    found = recall(FOLDER, 64)
    assert found.caption >= 0.85, "among 32 captions"
    assert found.image >= 0.85, "among 32 images"
    assert found.same_place >= 0.5, "among captions of the same place"
    assert found.swapped >= 0.95, "against the caption of one other scene"


def test_it_is_a_small_clip_checkpoint_that_opens_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers", exc_type=ImportError)
    pytest.importorskip("torch", exc_type=ImportError)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = transformers.CLIPModel.from_pretrained(FOLDER)
    tokens = transformers.AutoProcessor.from_pretrained(FOLDER).tokenizer("a zebra, qwertz \N{SNOWMAN}").input_ids
    assert tokens.index(model.config.text_config.eos_token_id) == len(tokens) - 1, "an unknown letter ends no text"
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 3_000_000
