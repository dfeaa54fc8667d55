"""Whoever runs a review can lay its keys otherwise."""

import json
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
