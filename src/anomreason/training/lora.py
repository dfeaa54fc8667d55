"""Trains a detector: recipe and conversations in, an adapter or checkpoint that detection uses at once out.

The loop is TRL's SFTTrainer on PEFT; its callbacks are in watching.py, its proofs in checks.py. The same call on the
same folder continues after a kill; on a CPU the result is the same as without one. Under `accelerate launch` every
process makes the same call. Seeds the global random generators.

    data = prepare(read_recipe("anomreasonor-7b"), ["scenes/"], ["held-out/"])
    trained = train(data, Path("anomreasonor"))
    vlm = open_vlm(trained.spec)
"""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import shutil
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from anomreason.files import write_atomically
from anomreason.report.curve import TrainLog
from anomreason.runs import provenance
from anomreason.training.answering import Score, answer
from anomreason.training.checks import (
    EXACT,
    NEAR,
    ROUNDED,
    Proof,
    check_all_used,
    check_loss_mask,
    check_pixels,
    check_placement,
    check_same,
    check_trainable,
    difference,
    logits_of,
    matched_modules,
    read_tensors,
)
from anomreason.training.data.batches import ConversationEncoder
from anomreason.training.data.instance import Instance
from anomreason.training.folder import BestWeights, TrainingFolder
from anomreason.training.loading import (
    TrainingData,
    card_of,
    device_here,
    first_turn,
    in_half,
    load_base,
    lora_config,
    prepare_full,
    require_conversations,
    weights_dtype,
)
from anomreason.training.merging import copy_processor, merge_in_place
from anomreason.training.watching import (
    PROBE,
    PROBE_TOKENS,
    SPOT_CHECK,
    Progress,
    TrainingJob,
    Watch,
    callback,
    quiet,
    readable,
)
from anomreason.vlm.card import CARD_NAME
from anomreason.vlm.local.weights import find_checkpoint, load_model
from anomreason.vlm.protocol import TINY, VLMOptions

_PATIENCE = 7200
"""Seconds that one of several processes waits for another."""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """A finished training."""

    folder: Path
    spec: str
    """What `--model` takes."""
    steps: int
    chosen: int
    """The step whose weights were kept."""
    by: str
    """What they were chosen by: a score's name, `loss` of held-out conversations, or `last`."""
    scores: Mapping[str, float]
    """Of those weights on the held-out sample."""
    proofs: tuple[Proof, ...]
    warning: str | None = None
    """What is wrong with the trained model's sample answers; None where all can be read."""


def train(data: TrainingData, out: Path, score: Score | None = None, progress: Progress = quiet) -> TrainingResult:
    """Train, or continue training, in the folder `out`, until the recipe's steps are done and the result is proved.

    score: numbers for the answers on the held-out sample; without it the held-out loss decides, without held-out
    conversations the last step. progress: gets every line of the log. A finished training is only reported.
    Raises UsageError for a recipe, conversations or a folder that cannot be used, UnreadableImage, ProofFailed when the
    training does not do what it must.
    """
    require_conversations(data)
    with _quiet_libraries():
        import torch
        from accelerate import PartialState

        # The others wait while the main process scores, and while it proves what was saved.
        state = PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(seconds=_PATIENCE))
        source = find_checkpoint(data.recipe.model.base)
        sample = _sample(data.held_out, data.recipe.evaluation.sample, data.recipe.seed)
        settings = _settings(data, source.name.rpartition("@")[2], sample, state.num_processes)
        folder = TrainingFolder(out, settings, provenance().model_dump(), main=state.is_main_process)
        try:
            state.wait_for_everyone()
            job = TrainingJob(data, source, sample, folder, state.num_processes, state.is_main_process)
            done = folder.done()
            return _result(out, done) if done else _train(job, score, progress)
        finally:
            folder.close()


def _train(job: TrainingJob, score: Score | None, progress: Progress) -> TrainingResult:
    from accelerate import PartialState

    resumed = job.folder.last_checkpoint()
    model = load_base(job.recipe, job.source)
    watch = Watch(job, score, progress)
    if job.main:
        job.folder.path.mkdir(parents=True, exist_ok=True)
        watch.log = TrainLog(job.folder.path, f"Training {job.folder.path.name}", resumed[0] if resumed else -1)
        watch.remember()
    try:
        steps = _learn(job, model, watch, resumed)
        del model
        _free()
        record = _finish(job, watch, steps) if job.main else {}
        if watch.log is not None:
            watch.log.draw(over=True)
    finally:
        if watch.log is not None:
            watch.log.close()
    PartialState().wait_for_everyone()
    return _result(job.folder.path, record or job.folder.done() or {})


