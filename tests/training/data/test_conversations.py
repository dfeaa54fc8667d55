"""Instances: complete, within the length, the same for the same seed whatever stands beside an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from anomreason.anomaly import Anomaly, Region
from anomreason.errors import UnreadableImage, UsageError
from anomreason.textform import read_anomalies
from anomreason.training.data.conversations import ConversationSet, make_instances, percentiles
from anomreason.training.data.instance import Annotated, ConversationLength, Dropped, Turn, tally
from anomreason.training.data.questions import Questions


@dataclass(frozen=True)
class WordCounter:
    """Counts words. Any question of ours with its image takes less than 250 of them."""

    max_tokens: int = 400
    pixels: tuple[int, int] = (784, 7840)

    def image_tokens(self, width: int, height: int) -> int:
        if max(width, height) > 200 * min(width, height):
            raise UnreadableImage("too thin")
        return min(max(width * height, self.pixels[0]), self.pixels[1]) // 784

    def measure(self, turns: Sequence[Turn], image: int, name: str = "") -> ConversationLength:
        words = [len(turn.text.split()) for turn in turns]
        return ConversationLength(sum(words) + 2 * len(turns) + image, image, sum(words[1::2]))


WORDS = WordCounter()


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The path of a small picture of this file name."""
    folder = tmp_path_factory.mktemp("pictures")

    def make(name: str) -> Path:
        path = folder / name
        if not path.exists():
            Image.new("RGB", (60, 40), "white").save(path)
        return path

    return make


def anomaly(name: str, words: int = 5) -> Anomaly:
    return Anomaly(name=name, phenomenon="seen " * words, reasoning="because " * words, severity=12.5)


def bare(anomalies: Sequence[Anomaly]) -> Counter[Anomaly]:
    """What the text form holds of them."""
    return Counter(a.model_copy(update={"objects": (), "region": None}) for a in anomalies)


def answers(made: ConversationSet) -> list[str]:
    return [one.turns[-1].text for one in made.instances]


TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=60).filter(str.strip)
ANOMALIES = st.lists(
    st.builds(
        Anomaly,
        name=TEXT,
        phenomenon=st.one_of(TEXT, st.integers(1, 120).map("word ".__mul__)),
        reasoning=TEXT,
        severity=st.one_of(st.integers(0, 100), st.floats(0, 100)),
        objects=st.just(("cup",)),
        region=st.just(Region(x0=0, y0=0, x1=0.5, y1=0.5)),
    ),
    max_size=8,
)
FAST = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FAST
@given(ANOMALIES, st.integers(0, 2**40), st.sampled_from(["anomalies", "authenticity"]), st.integers(260, 500))
def test_answers_are_read_back_as_the_same_anomalies_none_lost_none_doubled_all_within_the_length(
    picture: Callable[[str], Path], anomalies: list[Anomaly], seed: int, recipe: Any, limit: int
) -> None:
    image = Annotated(picture("a.png"), "a.png", tuple(anomalies), generated=True)
    room = replace(WORDS, max_tokens=limit)
    made = make_instances([image], recipe, room, seed)
    read = [found for text in answers(made) for found in read_anomalies(text)]
    lost = tally(made.dropped).get("anomaly", {}).get("too long for one instance", 0)
    assert len(read) + lost == len(anomalies)
    assert bare(read) <= bare(anomalies)
    assert made.anomalies == len(read)
    for left_out in bare(anomalies) - bare(read):
        alone = make_instances([replace(image, anomalies=(left_out,))], recipe, room, seed)
        assert alone.instances == ()
    assert all(length.total <= limit for length in made.lengths)
    assert all(room.measure(i.turns, t.image) == t for i, t in zip(made.instances, made.lengths, strict=True))
    assert [(i.part, i.parts) for i in made.instances] == [
        (n, len(made.instances)) for n in range(1, len(made.instances) + 1)
    ]


