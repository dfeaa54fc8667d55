"""What happens beside the learning: gradients are proved, numbers logged, held-out pictures answered, the best kept.

Knows nothing of how the model was loaded. `made(...)` gives the callback for Hugging Face's training loop; making it
imports transformers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anomreason.errors import UsageError
from anomreason.report.curve import TrainLog
from anomreason.training.answering import Answered, answer
from anomreason.training.checks import GradientWatch, Proof, ProofFailed, logits_of
from anomreason.training.data.batches import Encoder
from anomreason.training.folder import Chosen
from anomreason.training.job import Job

Score = Callable[[Sequence[Answered]], Mapping[str, float]]
"""Numbers for what the model said of held-out pictures, larger being better; the first is the one that counts."""
Progress = Callable[[Mapping[str, Any]], None]
"""Gets each line of the log as it is written."""
PROBE_TOKENS = 16
"""Last positions of a conversation whose logits are compared later."""
PROBE = "probe-logits.safetensors"


def quiet(_: Mapping[str, Any]) -> None:
    """Progress that nobody wants to see."""


@dataclass
class Watch:
    """One training as seen from beside."""

    job: Job
    encoder: Encoder
    score: Score | None
    progress: Progress
    begun: float = field(default_factory=time.monotonic)
    log: TrainLog | None = None
    gradients: GradientWatch = field(init=False)
    proofs: dict[str, Proof] = field(default_factory=dict)
    """By name; of an earlier part of the training too."""

    def __post_init__(self) -> None:
        self.gradients = GradientWatch(lora=self.job.recipe.lora is not None)

    def tell(self, line: Mapping[str, Any]) -> None:
        """Log a line, and pass it on."""
        if self.job.main and self.log is not None:
            self.log.add(line)
            self.progress(line)

    def remember(self) -> None:
        """Take up what an earlier part of the training proved."""
        for line in self.log.lines if self.log else ():
            if line.get("event") == "proof":
                self.proofs[line["name"]] = Proof(line["name"], line["found"])

    def prove(self, proof: Proof) -> None:
        self.proofs[proof.name] = proof
        self.tell({"event": "proof", "name": proof.name, "found": proof.found})

    def learnt(self, step: int, steps: int, logs: Mapping[str, Any]) -> None:
        """What the loop logs every so many steps. Raises ProofFailed when the loss is no number."""
        if "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise ProofFailed(
                f"the loss is {logs['loss']} at step {step}: training has gone wrong; lower steps.learning_rate, or "
                "train in fp32"
            )
        names = {"loss": "loss", "learning_rate": "learning_rate", "grad_norm": "grad_norm", "num_tokens": "tokens"}
        numbers = {name: float(f"{logs[key]:.6g}") for key, name in names.items() if key in logs}
        seconds = round(time.monotonic() - self.begun, 1)
        self.tell({"step": step, "steps": steps, **numbers, "seconds": seconds})

    def measure(self, model: Any, step: int, loss: float) -> bool:
        """Answer and score the held-out sample, and keep the weights if they are the best; whether this is a result."""
        said = self._answers(model)
        if not self.job.main:
            return step > 0
        scores = {"loss": float(f"{loss:.6g}")}
        if self.score is not None:
            scores |= {name: float(value) for name, value in self.score(said).items()}
        cut = sum(one.cut for one in said)
        self.tell({"step": step, "scores": scores, "answered": len(said), "cut": cut})
        by = self._deciding(scores)
        if step > 0 and self._better(by, scores[by]):
            self.keep(model, Chosen(step, Path(), by, scores[by], scores))
        return step > 0

    def keep(self, model: Any, chosen: Chosen) -> None:
        """Save these weights as the chosen ones, with the logits that they give."""
        from safetensors.torch import save_file

        folder = self.job.folder.place_for(chosen.step)
        extra = {"save_embedding_layers": False} if self.job.recipe.lora else {}
        model.save_pretrained(folder, **extra)
        # In the precision that inference will load them in, without the training's autocast.
        save_file({"logits": logits_of(model, self.encoder, self.job.probes, PROBE_TOKENS)}, folder / PROBE)
        self.job.folder.choose(Chosen(chosen.step, folder, chosen.by, chosen.value, chosen.scores))

    def saved(self, step: int) -> None:
        """A checkpoint was written, by all processes."""
        if self.job.main:
            self.job.folder.complete(step, self.job.recipe.steps.keep)

    def _answers(self, model: Any) -> list[Answered]:
        """Each process answers its share."""
        from accelerate import PartialState
        from accelerate.utils import gather_object

        if self.score is None:
            return []
        state, part = PartialState(), self.job.recipe.evaluation
        mine = range(state.process_index, len(self.job.sample), state.num_processes)
        said = answer(model, self.encoder, [self.job.sample[k] for k in mine], part.max_reply_tokens, part.batch)
        numbered: list[tuple[int, Answered]] = list(zip(mine, said, strict=True))
        if state.num_processes > 1:
            numbered = gather_object(numbered)
        return [one for _, one in sorted(numbered, key=lambda pair: pair[0])]

    def _deciding(self, scores: Mapping[str, float]) -> str:
        asked = self.job.recipe.evaluation.best
        if asked is not None and asked not in scores:
            raise UsageError(f"evaluation.best: there is no score {asked!r}, but {', '.join(scores)}; name one of them")
        return asked or next((name for name in scores if name != "loss"), "loss")

    def _better(self, by: str, value: float) -> bool:
        before = self.job.folder.chosen()
        if before is None or before.value is None or before.by != by:
            return not math.isnan(value)
        return value < before.value if by == "loss" else value > before.value


def made(watch: Watch) -> Any:
    """The callback for the training loop."""
    from accelerate import PartialState
    from accelerate.utils import DistributedType
    from transformers import TrainerCallback

    # There the gradients do not lie with the parameters.
    hidden = PartialState().distributed_type in (DistributedType.DEEPSPEED, DistributedType.FSDP)

    class Watching(TrainerCallback):  # type: ignore[misc]
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            if not hidden and not watch.gradients.done:
                rate = given["optimizer"].param_groups[0]["lr"]
                if proof := watch.gradients.look(given["model"], rate):
                    watch.prove(proof)

        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            control.should_log |= state.global_step >= state.max_steps  # so a short training has a loss to show

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **given: Any) -> None:
            watch.learnt(state.global_step, state.max_steps, logs or {})

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **given: Any) -> None:
            if watch.measure(given["model"], state.global_step, metrics["eval_loss"]):
                control.should_save = True

        def on_save(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            PartialState().wait_for_everyone()
            watch.saved(state.global_step)

    return Watching()