def _learn(job: TrainingJob, model: Any, watch: Watch, resumed: tuple[int, Path] | None) -> int:
    """Run the loop to its end; gives the number of steps."""
    recipe, lengths = job.recipe, job.data.lengths
    devices = f"{recipe.batch.per_device} x {recipe.accumulation_for(job.processes)} x {job.processes}"
    if resumed is None:
        total, learnt = sum(one.total for one in lengths), sum(one.answer for one in lengths)
        watch.tell({"event": "data", "conversations": len(lengths), "tokens": total, "learnt": learnt})
        watch.tell({"event": "batch", "effective": recipe.effective_batch, "device x accumulation x devices": devices})
    else:
        watch.tell({"event": "resumed", "step": resumed[0]})
    watch.prove(check_pixels(job.data.encoder, job.probes))
    watch.prove(check_loss_mask(job.data.encoder, job.probes))
    trainer = _trainer(job, model, watch)
    if job.main and resumed is None:
        learning = [p for p in trainer.model.parameters() if p.requires_grad]
        watch.tell({"event": "learning", "tensors": len(learning), "weights": sum(p.numel() for p in learning)})
    trainer.train(resume_from_checkpoint=str(resumed[1]) if resumed else None)
    steps = int(trainer.state.global_step)
    if job.main and job.folder.chosen() is None:
        watch.keep(trainer.accelerator.unwrap_model(trainer.model), BestWeights(steps, Path(), "last", None, {}))
    # The trainer and its callback hold each other; memory is needed again to load what was saved.
    trainer.callback_handler.callbacks.clear()
    trainer.accelerator.free_memory()
    return steps


def _trainer(job: TrainingJob, model: Any, watch: Watch) -> Any:
    """TRL's trainer, with the adapters in place and proved to be where they belong."""
    from datasets import Dataset
    from transformers import PrinterCallback

    recipe = job.recipe
    model.config.use_cache = False
    adapters = expected = None
    if recipe.lora is not None:
        expected = matched_modules(model, recipe.lora)
        watch.tell({"event": "modules", "count": len(expected), "names": expected})
        adapters = lora_config(recipe.lora, len(model.model.language_model.layers))
    else:
        prepare_full(recipe, model)
    everything = [*job.data.instances, *job.sample]
    count = len(job.data.instances)
    trainer = _trainer_class()(
        model=model,
        args=_arguments(job),
        data_collator=_Collator(job.data.encoder, everything),
        train_dataset=Dataset.from_dict({"index": list(range(count))}),
        eval_dataset=Dataset.from_dict({"index": list(range(count, len(everything)))}) if job.sample else None,
        processing_class=job.data.encoder.reader.tokenizer,
        peft_config=adapters,
        callbacks=[callback(watch)],
    )
    # Qwen2.5-VL's class says no, and then each accumulated batch would weigh alike, however few tokens it teaches. The
    # loss here is TRL's, which does divide by the tokens of the whole step.
    trainer.model_accepts_loss_kwargs = True
    trainer.remove_callback(PrinterCallback)  # our own log is shown
    if recipe.lora is not None and expected is not None:
        watch.prove(check_placement(trainer.model, expected))
    elif recipe.full is not None:
        watch.prove(check_trainable(trainer.model, recipe.full))
    if recipe.batch.checkpointing:
        # Not through the trainer's own setting: that makes the inputs of the frozen vision tower require gradients,
        # and the whole tower would be differentiated for nothing. Needed only by the reentrant kind.
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return trainer


