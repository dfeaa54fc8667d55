"""The questions that a model is trained with."""

from __future__ import annotations

from pathlib import Path

import pytest

from anomreason.agent.source import read_source
from anomreason.errors import UsageError
from anomreason.training.data.questions import CONTROL, Questions

WHOLE = """
version = 3
[anomalies]
ask = ["What is wrong?"]
[authenticity]
source = ["Which?"]
explain = ["Why?"]
generated = "generated"
photograph = "photograph"
"""


def test_each_question_has_at_least_four_different_wordings() -> None:
    own = Questions.load()
    for texts in (own.anomalies.ask, own.authenticity.source, own.authenticity.explain):
        assert len(set(texts)) == len(texts) >= 4
        assert all(text == text.strip() and not CONTROL.search(text) for text in texts)


def test_every_list_is_asked_for_in_the_form_that_is_read_back() -> None:
    own = Questions.load()
    for text in (*own.anomalies.ask, *own.authenticity.explain):
        for word in ("Name", "Phenomenon", "Reasoning", "Severity Score", "No anomalies.", "0", "100", "@"):
            assert word in text


def test_the_answers_on_the_source_are_those_that_detection_reads() -> None:
    own = Questions.load()
    assert read_source(own.authenticity.generated) == "generated"
    assert read_source(own.authenticity.photograph) == "photograph"


def test_a_single_question_replaces_all_wordings_of_the_list_alone() -> None:
    own = Questions.load()
    one = own.only("What is odd?")
    assert (one.anomalies.ask, one.authenticity) == (("What is odd?",), own.authenticity)


def test_a_file_of_one_s_own_replaces_the_questions(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(WHOLE)
    mine = Questions.load(file)
    assert (mine.version, mine.anomalies.ask, mine.authenticity.explain) == (3, ("What is wrong?",), ("Why?",))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("version = 3", "", "version: Field required"),
        ("version = 3", "version = true", "version: Input should be a valid integer"),
        ("version = 3", "version = 0", "version: Input should be greater"),
        ("version = 3", "version = ", "not a TOML file"),
        ("[anomalies]", "[anomaly]", "anomalies: Field required"),
        ('ask = ["What is wrong?"]', "ask = []", "anomalies.ask: Tuple should have at least 1"),
        ('ask = ["What is wrong?"]', 'ask = [" "]', "anomalies.ask.0: String should have at least 1"),
        ('ask = ["What is wrong?"]', 'ask = ["<image>What?"]', "anomalies.ask.0: '<image>' stands for an image"),
        ('ask = ["What is wrong?"]', 'ask = ["a"]\nquestion = ["b"]', "anomalies.question: Extra inputs"),
        ('photograph = "photograph"', "photograph = 1", "authenticity.photograph: Input should be a valid string"),
        ('photograph = "photograph"', "", "authenticity.photograph: Field required"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(WHOLE.replace(old, new))
    with pytest.raises(UsageError, match=f"mine.toml.*{said}"):
        Questions.load(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml cannot be read: No such file"):
        Questions.load(tmp_path / "none.toml")
