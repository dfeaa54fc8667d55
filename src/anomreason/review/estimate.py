"""How good the reviewed candidates are by now, how sure that is, and when it is enough.

>>> estimate = share_correct(known=Judged(300, 240, size=300), sample=Judged(400, 300, size=9_700))
>>> f"{estimate.share:.3f}, {estimate.low:.3f} to {estimate.high:.3f}"
'0.752, 0.709 to 0.789'
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

from anomreason.stats import wilson

FEWEST_AT_RANDOM = 10
"""Candidates drawn at random that must be judged before there is an estimate, or all of them where there are fewer: the
interval of fewer is so wide that the share says nothing."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One stratum of a round, and how much of it people have judged."""

    judged: int
    correct: int
    """How many of the judged are correct."""
    size: int
    """How many candidates the stratum holds, judged or not."""


@dataclass(frozen=True, slots=True)
class ShareCorrect:
    """The share of correct candidates in a whole round, 0..1, with its 95 % interval."""

    share: float | None
    """None as long as fewer than `FEWEST_AT_RANDOM` drawn at random are judged."""
    low: float
    high: float
    judged: int
    size: int

    @property
    def half_width(self) -> float:
        """Half of the interval, 0..1."""
        return (self.high - self.low) / 2


def share_correct(known: Judged, sample: Judged, level: float = 0.95) -> ShareCorrect:
    """The share over both strata, unbiased whatever order the worth of candidates gave.

    known: the candidates up to the greatest rank by worth that was handed out; people judge all of these, so that
    their share is nearly certain. sample: the candidates beyond that rank; those of them that were judged were drawn at
    random from all of them. The interval is Wilson's for the sample, with the correction for a finite population; the
    strata count by their sizes (post-stratification; W. G. Cochran, Sampling Techniques, 1977, section 5A.9).
    With fewer than `FEWEST_AT_RANDOM` of the sample judged, and not all of it, there is no share yet.
    """
    size, judged = known.size + sample.size, known.judged + sample.judged
    strata = [(stratum.size / size, _of(stratum, level)) for stratum in (known, sample) if stratum.size]
    too_few = sample.judged < min(FEWEST_AT_RANDOM, sample.size)
    if not strata or too_few or (known.size and not known.judged):
        return ShareCorrect(None, 0.0, 1.0, judged, size)
    share = sum(weight * part for weight, (part, _, _) in strata)
    down = sqrt(sum((weight * (part - low)) ** 2 for weight, (part, low, _) in strata))
    up = sqrt(sum((weight * (high - part)) ** 2 for weight, (part, _, high) in strata))
    return ShareCorrect(share, max(0.0, share - down), min(1.0, share + up), judged, size)


def _of(stratum: Judged, level: float) -> tuple[float, float, float]:
    """Share and bounds of one stratum."""
    share = stratum.correct / stratum.judged if stratum.judged else 0.0
    left = stratum.size - stratum.judged
    if not left or not stratum.judged:
        return share, share, share
    # As many draws with replacement as are worth these without.
    low, high = wilson(share, max(1, round(stratum.judged * (stratum.size - 1) / left)), level)
    return share, min(low, share), max(high, share)


def verdicts_needed(estimate: ShareCorrect, half_width: float, random_share: float, level: float = 0.95) -> int:
    """About how many further verdicts bring the interval to +- half_width; 0 when it is there already.

    random_share: share of the handed-out items that are drawn at random, 0..1. At most what is left of the round.
    """
    left = estimate.size - estimate.judged
    if not random_share:
        return left  # no estimate before all are judged
    if estimate.share is None:
        share, drawn = 0.5, 0.0
    elif estimate.half_width <= half_width:
        return 0
    else:
        share, drawn = estimate.share, estimate.judged * random_share
    z = NormalDist().inv_cdf((1 + level) / 2)
    wanted = max(share * (1 - share), 0.01) * (z / half_width) ** 2
    wanted /= 1 + (wanted - 1) / max(1, estimate.size)  # the population is finite
    return min(left, max(1, round((wanted - drawn) / random_share)))
