"""What is printed cannot steer the terminal, whatever a model or a file name says.

say(f"Report: {path}", err=True)
"""

from __future__ import annotations

import re

import typer


def printable(text: str) -> str:
    """Text from a file name or a model, safe on a terminal: control and direction marks made visible, one line."""
    flat = " ".join(text.split("\n"))
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in flat)


def say(text: object, err: bool = False) -> None:
    """Print lines of plain text; see `printable`."""
    typer.echo("\n".join(map(printable, str(text).split("\n"))), err=err)


def json_line(text: str) -> str:
    """The same JSON with all that is not printable as `\\u` escapes."""
    return re.sub(r"[^\x20-\x7e]", lambda match: match[0] if match[0].isprintable() else _escaped(match[0]), text)


def _escaped(character: str) -> str:
    """As JSON writes it: a character beyond 16 bits as two halves."""
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i] << 8 | units[i + 1]:04x}" for i in range(0, len(units), 2))


def open_in_browser(address: str) -> None:
    """Open a browser that has a window of its own; one that would take the terminal is left alone."""
    import webbrowser

    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return
    if type(browser) is not webbrowser.GenericBrowser:
        browser.open(address)
