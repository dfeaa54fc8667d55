"""The images that a filter looks at, as columns of numbers: 100,000 images take about 20 MB."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from anomreason.dataset.store import BATCH
from anomreason.dataset.tables import DecisionRow, ImageRow

Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ImagePool:
    """All images of a dataset, in the order of their ids."""

    ids: Ints
    sha256: npt.NDArray[np.bytes_]
    """(n,) of 64 hex digits."""
    width: Ints
    height: Ints
    bytes: Ints
    """Of the file."""
    prompt: Ints
    """Id of the prompt; 0 for none."""
    group: Ints
    """Images of one group have one number; -1 for none."""
    candidate: Mask
    """Whether an image is this filter's to decide: what others dropped is not."""

    def __len__(self) -> int:
        return len(self.ids)

    def key(self, place: int) -> str:
        """The sha256 of the file, hex."""
        return bytes(self.sha256[place]).decode("ascii")

    def places(self, ids: Sequence[int]) -> Ints:
        """Places of these ids, all of which must be there."""
        return np.searchsorted(self.ids, np.asarray(ids, np.int64))

    def rank(self, first: Mask) -> Ints:
        """All places: those in `first` before the others, then more pixels, more bytes, and those collected earlier."""
        return np.lexsort((self.ids, -self.bytes, -self.width * self.height, ~first))


def load_pool(session: Session, own: Collection[str]) -> ImagePool:
    """own: names of the filter's rules, whose earlier decisions do not count."""
    n = session.scalar(select(func.count()).select_from(ImageRow)) or 0
    numbers = np.zeros((6, n), np.int64)
    sha256, candidate = np.zeros(n, "S64"), np.zeros(n, bool)
    groups: dict[str, int] = {}
    foreign = exists().where(
        DecisionRow.image_id == ImageRow.id,
        DecisionRow.keep.is_(False),
        DecisionRow.restored.is_(False),
        DecisionRow.filter.not_in(list(own)),
    )
    columns = (ImageRow.id, ImageRow.width, ImageRow.height, ImageRow.bytes, ImageRow.prompt_id)
    query = (
        select(ImageRow.sha256, ImageRow.group, foreign, *columns)
        .order_by(ImageRow.id)
        .execution_options(yield_per=5000)
    )
    for place, (digest, group, dropped, *values) in enumerate(session.execute(query)):
        numbers[:5, place] = [value or 0 for value in values]
        numbers[5, place] = -1 if group is None else groups.setdefault(group, len(groups))
        sha256[place], candidate[place] = digest.encode("ascii"), not dropped
    ids, widths, heights, sizes, prompts, group_numbers = numbers
    return ImagePool(ids, sha256, widths, heights, sizes, prompts, group_numbers, candidate)


def batches(places: Ints, size: int = BATCH) -> Iterator[Ints]:
    for start in range(0, len(places), size):
        yield places[start : start + size]
