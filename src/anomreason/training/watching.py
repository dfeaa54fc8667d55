"""Training callbacks: gradient checks, logging, evaluation on held-out images, and the choice of the best weights.

`callback(watch)` gives the callback for Hugging Face's training loop; it imports transformers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from anomreason.errors import UsageError
from anomreason.report.curve import TrainLog
from anomreason.training.answering import Answers, Score, answer
from anomreason.training.checks import GradientWatch, Proof, ProofFailed, logits_of
from anomreason.training.data.instance import Instance, Turn
from anomreason.training.folder import BestWeights, TrainingFolder
from anomreason.training.loading import TrainingData
from anomreason.training.recipe import Recipe
from anomreason.vlm.local.weights import Checkpoint

Progress = Callable[[Mapping[str, Any]], None]
"""Gets each line of the log as it is written."""
PROBES = 2
"""Conversations on which the trained and the saved model are compared."""
PROBE_TOKENS = 16
"""Last positions of a conversation whose logits are compared later."""
PROBE = "probe-logits.safetensors"
SPOT_CHECK = 8
"""Answers of the base and of the trained model that are tried for being readable."""


def quiet(_: Mapping[str, Any]) -> None:
    """Progress that shows nothing."""


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """One training: what all its stages share."""

    data: TrainingData
    source: Checkpoint
    sample: Sequence[Instance]
    """Held-out conversations that are measured."""
    folder: TrainingFolder
    processes: int
    main: bool

    @property
    def recipe(self) -> Recipe:
        return self.data.recipe

    @property
    def probes(self) -> Sequence[Instance]:
        return (*self.sample, *self.data.instances)[:PROBES]


@dataclass
class Watch:
    """The state of one training that its callbacks read and write."""

    job: TrainingJob
    score: Score | None
    progress: Progress
    begun: float = field(default_factory=time.monotonic)
    log: TrainLog | None = None
    gradients: GradientWatch = field(init=False)
    proofs: dict[str, Proof] = field(default_factory=dict)
    """By name; those of an earlier part of the training too."""

    def __post_init__(self) -> None:
        self.gradients = GradientWatch(lora=self.job.recipe.lora is not None)

    def tell(self, line: Mapping[str, Any]) -> None:
        """Log a line and pass it on."""
        if self.job.main and self.log is not None:
            self.log.add(line)
            self.progress(line)

    def remember(self) -> None:
        """Take up the proofs of an earlier part of the training."""
        for line in self.log.lines if self.log else ():
            if line.get("event") == "proof":
                self.proofs[line["name"]] = Proof(line["name"], line["found"])

    def prove(self, proof: Proof) -> None:
        self.proofs[proof.name] = proof
        self.tell({"event": "proof", "name": proof.name, "found": proof.found})

    def logged(self, step: int, steps: int, logs: Mapping[str, Any]) -> None:
        """Log what the loop reports every so many steps. Raises ProofFailed when the loss is not a number."""
        if "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise ProofFailed(
                f"the loss is {logs['loss']} at step {step}: training has diverged; lower steps.learning_rate, or "
                "train in fp32"
            )
        names = {"loss": "loss", "learning_rate": "learning_rate", "grad_norm": "grad_norm", "num_tokens": "tokens"}
        numbers = {name: float(f"{logs[key]:.6g}") for key, name in names.items() if key in logs}
        seconds = round(time.monotonic() - self.begun, 1)
        self.tell({"step": step, "steps": steps, **numbers, "seconds": seconds})

    def measure(self, model: Any, step: int, loss: float) -> bool:
        """Answer and score the held-out sample and keep the weights if they are the best.

        The base (step 0) is asked its own question, and is never kept. Gives whether these weights could be kept.
        """
        answers = self._answers(model, step)
        if not self.job.main:
            return step > 0
        if step == 0:
            self.tell({"event": "answers", "model": "base", **readable(answers)})
        scores = {"loss": float(f"{loss:.6g}")}
        if self.score is not None:
            scores |= {name: float(value) for name, value in self.score(answers).items()}
        cut = sum(one.cut for one in answers)
        self.tell({"step": step, "scores": scores, "answered": len(answers), "cut": cut})
        by = self._deciding(scores)
        if step > 0 and self._better(by, scores[by]):
            self.keep(model, BestWeights(step, Path(), by, scores[by], scores))
        return step > 0

    def keep(self, model: Any, best: BestWeights) -> None:
        """Save these weights as the best, with the logits that they give."""
        from safetensors.torch import save_file

        folder = self.job.folder.place_for(best.step)
        extra = {"save_embedding_layers": False} if self.job.recipe.lora else {}
        model.save_pretrained(folder, **extra)
        # In the precision that inference will load them in, without the training's autocast.
        save_file({"logits": logits_of(model, self.job.data.encoder, self.job.probes, PROBE_TOKENS)}, folder / PROBE)
        self.job.folder.choose(replace(best, folder=folder))

    def saved(self, step: int) -> None:
        """A checkpoint was written, by all processes."""
        if self.job.main:
            self.job.folder.complete(step, self.job.recipe.steps.keep)

    def _answers(self, model: Any, step: int) -> list[Answers]:
        """Each process answers its share. Without a score, only the base is tried, on a few."""
        from accelerate import PartialState
        from accelerate.utils import gather_object

        if self.score is None and step > 0:
            return []
        sample = self.job.sample if self.score else self.job.sample[:SPOT_CHECK]
        if step == 0 and self.job.source.card and self.job.recipe.data.task == "anomalies":
            question = Turn("user", self.job.source.card.prompt)
            sample = [replace(one, turns=(question, *one.turns[1:])) for one in sample]
        state, part = PartialState(), self.job.recipe.evaluation
        mine = range(state.process_index, len(sample), state.num_processes)
        answers = answer(model, self.job.data.encoder, [sample[k] for k in mine], part.max_reply_tokens, part.batch)
        numbered: list[tuple[int, Answers]] = list(zip(mine, answers, strict=True))
        if state.num_processes > 1:
            numbered = gather_object(numbered)
        return [one for _, one in sorted(numbered, key=lambda pair: pair[0])]

    def _deciding(self, scores: Mapping[str, float]) -> str:
        wanted = self.job.recipe.evaluation.best
        if wanted is not None and wanted not in scores:
            raise UsageError(
                f"evaluation.best: there is no score {wanted!r}, but {', '.join(scores)}; name one of them"
            )
        return wanted or next((name for name in scores if name != "loss"), "loss")

    def _better(self, by: str, value: float) -> bool:
        before = self.job.folder.chosen()
        if before is None or before.value is None or before.by != by:
            return not math.isnan(value)
        return value < before.value if by == "loss" else value > before.value


def readable(answers: Sequence[Answers]) -> dict[str, Any]:
    """How many answers detection could use, and a warning where it could not use all."""
    bad = [one for one in answers if not one.readable]
    counts: dict[str, Any] = {"readable": len(answers) - len(bad), "answers": len(answers)}
    if not bad:
        return counts
    cut, text = sum(one.cut for one in bad), bad[0].texts[-1]
    example = text if len(text) <= 80 else text[:77] + "..."
    ending = f" ({cut} ran into evaluation.max_reply_tokens)" if cut else ""
    warning = f"{len(bad)} of {len(answers)} sample answers cannot be read as anomalies{ending}, e.g. {example!r}"
    return counts | {"warning": warning}


def callback(watch: Watch) -> Any:
    """The callback for the training loop."""
    from accelerate import PartialState
    from accelerate.utils import DistributedType
    from transformers import TrainerCallback

    # There the gradients do not lie with the parameters.
    hidden = PartialState().distributed_type in (DistributedType.DEEPSPEED, DistributedType.FSDP)

    class WatchCallback(TrainerCallback):  # type: ignore[misc]
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            if not hidden and not watch.gradients.done:
                rate = given["optimizer"].param_groups[0]["lr"]
                if proof := watch.gradients.look(given["model"], rate):
                    watch.prove(proof)

        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            control.should_log |= state.global_step >= state.max_steps  # so a short training has a loss to show

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **given: Any) -> None:
            watch.logged(state.global_step, state.max_steps, logs or {})

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **given: Any) -> None:
            if watch.measure(given["model"], state.global_step, metrics["eval_loss"]):
                control.should_save = True

        def on_save(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            PartialState().wait_for_everyone()
            watch.saved(state.global_step)

    return WatchCallback()
