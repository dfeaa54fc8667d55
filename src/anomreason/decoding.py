"""Bounds what decoding images takes: memory in common over all threads, and the time of a large image.

with DECODING.take(200_000_000):
    ...  # decode an image that needs 200 MB; whoever does not fit any more waits
"""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from anomreason.errors import UnreadableImage

ROOM = 1_500_000_000
"""Bytes that all images being decoded may take together. A larger image is decoded alone."""
CPU_SECONDS, SECONDS = 20, 60
"""After so much computing, or so much waiting on a busy machine, decoding in a process of its own is ended."""
_TESTED = 1 << 26
"""An image that needs less never fails for lack of memory alone, bytes."""


class SharedRoom:
    """A number of bytes that threads take parts of, in the order in which they ask."""

    def __init__(self, size: int) -> None:
        self._size = self._free = size
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def take(self, amount: int) -> Iterator[None]:
        """Wait until `amount` bytes are free and hold them; whoever asks for more than there is gets all."""
        amount, turn = min(amount, self._size), object()
        with self._changed:
            self._queue.append(turn)
            try:
                self._changed.wait_for(lambda: self._queue[0] is turn and self._free >= amount)
                self._free -= amount
            finally:
                self._queue.remove(turn)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += amount
                self._changed.notify_all()


DECODING = SharedRoom(ROOM)


def memory_lacks(amount: int) -> bool:
    """Whether this process cannot get so many bytes now. Decoders report that in many ways, some as a damaged file."""
    if amount < _TESTED:
        return False
    try:
        mmap.mmap(-1, amount, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except (OSError, ValueError):
        return True
    return False


def call_apart(function: str, *arguments: object) -> Any:
    """Call `anomreason.MODULE:NAME` in a process that is ended when it takes too long.

    The first argument names the file. Raises UnreadableImage as the function does, and when the process was ended.
    """
    name = str(arguments[0])
    command = [sys.executable, "-c", "from anomreason.decoding import _answer; _answer()"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    # A session of its own: Ctrl-C at the terminal is this process's to handle.
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            answer, _ = process.communicate(pickle.dumps((CPU_SECONDS, function, arguments)), timeout=SECONDS)
        except subprocess.TimeoutExpired:
            raise UnreadableImage(
                f"{name!r} was not decoded within {SECONDS} s on this busy machine; try again, or scale it down first",
                final=False,
                reason="too_large",
            ) from None
        finally:
            process.kill()
    if process.returncode == 0:
        result, refusal = pickle.loads(answer)
        if refusal is not None:
            message, final, reason = refusal
            raise UnreadableImage(message, final, reason=reason)
        return result
    if process.returncode == -signal.SIGXCPU:
        raise UnreadableImage(
            f"{name!r} takes more than {CPU_SECONDS} s to decode; scale it down first", reason="too_large"
        )
    if process.returncode == -signal.SIGKILL:
        raise UnreadableImage(
            f"decoding {name!r} was ended by the system, surely for lack of memory; free some and run again",
            final=False,
            reason="memory",
        )
    raise UnreadableImage(
        f"{name!r} makes its decoder crash (status {process.returncode}); export it again, e.g. as PNG"
    )


def _answer() -> None:
    """The other side of `call_apart`."""
    import ctypes
    import resource
    from importlib import import_module

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # Linux: end with the process that asked
    seconds, function, arguments = pickle.load(sys.stdin.buffer)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    module, _, attribute = function.partition(":")
    result = refusal = None
    try:
        result = getattr(import_module(module), attribute)(*arguments)
    except UnreadableImage as error:
        refusal = str(error), error.final, error.reason
    pickle.dump((result, refusal), sys.stdout.buffer)
    sys.stdout.buffer.flush()
