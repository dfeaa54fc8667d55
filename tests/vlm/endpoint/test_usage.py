"""Token counts as servers send them: those that can be used, and those that are estimated instead."""

from typing import Any

import pytest

from anomreason.anomaly import Usage
from anomreason.vlm.endpoint.usage import read_usage, written


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 1200, "completion_tokens": 30},
        {"prompt_tokens": 1200.0, "completion_tokens": 30.0},
        {"prompt_tokens": "1200", "completion_tokens": "30"},
        {"input_tokens": 1200, "output_tokens": 30},
        {"completion_tokens": 30, "total_tokens": 1230},
        {"prompt_tokens": 1200, "completion_tokens": None, "total_tokens": 1230},
        {"prompt_tokens": 1200, "completion_tokens": 10, "total_tokens": 1230},
    ],
)
def test_counts_in_many_forms(usage: dict[str, Any]) -> None:
    assert read_usage(usage, written=90) == Usage(calls=1, prompt_tokens=1200, completion_tokens=30)


@pytest.mark.parametrize(
    "count", [None, "many", "", -5, 0, True, 1e9, 10**9, 10**30, "1" * 30, float("nan"), 1200.5, [1200], {"n": 1}]
)
def test_what_is_no_count_is_estimated_and_marked(count: Any) -> None:
    usage = {"prompt_tokens": count, "completion_tokens": count, "total_tokens": count}
    assert read_usage(usage, written=90) == Usage(calls=1, completion_tokens=30, estimated=True)


@pytest.mark.parametrize("usage", [None, {}, [], "none", 7])
def test_without_counts_all_is_estimated(usage: Any) -> None:
    assert read_usage(usage, written=90) == Usage(calls=1, completion_tokens=30, estimated=True)


def test_half_a_count_is_kept() -> None:
    assert read_usage({"prompt_tokens": 1200}, written=90) == Usage(
        calls=1, prompt_tokens=1200, completion_tokens=30, estimated=True
    )
    assert read_usage({"completion_tokens": 44}, written=90) == Usage(calls=1, completion_tokens=44, estimated=True)


def test_a_counted_empty_answer_is_no_estimate() -> None:
    assert not read_usage({"prompt_tokens": 1200, "completion_tokens": 0}, written=0).estimated


def test_thoughts_count_as_written_and_the_role_does_not() -> None:
    message = {"role": "assistant", "content": [{"type": "text", "text": "abc"}], "reasoning_content": "thought"}
    assert written(message) == len("text") + len("abc") + len("thought")
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    assert written(deep) == 1
