"""Serving ends when it is asked to; a second Ctrl-C does not wait for requests under way."""

import signal
import socket
import subprocess
import sys

SERVES = """
import asyncio
from anomreason.interrupt import end_on_ctrl_c
from anomreason.web.serving import listening, serve_beside

async def never_answers(scope, receive, send):
    print("asked", flush=True)
    await asyncio.Event().wait()

end_on_ctrl_c()
with listening("127.0.0.1", 0) as made:
    ready = lambda: print(made.getsockname()[1], flush=True)
    asyncio.run(serve_beside(never_answers, made, ready, lambda: print("stopping", flush=True)))
"""


def test_a_second_ctrl_c_ends_at_once_though_a_request_is_under_way() -> None:
    with subprocess.Popen([sys.executable, "-c", SERVES], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        with socket.create_connection(("127.0.0.1", int(process.stdout.readline()))) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert process.stdout.readline() == "asked\n"
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "stopping\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(600) == 130
