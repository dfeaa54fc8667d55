"""What servers say, in the many forms they say it: every text is a completion or a named fault."""

from __future__ import annotations

import json
import time
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomreason.errors import EndpointError
from anomreason.vlm.endpoint.answers import ServerAnswer, excerpt, read_completion
from anomreason.vlm.protocol import Reply

URL = "http://127.0.0.1:8000/v1"
WORDS = (
    *("choices", "message", "content", "refusal", "finish_reason", "logprobs", "top_logprobs", "token", "logprob"),
    *("usage", "prompt_tokens", "prompt_tokens_details", "cached_tokens", "model", "text", "type"),
    *("error", "code", "param", "detail", "loc", "msg", "metadata", "raw"),
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(WORDS),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("secret", "name", "remedy"),
    [
        ("", None, "no key was sent: put the key for this server in an environment variable"),
        ("", "OPENROUTER_API_KEY", "no key was sent: set OPENROUTER_API_KEY"),
        ("sk-1234567890ab", "OPENROUTER_API_KEY", "the key was not accepted: check OPENROUTER_API_KEY"),
    ],
)
def test_a_key_that_is_missing_or_wrong_is_named_by_its_variable(secret: str, name: str | None, remedy: str) -> None:
    answer = ServerAnswer(401, {}, '{"error": "who are you?"}', URL, secret)
    answer.key_name = name
    assert remedy in answer.error("m").remedy


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"error": {"message": "", "code": 400, "type": "error"}}, " and gave no reason"),
        ({"error": {"message": "", "code": "bad_image"}}, "bad_image"),
        ({"message": "", "errors": ["no image"]}, "no image"),
        ({"detail": {"reason": "no image"}}, "no image"),
    ],
)
def test_an_error_without_a_message_shows_what_else_it_says(body: dict[str, Any], reason: str) -> None:
    assert ServerAnswer(400, {}, json.dumps(body), URL).summary.partition(" answered 400")[2].count(reason) == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "-4"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"x-ratelimit-reset-requests": "1m2s", "x-ratelimit-reset-tokens": "250ms"}, 0.25),
        ({"x-ratelimit-reset": "12"}, 12.0),
        ({"x-ratelimit-reset": "1000000001"}, 0.0),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert ServerAnswer(429, headers, "", URL).retry_after == seconds


def test_a_moment_to_come_is_that_far_away() -> None:
    moment = time.time() + 100
    for headers in ({"retry-after": formatdate(moment, usegmt=True)}, {"x-ratelimit-reset": str(int(moment * 1000))}):
        seconds = ServerAnswer(429, headers, "", URL).retry_after
        assert seconds is not None
        assert 0 < seconds <= 100


def test_limits_that_renew_say_nothing_of_a_broken_server() -> None:
    assert ServerAnswer(500, {"x-ratelimit-reset-requests": "60s"}, "", URL).retry_after is None


def test_what_a_validator_echoes_of_our_input_is_not_repeated() -> None:
    detail = [{"loc": ["body", "messages", 0], "msg": "too odd", "input": "data:image/png;base64,AAAA temperature"}]
    answer = ServerAnswer(422, {}, json.dumps({"detail": detail}), URL)
    assert answer.complaint == "body.messages.0: too odd"
    assert answer.refused_option is None


def test_an_excerpt_is_one_short_printable_line() -> None:
    assert excerpt("a\n\n b\x1b[0m\tc") == "a b [0m c"
    assert len(excerpt("x" * 10_000)) == 200


@settings(deadline=None)
@given(st.sampled_from([200, 204, 302, 400, 403, 404, 422, 429, 500]), anything)
def test_any_json_is_a_reply_or_a_named_fault(status: int, data: Any) -> None:
    answer = ServerAnswer(status, {}, json.dumps(data), URL, "secret")
    assert answer.policy in (True, False)
    assert answer.refused_option is None or answer.fault
    outcome = answer.error("gpt-4o") if answer.fault else _read(answer)
    if isinstance(outcome, EndpointError):
        assert outcome.kind in (("rate_limit", "server", "rejected") if answer.fault else ("server",))
    else:
        assert outcome.finish in ("stop", "length", "refused")
        assert outcome.usage.cached_tokens <= outcome.usage.prompt_tokens


def _read(answer: ServerAnswer) -> Reply | EndpointError:
    try:
        return read_completion(answer, "gpt-4o")
    except EndpointError as e:
        return e


@given(st.text(), st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", "x-ratelimit-reset"]), st.text()))
def test_any_text_is_a_fault(text: str, headers: dict[str, str]) -> None:
    wait = ServerAnswer(429, headers, text, URL).error("gpt-4o").retry_after
    assert wait is None or wait >= 0


@pytest.mark.parametrize("key", ["x", "null", "EMPTY", "objects"])
def test_a_word_in_the_keys_place_changes_nothing_that_the_model_said(key: str) -> None:
    said = '{"objects": [{"name": "wax EMPTY box", "box": null}]}'
    body = json.dumps({"choices": [{"message": {"content": said}, "finish_reason": "stop"}], "model": "m"})
    assert read_completion(ServerAnswer(200, {}, body, URL, key), "m").text == said


def test_a_real_key_is_hidden_even_where_a_model_says_it() -> None:
    key = "sk-0123456789abcdef"
    body = json.dumps({"choices": [{"message": {"content": f"key {key}"}, "finish_reason": "stop"}], "model": key})
    reply = read_completion(ServerAnswer(200, {}, body, URL, key), "m")
    assert key not in reply.text + reply.model
