"""One worker of a run: detects in the images that it is given, with the package's own client, and records in its part.

A Ray actor in a process of its own; the driver waits for `start` and then calls `detect` for several images at a time.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from anomreason.anomaly import Usage
from anomreason.detection import RunPart, Session, detect_one, open_session
from anomreason.detector import DetectorSetup
from anomreason.errors import AnomreasonError, StorageError, UsageError
from anomreason.files import Appender
from anomreason.runs import RESULTS
from anomreason.sources.inputs import Image
from anomreason.spread.budget import LeasedBudget
from anomreason.vlm.budget import Budget
from anomreason.vlm.ledger import Ledger, read_calls
from anomreason.vlm.parts import REPLIES, lock_part

_LOCK_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker needs to know."""

    setup: DetectorSetup
    """With the worker's share of the calls in flight."""
    run: Path
    part: Path
    name: str
    """Number and incarnation, as the keeper of the budget knows the worker."""
    keeper: Any = None
    """Handle of the keeper of the budget; None without a limit."""


@dataclass(frozen=True, slots=True)
class WorkerFault:
    """An error of ours, as it travels: what makes the driver raise it again."""

    kind: Literal["usage", "storage"]
    message: str

    def error(self) -> AnomreasonError:
        return (UsageError if self.kind == "usage" else StorageError)(self.message)


@dataclass(frozen=True, slots=True)
class WorkerState:
    """How far a worker is."""

    process: int
    host: str
    version: str
    """Of anomreason."""
    total: Usage
    """Of all calls in its part."""
    estimated: int
    """Calls whose tokens were estimated."""
    waiting: str
    """What its calls wait for, in words."""
    others: tuple[str, ...]
    """Names under which another model than the one asked for has answered."""
    dead: str | None
    """Why no result counts."""
    budget_reached: bool
    fault: WorkerFault | None = None


class Worker:
    """The actor."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._stopping = False
        self._earlier: dict[str, Usage] = {}
        self._session: Session | None = None
        self._results: Appender | None = None

    async def start(self, assignment: Assignment) -> WorkerState:
        """Open the model and the part, which an earlier incarnation of the worker may have begun."""
        try:
            await self._open(assignment)
        except AnomreasonError as error:
            return self._state(self._fault(error))
        return self._state()

    async def _open(self, assignment: Assignment) -> None:
        setup = assignment.setup
        if not assignment.part.is_dir():
            raise UsageError(
                f"the machine {socket.gethostname()} does not see {str(assignment.part)!r}; put the run folder and "
                "the images on a file system that all machines see under the same path"
            )
        lock = await asyncio.to_thread(lock_part, assignment.part, _LOCK_SECONDS)
        self._stack.callback(os.close, lock)
        self._results = Appender(assignment.part / RESULTS)
        self._stack.callback(self._results.close)

        def budget(ledger: Ledger) -> Budget:
            if assignment.keeper is None:
                return Budget(ledger)
            return LeasedBudget(ledger, setup.options, assignment.keeper, assignment.name)

        replies = assignment.run / REPLIES
        part = RunPart(assignment.part, replies if replies.is_file() else None, budget)
        self._session = await self._stack.enter_async_context(open_session(setup, part=part))
        for call in read_calls(assignment.part):
            self._earlier[call.image] = self._earlier.get(call.image, Usage()) + call.usage
        self._session.caller.ledger.images.clear()
        self._session.caller.stopping = self._stopping

    async def detect(self, image: Image, earlier: Usage) -> tuple[str | None, WorkerState]:
        """The line of the detection, recorded in the part, and the state; no line when the worker stops.

        earlier: what calls for the image used that stand in the run folder already.
        """
        assert self._session is not None  # the driver has waited for `start`
        assert self._results is not None
        try:
            used = earlier + self._earlier.pop(image.name, Usage())
            detection = await detect_one(image, self._session, used)
            line = detection.json_line() if detection else None
            if line:
                self._results.append(line)
            return line, self._state()
        except AnomreasonError as error:
            return None, self._state(self._fault(error))

    async def state(self) -> WorkerState:
        """How far it is."""
        return self._state()

    async def stop(self) -> None:
        """Send no new call; those in flight end and are kept."""
        self._stopping = True
        if self._session:
            self._session.stop()

    async def close(self) -> WorkerState:
        """Close the model and the part."""
        state = self._state()
        await self._stack.aclose()
        return state

    def _fault(self, error: AnomreasonError) -> WorkerFault:
        kind: Literal["usage", "storage"] = "usage" if isinstance(error, UsageError) else "storage"
        return WorkerFault(kind, f"{error} (on the machine {socket.gethostname()})")

    def _state(self, fault: WorkerFault | None = None) -> WorkerState:
        session = self._session
        return WorkerState(
            process=os.getpid(),
            host=socket.gethostname(),
            version=version("anomreason"),
            total=session.spent if session else Usage(),
            estimated=session.estimated if session else 0,
            waiting=session.waiting if session else "",
            others=tuple(session.others) if session else (),
            dead=session.dead if session else None,
            budget_reached=session.budget_reached if session else False,
            fault=fault,
        )
