"""The steps of the agents: role, prompt, form of the answer and usual lengths of each.

Prompts are Markdown files beside this module, each with a version in its front matter; a folder given with
`--prompts` replaces any of them.

    >>> Prompts.load().render("scan", others="a dog")[:6]
    'Forget'
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from string import Template

from anomreason.agent import forms
from anomreason.agent.forms import Form
from anomreason.errors import UsageError


@dataclass(frozen=True, slots=True)
class Step:
    """One kind of call."""

    role: str
    prompt: str
    """Name of the prompt file."""
    sees: bool
    """Whether the image is shown."""
    form: type[Form] | None
    """Form of the answer; None for free text."""
    asks_with: frozenset[str] = frozenset()
    """Placeholders of the prompt."""
    context_tokens: int = 0
    """Usual length of what is filled in, in tokens, for estimates (measured, see docs/benchmarks.md)."""
    reply_tokens: int = 300
    """Usual length of a reply in tokens, likewise."""


def _step(
    role: str, prompt: str, sees: bool, form: type[Form] | None, asks_with: str = "", usual: tuple[int, int] = (0, 300)
) -> Step:
    return Step(role, prompt, sees, form, frozenset(asks_with.split()), *usual)


SOURCE_JUDGE, DESCRIBER = "SourceJudge", "Describer"
PERCEIVER, ATTRIBUTES, RELATIONS = "ObjectPerceiver", "AttributeAnalyzer", "RelationReasoner"
INTEGRATOR, FORMATTER = "AnomalyIntegrator", "AnomalyFormatter"

STEPS: Mapping[str, Step] = {
    "objects-1": _step(PERCEIVER, "objects-1", True, forms.Objects, "limit", (0, 520)),
    "objects-2": _step(PERCEIVER, "objects-2", True, forms.Objects, "limit", (0, 520)),
    "objects-3": _step(PERCEIVER, "objects-3", True, forms.Objects, "limit", (0, 520)),
    "draft": _step(PERCEIVER, "objects-1", True, forms.Objects, "limit", (0, 520)),
    "merge": _step(PERCEIVER, "merge", False, forms.Objects, "limit drafts", (1560, 520)),
    "attributes-1": _step(ATTRIBUTES, "attributes-1", True, None, "object description crop_note", (60, 250)),
    "attributes-2": _step(ATTRIBUTES, "attributes-2", False, forms.AttributeFindings, "object notes", (260, 130)),
    "relations-1": _step(RELATIONS, "relations-1", True, None, "object description others known", (200, 250)),
    "relations-2": _step(RELATIONS, "relations-2", False, forms.Findings, "object others notes", (300, 130)),
    "review-1": _step(INTEGRATOR, "review-1", False, None, "object candidates", (220, 150)),
    "review-2": _step(INTEGRATOR, "review-2", False, forms.Reviewed, "object candidates notes", (370, 220)),
    "summary": _step(INTEGRATOR, "summary", False, forms.Reviewed, "object candidates", (220, 220)),
    "verify": _step(INTEGRATOR, "verify", True, forms.Checks, "candidates", (800, 300)),
    "scan": _step(RELATIONS, "scan", True, forms.Findings, "others", (40, 250)),
    "inspect": _step(ATTRIBUTES, "inspect", True, forms.Inspected, "objects others", (300, 600)),
    "look-again": _step(FORMATTER, "look-again", True, forms.CheckedReport, "candidates", (600, 700)),
    "format": _step(FORMATTER, "format", True, forms.Report, "candidates", (800, 700)),
    "finish": _step(FORMATTER, "format", True, forms.Report, "candidates", (900, 700)),
    "single": _step(FORMATTER, "single", True, forms.Anomalies, "", (0, 500)),
    "source": _step(SOURCE_JUDGE, "source", True, None, "", (0, 3)),
    "describe": _step(DESCRIBER, "describe", True, None, "", (0, 130)),
}

_ASIDE: Mapping[str, frozenset[str]] = {
    "common": frozenset(),
    "severity": frozenset(),
    "cutouts": frozenset(("cutouts",)),
    "cutout-boxes": frozenset(),
    "cutout-parts": frozenset(),
}
"""Prompts that no step is named after, and their placeholders."""
GRADED = frozenset(("look-again", "format", "single"))
"""Prompts of steps that give severities: where they write $severity, they say the scale in common words."""
OF_CUTOUTS = ("cutouts", "cutout-boxes", "cutout-parts")
"""Prompts that only a run with cut-outs uses."""

_FRONT = re.compile(r"\A---\nversion: (\d+)\n---\n(.*)\Z", re.DOTALL)


@dataclass(frozen=True)
class Prompt:
    """One prompt file."""

    text: str
    version: int
    sha256: str


@dataclass(frozen=True)
class Prompts:
    """All prompts of a run."""

    by_name: Mapping[str, Prompt] = field(repr=False)

    @classmethod
    def load(cls, folder: Path | None = None) -> Prompts:
        """The package's prompts, each replaced by the file of the same name in `folder` where there is one.

        Raises UsageError for a missing folder, an unknown name, a missing version or a wrong placeholder.
        """
        own = files("anomreason.agent") / "prompts"
        names = {step.prompt for step in STEPS.values()} | set(_ASIDE)
        prompts = {name: _parse(name, (own / f"{name}.md").read_text(encoding="utf-8")) for name in sorted(names)}
        if folder is not None:
            prompts |= _replacements(folder, names)
        return cls(prompts)

    @property
    def common(self) -> str:
        """The beginning of every call that shows the whole image."""
        return self.by_name["common"].text

    def of_cutouts(self, lines: str, boxes: bool) -> str:
        """What is said before cut-outs are shown. lines: number, name and place of each; boxes: whether to draw any."""
        text = Template(self.by_name["cutouts"].text).substitute({"cutouts": lines})
        return text + ("\n\n" + self.by_name["cutout-boxes"].text if boxes else "")

    @property
    def of_parts(self) -> str:
        """What is said behind the list of objects where its telling parts can be shown in cut-outs."""
        return self.by_name["cutout-parts"].text

    def render(self, step: str, **values: str) -> str:
        """The step's prompt with its placeholders filled."""
        prompt = STEPS[step].prompt
        shared = {"severity": self.by_name["severity"].text} if prompt in GRADED else {}
        return Template(self.by_name[prompt].text).substitute(shared | values)

    def length(self, step: str) -> int:
        """Characters of what a step says before anything is filled in, the common text included where it is shown."""
        blank = self.render(step, **dict.fromkeys(STEPS[step].asks_with, ""))
        return len(blank) + (len(self.common) if STEPS[step].sees else 0)

    def hashes(self) -> dict[str, str]:
        """Version and short hash of each prompt, for the run's record."""
        return {name: f"v{p.version} {p.sha256[:16]}" for name, p in self.by_name.items()}


