"""What is proposed can be done: no option is named where it has no effect or is at its end."""

from __future__ import annotations

from anomreason.images import Encoded
from anomreason.vlm.protocol import Request, Sampling, Tag
from anomreason.vlm.remedies import longer_replies, shorter_request, slow_answer, smaller_image

TAG = Tag("a.jpg", "r", "single")


def request(side: int, reply: int = 2048) -> Request:
    return Request(("What is odd?", Encoded(b"", "image/png", side, 9)), TAG, sampling=Sampling(max_tokens=reply))


def test_calls_in_flight_are_lowered_only_from_more_than_one() -> None:
    assert (
        slow_answer(200, 8) == "raise --timeout (now 200 seconds), e.g. to 400, or lower --in-flight (now 8), e.g. to 4"
    )
    assert slow_answer(200, 1) == "raise --timeout (now 200 seconds), e.g. to 400"


def test_no_image_is_proposed_under_the_smallest_side() -> None:
    assert smaller_image(request(1536)).endswith("e.g. to 1152")
    assert smaller_image(request(80)).endswith("e.g. to 64")
    assert smaller_image(request(64)) == "use smaller images"


def test_the_objects_are_named_for_the_steps_that_ask_about_them() -> None:
    assert "--max-objects" in longer_replies("inspect")
    assert "--max-objects" not in longer_replies("single")


def test_a_shorter_reply_is_proposed_where_the_context_has_room_for_one() -> None:
    assert "lower --max-reply-tokens, e.g. to 1024" in shorter_request(request(64), 4096)
    assert "lower --max-reply-tokens, e.g. to 1024" in shorter_request(request(64), None)
    full = shorter_request(request(1536), 256)
    assert "--max-reply-tokens" not in full
    assert "serve more context" in full
