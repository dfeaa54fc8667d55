"""`anomreason simulate`: an OpenAI-compatible server, or a provider of batches, that answers from a truth file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anomreason.cli.options import refuse_unused
from anomreason.cli.output import say
from anomreason.english import counted


def command(
    context: typer.Context,
    truth: Annotated[
        str,
        typer.Argument(metavar="TRUTH.json", help="Lists what each image shows; paths are relative to it."),
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8008,
    batch: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="REQUESTS.jsonl ANSWERS.jsonl",
            help="Instead of serving, answer a file of `detect --batch write` as a provider would, and end.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(help="Seed of the faults below; a request's content decides, not its order."),
    ] = 0,
    latency: Annotated[float, typer.Option(help="Duration of each call in seconds.")] = 0.0,
    misses: Annotated[float, typer.Option(help="Share of true anomalies that are not reported.")] = 0.0,
    hallucinations: Annotated[float, typer.Option(help="Share of objects with an invented anomaly.")] = 0.0,
    source_recall: Annotated[float, typer.Option(help="Share of AI images that are judged AI-generated.")] = 1.0,
    false_alarms: Annotated[float, typer.Option(help="Share of photographs that are judged AI-generated.")] = 0.0,
    unsure: Annotated[float, typer.Option(help="Share of images whose source is answered with unsure.")] = 0.0,
    logprobs: Annotated[bool, typer.Option(help="Give log-probabilities of the answer about the source.")] = True,
    malformed: Annotated[float, typer.Option(help="Share of replies that are not in the requested form.")] = 0.0,
    truncated: Annotated[float, typer.Option(help="Share of replies cut short.")] = 0.0,
    refused: Annotated[float, typer.Option(help="Share of refusals.")] = 0.0,
    rate_limited: Annotated[float, typer.Option(help="Share of attempts that end as HTTP 429.")] = 0.0,
    server_errors: Annotated[float, typer.Option(help="Share of attempts that end as HTTP 500.")] = 0.0,
    hangs: Annotated[float, typer.Option(help="Share of requests never answered.")] = 0.0,
) -> None:
    """Serve a simulated vision-language model, to try things and to test without a real one.

    It answers each role from the truth file, which names the objects and anomalies of each image; it recognises an
    image by its pixels. Its answers are simulated: no number made with it says anything about a detector.
    """
    from anomreason.vlm.simulator.model import Simulator, SimulatorRates
    from anomreason.vlm.simulator.server import serve

    if batch:
        refuse_unused(context, ("port", "latency", "hangs"), "with --batch")
    rates = SimulatorRates(
        misses=misses,
        hallucinations=hallucinations,
        source_recall=source_recall,
        false_alarms=false_alarms,
        unsure=unsure,
        logprobs=logprobs,
        malformed=malformed,
        truncated=truncated,
        refused=refused,
        rate_limited=rate_limited,
        server_errors=server_errors,
        hangs=hangs,
        latency=latency,
    )
    simulator = Simulator.from_file(truth, rates=rates, seed=seed)
    if batch:
        from anomreason.vlm.simulator.batches import answer_batch

        count = answer_batch(simulator, *batch)
        say(f"{counted(count, 'simulated answer', 'simulated answers')} from {truth} in {batch[1]}")
        if wrong := simulator.outcomes["rejected"]:
            say(f"{counted(wrong, 'request was', 'requests were')} refused; {batch[1]} says why.", err=True)
        return

    def ready(url: str) -> None:
        say(f"Simulated answers from {truth} at {url} (Ctrl-C ends)")

    serve(simulator, port=port, on_ready=ready)
