"""Opens a model by its spec, or reads its card without opening it; the only module that imports every kind of model.

vlm = open_vlm("gpt-4o")
"""

from __future__ import annotations

from dataclasses import replace

from anomreason.errors import UsageError
from anomreason.vlm.card import DetectorCard
from anomreason.vlm.endpoint.address import NoKey
from anomreason.vlm.endpoint.presets import near_spec, preset_of, split_preset
from anomreason.vlm.protocol import TINY, VLM, VLMOptions


def open_vlm(spec: str, options: VLMOptions = VLMOptions()) -> VLM:  # noqa: B008
    """A model by its spec: `tiny`, `local:PATH_OR_ID[+ADAPTER]`, `sim:TRUTH.json`, `PRESET:NAME` as listed in
    `endpoint/presets.toml`, or a name known to an endpoint.

    Raises UsageError for a spec that cannot be opened, MissingExtra when a local model lacks its dependencies.
    """
    kind, name = _parsed(spec)
    if kind != "endpoint" and options.base_urls:
        raise UsageError(f"{spec!r} runs in this process, so a base URL has no effect; leave one of them out")
    if kind == "sim":
        from anomreason.vlm.simulator.model import Simulator

        return Simulator.from_file(name)
    if kind == "local":
        from anomreason.vlm.local.model import LocalVLM

        return LocalVLM(name, options)
    from anomreason.vlm.endpoint.openai import OpenAIVLM

    if (preset := preset_of(spec)) is not None:
        name = split_preset(spec)[1]
        if not options.base_urls:
            options = replace(options, base_urls=(preset.url(),), api_key_env=options.api_key_env or preset.key)
    try:
        return OpenAIVLM(name, options)
    except NoKey as e:
        if near := near_spec(spec):
            raise UsageError(f"{e}. Did you mean --model {near}?") from e
        raise


def card_of(spec: str) -> DetectorCard | None:
    """The card of the model that `spec` names, read without loading the model; None for a model without one.

    Of a model on the hub only the card is fetched. Raises UsageError for a spec or a card that cannot be used.
    """
    kind, name = _parsed(spec)
    if kind != "local":
        return None
    from anomreason.vlm.local.weights import find_card

    return find_card(name)


def _parsed(spec: str) -> tuple[str, str]:
    """The kind of model (`local`, `sim` or `endpoint`) and the rest of the spec."""
    if spec == TINY:
        return "local", TINY
    if spec.startswith(f"{TINY}+"):
        raise UsageError(f"{spec!r} is not a model name; for the bundled model with an adapter write local:{spec}")
    kind, _, name = spec.partition(":")
    if kind not in ("sim", "local") or spec == kind:
        return "endpoint", spec
    if not name:
        missing = "truth file; write sim:TRUTH.json"
        if kind == "local":
            missing = "model; write local:FOLDER or local:OWNER/NAME"
        raise UsageError(f"{spec!r} names no {missing}")
    return kind, name
