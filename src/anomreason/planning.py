"""Estimates what a run will cost before it starts: calls, tokens, money and time.

    import anomreason
    anomreason.plan(["photos/"], model="gpt-4o").usual.usage.cost    # US dollars; None when the price is not known

Reply lengths are the measured usual ones in `agent.roles.STEPS`; an image's tokens follow OpenAI's published rule.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from anomreason.agent.cutouts import MOST, SHEETS, sheet_size
from anomreason.agent.forms import CheckedReport, DetailedObjects, EnlargedReport, Objects, schema_of
from anomreason.agent.pipeline import DRAFTS, GROUP, SAMPLES, Schedule
from anomreason.agent.roles import STEPS
from anomreason.anomaly import Record, Usage
from anomreason.buckets import Address
from anomreason.detection import found_images, remaining
from anomreason.detector import DetectArguments, DetectOptions, DetectorSetup, set_up
from anomreason.errors import UnreadableImage
from anomreason.images import image_size
from anomreason.parquet import ROWS, is_row
from anomreason.runs import done_in
from anomreason.sources.inputs import Image
from anomreason.sources.memory import ImageInput, ImageInputs, given_images
from anomreason.vlm.ledger import FREE, spent_in
from anomreason.vlm.protocol import VLM

USUAL_OBJECTS = 8
"""Objects in an image that an estimate assumes, unless fewer are allowed."""
CALL_SECONDS = 5.0
"""Duration of a call that an estimate assumes."""
_CUTOUT_LINE = 15
"""Usual tokens of a cut-out's number, name and place."""
_PARTS = 240
"""Usual tokens of the parts in the list of objects."""
_SAMPLED = 50
"""Images whose headers are read; the others are taken to have the same sizes."""
_FETCHED = 8
"""As many of a bucket, where each is fetched whole."""


class RunEstimate(Record):
    """What a run takes if every image has this many objects."""

    objects: int
    """Objects in each image."""
    usage: Usage
    """Calls, tokens and US dollars; `cost` is None when the price is not known."""
    seconds: float
    """Duration of the run, at `CALL_SECONDS` a call."""


class RunPlan(Record):
    """What a run is expected to cost."""

    images: int
    """Images still to be processed."""
    model: str
    schedule: Schedule
    in_flight: int
    """Concurrent calls."""
    usual: RunEstimate
    """With a usual number of objects in each image."""
    upper: RunEstimate
    """With `max_objects` objects in each image."""
    fitting: int | None = None
    """Images that the limit on cost or tokens is expected to finish; None without a limit."""
    rounds: int | None = None
    """Rounds of batches until all images are done, retries aside; None for calls that are answered at once."""


def plan(
    images: ImageInput | ImageInputs,
    *,
    model: str | VLM,
    run: str | Path | None = None,
    **options: Unpack[DetectArguments],
) -> RunPlan:
    """What `detect` with the same arguments is expected to cost. Opens no model and sends nothing.

    run: a run folder to continue; only the images that it still has to process are counted. Raises UsageError for
    inputs and options that cannot be used.
    """
    setup = set_up(model, DetectOptions.of(options), options)
    found = found_images(given_images(images), setup.options, None if run is None else Path(run)).images
    if run is None:
        return plan_for(setup, found)
    return plan_for(setup, list(remaining(found, done_in(Path(run)))), spent_in(Path(run)))


def plan_for(setup: DetectorSetup, images: Sequence[Image], spent: Usage = Usage()) -> RunPlan:  # noqa: B008
    """The plan of a run over these images; `spent` counts towards its limits."""
    sizes, most = _sizes(images, setup.options.max_side), setup.options.max_objects
    usual, upper = (estimate(setup, sizes, len(images), n) for n in (min(USUAL_OBJECTS, most), most))
    return RunPlan(
        images=len(images),
        model=setup.model,
        schedule=setup.options.schedule,
        in_flight=setup.options.in_flight,
        usual=usual,
        upper=upper,
        fitting=_fitting(setup.options, usual.usage, len(images), spent),
        rounds=_calls_in_line(setup.options, usual.objects) if setup.in_batches else None,
    )


def _fitting(options: DetectOptions, usual: Usage, images: int, spent: Usage) -> int | None:
    """How many of the images fit into what the limits leave."""
    shares = []
    if options.max_tokens is not None:
        shares.append((options.max_tokens - spent.tokens) / max(1, usual.tokens))
    if options.max_cost is not None and usual.cost is not None:
        shares.append((options.max_cost - (spent.cost or 0.0)) / usual.cost if usual.cost else 1.0)
    return int(max(0.0, min(1.0, *shares)) * images + 1e-9) if shares else None


