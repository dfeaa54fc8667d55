"""Who may use the review page.

    links = Links.of(Path("data"))
    links.token("ada")    # the secret part of Ada's link, the same each time

Tokens follow from one secret file, so that a restart keeps the links; only their hashes are in the database. They are
compared in constant time and never logged.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import Scope

from anomreason.web.tokens import owner_of

_SECRET = Path("review", "secret")


@dataclass(frozen=True, slots=True)
class Reviewer:
    """Somebody who may use the page."""

    name: str
    owner: bool
    token_sha256: str


@dataclass(frozen=True, slots=True)
class Links:
    """Makes the token of each person."""

    secret: bytes

    @classmethod
    def of(cls, folder: Path, new: bool = False) -> Links:
        """Those of a dataset's folder, made when there are none yet. new: all links so far end."""
        path = folder / _SECRET
        path.parent.mkdir(exist_ok=True)
        if new:
            path.unlink(missing_ok=True)
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            secret = path.read_bytes()
            if len(secret) >= 32:
                return cls(secret)
            file = os.open(path, os.O_WRONLY | os.O_TRUNC)  # its writer was stopped
        secret = secrets.token_bytes(32)
        os.write(file, secret)
        os.close(file)
        return cls(secret)

    def token(self, person: str) -> str:
        """The secret part of a person's link: 192 bits."""
        mac = hmac.new(self.secret, f"person {person}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(mac[:24]).decode()

    @property
    def cookie(self) -> str:
        """Name of the cookie; datasets that are served on one machine do not share it."""
        return "anomreason_" + hmac.new(self.secret, b"cookie", hashlib.sha256).hexdigest()[:12]


def reviewer_of(token: str, people: Sequence[Reviewer]) -> Reviewer | None:
    """Whose token it is. Takes the same time whether it is somebody's or not."""
    return owner_of(token, {person.token_sha256: person for person in people})


def refuse(scope: Scope) -> str | None:
    """Why a request is refused: one that writes without the page's header may come from another site's page."""
    if scope["method"] not in ("GET", "HEAD") and Headers(scope=scope).get("X-Anomreason") != "1":
        return "a request that writes needs the header X-Anomreason: 1; use the review page"
    return None
