"""Warnings about a result, each computed once from its record; the terminal and the HTML report show the same ones.

for notice in eval_notices(read_result(Path("scores/metrics.json"), EvalResult)):
    print(notice.title, notice.text)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from unicodedata import is_normalized

from anomreason.english import counted
from anomreason.evaluation.records import DeepfakeResult, EvalResult, ExactResult, JoinedImages, PlausibilityResult

_FACTS = {"bytes": "size in bytes", "pixels": "number of pixels", "aspect": "width / height"}
"""Facts about files, as a sentence calls them."""
NAMED = 5
"""How many images of a list are named; files hold them all."""


class Notice(NamedTuple):
    """One warning; its text may hold names from files, which whoever shows it has to escape."""

    title: str
    text: str


def named(names: Sequence[str]) -> str:
    """The first of many names, so that names that look alike can be told apart."""
    return ", ".join(map(_quoted, names[:NAMED])) + (", ..." if len(names) > NAMED else "")


def _quoted(name: str) -> str:
    return repr(name) if is_normalized("NFC", name) else ascii(name)


def joined_notices(joined: JoinedImages, truth: str = "truth") -> Iterator[Notice]:
    """Images that predictions and truth do not share, or share by the file name alone."""
    yield from _listed(joined.not_in_truth, f"of the predictions, not in the {truth}")
    yield from _listed(joined.ambiguous, "of the predictions, whose names may be those of several")
    yield from _listed(joined.missing, f"of the {truth}, missing from the predictions")
    if joined.by_file_name:
        yield Notice("Joined", f"{_images(joined.by_file_name)} by file name alone, since paths differ")
    respelled = [f"{_quoted(theirs)} as {_quoted(name)}" for theirs, name in joined.respelled]
    if respelled:
        ways = {"another spelling": joined.by_spelling, "the name behind an upload prefix": joined.by_upload_prefix}
        text = " and ".join(f"{_images(number)} by {way}" for way, number in ways.items() if number)
        yield Notice("Joined", f"{text}: {', '.join(respelled[:NAMED])}{', ...' * (len(respelled) > NAMED)}")


def eval_notices(result: EvalResult) -> Iterator[Notice]:
    """Of `metrics.json`."""
    saturated: dict[tuple[str, str], list[str]] = {}
    for cell in result.saturated:
        saturated.setdefault((cell.profile, cell.matches), []).append(f"{cell.view} {cell.threshold:g}")
    for (profile, matches), places in saturated.items():
        text = f"nearly {matches} matches in {profile} at {', '.join(places)}, which hardly tells detectors apart"
        yield Notice("Saturated (!)", text)
    if result.images.both_empty and any(
        not row.tp and row.precision
        for views in result.profiles.values()
        for view in views.values()
        for row in view.thresholds.values()
    ):
        yield Notice(
            "No matches",
            f"where nothing matched, precision, recall and F1 come from the {_images(result.images.both_empty)} "
            "without anomalies on both sides, which score 1",
        )
    yield from joined_notices(result.joined)
    left_out = result.left_out
    yield from _listed(
        left_out.photographs, "of the truth, left out as photographs with a description (see anomreason deepfake)"
    )
    yield from _listed(left_out.truth_failed, "of the truth, left out since they failed there")
    yield from _listed(left_out.subset_unknown, "of the subset, not in the truth")
    if result.texts.truncated:
        texts = counted(result.texts.truncated, "text, of which", "texts, of which")
        yield Notice("Truncated", f"{texts} only the first {result.texts.limit} tokens count")
    if result.texts.blank:
        yield Notice("Blank", f"{counted(result.texts.blank, 'text', 'texts')} without a word, similar to nothing")
    if result.texts.unknown:
        texts = counted(result.texts.unknown, "text", "texts")
        yield Notice(
            "Unknown words", f"{texts} with words that the backbone does not know; no two of those are similar"
        )
    if result.drift:
        yield Notice(
            f"Precision {result.signature.precision}",
            f"similarities are off fp32 by {result.drift.mean:.5f} on average, {result.drift.largest:.5f} at most "
            f"({result.drift.pairs:,} pairs); do not publish these numbers",
        )


def exact_notices(result: ExactResult) -> list[Notice]:
    """Of `exact.json`."""
    found = list(joined_notices(result.joined, "scenes and twins"))
    if result.twin_test.failed:
        pairs = counted(result.twin_test.failed, "pair", "pairs")
        found.insert(0, Notice("Twin test", f"{pairs} left out, since one of the two has no answer"))
    return found


def deepfake_notices(result: DeepfakeResult) -> list[Notice]:
    """Of `deepfake.json`; what the files give away comes first."""
    found = list(joined_notices(result.joined))
    curve = result.operating
    if curve and curve.rests_on == "scores" and (curve.fakes_without or curve.photographs_without):
        text = (
            f"{counted(curve.fakes_without, 'AI image', 'AI images')} count as not found in the curve; "
            f"{counted(curve.photographs_without, 'photograph', 'photographs')} left out of it"
        )
        found.insert(0, Notice("Without a score", text))
    if result.undescribed:
        photographs = counted(result.undescribed, "photograph", "photographs")
        text = f"{photographs} judged right, which the truth describes and the detector did not"
        found.insert(0, Notice("Scored 0", text))
    if (opinion := result.opinion) and opinion.looks is False:
        text = (
            f"{opinion.model} rates explanations as high beside another image as beside their own, so its ratings say "
            "nothing of this detector"
        )
        found.insert(0, Notice("The second opinion does not look", text))
    return [*leak_notices(result), *found]


def leak_notices(result: DeepfakeResult) -> Iterator[Notice]:
    """Facts about the files that tell AI images from photographs without a look at them."""
    for leak in result.leaking:
        one = leak.balanced_accuracy
        ends = f" ({one.interval.low:.2f} to {one.interval.high:.2f})" if one.interval else ""
        own = result.balanced_accuracy.value
        beside = "" if own is None else f", the detector {own:.2f}"
        fact = _FACTS.get(leak.fact, leak.fact)
        text = (
            f"the {fact} alone reaches a balanced accuracy of {one.value:.2f}{ends}{beside} "
            f"(rule: {leak.rule}); a detector may do well on these images without seeing what is in them"
        )
        yield Notice("Leak", text)


def plausibility_notices(result: PlausibilityResult) -> list[Notice]:
    """Of `plausibility.json`."""
    found = [Notice("Warning", text) for text in result.warnings]
    if not result.paired:
        found.insert(
            0, Notice("Prompts", "No prompts are known, so nothing is paired (see --manifest, --pair-by-name)")
        )
    if strangers := result.not_in_manifest:
        found.append(Notice("Left out", f"{_images(len(strangers))} not in the manifest: {named(strangers)}"))
    return found


def _images(number: int) -> str:
    return counted(number, "image", "images")


def _listed(names: Sequence[str], what: str) -> Iterator[Notice]:
    if names:
        yield Notice("Not joined", f"{_images(len(names))} {what}: {named(names)}")
