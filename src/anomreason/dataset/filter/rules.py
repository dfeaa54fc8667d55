"""The rules of a filter, read from TOML: which checks run, and from which score on they drop an image.

    >>> RULES.read("default").dark
    DarkRule()

The thresholds of the checks that cleanvision has too are its own (version 0.3.7,
https://github.com/cleanlab/cleanvision), and so are the meanings of their scores.
"""

from __future__ import annotations

from importlib.resources import files
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field, model_validator

from anomreason.anomaly import Label, Record, Text
from anomreason.recipes import RecipeShelf


class Bar(NamedTuple):
    """A threshold, and on which side of it an image is dropped."""

    value: float
    side: Literal["below", "above"]


class Rule(Record):
    """One check, in force when its section is in the file."""

    meaning: ClassVar[str]
    """What its score is."""

    @property
    def bars(self) -> tuple[Bar, ...]:
        """The thresholds; none where a score is yes or no."""
        return ()

    def message(self, score: float, partner: str | None) -> str:
        """Why it drops an image, for a person; partner: the image that it is a duplicate of."""
        bar = self.crossed(score)
        return f"{self.meaning}: {score:.4g}" + (f", {bar.side} {bar.value:g}" if bar else "")

    def crossed(self, score: float) -> Bar | None:
        """The threshold that a score is on the wrong side of."""
        wrong = (bar for bar in self.bars if (score < bar.value if bar.side == "below" else score > bar.value))
        return next(wrong, None)


class BelowRule(Rule):
    """Drops an image whose score is below the threshold."""

    threshold: float

    @property
    def bars(self) -> tuple[Bar, ...]:
        return (Bar(self.threshold, "below"),)


class AspectRatioRule(BelowRule):
    meaning = "shorter side / longer side"
    threshold: float = Field(default=0.35, ge=0, le=1)


class SizeRule(Rule):
    """Drops sizes far from those of most images: beyond `iqr_factor` times the distance of the quartiles."""

    meaning = "nearness to the usual size"
    iqr_factor: float = Field(default=3.0, gt=0)


class GrayscaleRule(Rule):
    meaning = "has colour channels"


class DarkRule(BelowRule):
    meaning = "brightness that 1 % of the pixels exceed"
    threshold: float = Field(default=0.32, ge=0, le=1)


class LightRule(BelowRule):
    meaning = "darkness that 5 % of the pixels exceed"
    threshold: float = Field(default=0.05, ge=0, le=1)


class LowInformationRule(BelowRule):
    meaning = "entropy of the histogram / 10 bits"
    threshold: float = Field(default=0.3, ge=0, le=1)


class BlurryRule(BelowRule):
    meaning = "sharpness of edges in the image scaled to 64 pixels"
    threshold: float = Field(default=0.29, ge=0, le=1)


class ExactDuplicatesRule(Rule):
    """Drops images whose pixels equal another's; files that are equal byte for byte are never collected twice."""

    meaning = "1 / number of images with these pixels"

    def message(self, score: float, partner: str | None) -> str:
        return f"same pixels as {partner!r}"


class NearDuplicatesRule(Rule):
    """Drops copies of an image: scaled, recompressed, a little cropped or brightened."""

    meaning = "correlation with the most similar image of similar hash"
    distance: int = Field(default=12, ge=0, le=24)
    """Bits of 64 in which the perceptual hashes of two duplicates may differ."""
    correlation: float = Field(default=0.965, ge=-1, le=1)
    """Least correlation of two duplicates scaled to 16x16 pixels, over all colours; -1: the hashes alone decide."""
    within_groups: bool = False
    """Whether images of one group (a scene and its twins) can be duplicates of each other."""

    @property
    def bars(self) -> tuple[Bar, ...]:
        return (Bar(self.correlation, "above"),)

    def message(self, score: float, partner: str | None) -> str:
        return f"near-duplicate of {partner!r}: correlation {score:.3f}"


class ModelRule(Rule):
    """A rule that needs a CLIP or SigLIP checkpoint."""

    model: Text
    """Folder or hub id."""


class AlignmentRule(ModelRule, BelowRule):
    """Drops images that do not show what their prompt says. An image without a prompt is kept."""

    meaning = "cosine of image and prompt"


class PhotoRule(ModelRule, BelowRule):
    """Drops what looks less like a photograph than like something else."""

    meaning = "cosine with the photograph's text - cosine with the other's"
    threshold: float = 0.0
    photograph: tuple[Text, ...] = Field(default=("a photograph",), min_length=1)
    """Of several texts, the one that fits best counts."""
    other: tuple[Text, ...] = Field(default=("an illustration", "a 3D render"), min_length=1)


class EmbeddingDuplicatesRule(ModelRule):
    """Drops images whose embeddings are nearly the same."""

    meaning = "cosine with the most similar image"
    similarity: float = Field(default=0.95, gt=0.5, le=1)
    within_groups: bool = False
    """As of near_duplicates."""

    @property
    def bars(self) -> tuple[Bar, ...]:
        return (Bar(self.similarity, "above"),)

    def message(self, score: float, partner: str | None) -> str:
        return f"near-duplicate of {partner!r}: cosine {score:.3f}"


class PythonRule(Rule):
    """A function of yours: `function(path, image) -> score` or `-> (score, reason)`; a reason drops the image."""

    meaning = "what the function gives"
    function: Text = Field(pattern=r"^[\w.]+:\w+$")
    """`module:function`; the module is installed, or lies beside the rule file."""
    below: float | None = None
    """Drops scores below it."""
    above: float | None = None
    """Drops scores above it."""

    @property
    def bars(self) -> tuple[Bar, ...]:
        low = () if self.below is None else (Bar(self.below, "below"),)
        return low if self.above is None else (*low, Bar(self.above, "above"))


class Rules(Record):
    """All rules of a filter, the cheap ones first: this is the order in which they run."""

    odd_aspect_ratio: AspectRatioRule | None = None
    odd_size: SizeRule | None = None
    grayscale: GrayscaleRule | None = None
    dark: DarkRule | None = None
    light: LightRule | None = None
    low_information: LowInformationRule | None = None
    blurry: BlurryRule | None = None
    exact_duplicates: ExactDuplicatesRule | None = None
    near_duplicates: NearDuplicatesRule | None = None
    alignment: AlignmentRule | None = None
    photo: PhotoRule | None = None
    embedding_duplicates: EmbeddingDuplicatesRule | None = None
    python: dict[Label, PythonRule] = Field(default_factory=dict)
    """By the name that the rule shall have."""

    @model_validator(mode="after")
    def _names(self) -> Rules:
        taken = sorted(self.python.keys() & type(self).model_fields.keys())
        if taken:
            raise ValueError(f"python.{taken[0]}: a check has this name already; choose another")
        if not self.in_force():
            raise ValueError("no rule: add a section, e.g. [dark]")
        return self

    def in_force(self) -> dict[str, Rule]:
        """The rules by name, in the order in which they run."""
        checks = {name: getattr(self, name) for name in type(self).model_fields if name != "python"}
        return {name: rule for name, rule in checks.items() if rule is not None} | dict(self.python)


DUPLICATE_RULES = ("exact_duplicates", "near_duplicates", "embedding_duplicates")
"""Those that find clusters."""
RULES = RecipeShelf(Rules, "anomreason.dataset.filter", "rule file")


def default_text() -> str:
    """The default rules as they are written, to copy and change."""
    return (files("anomreason.dataset.filter") / "recipes" / "default.toml").read_text(encoding="utf-8")