def _sizes(images: Sequence[Image], max_side: int) -> list[tuple[int, int]]:
    """Sizes as sent of some of the images; 1024x1024 when none can be read.

    They are spread evenly, but of a Parquet file the first ones, as later ones cost reading all before them.
    """
    sizes = []
    most = _FETCHED if images and isinstance(images[0].path, Address) else _SAMPLED
    sample = images[:: max(1, len(images) // most)][:most]
    if images and is_row(images[0].path):
        sample = images[:ROWS]
    for image in sample:
        try:
            width, height = image_size(image.path, image.data)
        except UnreadableImage:
            continue
        scale = min(1.0, max_side / max(width, height))
        sizes.append((max(1, round(width * scale)), max(1, round(height * scale))))
    return sizes or [(1024, 1024)]


def estimate(setup: DetectorSetup, sizes: Sequence[tuple[int, int]], images: int, objects: int) -> RunEstimate:
    """For `images` images of sizes like these, with so many objects each; cut-outs, where shown, fill their sheets."""
    options, price = setup.options, setup.price
    image_tokens = sum((price or FREE).image_tokens(w, h) for w, h in sizes) / len(sizes)
    prompt = completion = calls = 0.0
    steps = setup.steps if setup.steps is not None else steps_taken(options.schedule, objects, options.source_calls)
    for name, count in steps.items():
        step = STEPS[name]
        text = setup.prompts.length(name)
        text += len(json.dumps(schema_of(step.form))) if step.form else 0
        text = len(setup.card.prompt) if setup.card and name == "single" else text
        text = len(setup.card.source) if setup.card and setup.card.source and name == "source" else text
        calls += count
        prompt += count * (text // 4 + step.context_tokens + (image_tokens if step.sees else 0))
        completion += count * step.reply_tokens
    if options.schedule == "lean" and options.crops != "never":
        prompt += _cutout_tokens(setup, objects)
        completion += _PARTS
    usage = Usage(
        calls=round(images * calls), prompt_tokens=round(images * prompt), completion_tokens=round(images * completion)
    )
    usage = usage.model_copy(update={"cost": None if price is None else price.cost(usage)})
    waves = max(usage.calls / options.in_flight, _calls_in_line(options, objects) if images else 0)
    return RunEstimate(objects=objects, usage=usage, seconds=waves * CALL_SECONDS)


def _calls_in_line(options: DetectOptions, objects: int) -> int:
    return steps_in_line(options.schedule, objects) + options.two_turns


def _cutout_tokens(setup: DetectorSetup, objects: int) -> float:
    """Prompt tokens that cut-outs add to an image: what asks for parts and boxes, and full sheets in each call."""
    inspections, said = math.ceil(objects / GROUP), setup.prompts
    sheets = max(inspections, SHEETS) + 1 if objects else 0  # one of them for the second look
    texts = [said.of_parts, *[said.of_cutouts("", boxes=False)] * (inspections + 1), said.by_name["cutout-boxes"].text]
    schemas = [json.dumps(schema_of(form)) for form in (DetailedObjects, EnlargedReport)]
    without = [json.dumps(schema_of(form)) for form in (Objects, CheckedReport)]
    text = sum(map(len, texts + schemas)) - sum(map(len, without))
    sheet = (setup.price or FREE).image_tokens(*sheet_size(MOST)) + MOST * _CUTOUT_LINE
    return text / 4 + sheets * sheet


def steps_taken(schedule: Schedule, objects: int, source_calls: int = 0) -> Counter[str]:
    """How often each step is taken for an image with this many objects.

    `paper` skips the two reviews of an object that nothing was proposed for, and the format step of a clean image.
    source_calls: of those, about the source. In two turns a photograph takes these and one description.
    """
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
    return Counter(steps[schedule]) + Counter({"source": source_calls} if source_calls else {})


def calls_needed(schedule: Schedule, objects: int, source_calls: int = 0) -> int:
    """Model calls for an image with this many objects, as `steps_taken` counts them: `paper` may make fewer."""
    return steps_taken(schedule, objects, source_calls).total()


def steps_in_line(schedule: Schedule, objects: int) -> int:
    """Calls for one image that wait for each other, when something is proposed: it takes so many call durations."""
    inner = bool(objects)
    return {"single": 1, "lean": 2 + inner, "paper": 2 + 6 * inner, "release": 4 + 5 * inner}[schedule]
