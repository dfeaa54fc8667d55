"""Opens a model by its spec; the only module that knows every kind of model.

vlm = open_vlm("gpt-4o")
"""

from __future__ import annotations

from anomreason.errors import UsageError
from anomreason.vlm.protocol import TINY, VLM, VLMOptions


def open_vlm(spec: str, options: VLMOptions = VLMOptions()) -> VLM:  # noqa: B008
    """A model by its spec: `tiny`, `local:PATH_OR_ID[+ADAPTER]`, `sim:TRUTH.json`, or a name known to an endpoint.

    Raises UsageError for a spec that cannot be opened, MissingExtra when a local model lacks its dependencies.
    """
    kind, mark, rest = spec.partition(":") if spec != TINY else ("local", ":", TINY)
    if mark and kind in ("sim", "local"):
        if not rest:
            raise UsageError(f"{spec!r} names no {'truth file' if kind == 'sim' else 'model'}; write {kind}:PATH")
        if options.base_urls:
            raise UsageError(
                f"a base URL means nothing for {spec!r}, which runs in this process; leave one of them out"
            )
    if kind == "sim" and rest:
        from anomreason.vlm.simulator.model import Simulator

        return Simulator.from_file(rest)
    if kind == "local" and rest:
        from anomreason.vlm.local.model import LocalVLM

        return LocalVLM(rest, options)
    from anomreason.vlm.endpoint.openai import OpenAIVLM

    return OpenAIVLM(spec, options)