def _arguments(job: TrainingJob) -> Any:
    from trl import SFTConfig

    recipe, steps, cpu = job.recipe, job.recipe.steps, device_here() == "cpu"
    measured = bool(job.sample)
    return SFTConfig(
        output_dir=str(job.folder.checkpoints),
        per_device_train_batch_size=recipe.batch.per_device,
        per_device_eval_batch_size=recipe.evaluation.batch,
        gradient_accumulation_steps=recipe.accumulation_for(job.processes),
        num_train_epochs=steps.epochs,
        max_steps=steps.max_steps or -1,
        learning_rate=steps.learning_rate,
        lr_scheduler_type=steps.schedule,
        warmup_steps=steps.warmup,
        weight_decay=steps.weight_decay,
        max_grad_norm=steps.max_grad_norm,
        logging_steps=steps.log_every,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=steps.save_every,
        eval_strategy="steps" if measured else "no",
        eval_steps=recipe.evaluation.every if measured else None,
        eval_on_start=measured and job.folder.last_checkpoint() is None,
        prediction_loss_only=True,
        seed=recipe.seed,
        data_seed=recipe.seed,
        bf16=in_half(recipe),
        use_cpu=cpu,
        gradient_checkpointing=False,
        dataloader_num_workers=recipe.batch.workers,
        dataloader_persistent_workers=recipe.batch.workers > 0,
        dataloader_pin_memory=not cpu,
        ddp_find_unused_parameters=False,
        ddp_timeout=_PATIENCE,
        remove_unused_columns=False,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        report_to=[],
        disable_tqdm=True,
    )


def _trainer_class() -> Any:
    from trl import SFTTrainer

    class Trainer(SFTTrainer):  # type: ignore[misc]
        """Sends no telemetry and writes no model card of TRL's."""

        def _send_telemetry(self) -> None:
            return

        def create_model_card(self, *args: Any, **kwargs: Any) -> None:
            return

    return Trainer


@dataclass
class _Collator:
    """Batches from the numbers of conversations."""

    encoder: ConversationEncoder
    instances: Sequence[Instance]

    def __call__(self, picked: Sequence[Mapping[str, int]]) -> dict[str, Any]:
        return self.encoder.collate([self.encoder.encode(self.instances[one["index"]]) for one in picked])


def _sample(held_out: Sequence[Instance], count: int, seed: int) -> list[Instance]:
    """Some of the held-out conversations, the same for the same seed, in their order."""
    picked = np.random.default_rng(seed).permutation(len(held_out))[:count]
    return [held_out[k] for k in sorted(picked)]


def _finish(job: TrainingJob, watch: Watch, steps: int) -> dict[str, Any]:
    """Put the chosen weights where detection finds them, and prove that it finds what was trained."""
    chosen = job.folder.chosen()
    assert chosen is not None
    out = job.folder.path
    for file in chosen.folder.iterdir():
        if file.name not in (PROBE, "README.md", "training_args.bin"):
            shutil.copyfile(file, out / file.name)
    # The question that most conversations end on; of several, the one met first.
    question = Counter(one.turns[-2].text for one in job.data.instances).most_common(1)[0][0]
    card = card_of(job.recipe, job.recipe.data.prompt or question).model_copy(update=first_turn(job.data.instances))
    if job.source.card:
        card = card.model_copy(update={"out_of_domain": job.source.card.out_of_domain})
    write_atomically(out / CARD_NAME, card.model_dump_json(indent=2, exclude_none=True) + "\n")
    base = _lasting(job.recipe.model.base)
    if job.recipe.lora is not None:
        _name_base(out, base)
    else:
        copy_processor(job.source.base, out)
    spec = f"local:{base}+{out}" if job.recipe.lora is not None else f"local:{out}"
    found = _prove_saved(job, watch, chosen)
    record: dict[str, Any] = {
        "spec": spec,
        "steps": steps,
        "chosen": chosen.step,
        "by": chosen.by,
        "scores": dict(chosen.scores),
        "proofs": [asdict(proof) for proof in watch.proofs.values()],
        "warning": found.get("warning"),
    }
    write_atomically(out / "README.md", _readme(job, record))
    watch.tell({"event": "trained", "step": steps, "chosen": chosen.step, "by": chosen.by, "model": spec})
    job.folder.finish(record)
    return record


