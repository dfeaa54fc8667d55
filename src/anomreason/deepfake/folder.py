"""The folder of a set of photographs and AI images: what `deepfake make` writes and `deepfake run` reads.

SetFolder(Path("set")).names("test")    # ('0_real/photos/1.jpg', '1_fake/flux/7.png')

set/images/0_real/NAME/   the photographs of each source, set/images/1_fake/NAME/ the AI images
set/truth.jsonl           which is which, with known descriptions and anomalies
set/split.json            names of the images in each part
set/made.json             settings of the set, and what was found
set/descriptions/         the run that described the photographs
set/runs/NAME/            one detector: its run folder, its card, its sweep
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from anomreason.errors import UsageError
from anomreason.sources.generated import by_folder
from anomreason.sources.inputs import Image
from anomreason.sources.manifests import read_split

ALL = "all"
"""Name of the part that is the whole set."""


@dataclass(frozen=True, slots=True)
class SetFolder:
    """Where things are in the folder of a set."""

    path: Path

    @property
    def images(self) -> Path:
        return self.path / "images"

    @property
    def truth(self) -> Path:
        return self.path / "truth.jsonl"

    @property
    def split(self) -> Path:
        return self.path / "split.json"

    @property
    def made(self) -> Path:
        return self.path / "made.json"

    @property
    def files(self) -> Path:
        """What is known of each file."""
        return self.path / "files.jsonl"

    @property
    def descriptions(self) -> Path:
        return self.path / "descriptions"

    @property
    def runs(self) -> Path:
        return self.path / "runs"

    def check(self) -> None:
        """Raises UsageError where no set was made, or not to its end."""
        if not self.truth.is_file():
            made = f"{self.path} holds no set of photographs and AI images"
            raise UsageError(f"{made}; make one: anomreason deepfake make {self.path} --real FOLDER --fake FOLDER")

    def names(self, part: str) -> tuple[str, ...]:
        """Images of a part, or of the whole set (`all`), photographs first. Raises UsageError for an unknown part."""
        self.check()
        parts = read_split(self.split)
        if part == ALL and ALL not in parts:
            return tuple(sorted(name for names in parts.values() for name in names))
        if part not in parts:
            raise UsageError(f"{self.path} has no part {part!r}; the parts are {', '.join([*parts, ALL])}")
        return tuple(sorted(parts[part]))

    def listed(self, names: Sequence[str]) -> list[Image]:
        """These images, for a detector."""
        return [Image(name, self.images / name) for name in names]


def sample(names: Sequence[str], limit: int) -> tuple[str, ...]:
    """At most so many of these images, photographs and AI images by turns while there are both.

    The same images are taken each time, and a larger limit takes those of a smaller one and more.
    """
    drawn = sorted(names, key=lambda name: sha256(name.encode()).digest())
    sides = [[name for name in drawn if by_folder(name, name) is kind] for kind in (False, True)]

    def by_turns() -> Iterator[str]:
        for place in range(max(map(len, sides), default=0)):
            yield from (side[place] for side in sides if place < len(side))

    return tuple(sorted([name for name, _ in zip(by_turns(), range(limit), strict=False)]))
