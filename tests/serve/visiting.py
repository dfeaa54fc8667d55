"""The service in a thread with an event loop of its own, and clients that use it.

with visiting(tmp_path / "jobs", f"sim:{world(3)}") as visited:
    visited.detect(image)["state"]
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from anomreason.detector import DetectOptions, DetectorSetup, set_up
from anomreason.serve.access import Access
from anomreason.serve.app import create_app
from anomreason.serve.clients import Clients
from anomreason.serve.service import Service, ServiceOptions, open_service
from anomreason.vlm.protocol import VLM
from anomreason.web.serving import PageServer, address, listening

COOKIE = "anomreason_test"


@dataclass
class Visited:
    """A service at work."""

    service: Service
    client: httpx2.Client

    def detect(self, image: Path | bytes, wait: int = 60, status: int = 200, **headers: str) -> Any:
        """The job of an image, as a form sends it; when it has ended, unless `wait` is shorter."""
        data, name = (image, "image.png") if isinstance(image, bytes) else (image.read_bytes(), image.name)
        answer = self.client.post(f"/v1/detect?wait={wait}", files={"image": (name, data)}, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    def get(self, path: str, status: int = 200, **headers: str) -> Any:
        answer = self.client.get(path, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    def events(self, job: str) -> list[Any]:
        """All that the job's stream tells until its end."""
        with self.client.stream("GET", f"/v1/jobs/{job}/events") as answer:
            return [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: ")]


class _Thread(threading.Thread):
    """Serves until it is told to end."""

    def __init__(self, setup: DetectorSetup, options: ServiceOptions, made: socket.socket) -> None:
        super().__init__()
        self._setup, self._options, self._made = setup, options, made
        self.ready = threading.Event()
        self.service: Service | None = None
        self.server: PageServer | None = None
        self.failed: BaseException | None = None

    def run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self.failed = error
        self.ready.set()

    async def _serve(self) -> None:
        async with open_service(self._setup, self._options) as self.service:
            app = create_app(self.service, Access(self._options.clients, COOKIE))
            self.server = PageServer(app, self.ready.set, self.service.stop)
            await self.server.serve(sockets=[self._made])

    def end(self) -> None:
        if self.server:
            self.server.should_exit = True
        self.join(600)
        if self.failed:
            raise self.failed


@contextmanager
def visiting(folder: Path, model: str | VLM, clients: Clients | None = None, **more: Any) -> Iterator[Visited]:
    """more: options of the service and of `detect`, by their names."""
    own = {name: more.pop(name) for name in list(more) if name in ServiceOptions.__dataclass_fields__}
    options = ServiceOptions(folder, clients=clients or Clients({}), **own)
    with listening("127.0.0.1", 0) as made:
        thread = _Thread(set_up(model, DetectOptions.of(more), more), options, made)
        thread.start()
        try:
            thread.ready.wait(600)
            if thread.service is not None and thread.failed is None:
                with httpx2.Client(base_url=address(made), timeout=180) as client:
                    yield Visited(thread.service, client)
        finally:
            thread.end()