def _prove_saved(job: TrainingJob, watch: Watch, chosen: BestWeights) -> dict[str, Any]:
    """Prove that the saved model, loaded as detection loads it, is the trained one; gives how its answers read."""
    from safetensors.torch import load_file

    encoder, part = job.data.encoder, job.recipe.evaluation
    before = load_file(chosen.folder / PROBE)["logits"]
    dtype, out = weights_dtype(job.recipe), job.folder.path
    near, rounded = (EXACT, EXACT) if dtype == "float32" else (NEAR, ROUNDED)
    lora = job.recipe.lora is not None
    source = find_checkpoint(f"{job.source.spec}+{out}" if lora else str(out))
    model = load_model(source, VLMOptions(device=device_here(), dtype=dtype))
    loaded = logits_of(model, encoder, job.probes, PROBE_TOKENS)
    if job.recipe.model.four_bit:
        far, share = difference(before, loaded)
        watch.prove(Proof("reloaded", f"logits over 16-bit weights drift by {far:.3g}, {share:.2g} of the largest"))
    else:
        watch.prove(check_same("reloaded", before, loaded, near))
    tried = (job.sample or job.data.instances)[:SPOT_CHECK]
    found = readable(answer(model, encoder, tried, part.max_reply_tokens, part.batch))
    watch.tell({"event": "answers", "model": "trained", **found})
    if lora:
        watch.prove(check_all_used(read_tensors(out), model))
        merge_in_place(model)
        watch.prove(check_same("merged", loaded, logits_of(model, encoder, job.probes, PROBE_TOKENS), rounded))
    return found


def _lasting(base: str) -> str:
    """The base as it can be named from any folder."""
    path = Path(base).expanduser()
    return str(path.resolve()) if path.is_dir() and base != TINY else base


def _name_base(folder: Path, base: str) -> None:
    """Write the base's own name into the adapter: PEFT puts where this machine keeps it."""
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    write_atomically(file, json.dumps({**config, "base_model_name_or_path": base}, indent=2, sort_keys=True) + "\n")


def _readme(job: TrainingJob, record: Mapping[str, Any]) -> str:
    scores = ", ".join(f"{name} {value:.4g}" for name, value in record["scores"].items()) or "none were measured"
    proofs = "\n".join(f"- {proof['name']}: {proof['found']}" for proof in record["proofs"])
    warning = f"**Warning**: {record['warning']}.\n\n" if record["warning"] else ""
    return (
        f"# {job.folder.path.name}\n\n{warning}"
        f"A detector of semantic anomalies, trained with anomreason from `{job.recipe.model.base}` on "
        f"{len(job.data.instances):,} conversations.\n\n    anomreason detect IMAGES --model '{record['spec']}' "
        "--schedule single\n\n"
        f"Weights of step {record['chosen']} of {record['steps']}, chosen by {record['by']}. On the held-out sample: "
        f"{scores}. `curve.html` and `train-log.jsonl` show how training went, `training.json` has its settings.\n\n"
        f"Proofs:\n\n{proofs}\n"
    )


def _settings(data: TrainingData, base: str, sample: Sequence[Instance], processes: int) -> dict[str, Any]:
    """What decides the result: another value of one of these is another training."""
    other: dict[str, Any] = {"about": True, "device": True, "model": {"base"}, "data": {"train", "held_out"}}
    return {
        "recipe": data.recipe.model_dump(mode="json", exclude={**other, "batch": {"workers"}, "steps": {"keep"}}),
        "base": base,
        "conversations": len(data.instances),
        "images": {one.name: one.sha256[:16] for one in data.instances},
        "held_out_images": {one.name: one.sha256[:16] for one in sample},
        "data": _digest(data.instances),
        "held_out": _digest(sample),
        "processes": processes,
    }


def _digest(instances: Sequence[Instance]) -> str:
    texts = [(one.name, one.part, one.sha256, [(turn.role, turn.text) for turn in one.turns]) for one in instances]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]


def _result(out: Path, record: Mapping[str, Any]) -> TrainingResult:
    proofs = tuple(Proof(**proof) for proof in record["proofs"])
    known = {key: record[key] for key in ("spec", "steps", "chosen", "by", "scores")}
    return TrainingResult(out, **known, proofs=proofs, warning=record.get("warning"))


def _free() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep the libraries' messages for their developers off the terminal; what matters is in our own log."""
    from transformers.utils import logging as library_logging

    names = ("transformers", "trl", "peft", "accelerate", "datasets")
    bars = library_logging.is_progress_bar_enabled()
    library_logging.disable_progress_bar()
    levels = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
            if bars:
                library_logging.enable_progress_bar()
