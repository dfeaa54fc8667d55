"""Tokens by which people and programs are known: only their hashes are kept, and they are compared in constant time.

owner_of("the secret part of a link", {hashed("..."): "ada"})
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


def hashed(token: str) -> str:
    """What is kept of a token: its sha256, hex."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def owner_of(token: str, owners: Mapping[str, T]) -> T | None:
    """Whose token it is, among owners by their tokens' hashes. Takes the same time whether it is somebody's or not."""
    digest, found = hashed(token), None
    for known, owner in owners.items():
        if hmac.compare_digest(digest, known):
            found = owner
    return found
