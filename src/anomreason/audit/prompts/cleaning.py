"""Drops prompts that are too long, exact duplicates and near-duplicates, each with its reason.

>>> text_key("A RED  cup, on a table.") == text_key("a red cup on a table")
True
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from anomreason.audit.prompts.reading import DroppedPrompt, ListedPrompt

MOST_CHARACTERS = 2_000
"""Of a prompt; text encoders of generators read far less."""


def text_key(text: str) -> str:
    """What two prompts share that differ in case, spaces, punctuation and ways to write a character alone."""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    kept = (" " if c.isspace() else c for c in plain if unicodedata.category(c)[0] != "P" and c not in _INVISIBLE)
    return " ".join("".join(kept).split()) or " ".join(plain.split())


_INVISIBLE = "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad"


def distinct(prompts: Sequence[ListedPrompt]) -> tuple[list[ListedPrompt], list[DroppedPrompt]]:
    """The prompts that are not too long, the first of several equal ones; and the others."""
    kept: dict[str, ListedPrompt] = {}
    dropped: list[DroppedPrompt] = []
    for prompt in prompts:
        if len(prompt.text) > MOST_CHARACTERS:
            long = f"the prompt has {len(prompt.text):,} characters; at most {MOST_CHARACTERS:,} are taken"
            dropped.append(DroppedPrompt.of(prompt, "too long", long))
            continue
        first = kept.setdefault(text_key(prompt.text), prompt)
        if first is not prompt:
            dropped.append(DroppedPrompt.of(prompt, "duplicate", f"the same words as {first.place}"))
    return list(kept.values()), dropped


def apart(
    prompts: Sequence[ListedPrompt],
    vectors: npt.NDArray[np.float32],
    near: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[int], list[DroppedPrompt]]:
    """Places of the prompts of which no two are more similar than `near`, and the others.

    vectors: (n, dim) of length 1. Of two near ones the first stays, so whatever is dropped is near to one that stays.
    """
    from anomreason.dataset.filter.duplicates import cluster_embeddings

    everyone = np.arange(len(prompts))
    clusters = cluster_embeddings(vectors, near, everyone, np.full(len(prompts), -1), progress)
    kept = [place for place in everyone.tolist() if clusters.leader[place] < 0]
    dropped = []
    for place in np.flatnonzero(clusters.leader >= 0).tolist():
        other, similarity = prompts[clusters.leader[place]], float(clusters.similarity[place])
        message = f"similarity {similarity:.3f} with {other.place}: {other.text[:200]}"
        dropped.append(DroppedPrompt.of(prompts[place], "near-duplicate", message, similarity))
    return kept, dropped
