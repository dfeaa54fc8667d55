"""How long a reply may be, in the words of many servers."""

import pytest

from anomreason.errors import ReplyLimit
from anomreason.vlm.endpoint.limits import reply_limit


@pytest.mark.parametrize(
    ("cap", "complaint", "limit"),
    [
        (8192, "max_tokens is too large: 8192. This model supports at most 4096 completion tokens", 4096),
        (8192, "max_tokens: 8192 > 4096, which is the maximum allowed number of output tokens for m-20240307", 4096),
        (16384, "Range of max_tokens should be [1, 8192]", 8192),
        (16384, "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", 8192),
        (8192, "`max_tokens` must be less than or equal to `4096`, which is less than the `context_window`", 4096),
        (16384, "maxOutputTokens is 16384 but the supported range is from 1 (inclusive) to 8193 (exclusive).", 8192),
        (8192, "This model supports at most 4k output tokens", 4000),
        (8192, "max_completion_tokens must be between 1 and 4,096", 4096),
        (8192, "The maximum tokens you requested exceeds the model limit of 4096.", 4096),
        (8192, "max_new_tokens must be <= 2048", 2048),
        (8192, "max_tokens is too large", 4096),
    ],
)
def test_the_longest_reply_of_the_model(cap: int, complaint: str, limit: int) -> None:
    assert reply_limit(complaint, "", cap) == ReplyLimit(limit)


@pytest.mark.parametrize(
    ("cap", "complaint", "limit"),
    [
        (
            4096,
            "'max_tokens' is too large: 4096. This model's maximum context length is 4096 tokens and your request "
            "has 1500 input tokens (4096 > 4096 - 1500).",
            2596,
        ),
        (
            8000,
            "This model's maximum context length is 8192 tokens. However, you requested 10000 tokens (2000 in the "
            "messages, 8000 in the completion).",
            6192,
        ),
        (21333, "input length and `max_tokens` exceed context limit: 190000 + 21333 > 200000, decrease input", 10000),
        (2048, "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 3000 `inputs` tokens and 2048", 1096),
        (
            2000,
            "Requested token count exceeds the model's maximum context length of 4096 tokens. You requested a total "
            "of 5000 tokens: 3000 tokens from the input messages and 2000 tokens for the completion.",
            1096,
        ),
        (
            8192,
            "Requested generation length 8192 is not possible! The provided prompt is 1500 tokens long, so "
            "generating 8192 tokens requires a sequence length of 9692, but the maximum is a sequence length of 8192!",
            6692,
        ),
    ],
)
def test_what_the_prompt_leaves_of_the_context(cap: int, complaint: str, limit: int) -> None:
    assert reply_limit(complaint, "", cap) == ReplyLimit(limit, by_context=True)


@pytest.mark.parametrize(
    "complaint",
    [
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        "This model's maximum context length is 4096 tokens. However, your prompt has 9000 tokens. Please reduce",
        "Requested sample logprobs of 20, max allowed: 5",
        "max_tokens: extra inputs are not permitted",
        "image exceeds 5 MB maximum: 6123456 bytes > 5242880 bytes",
        "the model 'x' does not exist",
    ],
)
def test_a_complaint_of_something_else_names_no_limit(complaint: str) -> None:
    assert reply_limit(complaint, "", 2048) is None
