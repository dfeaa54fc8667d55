"""`anomreason review`: people verify the candidates of a dataset in their browser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anomreason.cli.options import given, refuse_unused
from anomreason.cli.output import open_in_browser, say
from anomreason.english import counted

if TYPE_CHECKING:
    from anomreason.dataset.store import Store
    from anomreason.review.rounds import RoundOptions
    from anomreason.review.security import Links, Reviewer


def command(
    context: typer.Context,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of the dataset in work.")],
    person: Annotated[
        list[str] | None, typer.Option(help="Name of somebody who gets a link; repeat it for several.")
    ] = None,
    people: Annotated[Path | None, typer.Option(metavar="TOML", help="File that names people and the owner.")] = None,
    name: Annotated[
        str, typer.Option("--round", help="Name of the round; another name begins another one.")
    ] = "default",
    order: Annotated[str, typer.Option(help="worth: those first whose verdict tells most; or random.")] = "worth",
    random_share: Annotated[
        float,
        typer.Option(
            min=0.01, max=1, help="With --order worth: share of the places drawn at random, which the estimate needs."
        ),
    ] = 0.3,
    overlap: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the candidates that two people judge, for their agreement.")
    ] = 0.0,
    gold: Annotated[int, typer.Option(min=0, help="Candidates of known truth that are mixed in, to test people.")] = 0,
    detector: Annotated[str | None, typer.Option(help="Only candidates of this detector. [default: of all]")] = None,
    seed: Annotated[int, typer.Option(help="Seed for the order, the overlap and the gold candidates.")] = 0,
    within: Annotated[
        float, typer.Option(min=0.001, max=0.5, help="Half of the interval that is enough, e.g. 0.02 for +-2 %.")
    ] = 0.02,
    new_links: Annotated[
        bool, typer.Option("--new-links", help="End all links; the owner and the people named here get new ones.")
    ] = False,
    host: Annotated[str, typer.Option(help="Address to serve on; the default is reached from this machine alone.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8022,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open the page in a browser.")] = False,
) -> None:
    """Verify candidates in the browser: one candidate a screen, one key a verdict.

    Each person has a link of their own, which stays the same. The same command goes on where the last one stopped.
    """
    from anomreason.errors import UsageError, require

    require("review", "review", "fastapi", "uvicorn", "sqlalchemy")
    from anomreason.dataset.store import open_store
    from anomreason.review.app import create_app
    from anomreason.review.people import People, admit, read_people
    from anomreason.review.queue import Queue
    from anomreason.review.reviewing import Review
    from anomreason.review.rounds import begin_round
    from anomreason.review.security import Links
    from anomreason.web.serving import address, is_loopback, listening, serve

    if order not in ("worth", "random"):
        raise UsageError(f"--order {order!r} is not known; use worth or random")
    named = read_people(people) if people else People((), None)
    with open_store(data) as store, listening(host, port) as socket:
        options = _options(context, store, name)
        with store.command("review", {"round": name, "host": host}) as running:
            round_id = begin_round(store, running.id, options)
            links = Links.of(data, new=new_links)
            reviewers = admit(store, running.id, links, [*named.people, *(person or [])], named.owner)
            review = Review(store, Queue(store, round_id, running.id), links, reviewers, name, within)

            def ready() -> None:
                _show(reviewers, links, address(socket), is_loopback(socket))
                if len(reviewers) == 1 and not no_browser:
                    open_in_browser(f"{address(socket)}/enter/{links.token(reviewers[0].name)}")

            serve(create_app(review), socket, ready)
            progress = review.progress(reviewers[0])
            running.report = {"verdicts": progress.verdicts, "wanted": progress.wanted}
    say(f"\n{counted(progress.verdicts, 'verdict', 'verdicts')} of {progress.wanted:,} so far. Next: the same command.")


def _options(context: typer.Context, store: Store, name: str) -> RoundOptions:
    """What the round was begun with, changed by what the user gave."""
    from anomreason.review.rounds import RoundOptions, options_of

    user_gave = given(context)
    changes: dict[str, Any] = {f.name: context.params[f.name] for f in fields(RoundOptions) if f.name in user_gave}
    options = replace(options_of(store, name) or RoundOptions(), **{**changes, "name": name})
    if options.order == "random":
        refuse_unused(context, ("random_share",), "with --order random")
    return options


def _show(reviewers: Sequence[Reviewer], links: Links, address: str, loopback: bool) -> None:
    """Print each person's link."""
    width = max(len(reviewer.name) for reviewer in reviewers)
    for reviewer in reviewers:
        say(f"{reviewer.name:{width}}  {address}/enter/{links.token(reviewer.name)}{'  (owner)' * reviewer.owner}")
    if not loopback:
        say("Whoever has a link can use it, and the connection is not encrypted: reach it through a tunnel.")
    say("Ctrl-C ends.")
