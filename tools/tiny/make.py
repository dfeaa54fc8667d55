"""Makes `anomreason-tiny` from nothing: images with exact labels, vision tower, language model. Stops and resumes.

    python -m tools.tiny.make --work tiny-work

The model is then in `tiny-work/model`. Try it with `anomreason detect FOLDER --schedule single
--model local:tiny-work/model` and measure it with `python -m benchmarks.tiny --model local:tiny-work/model`. Finished
shards are kept, and towers and models are saved every few minutes; why each stage is there: NOTES.md.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from tools.tiny.corpus import Size, draw_shard, held_out
from tools.tiny.dense import DenseSettings, mean_tower, train_dense
from tools.tiny.language import LanguageSettings, make_model, mean_model, train_language

from anomreason.vlm.card import TINY_KINDS

UNSEEN = 900
"""Number of the shard that holds only combinations which training does not."""
STAND_INS = 300
"""Number of the first shard of scenes by lamp light."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of shards, checkpoints and logs")
    parser.add_argument(
        "--shards", type=int, default=50, help="of 2,000 pictures of every kind; the last one is a test"
    )
    parser.add_argument("--known-shards", type=int, default=40, help="of the kinds to be named; the last one is a test")
    parser.add_argument(
        "--dense", type=int, default=3300, help="steps of the vision tower on every kind, 32 pictures each"
    )
    parser.add_argument("--known", type=int, default=3100, help="its further steps on the kinds to be named")
    parser.add_argument(
        "--cutouts", type=int, default=6900, help="its further ones, with cut-outs and strange pictures"
    )
    parser.add_argument(
        "--stand-ins", type=int, default=3, help="shards of such scenes by lamp light, and as many aloft"
    )
    parser.add_argument("--rounds", type=int, default=3, help="of two towers that go on from the mean of the last two")
    parser.add_argument("--more", type=int, default=600, help="steps of each of these")
    parser.add_argument("--language", type=int, default=2150, help="steps of the language model, 48 pictures each")
    parser.add_argument("--branch", type=int, default=360, help="steps of each of two that go on from there")
    parser.add_argument("--alarms", type=int, default=300, help="steps of each of these with alarms of sound things")
    given = parser.parse_args()
    work: Path = given.work
    tower = first_tower(given)
    size = Size(kinds=TINY_KINDS)
    shards = [draw_shard(work / "known", number, size) for number in range(given.known_shards)]
    unseen = draw_shard(work / "unseen", UNSEEN, Size(pictures=1000, kinds=TINY_KINDS), held_out)
    strange = DenseSettings(
        steps=given.cutouts,
        save_every=200,
        rate=1.3e-3,
        decay=0.5,
        kinds=TINY_KINDS,
        cutouts=0.7,
        repainted=0.35,
        strange=0.3,
        start=tower.with_name("state.pt"),
    )
    tower = train_dense(work / "cutouts", shards, strange, unseen)
    others = stand_ins(given)
    for number in range(given.rounds):
        more = replace(strange, steps=given.more, rate=1.2e-3, warm_up=60, decay=0.7, start=tower.with_name("state.pt"))
        states = []
        for denied in (False, True):
            this = replace(more, denied=denied, seed=1 + 2 * number + denied)
            made = train_dense(work / f"tower-{this.seed}", [*shards[:-1], *others, shards[-1]], this, unseen)
            states.append(made.with_name("state.pt"))
        tower = mean_tower(work / f"towers-{number}", states, strange)
    settings = LanguageSettings(steps=given.language, kinds=TINY_KINDS, silence=0.02, exchanged=0.6)
    base = work / "base"
    if not base.exists():
        make_model(base, tower, shards[:6], settings.shape, settings.seed, tower.with_name("words.pt"))
    train_language(work / "language", base, [*shards[:16], *others[:3]], settings)
    states = [work / "language" / "state.pt"]
    branch = replace(settings, rate=1.2e-3, decay=0.7, steps_a_shard=1, silence=0.01)
    for seed in (1, 2):
        named = work / f"branch-{seed}", work / f"alarms-{seed}"
        quiet = replace(branch, steps=given.branch, seed=seed, start=states[0])
        alarmed = replace(quiet, steps=given.alarms, silence=0.3, alarmed=0.2, start=named[0] / "state.pt")
        for folder, stage in zip(named, (quiet, alarmed), strict=True):
            train_language(folder, base, [*shards[:10], *others[:3]], stage)
            states.append(folder / "state.pt")
    print(mean_model(work / "model", base, states, settings.shape))


def stand_ins(given: argparse.Namespace) -> list[Path]:
    """Shards of scenes by lamp light and of scenes with something aloft, in turns."""
    drawn = []
    for number in range(given.stand_ins):
        for first, size in (
            (STAND_INS, Size(kinds=TINY_KINDS, scenes="by_lamp_light")),
            (2 * STAND_INS, Size(kinds=TINY_KINDS, scenes="aloft")),
        ):
            drawn.append(draw_shard(given.work / "stand-ins", first + number, size))
    return drawn


def first_tower(given: argparse.Namespace) -> Path:
    """Trained on every kind, then on those to be named."""
    work: Path = given.work
    shards = [draw_shard(work / "corpus", number, Size()) for number in range(given.shards)]
    train_dense(work / "dense", shards, DenseSettings(steps=given.dense))
    return train_dense(
        work / "dense", shards, DenseSettings(steps=given.dense + given.known, rate=1.2e-3, kinds=TINY_KINDS)
    )


if __name__ == "__main__":
    main()
