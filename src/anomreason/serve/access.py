"""Lets requests in: by a token in the header, or by the cookie that a link with a token is exchanged for.

access = Access(clients, hosts=("127.0.0.1",), cookie="anomreason_serve")
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from fastapi import HTTPException, Request
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import Scope

from anomreason.serve.clients import ANYONE, Client, Clients

COOKIE_SECONDS = 30 * 24 * 3600
CHALLENGE = {"WWW-Authenticate": "Bearer"}
"""Header of each answer 401."""
_LOCAL = frozenset(("localhost", "127.0.0.1", "::1"))


@dataclass(frozen=True, slots=True)
class Access:
    """Who may use a service."""

    clients: Clients
    cookie: str
    """Name of the cookie; services on one machine do not share it."""
    hosts: frozenset[str] = frozenset()
    """Names, besides those of this machine, by which a service without tokens is reached."""

    def client(self, request: Request) -> Client:
        """Who asks. Raises HTTPException 401 without a token that is known."""
        found = self._known(request)
        if found is None:
            how = "send the header 'Authorization: Bearer TOKEN', or open the link that you were given"
            raise HTTPException(401, f"this needs a token that is known here: {how}", CHALLENGE)
        return found

    def _known(self, request: HTTPConnection) -> Client | None:
        if not self.clients.needed:
            return ANYONE
        return self.clients.client_of(_bearer(request.headers) or request.cookies.get(self.cookie, ""))

    def refuse(self, scope: Scope) -> str | None:
        """Why a request of a client is refused that a page of another site may have sent; None when it is not.

        Whoever is not a client is left to the routes, which answer 401.
        """
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self.clients.needed and _name(host) not in _LOCAL | self.hosts:
            return f"this service without tokens is reached as localhost only, not as {host[:100]!r}; use --tokens"
        if scope["method"] in ("GET", "HEAD") or self._known(HTTPConnection(scope)) is None:
            return None
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return (
                f"a page of {origin[:100]!r} sent this to {host[:100]!r}; use the page of this service (a proxy before "
                "it must pass the Host header on)"
            )
        by_cookie = self.clients.needed and not _bearer(headers)
        if by_cookie and headers.get("x-requested-with") != "anomreason":
            return "without Authorization: Bearer TOKEN this needs the header X-Requested-With: anomreason; use a token"
        return None


def _bearer(headers: Headers) -> str:
    """The token in the header; empty when there is none, also with another scheme."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _name(host: str) -> str:
    """The host of a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
