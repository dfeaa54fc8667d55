"""Ports for servers that have to be told theirs, or that come back at the same one."""

from __future__ import annotations

import random
import socket

FIRST, LAST = 20_000, 32_000
"""Below those that a system gives to clients and to servers that ask for any: nobody takes one meanwhile."""


def free_port() -> int:
    """A port of 127.0.0.1 at which nobody listens."""
    while True:
        port = random.SystemRandom().randrange(FIRST, LAST)  # the seed of a test is the same in all processes
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
