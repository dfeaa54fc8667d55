"""`anomreason serve`: detections over HTTP, with a page where one drops an image."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomreason.cli import detect
from anomreason.cli.options import borrow_options, fitting, model_options
from anomreason.cli.output import open_in_browser, say

if TYPE_CHECKING:
    import socket

    from anomreason.detector import DetectorSetup
    from anomreason.serve.access import Access
    from anomreason.serve.service import ServiceOptions

MEGABYTE = 1_000_000


def command(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Option(help="The model, as for `detect`: gpt-4o, vllm:NAME, tiny, sim:TRUTH.json, ...")
    ] = None,
    jobs: Annotated[
        Path, typer.Option(help="Folder that keeps jobs, replies and detections, so that nothing is paid for twice.")
    ] = Path("runs/serve"),
    database: Annotated[
        str | None,
        typer.Option(help="Keep the jobs in PostgreSQL: postgresql+psycopg://USER@HOST/NAME (PGPASSWORD is read)."),
    ] = None,
    tokens: Annotated[
        Path | None, typer.Option(metavar="TOML", help="File of the tokens' hashes and limits; each request needs one.")
    ] = None,
    add_token: Annotated[
        str | None, typer.Option(metavar="NAME", help="Make a token, add its hash to --tokens, print it, and stop.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to serve on; another than this machine's own needs --tokens.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8023,
    upload: Annotated[float, typer.Option(min=0.001, max=1000, help="Largest image file, in megabytes.")] = 20,
    queue: Annotated[int, typer.Option(min=1, help="Images that may wait.")] = 500,
    keep_images: Annotated[bool, typer.Option("--keep-images", help="Keep images after their job has ended.")] = False,
    keep_days: Annotated[int, typer.Option(min=1, help="Days after which an ended job is forgotten.")] = 30,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open the page in a browser.")] = False,
    **_detector: object,
) -> None:
    """Serve detections over HTTP, with a page where one drops an image.

    Severity: 0 = completely implausible, 100 = fully realistic. Jobs that were not done when the service ended are
    taken up again by the same command. --max-cost and --max-tokens limit what all clients use together, ever.
    """
    from anomreason.errors import UsageError, require
    from anomreason.interrupt import saying

    require("the service", "serve", "fastapi", "uvicorn", "sqlalchemy", "python_multipart", "prometheus_client")
    from anomreason.detector import set_up
    from anomreason.serve.access import Access
    from anomreason.serve.clients import Clients, read_clients
    from anomreason.serve.clients import add_token as add
    from anomreason.serve.service import ServiceOptions
    from anomreason.web.serving import is_loopback, listening

    if add_token is not None:
        if tokens is None:
            raise UsageError("--add-token needs --tokens FILE, to which the token's hash is added")
        _show_token(add(tokens, add_token), add_token, tokens)
        return
    if model is None:
        raise UsageError("--model is missing: give one, e.g. --model tiny (synthetic scenes only) or --model gpt-4o")
    setup = fitting(context, lambda: set_up(model, detect.detect_options(context), model_options(context)))
    clients = Clients.of(read_clients(tokens).values() if tokens else ())
    if setup.price is None and (dear := next((c.name for c in clients.by_hash.values() if c.max_cost), None)):
        raise UsageError(
            f"{tokens}: tokens.{dear} has max_cost, but the price of {setup.model} is not known: give --prices FILE or "
            "use max_tokens"
        )
    options = ServiceOptions(
        jobs, database, clients, round(upload * MEGABYTE), queue, keep_images=keep_images, keep_days=keep_days
    )
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it would log each damaged form
    with listening(host, port) as made:
        if not is_loopback(made) and not clients.needed:
            raise UsageError(
                f"--host {host} is reached from other machines, so it needs --tokens FILE (make it with --tokens FILE "
                "--add-token NAME)"
            )
        cookie = "anomreason_" + hashlib.sha256(str(jobs.absolute()).encode()).hexdigest()[:12]
        with saying(lambda: "interrupted; the same command goes on with what is not done"):
            asyncio.run(_serve(setup, options, Access(clients, cookie), made, no_browser))
    say("\nStopped. The same command goes on with what is not done.")


async def _serve(
    setup: DetectorSetup, options: ServiceOptions, access: Access, made: socket.socket, no_browser: bool
) -> None:
    from anomreason.english import counted
    from anomreason.serve.app import create_app
    from anomreason.serve.service import GRACE, open_service
    from anomreason.web.serving import address, serve_beside

    async with open_service(setup, options) as service:

        def ready() -> None:
            at = address(made)
            say(f"{setup.model}, schedule {setup.options.schedule}; jobs in {options.folder}")
            if unfinished := service.queued + service.running:
                say(f"Going on with {counted(unfinished, 'image', 'images')} from before.")
            if access.clients.needed:
                say(f"{at}/enter/TOKEN opens the page; programs send the header Authorization: Bearer TOKEN.")
            else:
                say(f"{at} is the page where you drop an image; {at}/openapi.json describes the API.")
            if setup.model.startswith("sim:"):
                say(detect.SIMULATED)
            say("Ctrl-C ends.")
            if not access.clients.needed and not no_browser:
                open_in_browser(at)

        def stopping() -> None:
            if service.running:
                calls = f"calls under way get {GRACE:g} s to end; Ctrl-C again ends at once"
                say(f"\nStopping: {calls}. No image is lost.")
            service.stop()

        await serve_beside(create_app(service, access), made, ready, stopping)


def _show_token(token: str, name: str, file: Path) -> None:
    say(f"{token}")
    say(f"This is the token of {name!r}, shown once; {file} holds its hash alone. Its limits are set there.", err=True)


_OF_RUNS = ("inputs", "run", "report", "limit", "dry_run", "yes", "json_only", "outside", "batch")
borrow_options(command, detect.command, left_out=(*_OF_RUNS, "engine", "workers", "ray_address"))