@FAST
@given(st.permutations(list(range(6))), st.integers(0, 1000))
def test_the_same_seed_gives_the_same_bytes_whatever_the_order_of_the_images(
    picture: Callable[[str], Path], order: list[int], seed: int
) -> None:
    images = [
        Annotated(picture(f"{n}.png"), f"{n}.png", tuple(anomaly(f"{n} {k}") for k in range(n)), generated=True)
        for n in range(6)
    ]
    straight = make_instances(images, "authenticity", WORDS, seed)
    assert make_instances([images[n] for n in order], "authenticity", WORDS, seed) == straight


def test_an_image_is_put_the_same_way_whatever_other_images_there_are(picture: Callable[[str], Path]) -> None:
    images = [
        Annotated(picture(f"{n}.png"), f"{n}.png", tuple(anomaly(f"{n} {k}") for k in range(6))) for n in range(8)
    ]
    alone = [make_instances([image], "anomalies", WORDS).instances for image in images]
    assert make_instances(images, "anomalies", WORDS).instances == tuple(one for made in alone for one in made)


def test_seeds_and_images_differ_in_order_and_in_wording(picture: Callable[[str], Path]) -> None:
    found = tuple(anomaly(str(k)) for k in range(6))
    images = [Annotated(picture(f"{n}.png"), f"{n}.png", found) for n in range(40)]
    made = make_instances(images, "anomalies", WORDS, 0)
    again = make_instances(images, "anomalies", WORDS, 1)
    assert len(set(answers(made))) > 30
    assert {one.turns[0].text for one in made.instances} == set(Questions.load().anomalies.ask)
    same = [a == b for a, b in zip(answers(made), answers(again), strict=True)]
    assert sum(same) < 5


def test_the_wording_in_use_does_not_change_the_order(picture: Callable[[str], Path]) -> None:
    image = Annotated(picture("a.png"), "a.png", tuple(anomaly(str(k)) for k in range(9)))
    other = Questions.load().only("Only this?")
    plain = make_instances([image], "anomalies", WORDS)
    assert answers(make_instances([image], "anomalies", WORDS, questions=other)) == answers(plain)


def test_a_clean_picture_answers_what_is_read_as_none(picture: Callable[[str], Path]) -> None:
    made = make_instances([Annotated(picture("a.png"), "a.png")], "anomalies", WORDS)
    assert answers(made) == ["No anomalies."]
    assert read_anomalies(answers(made)[0]) == ()
    assert (made.clean, made.anomalies) == (1, 0)


def test_authenticity_tells_the_kind_first_and_then_gives_the_list_or_the_content(
    picture: Callable[[str], Path],
) -> None:
    own = Questions.load().authenticity
    fake = Annotated(picture("f.png"), "f.png", (anomaly("Six fingers"),), generated=True)
    photo = Annotated(picture("p.png"), "p.png", generated=False, description=" A cat on a sofa.\n")
    sound = Annotated(picture("s.png"), "s.png", generated=True)
    made = make_instances([fake, photo, sound], "authenticity", WORDS)
    assert [[turn.role for turn in one.turns] for one in made.instances] == [["user", "assistant"] * 2] * 3
    assert [one.turns[1].text for one in made.instances] == ["generated", "photograph", "generated"]
    assert all(one.turns[0].text in own.source and one.turns[2].text in own.explain for one in made.instances)
    assert answers(made)[1:] == ["A cat on a sofa.", "No anomalies."]
    assert bare(read_anomalies(answers(made)[0])) == bare(fake.anomalies)
    assert (made.clean, made.anomalies) == (1, 1)


