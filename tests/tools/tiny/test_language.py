"""The stages of the small model: what is stopped goes on as if it had not been, and what is left behind is a model."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from PIL import Image
from tools.tiny.corpus import (
    Size,
    draw_shard,
    held_out,
    plurals,
    read_shard,
    thing_names,
    trained_on,
    usable,
)
from tools.tiny.dense import Dense, DenseSettings, train_dense
from tools.tiny.exchange import AnswerTokens
from tools.tiny.language import LanguageSettings, make_model, train_language
from tools.tiny.model import TinyShape
from tools.tiny.speech import Speech, answer_of
from tools.tiny.spoken import Spoken

from anomreason import detect
from anomreason.anomaly import KINDS
from anomreason.scenes.sprites.table import table
from tools.tiny import dense, language

SHAPE = TinyShape(side=84, vision_depth=1, vision_width=48, depth=1, width=64, heads=2, vocabulary=4096, context=512)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("corpus")
    return [draw_shard(folder, number, Size(pictures=120, side=SHAPE.side)) for number in (0, 1)]


@pytest.fixture(scope="module")
def base(shards: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tower = train_dense(folder / "dense", shards, DenseSettings(steps=2, batch=8, shape=SHAPE))
    words = torch.randn(1 + len(thing_names()), SHAPE.width, generator=torch.Generator().manual_seed(0))
    torch.save(words, folder / "words.pt")
    return make_model(folder / "base", tower, shards, SHAPE, 0, folder / "words.pt")


class Stopped(Exception):
    pass


def test_dense_goes_on_as_if_it_had_not_been_stopped(
    shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = DenseSettings(steps=4, batch=8, save_every=2, warm_up=1, shape=SHAPE)
    whole = torch.load(train_dense(tmp_path / "whole", shards, given))

    def stop(step: int, given: DenseSettings, share: Any = dense._share) -> float:
        if step == 3:
            raise Stopped
        return float(share(step, given))

    with monkeypatch.context() as patched:
        patched.setattr(dense, "_share", stop)
        with pytest.raises(Stopped):
            train_dense(tmp_path / "parts", shards, given)
    parts = torch.load(train_dense(tmp_path / "parts", shards, given))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    told = [json.loads(line) for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in told] == [2, 4]
    assert 0 <= told[-1]["thing"] <= 1


def test_kinds_that_are_not_wanted_are_left_out(shards: list[Path]) -> None:
    shard = read_shard(shards[0])
    kept = usable(shard, ("floating", "colour"))
    assert 0 < len(kept) < len(shard.answers) == len(usable(shard, ()))
    assert {kind for k in kept for kind in shard.answers[k]["kinds"]} == {"floating", "colour"}
    data = dense.Pictures(shards, DenseSettings(steps=1, kinds=("floating", "colour")))
    kinds = data.batch(np.random.default_rng(0), 64).kinds
    assert {KINDS[k - 1] for k in kinds.unique().tolist() if k} <= {"floating", "colour"}


def test_cutouts_are_named_and_not_judged(shards: list[Path]) -> None:
    plain, cut = (dense.Pictures(shards, DenseSettings(steps=1, cutouts=share)) for share in (0.0, 1.0))
    before, after = (data.batch(np.random.default_rng(0), 64) for data in (plain, cut))
    assert (before.kinds >= 0).all()
    new = after.kinds == -1
    assert 0.05 < float(new.float().mean()) < 0.8
    assert (after.things[new] > 0).any()
    assert {0, 1} <= set(after.turned[new].unique().tolist())


def test_repainted_things_are_named_and_not_judged(shards: list[Path]) -> None:
    plain, painted = (dense.Pictures(shards, DenseSettings(steps=1, repainted=share)) for share in (0.0, 1.0))
    before, after = (data.batch(np.random.default_rng(0), 64) for data in (plain, painted))
    assert (before.kinds >= 0).all()
    judged = after.kinds >= 0
    assert 0.05 < float((~judged).float().mean()) < 0.5
    assert (after.things[~judged] > 0).any()


def test_strange_pictures_are_named_and_nothing_else_is_told_of_them(shards: list[Path]) -> None:
    data = dense.Pictures(shards, DenseSettings(steps=1, strange=1.0))
    batch = data.batch(np.random.default_rng(0), 64)
    assert set(batch.kinds.unique().tolist()) == {-1}
    assert set(batch.scene.tolist()) == {-1.0}
    assert set(batch.places.tolist()) == {-1}
    assert 0.1 < float((batch.things > 0).float().mean()) < 0.5  # at three tokens a side most show splinters
    assert {0, 1} <= set(batch.turned.unique().tolist())
    trained = Dense(DenseSettings(steps=1, shape=SHAPE))
    assert torch.isfinite(trained.loss(batch, data.apart()))


def test_what_never_stood_together_is_neither_taught_nor_denied(
    shards: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dense.Pictures(shards, DenseSettings(steps=1))
    # So few pictures show no kind with many things; what is held out is left open all the same.
    there = [(KINDS[k - 1], thing_names()[t - 1]) for k, t in data.apart().nonzero().tolist()]
    assert there
    assert all(held_out(*one) for one in there)
    monkeypatch.setattr(dense, "COMMON", 0.02)
    apart, batch = data.apart(), data.batch(np.random.default_rng(0), 16)
    assert not apart[batch.kinds, batch.things].any()
    assert apart.any()
    trained = Dense(DenseSettings(steps=1, shape=SHAPE))
    rows = {}
    for kind in ("things", "kinds"):
        head = getattr(trained, kind)
        head.register_full_backward_hook(lambda _, __, given, kind=kind: rows.update({kind: given[0]}))
    trained.loss(batch, apart).backward()
    assert not rows["things"][apart[batch.kinds]].any()
    assert not rows["kinds"][apart.T[batch.things]].any()
    assert rows["things"].any()
    assert rows["kinds"].any()


def test_a_tower_begins_where_another_ended(shards: list[Path], tmp_path: Path) -> None:
    first = train_dense(tmp_path / "first", shards, DenseSettings(steps=2, batch=8, shape=SHAPE))
    state = first.with_name("state.pt")
    changed = {"cutouts": 0.5, "repainted": 0.5, "strange": 0.5}
    given = DenseSettings(steps=2, batch=8, shape=SHAPE, rate=1e-6, start=state, **changed)
    second, before = (torch.load(path) for path in (train_dense(tmp_path / "second", shards, given, shards[1]), first))
    assert all(torch.allclose(second[name], before[name], atol=1e-4) for name in second)
    assert "unseen" in json.loads((tmp_path / "second" / "log.jsonl").read_text())


def test_the_mean_of_trainings_lies_between_them(base: Path, shards: list[Path], tmp_path: Path) -> None:
    first = train_dense(tmp_path / "first", shards, DenseSettings(steps=1, batch=8, shape=SHAPE)).with_name("state.pt")
    given = DenseSettings(steps=1, batch=8, shape=SHAPE, warm_up=1, rate=0.05, denied=True, start=first)
    both = [first, train_dense(tmp_path / "second", shards, given).with_name("state.pt")]
    towers = [torch.load(path.with_name("tower.pt")) for path in both]
    middle = torch.load(dense.mean_tower(tmp_path / "mean", both, given))
    assert all(torch.allclose(middle[name], (towers[0][name] + towers[1][name]) / 2, atol=1e-6) for name in middle)
    assert any(not torch.allclose(middle[name], towers[0][name], atol=1e-3) for name in middle)
    assert dense.measure(
        Dense(DenseSettings(steps=1, shape=SHAPE, start=tmp_path / "mean" / "state.pt")), read_shard(shards[1]), ()
    )

    steps = LanguageSettings(steps=2, batch=8, warm_up=1, rate=0.01, shape=SHAPE)
    train_language(tmp_path / "one", base, shards, steps)
    one = tmp_path / "one" / "state.pt"
    train_language(tmp_path / "two", base, shards, replace(steps, start=one, seed=1))
    words = [torch.load(tmp_path / name / "state.pt")["model"]["lm_head.weight"] for name in ("one", "two")]
    assert not torch.equal(*words)
    made = language.mean_model(tmp_path / "model", base, [one, tmp_path / "two" / "state.pt"], SHAPE)
    assert torch.allclose(Speech(made, SHAPE).model.lm_head.weight, sum(words) / 2, rtol=0.01, atol=1e-3)


def test_what_no_scene_shows_is_denied_where_asked_but_never_what_is_held_out(
    shards: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense, "COMMON", 0.02)
    left, denied = (dense.Pictures(shards, DenseSettings(steps=1, denied=denied)).apart() for denied in (False, True))
    assert (left & denied == denied).all()
    there = [(KINDS[k - 1], thing_names()[t - 1]) for k, t in (left & ~denied).nonzero().tolist()]
    assert there
    assert not any(held_out(*one) for one in there)


def test_loss_is_the_published_models(base: Path, shards: list[Path]) -> None:
    shard, speech = read_shard(shards[0]), Speech(base, SHAPE)
    answers = [speech.said(told) for told in shard.answers[:6]]
    speech.apart[:] = speech.never[:] = False
    with torch.no_grad():
        ours = float(speech.loss(speech.features(shard.pictures[:6]), answers))
        summed = 0.0
        for picture, answer in zip(shard.pictures[:6], answers, strict=True):
            made = speech.processor(text=[speech.prompt], images=[Image.fromarray(picture)], return_tensors="pt")
            ids = torch.cat([made.pop("input_ids"), torch.tensor([answer.ids])], dim=1)
            made["mm_token_type_ids"] = torch.nn.functional.pad(made["mm_token_type_ids"], (0, len(answer.ids)))
            made["attention_mask"] = torch.ones_like(ids)
            labels = torch.full_like(ids, -100)
            labels[:, -len(answer.ids) :] = torch.tensor(answer.ids)
            summed += float(speech.model(input_ids=ids, labels=labels, **made).loss) * len(answer.ids)
    assert ours == pytest.approx(summed / sum(len(answer.ids) for answer in answers), rel=5e-3)


def test_words_for_things_are_known_in_their_anomaly_and_not_denied_in_others(base: Path, shards: list[Path]) -> None:
    speech = Speech(base, SHAPE)
    told = read_shard(shards[0]).answers
    said = [speech.said(one) for one in told]
    for one, answer in zip(told, said, strict=True):
        assert len(answer.ids) == len(answer.about)
        assert {k for k in answer.about if k} <= {1 + KINDS.index(kind) for kind in one["kinds"]}
        assert answer.silent == (None if one["answer"] is None else len(answer.ids) - 1 if one["answer"] else 0)
    two = next(k for k, one in enumerate(told) if len(one["kinds"]) == 2)
    words = [speech.tokenizer.decode([t]) for t, k in zip(said[two].ids, said[two].about, strict=True) if k]
    assert len(words) >= 2
    texts = " ".join(" ".join(map(str, anomaly.values())) for anomaly in told[two]["answer"])
    assert all(word.strip().lower() in texts.lower() for word in words)


def test_combinations_held_out_are_denied_neither_the_thing_nor_the_kind(base: Path) -> None:
    speech = Speech(base, SHAPE)

    def word(text: str) -> int:
        token, _ = speech.ids(text)
        return token

    for kind, end in {"floating": " in mid-air", "out_of_place": " in the wrong place"}.items():
        row = speech.apart[1 + KINDS.index(kind)]
        out = {thing.name for thing in table().things if held_out(kind, thing.name)}
        assert out
        assert {word(name) for name in out} == {t for t in map(word, thing_names()) if row[t]}
        assert speech.never[:, word(end)].nonzero().flatten().tolist() == sorted(word(n.capitalize()) for n in out)
    assert not speech.apart[0].any()


def test_what_is_left_open_is_not_counted_but_what_is_said_is(base: Path, shards: list[Path]) -> None:
    speech, shard = Speech(base, SHAPE), read_shard(shards[0])
    k = next(k for k, one in enumerate(shard.answers) if one["kinds"] == ["floating"])
    seen, answer = speech.features(shard.pictures[[k]]), speech.said(shard.answers[k])
    with torch.no_grad():
        before = float(speech.loss(seen, [answer]))
        speech.never[:] = True
        assert float(speech.loss(seen, [answer])) < 0.01 < before


def test_silence_that_costs_less_weighs_less_and_nothing_else_does(base: Path, shards: list[Path]) -> None:
    speech, shard = Speech(base, SHAPE), read_shard(shards[0])
    scenes = [k for k, one in enumerate(shard.answers) if one["answer"] is not None]
    rows = [next(k for k in scenes if bool(shard.answers[k]["answer"]) == wrong) for wrong in (False, True)]
    with torch.no_grad():
        for k in rows:
            answer, seen = speech.said(shard.answers[k]), speech.features(shard.pictures[[k]])
            assert answer.silent is not None
            whole, spoken = (float(speech.loss(seen, [answer], silence=weight)) for weight in (1.0, 0.0))
            count = len(answer.ids)
            lost = whole * count - spoken * (count - 1)  # of the one token by which it is silent
            cut = AnswerTokens(answer.ids[: answer.silent + 1], answer.about[: answer.silent + 1])
            before = AnswerTokens(cut.ids[:-1], cut.about[:-1])
            alone = float(speech.loss(seen, [cut])) * len(cut.ids)
            if before.ids:
                alone -= float(speech.loss(seen, [before])) * len(before.ids)
            assert lost == pytest.approx(alone, rel=1e-3)


def test_words_for_things_begin_as_what_the_tower_knows_of_them(base: Path) -> None:
    heads, model = torch.load(base.parent / "words.pt"), Speech(base, SHAPE)
    vectors = model.model.get_input_embeddings().weight.detach()
    alike = []
    for names, row in zip(zip(thing_names(), plurals(), strict=True), heads[1:], strict=True):
        for word in names:
            (token, _) = model.ids(word)  # each is a word of its own, whether any answer holds it or not
            alike.append(float(torch.cosine_similarity(vectors[token], row, dim=0)))
    assert min(alike) > 0.999


def test_language_learns_goes_on_and_leaves_a_model_that_detects(
    base: Path, shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = LanguageSettings(steps=40, batch=8, rate=5e-3, warm_up=2, save_every=10, steps_a_shard=5, shape=SHAPE)
    model = train_language(tmp_path / "whole", base, shards, given)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.75 * losses[0]

    saved = shutil.ignore_patterns("model")
    calls = iter(range(1000))

    def stop(*args: Any, silence: float, loss: Any = Speech.loss) -> Any:
        if next(calls) == 25:
            raise Stopped
        return loss(*args, silence=silence)

    with monkeypatch.context() as patched:
        patched.setattr(Speech, "loss", stop)
        with pytest.raises(Stopped):
            train_language(tmp_path / "parts", base, shards, given)
    shutil.copytree(tmp_path / "parts", tmp_path / "again", ignore=saved)
    again = train_language(tmp_path / "again", base, shards, given)
    assert (again / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()

    Image.fromarray(read_shard(shards[0]).pictures[0]).save(tmp_path / "a.png")
    found = detect(tmp_path / "a.png", model=f"local:{model}", schedule="single", max_reply_tokens=64)
    assert found.status in ("ok", "failed")
    assert found.usage.calls >= 1


def test_a_loss_that_is_no_number_stops_and_what_was_saved_stands(
    base: Path, shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = LanguageSettings(steps=2, batch=8, save_every=1, shape=SHAPE)
    losses = iter((1.0, float("nan")))

    def lose(*args: Any, silence: float, loss: Any = Speech.loss) -> Any:
        return loss(*args, silence=silence) * next(losses)

    monkeypatch.setattr(Speech, "loss", lose)
    with pytest.raises(RuntimeError, match="non-finite"):
        train_language(tmp_path / "run", base, shards, given)
    held = torch.load(tmp_path / "run" / "state.pt")
    assert held["step"] == 1
    assert all(torch.isfinite(value).all() for value in held["model"].values())


def test_square_pictures_of_any_size_are_seen_at_the_size_of_training(base: Path) -> None:
    from anomreason.vlm.card import read_card
    from anomreason.vlm.local.processor import Reader

    processor = Reader(base, read_card(base)).processor.image_processor
    for side in (40, 64, 84, 100, 256, 384, 512, 1000, 1023):
        made = processor(images=[Image.new("RGB", (side, side))], return_tensors="pt")
        assert made["image_grid_thw"].tolist() == [[1, SHAPE.side // 14, SHAPE.side // 14]], side


def test_words_of_every_kind_are_read_without_a_picture(base: Path, shards: list[Path], tmp_path: Path) -> None:
    speech = Speech(base, SHAPE)
    spoken = Spoken(speech, tmp_path / "features", shards, ("floating",))
    assert spoken.more()
    features, answers = spoken.reading(np.random.default_rng(0), 60)
    assert features.shape == (60, SHAPE.cells**2, SHAPE.width)
    assert not features.any()
    told = [tuple(speech.ids(answer_of(one))) for one in read_shard(shards[0]).answers]
    assert {answer.ids for answer in answers} <= set(told)
    seen, _ = spoken.batch(np.random.default_rng(0), 8)
    assert seen.any()
    kinds = {
        kind
        for one in read_shard(shards[0]).answers
        for kind in one["kinds"]
        if tuple(speech.ids(answer_of(one))) in {answer.ids for answer in answers}
    }
    assert kinds - {"floating"}


def test_a_thing_is_exchanged_in_what_is_seen_and_in_what_is_said(
    base: Path, shards: list[Path], tmp_path: Path
) -> None:
    speech = Speech(base, SHAPE)
    told = read_shard(shards[0]).answers
    said = [speech.said(one) for one in told]
    rng, names, count = np.random.default_rng(0), thing_names(), 0
    for answer in said:
        found = speech.exchange(rng, answer)
        if found is None:
            continue
        new, old, other = found
        text, was = (speech.tokenizer.decode(one.ids) for one in (new, answer))
        assert names[old] in was
        assert names[other] in text
        assert was.count(names[old]) > text.count(names[old])
        assert any(trained_on(KINDS[kind - 1], names[other]) for kind in set(new.about) - {0})
        assert new.silent == len(new.ids) - 1
        count += 1
    assert count > 10

    spoken = Spoken(speech, tmp_path / "features", shards[:1], (), exchanged=1.0)
    assert spoken.more()
    features, answers, things = spoken.rows[0]
    moved = 0
    for row in zip(features, answers, things, strict=True):
        seen, answer = spoken._row(rng, *row)
        tokens = (seen != row[0]).any(dim=1)
        assert len(set(row[2][tokens].tolist())) <= 1  # those of one thing, or none
        assert tokens.any() == (answer is not row[1])
        moved += bool(tokens.any())
    assert moved > 10


def test_alarms_are_of_things_in_clean_scenes_and_never_of_what_is_held_out(
    base: Path, shards: list[Path], tmp_path: Path
) -> None:
    speech, rng, names = Speech(base, SHAPE), np.random.default_rng(0), thing_names()
    spoken = Spoken(speech, tmp_path / "features", shards[:1], (), alarmed=1.0)
    assert spoken.more()
    alarms = 0
    for row in zip(*spoken.rows[0], strict=True):
        seen, answer = spoken._row(rng, *row)
        tokens = (seen != row[0]).any(dim=1)
        if row[1].silent != 0:
            assert answer is row[1]
            continue
        if answer is row[1]:
            continue  # a clean scene in which no token shows a thing
        (thing,) = {names[t - 1] for t in row[2][tokens].tolist()} or {""}
        kinds = {KINDS[kind - 1] for kind in answer.about if kind}
        assert all(trained_on(kind, thing) for kind in kinds)
        assert speech.tokenizer.decode(answer.ids).lower().find(thing) >= 0
        assert answer.silent is None
        alarms += bool(kinds)
    assert alarms > 5
