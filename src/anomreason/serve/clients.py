"""Who may use the service, and how much: clients, known by tokens, from a TOML file that holds the tokens' hashes only.

[tokens.ada]
sha256 = "..."        # anomreason serve --tokens tokens.toml --add-token ada
max_cost = 5.0        # US dollars in all; or max_tokens
rate = 30             # images a minute

read_clients(Path("tokens.toml"))["ada"].rate    # 30
"""

from __future__ import annotations

import os
import re
import secrets
import time
import tomllib
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anomreason.errors import UsageError, first_error
from anomreason.web.tokens import hashed, owner_of

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MINUTE = 60.0


class Client(BaseModel):
    """One client and what it may use; None: as much as it likes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """Of its token, hex."""
    max_cost: Annotated[float, Field(gt=0)] | None = None
    """US dollars in all."""
    max_tokens: Annotated[int, Field(gt=0)] | None = None
    """Tokens in all."""
    rate: Annotated[int, Field(ge=1)] | None = None
    """Images a minute."""


ANYONE = Client(name="", sha256=hashed(""))
"""Who uses a service without tokens."""


@dataclass(frozen=True, slots=True)
class Clients:
    """All clients, by the hashes of their tokens; none: no token is needed."""

    by_hash: Mapping[str, Client]

    @classmethod
    def of(cls, clients: Iterable[Client]) -> Clients:
        return cls({client.sha256: client for client in clients})

    @property
    def needed(self) -> bool:
        """Whether a token is needed."""
        return bool(self.by_hash)

    def client_of(self, token: str) -> Client | None:
        return owner_of(token, self.by_hash)


def read_clients(path: Path) -> dict[str, Client]:
    """The clients in a file, by name. Raises UsageError for a file that is wrong, and when there is none in it."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise UsageError(f"{path} cannot be read ({e.strerror}); make it with --tokens {path} --add-token NAME") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise UsageError(f"{path} is not valid TOML: {e}") from e
    tokens = table.get("tokens")
    if set(table) - {"tokens"} or not isinstance(tokens, dict) or not tokens:
        raise UsageError(f"{path} must hold tables [tokens.NAME] and nothing else; add one with --add-token NAME")
    clients = {name: _client(path, name, value) for name, value in tokens.items()}
    if len({client.sha256 for client in clients.values()}) < len(clients):
        raise UsageError(f"{path}: two names have the same token; give each its own with --add-token NAME")
    return clients


def _client(path: Path, name: str, value: object) -> Client:
    _check_name(name)
    if not isinstance(value, dict) or "name" in value:
        raise UsageError(f"{path}: tokens.{name} must be a table without 'name'; see the example of --add-token")
    try:
        return Client.model_validate({"name": name, **value})
    except ValidationError as e:
        raise UsageError(f"{path}: tokens.{name}: {first_error(e, 'the table')}") from None


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be the name of a token; use at most 64 letters, digits, - and _")


def add_token(path: Path, name: str) -> str:
    """Make a token, 256 bits, and add its hash to the file, which is made where there is none; gives the token.

    Raises UsageError when the name is taken, and as `read_clients` does.
    """
    _check_name(name)
    if path.exists() and name in read_clients(path):
        raise UsageError(f"{path} has a token {name!r} already; remove its table first, which ends that token")
    token = secrets.token_urlsafe(32)
    entry = f'[tokens.{name}]\nsha256 = "{hashed(token)}"\n# max_cost = 5.0    # US dollars in all, or max_tokens\n'
    entry += "# rate = 30         # images a minute\n"
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(file, "a", encoding="utf-8") as out:
            out.write(("\n" if path.stat().st_size else "") + entry)
    except OSError as e:
        raise UsageError(f"{path} cannot be written ({e.strerror}); give another file for --tokens") from e
    return token


class Rates:
    """How many images each client has sent in the last minute."""

    def __init__(self) -> None:
        self._sent: dict[str, deque[float]] = {}

    def wait_of(self, client: Client) -> float:
        """Seconds until the client may send the next image; 0 when it may now."""
        sent = self._sent.get(client.name)
        if client.rate is None or not sent:
            return 0.0
        now = time.monotonic()
        while sent and sent[0] <= now - _MINUTE:
            sent.popleft()
        return 0.0 if len(sent) < client.rate else sent[0] + _MINUTE - now

    def count(self, client: Client) -> None:
        """The client has sent an image."""
        if client.rate is not None:
            self._sent.setdefault(client.name, deque()).append(time.monotonic())
