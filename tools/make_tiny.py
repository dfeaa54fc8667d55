"""Makes `anomreason-tiny` from nothing: pictures with exact labels, vision tower, language model. Stops and resumes.

Every stage goes on where it was stopped: shards that are drawn stay, towers and models are saved every few minutes. The
tower first sees every kind of violation, then those that the model is to name, then these between cut-outs of things in
any colour, turn and size, things repainted where they stand, and whole pictures turned and tinted, so that it knows
things in whatever state they are. Scenes in which one thing stands in for another show on many things what befalls few.
The trained tower is levelled, so that what is wrong with a thing shows alike on all, and the language model learns of
alarms. Of tower and language model several trainings go on from one, and their mean is kept.

    python tools/make_tiny.py --work tiny-work

It prints where the model is then; try it with `anomreason detect FOLDER --schedule single --model local:MODEL`,
measure it with `benchmarks/tiny.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from anomreason.training.tiny import KNOWN
from anomreason.training.tiny.corpus import Size, draw_shard, held_out
from anomreason.training.tiny.dense import DenseSettings, mean_tower, train_dense
from anomreason.training.tiny.language import LanguageSettings, make_model, mean_language, train_language
from anomreason.training.tiny.levels import level_tower

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
    parser.add_argument("--alarm-rounds", type=int, default=3, help="of two that go on from there with alarms")
    parser.add_argument("--alarms", type=int, default=550, help="steps of each of these")
    given = parser.parse_args()
    shards = [draw_shard(given.work / "known", number, Size(kinds=KNOWN)) for number in range(given.known_shards)]
    others = stand_ins(given)
    tower = whole_tower(given, shards, others)
    print(language(given, tower, [*shards[:16], *others[:3]]))


def first_tower(given: argparse.Namespace) -> Path:
    """Trained on every kind, then on those to be named."""
    work: Path = given.work
    shards = [draw_shard(work / "corpus", number, Size()) for number in range(given.shards)]
    train_dense(work / "dense", shards, DenseSettings(steps=given.dense))
    return train_dense(work / "dense", shards, DenseSettings(steps=given.dense + given.known, rate=1.2e-3, kinds=KNOWN))


def whole_tower(given: argparse.Namespace, shards: Sequence[Path], others: Sequence[Path]) -> Path:
    """The first one's training gone on with, means of several, levelled."""
    work, tower = given.work, first_tower(given)
    unseen = draw_shard(work / "unseen", UNSEEN, Size(pictures=1000, kinds=KNOWN), held_out)
    strange = DenseSettings(
        steps=given.cutouts,
        save_every=200,
        rate=1.3e-3,
        decay=0.5,
        kinds=KNOWN,
        cutouts=0.7,
        repainted=0.35,
        strange=0.3,
        start=tower.with_name("state.pt"),
    )
    tower = train_dense(work / "cutouts", shards, strange, unseen)
    for number in range(given.rounds):
        more = replace(strange, steps=given.more, rate=1.2e-3, warm_up=60, decay=0.7, start=tower.with_name("state.pt"))
        states = []
        for denied in (False, True):
            this = replace(more, denied=denied, seed=1 + 2 * number + denied)
            made = train_dense(work / f"tower-{this.seed}", [*shards[:-1], *others, shards[-1]], this, unseen)
            states.append(made.with_name("state.pt"))
        tower = mean_tower(work / f"towers-{number}", states, strange)
    return level_tower(work / "levelled", tower.with_name("state.pt"), shards[:6], strange)


def language(given: argparse.Namespace, tower: Path, shards: Sequence[Path]) -> Path:
    """The model: trained without alarms, then rounds of two with alarms, each from the mean of the last two."""
    work, base = given.work, given.work / "base"
    settings = LanguageSettings(steps=given.language, kinds=KNOWN, silence=0.02, exchanged=0.6)
    if not base.exists():
        make_model(base, tower, shards[:6], settings.shape, settings.seed, tower.with_name("words.pt"))
    model = train_language(work / "language", base, shards, settings)
    alarms = replace(
        settings,
        steps=given.alarms,
        rate=1.3e-3,
        warm_up=30,
        decay=0.9,
        steps_a_shard=1,
        silence=0.4,
        alarmed=0.35,
        judge=tower.with_name("kinds.pt"),
    )
    for number in range(given.alarm_rounds):
        states = []
        for seed in (1 + 2 * number, 2 + 2 * number):
            this = replace(alarms, seed=seed, start=model.with_name("state.pt"))
            states.append(train_language(work / f"language-{seed}", base, shards, this).with_name("state.pt"))
        model = mean_language(work / f"languages-{number}", base, states, settings.shape)
    return model


def stand_ins(given: argparse.Namespace) -> list[Path]:
    """Shards of scenes by lamp light and of scenes with something aloft, in turns."""
    drawn = []
    for number in range(given.stand_ins):
        for first, size in (
            (STAND_INS, Size(kinds=KNOWN, scenes="by_lamp_light")),
            (2 * STAND_INS, Size(kinds=KNOWN, scenes="aloft")),
        ):
            drawn.append(draw_shard(given.work / "stand-ins", first + number, size))
    return drawn


if __name__ == "__main__":
    main()
