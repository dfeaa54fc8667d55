"""What to change after a failed call, with the value that it has now and one to try.

>>> fewer_calls(32)
'lower --in-flight (now 32), e.g. to 16'
"""

from __future__ import annotations

from anomreason.anomaly import Usage
from anomreason.images import Encoded
from anomreason.vlm.ledger import completed
from anomreason.vlm.protocol import Request

SMALLEST_SIDE = 64
"""Pixels, the least that --max-side takes."""
SHORTEST_REPLY = 256
"""Tokens. Room for a shorter reply is no room for an answer."""
NO_THINKING = (
    "turn thinking off at the server (vLLM: --default-chat-template-kwargs '{\"enable_thinking\": false}'; llama.cpp: "
    "--reasoning-budget 0)"
)


def fewer_calls(in_flight: int) -> str:
    """Fewer calls at once; 0 where it is not known how many there are now."""
    return f"lower --in-flight (now {in_flight}), e.g. to {in_flight // 2}" if in_flight else "lower --in-flight"


def slow_answer(timeout: float, in_flight: int) -> str:
    """More time for a call, or fewer calls; timeout: in seconds."""
    longer = f"raise --timeout (now {timeout:g} seconds), e.g. to {max(120, round(2 * timeout))}"
    return f"{longer}, or {fewer_calls(in_flight)}" if in_flight > 1 else longer


def longer_replies(step: str) -> str:
    """What to do when the server cuts the replies to a step; only some ask about objects."""
    fewer = "" if step in ("single", "source", "describe") else "--max-objects or "
    return (
        f"Raise the limit on the server, of the context or of the longest reply (vLLM: --max-model-len); else lower "
        f"{fewer}--max-side, or use a model that writes longer replies"
    )


def smaller_image(request: Request | None) -> str:
    """A smaller image, by the largest one of the request."""
    side = max((max(p.width, p.height) for p in request.parts if isinstance(p, Encoded)), default=0) if request else 0
    if not side:
        return "lower --max-side"
    if side <= SMALLEST_SIDE:
        return "use smaller images"
    smaller = max(SMALLEST_SIDE, side * 3 // 4)
    return f"lower --max-side (the image was sent with {side} pixels on its longer side), e.g. to {smaller}"


def shorter_request(request: Request | None, context: int | None) -> str:
    """What to do about a request over the model's limits, whose context is of so many tokens, if that is known."""
    over, serve = "the request is over the model's limits", "serve more context (vLLM: --max-model-len)"
    if request is None:
        return f"{over}: {serve}, or lower --max-reply-tokens or --max-side"
    prompt, reply = completed(Usage(estimated=True), request).prompt_tokens, request.sampling.max_tokens
    over += f", with about {prompt:,} tokens of prompt and up to {reply:,} of reply"
    room = reply // 2 if context is None else min(reply // 2, (context - prompt) * 9 // 10)
    if room < SHORTEST_REPLY:
        return f"{over}: {serve}, or {smaller_image(request)}"
    return f"{over}: {serve}, or lower --max-reply-tokens, e.g. to {room}, or --max-side"
