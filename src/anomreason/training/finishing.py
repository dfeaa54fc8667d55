"""The end of a training: the chosen weights where detection finds them, and the proof that it finds what was trained.

Knows nothing of the training loop. `finish(job, encoder, watch, steps)` gives the record that ends the training.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from anomreason.runs import write_atomically
from anomreason.training.checks import (
    EXACT,
    NEAR,
    ROUNDED,
    Proof,
    check_all_used,
    check_same,
    difference,
    logits_of,
    read_tensors,
)
from anomreason.training.data.batches import Encoder
from anomreason.training.data.instance import Instance
from anomreason.training.folder import Chosen
from anomreason.training.job import Job
from anomreason.training.loading import card_of, device_here, weights_dtype
from anomreason.training.merging import copy_processor, merge_in_place
from anomreason.training.watching import PROBE, PROBE_TOKENS, Watch
from anomreason.vlm.card import CARD_NAME
from anomreason.vlm.local.weights import find_checkpoint, load_model
from anomreason.vlm.protocol import TINY, VLMOptions


def finish(job: Job, encoder: Encoder, watch: Watch, steps: int) -> dict[str, Any]:
    """Put the chosen weights where detection finds them, and prove that it finds what was trained."""
    chosen = job.folder.chosen()
    assert chosen is not None
    out = job.folder.path
    for file in chosen.folder.iterdir():
        if file.name not in (PROBE, "README.md", "training_args.bin"):
            shutil.copyfile(file, out / file.name)
    card = card_of(job.recipe, job.recipe.data.prompt or _question(job.instances))
    if job.source.card:
        card = card.model_copy(update={"out_of_domain": job.source.card.out_of_domain})
    write_atomically(out / CARD_NAME, card.model_dump_json(indent=2, exclude_none=True) + "\n")
    base = _lasting(job.recipe.model.base)
    if job.recipe.lora is not None:
        _name_base(out, base)
    else:
        copy_processor(job.source.base, out)
    spec = f"local:{base}+{out}" if job.recipe.lora is not None else f"local:{out}"
    for proof in _proofs_of_saved(job, encoder, chosen):
        watch.prove(proof)
    record: dict[str, Any] = {
        "spec": spec,
        "steps": steps,
        "chosen": chosen.step,
        "by": chosen.by,
        "scores": dict(chosen.scores),
        "proofs": [asdict(proof) for proof in watch.proofs.values()],
    }
    write_atomically(out / "README.md", _readme(job, record))
    watch.tell({"event": "trained", "step": steps, "chosen": chosen.step, "by": chosen.by, "model": spec})
    job.folder.finish(record)
    return record


def _proofs_of_saved(job: Job, encoder: Encoder, chosen: Chosen) -> Iterator[Proof]:
    """The saved model, loaded as detection loads it, against the logits that the trained one gave."""
    from safetensors.torch import load_file

    before = load_file(chosen.folder / PROBE)["logits"]
    dtype, out = weights_dtype(job.recipe), job.folder.path
    near, rounded = (EXACT, EXACT) if dtype == "float32" else (NEAR, ROUNDED)
    lora = job.recipe.lora is not None
    source = find_checkpoint(f"{job.source.spec}+{out}" if lora else str(out))
    model = load_model(source, VLMOptions(device=device_here(), dtype=dtype))
    loaded = logits_of(model, encoder, job.probes, PROBE_TOKENS)
    if job.recipe.model.four_bit:
        far, share = difference(before, loaded)
        yield Proof("reloaded", f"logits over 16-bit weights drift by {far:.3g}, {share:.2g} of the largest")
    else:
        yield check_same("reloaded", before, loaded, near)
    if lora:
        yield check_all_used(read_tensors(out), model)
        merge_in_place(model)
        yield check_same("merged", loaded, logits_of(model, encoder, job.probes, PROBE_TOKENS), rounded)


def _question(instances: Sequence[Instance]) -> str:
    """The question that most conversations end on; of several, the one met first."""
    return Counter(one.turns[-2].text for one in instances).most_common(1)[0][0]


def _lasting(base: str) -> str:
    """The base as it can be named from any folder."""
    path = Path(base).expanduser()
    return str(path.resolve()) if path.is_dir() and base != TINY else base


def _name_base(folder: Path, base: str) -> None:
    """Write the base's own name into the adapter: PEFT puts where this machine keeps it."""
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    write_atomically(file, json.dumps({**config, "base_model_name_or_path": base}, indent=2, sort_keys=True) + "\n")


def _readme(job: Job, record: Mapping[str, Any]) -> str:
    scores = ", ".join(f"{name} {value:.4g}" for name, value in record["scores"].items()) or "none were measured"
    proofs = "\n".join(f"- {proof['name']}: {proof['found']}" for proof in record["proofs"])
    return (
        f"# {job.folder.path.name}\n\n"
        f"A detector of semantic anomalies, trained with anomreason from `{job.recipe.model.base}` on "
        f"{len(job.instances):,} conversations.\n\n    anomreason detect PICTURES --model '{record['spec']}' "
        "--schedule single\n\n"
        f"Weights of step {record['chosen']} of {record['steps']}, chosen by {record['by']}. On the held-out sample: "
        f"{scores}. The course of the training is in `curve.html` and `train-log.jsonl`, its settings in "
        f"`training.json`.\n\nWhat was made sure of:\n\n{proofs}\n"
    )
