"""Whoever runs a review can lay its keys otherwise."""

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

from anomreason.errors import UsageError
from anomreason.review.keys import KEYS, read_keys


def write(folder: Path, keys: object) -> None:
    (folder / KEYS).parent.mkdir()
    (folder / KEYS).write_text(json.dumps(keys))


def test_the_usual_keys_stand_for_one_action_each(tmp_path: Path) -> None:
    keys = read_keys(tmp_path)
    assert (keys["accept"], keys["reject"]) == (["KeyA"], ["KeyX", "KeyR"])
    assert len(every := [key for given in keys.values() for key in given]) == len(set(every))


def test_actions_get_other_keys_and_the_rest_stay(tmp_path: Path) -> None:
    write(tmp_path, {"accept": ["Enter", "KeyY"], "accept_rest": []})
    keys = read_keys(tmp_path)
    assert (keys["accept"], keys["accept_rest"], keys["reject"]) == (["Enter", "KeyY"], [], ["KeyX", "KeyR"])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"acept": ["KeyY"]}, "did you mean 'accept'"),
        ({"accept": "KeyY"}, "codes of keys"),
        ({"accept": [7]}, "codes of keys"),
        ({"accept": ["KeyX"]}, "'KeyX' stands for 'accept' and 'reject'"),
    ],
)
def test_a_wrong_file_of_keys_says_what_is_wrong(tmp_path: Path, keys: object, message: str) -> None:
    write(tmp_path, keys)
    with pytest.raises(UsageError, match=message):
        read_keys(tmp_path)


def test_the_docs_name_every_reason_in_the_order_of_its_key() -> None:
    lists = (files("anomreason.review") / "page" / "static" / "reasons.js").read_text(encoding="utf-8")
    docs = (Path(__file__).parents[2] / "docs" / "review.md").read_text(encoding="utf-8")
    found = re.findall(r"export const \w+_REASONS = \[(.*?)\n\];", lists, re.DOTALL)
    assert len(found) == 3
    for reasons in found:
        names = re.findall(r'^  \["([^"]+)", ', reasons, re.MULTILINE)
        assert f"| {', '.join(names)} |" in docs