@pytest.mark.parametrize(
    ("recipe", "said", "reason"),
    [
        ("anomalies", {"description": "A cat.", "generated": False}, "not searched for anomalies"),
        ("authenticity", {"anomalies": (anomaly("x"),)}, "not labelled as AI image or photograph"),
        ("authenticity", {"generated": False}, "a photograph without a description"),
        ("authenticity", {"generated": False, "description": " "}, "a photograph without a description"),
        ("authenticity", {"generated": False, "anomalies": (anomaly("x"),)}, "a photograph with anomalies"),
        ("authenticity", {"generated": True, "description": "A cat."}, "not searched for anomalies"),
        ("anomalies", {"anomalies": (anomaly("An <|im_end|> here"),)}, "its text holds a control token"),
        ("authenticity", {"generated": False, "description": "see <image>"}, "its text holds a control token"),
        ("anomalies", {"anomalies": (anomaly("long", 500),)}, "none of its anomalies fits"),
        ("authenticity", {"generated": False, "description": "word " * 500}, "too long for one instance"),
    ],
)
def test_what_cannot_be_learnt_from_is_counted_with_its_reason(
    picture: Callable[[str], Path], recipe: Any, said: dict[str, Any], reason: str
) -> None:
    made = make_instances([Annotated(picture("a.png"), "a.png", **said)], recipe, WORDS)
    assert made.instances == ()
    assert tally(made.dropped)["image"] == {reason: 1}


def test_a_picture_that_is_gone_too_thin_or_too_large_for_the_length_is_counted(
    picture: Callable[[str], Path], tmp_path: Path
) -> None:
    Image.new("RGB", (1, 300)).save(tmp_path / "thin.png")
    thin = Annotated(tmp_path / "thin.png", "thin.png")
    gone = Annotated(tmp_path / "gone.png", "gone.png")
    made = make_instances([thin, gone], "anomalies", WORDS)
    assert tally(made.dropped) == {"image": {"image cannot be opened": 2}}
    image = Annotated(picture("a.png"), "a.png", (anomaly("x"),))
    none = make_instances([image], "anomalies", replace(WORDS, max_tokens=20))
    assert tally(none.dropped) == {"image": {"no room beside image and prompt": 1}}
    assert "of 20 tokens" in none.dropped[0].detail


def test_one_anomaly_that_is_too_long_is_dropped_by_name_and_the_others_stay(picture: Callable[[str], Path]) -> None:
    found = (anomaly("short"), anomaly("endless", 400), anomaly("brief"))
    made = make_instances([Annotated(picture("a.png"), "a.png", found)], "anomalies", WORDS)
    assert bare([a for text in answers(made) for a in read_anomalies(text)]) == bare([found[0], found[2]])
    assert [(d.what, d.reason) for d in made.dropped] == [("anomaly", "too long for one instance")]
    assert "endless" in made.dropped[0].detail
    assert made.instances[0].parts == 1


def test_an_image_whose_size_is_known_is_not_opened_again(tmp_path: Path) -> None:
    gone = Annotated(tmp_path / "gone.png", "gone.png", size=(56, 56), sha256="ab12")
    made = make_instances([gone], "anomalies", WORDS)
    assert [(one.size, one.sha256) for one in made.instances] == [((56, 56), "ab12")]
    assert made.lengths[0].image == 4


def test_an_answer_is_split_at_one_token_more_than_the_length(picture: Callable[[str], Path]) -> None:
    image = Annotated(picture("a.png"), "a.png", tuple(anomaly(str(k), 30) for k in range(4)))
    whole = make_instances([image], "anomalies", replace(WORDS, max_tokens=4096))
    total = whole.lengths[0].total
    assert make_instances([image], "anomalies", replace(WORDS, max_tokens=total)).instances == whole.instances
    split = make_instances([image], "anomalies", replace(WORDS, max_tokens=total - 1))
    assert [one.parts for one in split.instances] == [2, 2]
    assert max(one.total for one in split.lengths) < total


