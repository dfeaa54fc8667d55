"""Turns docstrings into Markdown for the site's API pages: an extension of Griffe, see `mkdocs.yml`.

A docstring names parameters as `images: paths of files. model: as --model.` within its text. On the page each is an
entry of a list, and examples are blocks of code.
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Attribute, Class, Extension, Function, Object

END = re.compile(r"(?<=\.)\n(?=[A-Z])|(?<=\.)\s(?=Raises )|\n\n")
"""Ends what is said of a parameter: a line that begins a sentence, what is raised, a paragraph."""


class DocstringMarkdown(Extension):
    """Rewrites the docstrings of functions and classes."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Called for each function, class, module and attribute that was read."""
        if isinstance(obj, Attribute) and obj.labels == {"instance-attribute"}:
            obj.value = None  # what `__init__` assigns, mostly the parameter of that name
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value, _parameters(obj))


def _parameters(obj: Object) -> list[str]:
    """Names that the docstring may describe."""
    if isinstance(obj, Class):
        made = obj.members.get("__init__")
        return _parameters(made) if isinstance(made, Function) else []
    return [p.name for p in obj.parameters if p.name != "self"] if isinstance(obj, Function) else []


def as_markdown(text: str, parameters: list[str]) -> str:
    """The docstring as Markdown.

    >>> print(as_markdown("Detects.\\n\\nrun: a folder. model: its name.\\nRaises UsageError.", ["run", "model"]))
    Detects.
    <BLANKLINE>
    - **`run`**: a folder.
    - **`model`**: its name.
    <BLANKLINE>
    Raises UsageError.
    """
    parts = re.split(r"((?:^>>> .*\n?(?:(?:\.\.\. |\.\.\.$|(?!>>> )\S).*\n?)*)+)", text, flags=re.M)
    return "\n".join(
        f"\n```pycon\n{part.rstrip()}\n```\n" if part.startswith(">>> ") else _listed(part, parameters)
        for part in parts
    ).strip()


def _listed(text: str, parameters: list[str]) -> str:
    """The text with its parameters as entries of lists."""
    if not parameters:
        return text
    name = "|".join(re.escape(p) for p in parameters)
    mark = re.compile(rf"(?:^|(?<=\n)|(?<=[.;] ))((?:{name})(?:, (?:{name}))*): ")
    before, *described = mark.split(text)
    out, in_list = before.rstrip(), False
    for names, rest in zip(described[::2], described[1::2], strict=True):
        entry, *after = END.split(rest.strip(), maxsplit=1)
        shown = ", ".join(f"**`{n}`**" for n in names.split(", "))
        out += ("\n" if in_list else "\n\n") + f"- {shown}: " + entry.replace("\n", "\n    ")
        in_list = not after
        out += "".join(f"\n\n{paragraph}" for paragraph in after)
    return out
