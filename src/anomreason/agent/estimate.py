"""What a run will need, said before it is spent: calls, tokens, money.

Uses the measured usual lengths in `roles.STEPS`; the picture's own tokens by OpenAI's published rule.

    expected(AgentSettings(), [(1024, 1024)], Prompts.load()).calls
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence

from anomreason.agent.pipeline import DRAFTS, GROUP, SAMPLES, AgentSettings, Schedule
from anomreason.agent.replies import schema_of
from anomreason.agent.roles import STEPS, Prompts
from anomreason.anomaly import Usage
from anomreason.vlm.ledger import FREE, Price

USUAL_OBJECTS = 8
"""Objects an image that an estimate assumes, unless fewer are allowed."""


def steps_taken(schedule: Schedule, objects: int, judge_source: bool = False) -> Counter[str]:
    """How often each step is taken for an image with this many objects."""
    per_object = dict.fromkeys(("attributes-1", "attributes-2", "relations-1", "relations-2"), objects)
    steps: dict[str, dict[str, int]] = {
        "single": {"single": 1},
        "lean": {"objects-1": 1, "inspect": math.ceil(objects / GROUP), "look-again": 1},
        "paper": {f"objects-{t + 1}": 1 for t in range(DRAFTS)}
        | per_object
        | {"review-1": objects, "review-2": objects, "format": 1},
        "release": {"draft": DRAFTS, "merge": 1, **per_object, "summary": objects}
        | {"verify": SAMPLES, "scan": SAMPLES, "finish": 1},
    }
    return Counter(steps[schedule]) + Counter({"source": 1} if judge_source else {})


def calls_needed(schedule: Schedule, objects: int, judge_source: bool = False) -> int:
    """Model calls of an image with this many objects when nothing goes wrong and no two are equal."""
    return steps_taken(schedule, objects, judge_source).total()


def steps_in_line(schedule: Schedule, objects: int) -> int:
    """Calls of one image that wait for each other: how many call times an image takes at least."""
    inner = bool(objects)
    return {"single": 1, "lean": 2 + inner, "paper": 2 + 6 * inner, "release": 4 + 5 * inner}[schedule]


def expected(
    settings: AgentSettings, sizes: Sequence[tuple[int, int]], prompts: Prompts, price: Price | None, objects: int
) -> Usage:
    """Usage over pictures of these sizes (pixels as sent) with so many objects each; mean of `sizes` where sampled."""
    pictures = sum((price or FREE).picture(w, h) for w, h in sizes)
    prompt = completion = calls = 0
    for name, count in steps_taken(settings.schedule, objects, settings.judge_source).items():
        step = STEPS[name]
        text = len(prompts.by_name[step.prompt].text) + (len(prompts.common) if step.sees else 0)
        text += len(json.dumps(schema_of(step.form))) if step.form else 0
        prompt += count * (len(sizes) * (text // 4 + step.context_tokens) + (pictures if step.sees else 0))
        completion += count * len(sizes) * step.reply_tokens
        calls += count * len(sizes)
    usage = Usage(calls=calls, prompt_tokens=prompt, completion_tokens=completion)
    return usage if price is None else usage.model_copy(update={"cost": price.cost(usage)})
