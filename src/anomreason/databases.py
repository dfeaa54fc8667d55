"""Addresses of PostgreSQL databases.

postgresql_url("postgresql+psycopg://ada@db.example.org/anomalies").host    # 'db.example.org'
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anomreason.errors import UsageError, require

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

CONNECT = {"client_encoding": "utf8"}
"""Settings of each connection: a database whose own encoding is SQL_ASCII would answer in bytes."""
_FORM = "write postgresql+psycopg://USER@HOST/NAME"


def postgresql_url(address: str) -> URL:
    """The address, for the driver that is used here. Raises UsageError for one that is not of PostgreSQL."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(address)
    except ArgumentError:
        raise UsageError(f"{address!r} is no address of a database; {_FORM}") from None
    if url.get_backend_name() != "postgresql":
        raise UsageError(f"the database {url.render_as_string()!r} is not PostgreSQL; {_FORM}")
    require("PostgreSQL", "postgres", "psycopg")
    return url.set(drivername="postgresql+psycopg")