def test_the_picture_s_own_tokens_count(picture: Callable[[str], Path]) -> None:
    image = Annotated(picture("a.png"), "a.png", tuple(anomaly(str(k), 30) for k in range(4)))
    limit = make_instances([image], "anomalies", WordCounter(9999, (784, 784))).lengths[0].total
    small = make_instances([image], "anomalies", WordCounter(limit, (784, 784)))
    large = make_instances([image], "anomalies", WordCounter(limit, (784 * 99, 10**6)))
    assert len(small.instances) < len(large.instances)
    assert small.lengths[0].image == 1
    assert large.lengths[0].image >= 99


def test_one_picture_with_two_annotations_is_refused(picture: Callable[[str], Path]) -> None:
    one = Annotated(picture("a.png"), "a.png", source="run")
    with pytest.raises(UsageError, match=r"a\.png is annotated twice .*'run'.*'scenes'"):
        make_instances([one, replace(one, name="b.png", source="scenes")], "anomalies", WORDS)


def test_an_unknown_task_is_named(picture: Callable[[str], Path]) -> None:
    with pytest.raises(UsageError, match="unknown task 'list'; choose one of anomalies, authenticity"):
        make_instances([], "list", WORDS)  # type: ignore[arg-type]


def test_the_report_accounts_for_every_image(picture: Callable[[str], Path]) -> None:
    images = [
        Annotated(picture("clean.png"), "clean.png"),
        Annotated(picture("one.png"), "one.png", (anomaly("x"),)),
        Annotated(picture("many.png"), "many.png", tuple(anomaly(str(k), 40) for k in range(5))),
        Annotated(picture("photo.png"), "photo.png", generated=False, description="A cat."),
    ]
    made = make_instances(images, "anomalies", WORDS, seed=3)
    split = len(made.instances) - 2
    assert split > 1
    lines = replace(made, dropped=(Dropped("gone.png", "image is missing"), *made.dropped)).table().splitlines()
    total, learnt = (sum(getattr(one, of) for one in made.lengths) for of in ("total", "answer"))
    assert lines[:3] == [
        f"{2 + split} conversations on 3 images, task 'anomalies': 6 anomalies, 1 answers that there are none",
        f"1 of the images are split into {split} conversations to fit the length",
        f"at most 400 tokens each, images of 784 to 7,840 pixels; {total:,} tokens in all, {learnt:,} of them learnt",
    ]
    heads, conversation = lines[4].split(), lines[5].split()
    assert heads == ["p5", "p50", "p90", "p95", "p99", "max"]
    assert (conversation[0], int(conversation[-1])) == ("conversation", max(one.total for one in made.lengths))
    assert len({len(line) for line in lines[4:8]}) == 1
    assert lines[9:] == [
        "2 images left out:",
        "          1  image is missing",
        "          1  not searched for anomalies",
    ]


def test_a_report_mentions_only_what_there_is(picture: Callable[[str], Path]) -> None:
    text = make_instances([Annotated(picture("a.png"), "a.png")], "anomalies", WORDS).table()
    assert "split" not in text
    empty = make_instances([], "anomalies", WORDS).table()
    assert "p50" not in empty
    assert "nothing was left out" in empty


@given(st.lists(st.integers(0, 10_000), min_size=1))
def test_percentiles_are_lengths_that_occur(values: list[int]) -> None:
    found = percentiles(values)
    assert set(found) <= set(values)
    assert found == sorted(found)
    assert found[-1] == max(values)


def test_half_of_the_lengths_are_at_most_the_median() -> None:
    assert percentiles(range(1, 101)) == [5, 50, 90, 95, 99, 100]


def test_reasons_are_counted_apart_for_images_and_anomalies_the_most_frequent_first() -> None:
    dropped = [
        Dropped("a", "too long", what="anomaly"),
        Dropped("a", "rare"),
        Dropped("b", "frequent"),
        Dropped("c", "frequent"),
    ]
    assert tally(dropped) == {"image": {"frequent": 2, "rare": 1}, "anomaly": {"too long": 1}}
    assert list(tally(dropped)["image"]) == ["frequent", "rare"]
    assert tally([]) == {}
