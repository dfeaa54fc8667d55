"""Makes `anomreason-tiny` from nothing: pictures with exact labels, vision tower, language model. Stops and resumes.

Every stage goes on where it was stopped: shards that are drawn stay, towers and models are saved every few minutes. The
tower first sees every kind of violation, then those that the model is to name, then these between cut-outs of things in
any colour, turn and size, things repainted where they stand, and whole pictures turned and tinted, so that it knows
things in whatever state they are.

    python tools/make_tiny.py --work tiny-work

The model is then in `tiny-work/language/model`; try it with `anomreason detect FOLDER --schedule single
--model local:tiny-work/language/model`, measure it with `benchmarks/tiny.py`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from anomreason.training.tiny import KNOWN
from anomreason.training.tiny.corpus import Size, draw_shard, held_out
from anomreason.training.tiny.dense import DenseSettings, train_dense
from anomreason.training.tiny.language import LanguageSettings, make_model, train_language

UNSEEN = 900
"""Number of the shard that holds only combinations which training does not."""


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
    parser.add_argument("--cutouts", type=int, default=6900, help="its last steps, with cut-outs and strange pictures")
    parser.add_argument("--language", type=int, default=2150, help="steps of the language model, 48 pictures each")
    given = parser.parse_args()
    work: Path = given.work
    tower = first_tower(given)
    size = Size(kinds=KNOWN)
    shards = [draw_shard(work / "known", number, size) for number in range(given.known_shards)]
    unseen = draw_shard(work / "unseen", UNSEEN, Size(pictures=1000, kinds=KNOWN), held_out)
    last = DenseSettings(
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
    tower = train_dense(work / "cutouts", shards, last, unseen)
    settings = LanguageSettings(steps=given.language, kinds=KNOWN, silence=0.02, exchanged=0.6)
    if not (work / "base").exists():
        make_model(work / "base", tower, shards[:6], settings.shape, settings.seed, tower.with_name("words.pt"))
    print(train_language(work / "language", work / "base", shards[:16], settings))


def first_tower(given: argparse.Namespace) -> Path:
    """Trained on every kind, then on those to be named."""
    work: Path = given.work
    shards = [draw_shard(work / "corpus", number, Size()) for number in range(given.shards)]
    train_dense(work / "dense", shards, DenseSettings(steps=given.dense))
    return train_dense(work / "dense", shards, DenseSettings(steps=given.dense + given.known, rate=1.2e-3, kinds=KNOWN))


if __name__ == "__main__":
    main()
