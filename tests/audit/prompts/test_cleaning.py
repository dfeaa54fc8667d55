"""Facts about dropping prompts: what counts as the same, and that no two near ones stay."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomreason.audit.prompts.cleaning import MOST_CHARACTERS, apart, distinct, text_key
from anomreason.audit.prompts.reading import ListedPrompt


def listed(*texts: str) -> list[ListedPrompt]:
    return [ListedPrompt(f"list/{number}", text) for number, text in enumerate(texts, 1)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A cup on a Table", "a cup  on\na table"),
        ("a cup, on a table!", "a cup on a table"),
        ("caf\u00e9", "cafe\u0301"),
        ("ﬁve ｃｕｐｓ", "five cups"),
        ("STRASSE", "straße"),
        ("a\u200bcup\u00ad", "acup"),
        ("“a cup”", '"a cup"'),
        ("\N{OHM SIGN}", "\N{GREEK SMALL LETTER OMEGA}"),
    ],
)
def test_prompts_of_the_same_words_are_equal(one: str, other: str) -> None:
    kept, dropped = distinct(listed(one, other))
    assert [prompt.text for prompt in kept] == [one]
    assert [(drop.reason, drop.message) for drop in dropped] == [("duplicate", "the same words as list/1")]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a cup", "a cap"),
        ("हाथ", "हथ"),
        ("!!!", "???"),
        ("🐕", "🐈"),
        ("2 cups", "3 cups"),
        ("a+b", "a-b"),
        ("杯", "杯子"),
    ],
)
def test_prompts_that_differ_in_a_letter_are_not_equal(one: str, other: str) -> None:
    assert len(distinct(listed(one, other))[0]) == 2


@given(st.text(max_size=40))
def test_the_key_is_the_same_in_every_normal_form_and_of_the_key_itself(text: str) -> None:
    forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD")]
    assert {text_key(form) for form in forms} == {text_key(text)}


def test_a_prompt_of_5000_characters_is_dropped_as_too_long() -> None:
    kept, dropped = distinct(listed("x " * 2500, "y" * MOST_CHARACTERS))
    assert [prompt.place for prompt in kept] == ["list/2"]
    assert dropped[0].reason == "too long"
    assert "5,000 characters" in dropped[0].message
    assert len(dropped[0].text) == 2000


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.sampled_from([0.5, 0.8, 0.95]))
def test_no_two_that_stay_are_near_and_each_that_goes_is_near_to_one_that_stays(seed: int, n: int, near: float) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    prompts = listed(*(f"prompt {number}" for number in range(n)))
    kept, dropped = apart(prompts, vectors, near)
    assert len(kept) + len(dropped) == n
    between = vectors[kept] @ vectors[kept].T
    assert (between[~np.eye(len(kept), dtype=bool)] < near + 1e-6).all()
    for drop in dropped:
        own = vectors[int(drop.place.removeprefix("list/")) - 1]
        assert drop.similarity is not None
        assert (vectors[kept] @ own).max() >= drop.similarity - 1e-4 >= near - 2e-4
        assert drop.message.split(" with ")[1].split(":")[0] in {prompts[place].place for place in kept}
