"""The lines that batches give back, as providers and vLLM write them, and as they arrive after accidents."""

import json
from pathlib import Path
from typing import Any

import pytest

from anomreason.errors import UsageError
from anomreason.vlm.batches.answers import NOT_RUN, BatchAnswer, BatchAnswers, holds_answers

COMPLETION = {"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}


def line(custom_id: str, status: int = 200, body: Any = COMPLETION, error: Any = None) -> str:
    response = {"status_code": status, "request_id": "r", "body": body}
    return json.dumps({"id": "batch_req_1", "custom_id": custom_id, "response": response, "error": error}) + "\n"


def read(tmp_path: Path, *lines: str) -> BatchAnswers:
    file = tmp_path / "out.jsonl"
    file.write_text("".join(lines))
    return BatchAnswers([file])


def test_each_answer_is_found_by_its_name_in_any_order_and_any_file(tmp_path: Path) -> None:
    (tmp_path / "errors.jsonl").write_text(line("c", 400, {"error": {"message": "no"}}))
    (tmp_path / "out.jsonl").write_text(line("b", body="é" * 9) + "\n" + line("a"))
    answers = BatchAnswers([tmp_path / "out.jsonl", tmp_path / "errors.jsonl"])
    assert answers.read("a") == BatchAnswer(200, json.dumps(COMPLETION))
    assert answers.read("b") == BatchAnswer(200, "é" * 9)
    assert answers.read("c") == BatchAnswer(400, '{"error": {"message": "no"}}')
    assert answers.read("d") is None
    assert (sorted(answers), answers.damaged) == (["a", "b", "c"], [])


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        (  # OpenAI's, for what it did not come to in time
            {"response": None, "error": {"code": "batch_expired", "message": "too late"}},
            BatchAnswer(NOT_RUN, '{"error": {"code": "batch_expired", "message": "too late"}}'),
        ),
        (  # vLLM's: the error stands beside a response without a body
            {"response": {"status_code": 400, "request_id": "r", "body": None}, "error": {"error": {"message": "no"}}},
            BatchAnswer(400, '{"error": {"message": "no"}}'),
        ),
        ({"response": COMPLETION}, BatchAnswer(200, json.dumps(COMPLETION))),
        ({"response": {"status_code": "x", "body": {"a": 1}}}, BatchAnswer(500, '{"a": 1}')),
        (
            {"error": None},
            BatchAnswer(NOT_RUN, '{"error": "the batch holds neither an answer nor an error"}'),
        ),
    ],
)
def test_errors_stand_in_several_places(rest: dict[str, Any], expected: BatchAnswer, tmp_path: Path) -> None:
    assert read(tmp_path, json.dumps({"custom_id": "a", **rest})).read("a") == expected


def test_of_several_answers_to_a_request_the_first_good_one_counts(tmp_path: Path) -> None:
    answers = read(tmp_path, line("a", 500, {}), line("a", 200, "first"), line("a", 200, "second"), line("a", 500))
    assert answers.read("a") == BatchAnswer(200, "first")


def test_a_torn_file_names_its_lines_and_keeps_the_others(tmp_path: Path) -> None:
    answers = read(tmp_path, line("a"), "[1]\n", '{"custom_id": 7}\n', line("b"), line("c")[:-20])
    assert sorted(answers) == ["a", "b"]
    places = [message.partition(": ")[0] for message in answers.damaged]
    assert places == [f"{tmp_path}/out.jsonl, line {n}" for n in (2, 3, 5)]


def test_a_file_of_requests_is_told_from_answers(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds the requests of a batch: give the files that it gave back"):
        read(tmp_path, '{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {}}\n')
    with pytest.raises(UsageError, match="cannot be read"):
        BatchAnswers([tmp_path / "none.jsonl"])


def test_answers_are_told_from_a_manifest_of_images(tmp_path: Path) -> None:
    for name, text, expected in [
        ("answers", line("a"), True),
        ("no errors", "", True),
        ("manifest", '{"file_name": "a.png"}\n', False),
    ]:
        (tmp_path / name).write_text(text)
        assert holds_answers(tmp_path / name) == expected, name
