"""Ctrl-C that always ends a command at once, without a traceback, whatever it is doing: importing, decoding, computing.

end_on_ctrl_c()    # first thing in a command's process
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

INTERRUPTED = 130
"""Exit status."""
SECONDS = 2.0
"""So long Python gets to end by itself, before the process is ended from another thread."""


_writer = -1
_message: Callable[[], str] = lambda: "interrupted"  # noqa: E731


def end_on_ctrl_c() -> None:
    """From now on Ctrl-C ends this process with status 130.

    What was recorded is safe, as it is under kill -9: lines are appended and files replaced as a whole. A thread
    watches for the signal too, since Python handles signals only between two steps of the main thread, which may be in
    a long call of a library.
    """
    global _writer
    read, _writer = os.pipe()
    os.set_blocking(_writer, False)
    threading.Thread(target=_watch, args=(read,), daemon=True).start()
    watch_again()


def watch_again() -> None:
    """Do as `end_on_ctrl_c` has said, after an event loop had taken the signal; nothing if it was never called."""
    if _writer >= 0:
        signal.signal(signal.SIGINT, _end)
        signal.set_wakeup_fd(_writer, warn_on_full_buffer=False)


@contextmanager
def saying(message: Callable[[], str]) -> Iterator[None]:
    """What the process says should Ctrl-C end it in here."""
    global _message
    before, _message = _message, message
    try:
        yield
    finally:
        _message = before


@contextmanager
def first_ctrl_c(act: Callable[[], None]) -> Iterator[None]:
    """In here the first Ctrl-C calls `act`, which asks the work to come to an end; the second ends the process."""

    def first(*_: object) -> None:
        watch_again()
        act()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        watch_again()


def end_now(message: str) -> None:
    """End this process with status 130, without waiting for threads."""
    try:
        if sys.stderr.isatty():
            os.write(2, b"\x1b[?25h")  # a progress bar hides the cursor
        os.write(2, f"\nanomreason: {message}\n".encode())
        sys.stdout.flush()
    except (OSError, ValueError, RuntimeError, AttributeError):
        pass  # the terminal is gone, or the signal came in the middle of a write
    os._exit(INTERRUPTED)


def end_after(seconds: float, message: str) -> None:
    """End this process so much later, unless it has ended by itself."""
    timer = threading.Timer(seconds, end_now, (message,))
    timer.daemon = True
    timer.start()


def _end(*_: object) -> None:
    end_now(_message())


def _watch(read: int) -> None:
    while data := os.read(read, 1):
        if data[0] == signal.SIGINT:
            threading.Event().wait(SECONDS)
            end_now("interrupted")
