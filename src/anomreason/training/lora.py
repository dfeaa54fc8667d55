"""Training a detector: a recipe and conversations in, an adapter (or a checkpoint) that detection uses at once out.

The loop is TRL's SFTTrainer on PEFT; what is proved, logged and kept beside it is in checks.py and watching.py. The
same call on the same folder continues after a kill; on a CPU the result is the same as without one. Under
`accelerate launch` every process calls it alike. Seeds the global random generators. Try it:

    trained = train(read_recipe("anomreasonor-7b"), made.instances, held_out, Path("anomreasonor"))
    vlm = open_vlm(trained.spec)
"""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from anomreason.report.curve import TrainLog
from anomreason.runs import provenance
from anomreason.training.checks import (
    Proof,
    check_loss_mask,
    check_pixels,
    check_placement,
    check_trainable,
    matched_modules,
)
from anomreason.training.data.batches import Encoder, lengths_of
from anomreason.training.data.instance import Instance
from anomreason.training.finishing import finish
from anomreason.training.folder import Chosen, TrainingFolder
from anomreason.training.job import Job, Trained
from anomreason.training.loading import (
    Base,
    device_here,
    in_half,
    load_base,
    lora_config,
    prepare_full,
    require_conversations,
    require_training,
)
from anomreason.training.recipe import Recipe
from anomreason.training.watching import Progress, Score, Watch, made, quiet
from anomreason.vlm.local.weights import Checkpoint, find_checkpoint

_PATIENCE = 7200
"""Seconds that one of several processes waits for another."""


def train(
    recipe: Recipe,
    instances: Sequence[Instance],
    held_out: Sequence[Instance],
    out: Path,
    score: Score | None = None,
    progress: Progress = quiet,
) -> Trained:
    """Train, or continue training, in the folder `out`, until the recipe's steps are done and the result is proved.

    score: numbers for the answers to the held-out sample; without it the held-out loss decides, without held-out
    conversations the last step. progress: gets every line of the log. A training that is over is only reported.
    Raises UsageError for a recipe, conversations or a folder that cannot be used, UnreadableImage for a picture,
    MissingExtra when libraries are missing, ProofFailed when the training does not do what it must.
    """
    require_training(recipe)
    require_conversations(instances)
    with _quiet_libraries():
        from accelerate import PartialState

        # The others wait while the main process scores, and while it proves what was saved.
        state = PartialState(cpu=not _has_gpu(), timeout=timedelta(seconds=_PATIENCE))
        source = find_checkpoint(recipe.model.base)
        sample = _sample(held_out, recipe.evaluation.sample, recipe.seed)
        settings = _settings(recipe, source, instances, sample, state.num_processes)
        folder = TrainingFolder(out, settings, provenance(), main=state.is_main_process)
        try:
            state.wait_for_everyone()
            job = Job(recipe, source, instances, sample, folder, state.num_processes, state.is_main_process)
            done = folder.done()
            return _from_record(out, done) if done else _train(job, score, progress)
        finally:
            folder.close()


def _train(job: Job, score: Score | None, progress: Progress) -> Trained:
    resumed = job.folder.last_checkpoint()
    base = load_base(job.recipe, job.source)
    encoder = base.encoder(job.recipe.data.max_tokens)
    watch = Watch(job, encoder, score, progress)
    if job.main:
        job.folder.path.mkdir(parents=True, exist_ok=True)
        watch.log = TrainLog(job.folder.path, f"Training {job.folder.path.name}", resumed[0] if resumed else -1)
        watch.remember()
    try:
        steps = _learn(job, base, encoder, watch, resumed)
        del base
        _free()
        record = finish(job, encoder, watch, steps) if job.main else {}
        if watch.log is not None:
            watch.log.draw(over=True)
    finally:
        if watch.log is not None:
            watch.log.close()
    _wait()
    return _from_record(job.folder.path, record or job.folder.done() or {})


def _learn(job: Job, base: Base, encoder: Encoder, watch: Watch, resumed: tuple[int, Path] | None) -> int:
    """Run the loop to its end; gives the number of steps."""
    recipe = job.recipe
    widths = lengths_of(encoder, job.instances)
    lengths_of(encoder, job.sample)
    devices = f"{recipe.batch.per_device} x {recipe.accumulation_for(job.processes)} x {job.processes}"
    if resumed is None:
        total, learnt = sum(w for w, _ in widths), sum(n for _, n in widths)
        watch.tell({"event": "data", "conversations": len(widths), "tokens": total, "learnt": learnt})
        watch.tell({"event": "batch", "effective": recipe.effective_batch, "device x accumulation x devices": devices})
    else:
        watch.tell({"event": "resumed", "step": resumed[0]})
    watch.prove(check_pixels(encoder, job.probes))
    watch.prove(check_loss_mask(encoder, job.probes))
    trainer = _trainer(job, base, encoder, watch)
    if job.main and resumed is None:
        names = [name for name, p in trainer.model.named_parameters() if p.requires_grad]
        watch.tell({"event": "learning", "tensors": len(names), "weights": _count(trainer.model)})
    trainer.train(resume_from_checkpoint=str(resumed[1]) if resumed else None)
    steps = int(trainer.state.global_step)
    if job.main and job.folder.chosen() is None:
        watch.keep(trainer.accelerator.unwrap_model(trainer.model), Chosen(steps, Path(), "last", None, {}))
    # The trainer and its callback hold each other; memory is needed again to load what was saved.
    trainer.callback_handler.callbacks.clear()
    trainer.accelerator.free_memory()
    return steps