def _replacements(folder: Path, names: set[str]) -> dict[str, Prompt]:
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise UsageError(
            f"--prompts: {str(folder)!r} {what}; give a folder whose .md files replace prompts of the same name: "
            f"{', '.join(f'{name}.md' for name in sorted(names))}"
        )
    found = {}
    for file in sorted(folder.glob("*.md")):
        if file.stem not in names:
            raise UsageError(f"{str(file)!r} replaces no prompt; the names are {', '.join(sorted(names))}")
        try:
            found[file.stem] = _parse(file.stem, file.read_text(encoding="utf-8"))
        except UnicodeDecodeError as e:
            raise UsageError(f"{str(file)!r} is not UTF-8 text") from e
    if not found:
        raise UsageError(f"--prompts: {str(folder)!r} holds no .md file")
    return found


def _parse(name: str, text: str) -> Prompt:
    match = _FRONT.match(text)
    if not match:
        raise UsageError(f"prompt {name!r} must begin with the lines '---', 'version: N', '---'")
    allowed = {p for step in STEPS.values() if step.prompt == name for p in step.asks_with} | _ASIDE.get(name, set())
    allowed |= {"severity"} if name in GRADED else set()
    body = match[2].strip()
    template = Template(body)
    used = set(template.get_identifiers())
    if not template.is_valid() or used - allowed:
        raise UsageError(
            f"prompt {name!r} may use the placeholders {sorted('$' + a for a in allowed)} and writes a plain dollar as "
            f"$$; it uses {sorted('$' + u for u in used)}"
        )
    if name in GRADED and "severity" not in used and "implausible" not in body:
        raise UsageError(
            f"prompt {name!r} asks for severities and does not say their scale; write $severity where it should stand, "
            "or say yourself that 0 is completely implausible"
        )
    return Prompt(body, int(match[1]), hashlib.sha256(body.encode()).hexdigest())
