"""Bad files, huge and endless uploads and clients that stall, against `anomreason serve`: others are served meanwhile.

    python benchmarks/hostile_uploads.py [--files 200] [--clients 40]

Prints the status of each kind of request, the memory of the service, and how long others waited for an answer.
"""

from __future__ import annotations

import argparse
import io
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.serve import Command, make_images


def bad_files(count: int) -> Iterator[tuple[str, bytes]]:
    """Names and contents: cut, overwritten, mislabelled, huge by their header, and no images at all."""
    rng = np.random.default_rng(0)
    pixels = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    whole = []
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"):
        out = io.BytesIO()
        pixels.save(out, kind)
        whole.append(out.getvalue())
    never = [b"", b"\0" * 5_000, b"<svg onload=alert(1)>", b"%PDF-1.7", b"PK\x03\x04" + bytes(60), bomb(60_000, 60_000)]
    never += [bomb(9_000, 9_000)[:-30], b"\x89PNG\r\n\x1a\n", b"GIF89a" + b"\xff" * 40, whole[0][:50]]
    names = ["../../etc/passwd", "a\0b.png", "\u202egnp.exe", '"><script>alert(1)</script>.png', "a" * 5_000, "/"]
    for n in range(count):
        name = names[n % len(names)]
        if n < len(never):
            yield name, never[n]
            continue
        data = bytearray(whole[n % len(whole)])
        for _ in range(rng.integers(1, 40)):
            data[rng.integers(0, len(data))] = rng.integers(0, 256)
        yield name, bytes(data[: rng.integers(1, len(data))] if n % 2 else data)


def bomb(width: int, height: int) -> bytes:
    """A PNG of black pixels, a thousandth of their size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packed = zlib.compressobj(9)
    row = bytes((width + 7) // 8 + 1)
    rows = b"".join(packed.compress(row) for _ in range(min(height, 9_000))) + packed.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def stall(host: str, port: int, n: int) -> socket.socket:
    """A client that begins an upload and sends no more."""
    made = socket.create_connection((host, port), timeout=30)
    kind = "multipart/form-data; boundary=x" if n % 2 else "image/png"
    head = f"POST /v1/detect HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: 2000\r\n\r\n"
    part = '--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\nPNG'
    made.sendall((head + part[: 20 * (n % 5)]).encode())
    return made


def endless() -> Iterator[bytes]:
    for _ in range(100):
        yield bytes(1_000_000)


class Others(threading.Thread):
    """A client with good images, while the others are at it."""

    def __init__(self, at: str, images: list[Path]) -> None:
        super().__init__()
        self.at, self.images, self.seconds, self.ended = at, images, list[float](), Counter[str]()
        self.enough = threading.Event()

    def run(self) -> None:
        with httpx2.Client(base_url=self.at, timeout=60) as client:
            for image in self.images:
                begun = time.perf_counter()
                answer = client.post("/v1/detect?wait=60", files={"image": (image.name, image.read_bytes())})
                self.seconds.append(time.perf_counter() - begun)
                self.ended[answer.json()["state"]] += 1
                if self.enough.wait(0.2):
                    return


def memory(process: int) -> float:
    """Largest resident memory of a process so far, MB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--clients", type=int, default=40, help="Clients that stall.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as base:
        images = make_images(Path(base), 200, 256)
        options = ["--jobs", f"{base}/jobs", "--no-browser", "--port", "0"]
        command = ["serve", "--model", f"sim:{base}/simulator.json", *options]
        service = Command(command, r"(http://127\.0\.0\.1:\d+) is the")
        at = service.start()
        assert service.process is not None
        others = Others(at, images)
        others.start()
        time.sleep(2)
        before = memory(service.process.pid)
        try:
            for name, statuses in attack(at, arguments.files, arguments.clients):
                print(f"{name:20} {dict(sorted(statuses.items()))}, {memory(service.process.pid) - before:+.0f} MB")
        finally:
            others.enough.set()
            others.join()
            service.end(signal.SIGTERM)
        p50, p95 = (np.percentile(others.seconds, q) for q in (50, 95))
        print(f"others meanwhile: {dict(others.ended)}, until their result p50 {p50:.2f} s, p95 {p95:.2f} s")


def attack(at: str, files: int, clients: int) -> Iterator[tuple[str, Counter[int]]]:
    """What is sent, and the statuses of the answers."""
    address = urlsplit(at)
    with httpx2.Client(base_url=at, timeout=90) as client, ThreadPoolExecutor(8) as threads:
        stalled = [stall(address.hostname or "", address.port or 0, n) for n in range(clients)]

        def send(file: tuple[str, bytes]) -> int:
            return client.post("/v1/detect?wait=60", files={"image": file}).status_code

        def large(form: bool) -> int:
            if form:
                return client.post("/v1/detect", files={"image": ("a.png", bytes(100_000_000))}).status_code
            return client.post("/v1/detect", content=endless(), headers={"Content-Type": "image/png"}).status_code

        yield f"{files} bad files", Counter(threads.map(send, bad_files(files)))
        yield "8 bodies of 100 MB", Counter(threads.map(large, [True, False] * 4))
        ends = Counter[int]()
        for one in stalled:
            with one:
                ends[int(one.recv(4_000).split()[1])] += 1
        yield f"{clients} stalled uploads", ends


if __name__ == "__main__":
    main()