def _trainer(job: Job, base: Base, encoder: Encoder, watch: Watch) -> Any:
    """TRL's trainer, with the adapters in place and proved to be where they belong."""
    from datasets import Dataset

    recipe, model = job.recipe, base.model
    model.config.use_cache = False
    adapters = expected = None
    if recipe.lora is not None:
        expected = matched_modules(model, recipe.lora)
        watch.tell({"event": "modules", "count": len(expected), "names": expected})
        adapters = lora_config(recipe.lora, len(model.model.language_model.layers))
    else:
        prepare_full(recipe, model)
    everything = [*job.instances, *job.sample]
    count = len(job.instances)
    trainer = _trainer_class()(
        model=model,
        args=_arguments(job),
        data_collator=_Collator(encoder, everything),
        train_dataset=Dataset.from_dict({"index": list(range(count))}),
        eval_dataset=Dataset.from_dict({"index": list(range(count, len(everything)))}) if job.sample else None,
        processing_class=base.reader.tokenizer,
        peft_config=adapters,
        callbacks=[made(watch)],
    )
    # Qwen2.5-VL's class says no, and then each accumulated batch would weigh alike, however few tokens it teaches. The
    # loss here is TRL's, which does divide by the tokens of the whole step.
    trainer.model_accepts_loss_kwargs = True
    _drop_printing(trainer)
    if recipe.lora is not None and expected is not None:
        watch.prove(check_placement(trainer.model, expected))
    elif recipe.full is not None:
        watch.prove(check_trainable(trainer.model, recipe.full))
    if recipe.batch.checkpointing:
        # Not through the trainer's own setting: that makes the inputs of the frozen vision tower require gradients,
        # and the whole tower would be differentiated for nothing. Needed only by the reentrant kind.
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return trainer


def _arguments(job: Job) -> Any:
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
        """Without what TRL does for its makers and for a hub: no word goes out, no card of theirs is written."""

        def _send_telemetry(self) -> None:
            return

        def create_model_card(self, *args: Any, **kwargs: Any) -> None:
            return

    return Trainer


@dataclass
class _Collator:
    """Batches from the numbers of conversations."""

    encoder: Encoder
    instances: Sequence[Instance]

    def __call__(self, picked: Sequence[Mapping[str, int]]) -> dict[str, Any]:
        return self.encoder.collate([self.encoder.encode(self.instances[one["index"]]) for one in picked])


def _sample(held_out: Sequence[Instance], count: int, seed: int) -> list[Instance]:
    """Some of the held-out conversations, the same for the same seed, in their order."""
    picked = np.random.default_rng(seed).permutation(len(held_out))[:count]
    return [held_out[k] for k in sorted(picked)]


def _settings(
    recipe: Recipe, source: Checkpoint, instances: Sequence[Instance], sample: Sequence[Instance], processes: int
) -> dict[str, Any]:
    """What decides the result: another value of one of these is another training."""
    other: dict[str, Any] = {"about": True, "device": True, "model": {"base"}, "data": {"train", "held_out"}}
    return {
        "recipe": recipe.model_dump(mode="json", exclude={**other, "batch": {"workers"}, "steps": {"keep"}}),
        "base": source.name.rpartition("@")[2],
        "data": _digest(instances),
        "held_out": _digest(sample),
        "conversations": len(instances),
        "processes": processes,
    }


def _digest(instances: Sequence[Instance]) -> str:
    told = [(one.name, one.part, [(turn.role, turn.text) for turn in one.turns]) for one in instances]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _from_record(out: Path, record: Mapping[str, Any]) -> Trained:
    proofs = tuple(Proof(**proof) for proof in record["proofs"])
    return Trained(out, record["spec"], record["steps"], record["chosen"], record["by"], record["scores"], proofs)


def _count(model: Any) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _drop_printing(trainer: Any) -> None:
    """The log is ours to show."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)


def _has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _free() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _wait() -> None:
    from accelerate import PartialState

    PartialState().wait_for_everyone()


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Libraries say on the terminal what is meant for their makers; what matters is in our own log."""
    from transformers.utils import logging as shown

    names = ("transformers", "trl", "peft", "accelerate", "datasets")
    bars = shown.is_progress_bar_enabled()
    shown.disable_progress_bar()
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
                shown.enable_progress_bar()
