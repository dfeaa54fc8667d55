"""Makes `anomreason-tiny` from nothing: pictures with exact labels, vision tower, language model. Stops and resumes.

Every stage goes on where it was stopped: shards that are drawn stay, towers and models are saved every few minutes.

    python tools/make_tiny.py --work tiny-work --shards 33 --dense 3300 --language 2000

The model is then in `tiny-work/language/model`; try it with `anomreason detect FOLDER --schedule single
--model local:tiny-work/language/model`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from anomreason.training.tiny.corpus import Size, draw_shard
from anomreason.training.tiny.dense import DenseSettings, train_dense
from anomreason.training.tiny.language import LanguageSettings, make_model, train_language


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of shards, checkpoints and logs")
    parser.add_argument("--shards", type=int, default=33, help="of 2,000 pictures; the last one tests the tower")
    parser.add_argument("--dense", type=int, default=3300, help="steps of the vision tower, 32 pictures each")
    parser.add_argument("--language", type=int, default=2000, help="steps of the language model, 48 pictures each")
    given = parser.parse_args()
    work: Path = given.work
    shards = [draw_shard(work / "corpus", number, Size()) for number in range(given.shards)]
    tower = train_dense(work / "dense", shards, DenseSettings(steps=given.dense))
    settings = LanguageSettings(steps=given.language)
    if not (work / "base").exists():
        make_model(work / "base", tower, shards[:6], settings.shape, settings.seed)
    print(train_language(work / "language", work / "base", shards[:-1], settings))


if __name__ == "__main__":
    main()
