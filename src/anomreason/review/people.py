"""Who reviews: people by name, each with a link.

with store.command("review", {}) as command:
    admit(store, command.id, links, ["ada", "ben"], owner="owner")
"""

from __future__ import annotations

import re
import secrets
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select, update

from anomreason.dataset.store import Store, put
from anomreason.dataset.tables import PersonRow
from anomreason.errors import UsageError
from anomreason.files import read_text
from anomreason.review.security import Links, Reviewer
from anomreason.web.tokens import hashed

OWNER = "owner"
"""Name of the owner where none is given."""
_NAME = re.compile(r"\w[\w .@-]{0,39}")
_FORM = 'write people = ["ada", "ben"] and, if you like, owner = "cleo"'


@dataclass(frozen=True, slots=True)
class People:
    """Names from a file."""

    people: tuple[str, ...]
    owner: str | None


def read_people(path: Path) -> People:
    """Read `people = ["ada", "ben"]` and `owner = "cleo"` from a TOML file. Raises UsageError."""
    try:
        found = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{str(path)!r} is no TOML: {error}; {_FORM}") from None
    people, owner = found.get("people", []), found.get("owner")
    strings = isinstance(people, list) and all(isinstance(name, str) for name in people)
    if not strings or not isinstance(owner, str | None) or found.keys() - {"people", "owner"}:
        raise UsageError(f"{str(path)!r} does not name people: {_FORM}")
    return People(tuple(people), owner)


def admit(store: Store, command: int, links: Links, names: Iterable[str], owner: str | None = None) -> list[Reviewer]:
    """Let these people in, besides those of earlier times, and one owner; gives all of them, the owner first.

    owner: None for the one of earlier times, at first `OWNER`. People whose link is not one of `links` (which were made
    anew since) and who are not named stay in the store and cannot enter.
    """
    wanted = list(dict.fromkeys(names))
    for name in [*wanted, *([owner] if owner else [])]:
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} is no name for a person: use letters, digits, space, . @ _ -, 40 at most")
    with store.writing() as session:
        known = {row.name: row for row in session.scalars(select(PersonRow))}
        owner = owner or next((name for name, row in known.items() if row.owner), OWNER)
        still = [name for name, row in known.items() if row.token_sha256 == hashed(links.token(name))]
        names = sorted({*wanted, *still} - {owner})
        gone = known.keys() - {owner, *names}
        for name in sorted(gone):
            no_link = hashed(secrets.token_hex())
            session.execute(update(PersonRow).where(PersonRow.name == name).values(token_sha256=no_link, owner=False))
        admitted = [Reviewer(name, name == owner, hashed(links.token(name))) for name in [owner, *names]]
        rows = [
            {"name": r.name, "token_sha256": r.token_sha256, "owner": r.owner, "command_id": command} for r in admitted
        ]
        put(session, PersonRow, rows, ["name"])
    return admitted
