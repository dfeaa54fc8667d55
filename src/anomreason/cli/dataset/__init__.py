"""`anomreason dataset`: a dataset of verified anomalies. One file a subcommand, each with a function `command`."""

from __future__ import annotations

from anomreason.cli.group import Command

COMMANDS: dict[str, Command] = {
    "collect": Command("dataset.collect:command", "Collect images and prompts."),
    "filter": Command(
        "dataset.filter:command",
        "Drop images by rules: blurry, dark, near-duplicates, not what the prompt says, no photograph, and your own.",
    ),
    "generate": Command(
        "dataset.generate:command",
        "Make images for the prompts of a dataset, by a diffusers pipeline or an OpenAI-compatible images endpoint.",
    ),
    "annotate": Command(
        "dataset.annotate:command",
        "Detect anomalies in the images of a dataset: candidates for people to verify.",
    ),
    "import-verdicts": Command(
        "dataset.import_verdicts:command",
        "Bring verdicts in that people gave in Label Studio or Prodigy, on candidates that export wrote.",
    ),
    "compare": Command(
        "dataset.compare:command",
        "Compare what people annotated themselves with what a detector found in the same images.",
    ),
    "split": Command("dataset.split:command", "Divide the kept images into splits, by a salted hash of their groups."),
    "stats": Command(
        "dataset.stats:command",
        "Count what a dataset holds: images by source, anomalies before and after review, acceptance, cost.",
    ),
    "export": Command(
        "dataset.export:command",
        "Write kept images and verified anomalies into a folder to give away, for Hugging Face and others.",
    ),
    "verify": Command(
        "dataset.verify:command", "Recompute the sums and counts of an export, offline, and say what differs."
    ),
    "list": Command(
        "dataset.list:command",
        "List images, files, decisions, generations and detections: counts by reason first, then the rows.",
    ),
    "retry": Command(
        "dataset.retry:command",
        "Try again what failed for one reason: files at once, generations and detections with the next run.",
    ),
    "restore": Command(
        "dataset.restore:command", "Bring back images that a filter dropped; later runs of the filter leave them in."
    ),
}
"""Subcommands in the order of the work: collect, filter, generate, annotate, import-verdicts, compare, split,
stats, export, verify, list, retry, restore."""
