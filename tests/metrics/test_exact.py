"""Exact scores: cases reckoned by hand, the matching against all matchings, and what must always hold."""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomreason.anomaly import KINDS, Anomaly, Kind, Region
from anomreason.errors import UsageError
from anomreason.metrics.exact import ExactScores, score_exact
from anomreason.metrics.planted import MOST, KnownImage, KnownObject, Matcher, best_matching
from anomreason.metrics.planted import ImagePrediction as Answer

LEFT = Region(x0=0.0, y0=0.0, x1=0.4, y1=1.0)
HALF = Region(x0=0.2, y0=0.0, x1=0.4, y1=1.0)
RIGHT = Region(x0=0.6, y0=0.0, x1=1.0, y1=1.0)
WORDS: dict[Kind, tuple[str, str]] = {
    "floating": ("Floating {}", "The {} hovers in mid-air."),
    "intersection": ("Interpenetrating {}", "The {} passes through the wall."),
    "scale": ("Giant {}", "The {} is enormous."),
    "orientation": ("Upside-down {}", "The {} is upside down."),
    "out_of_place": ("Misplaced {}", "The {} does not belong here."),
    "missing_part": ("Incomplete {}", "The {} is missing its handle."),
    "duplicated_part": ("Duplicated part of the {}", "A part of the {} is duplicated."),
    "colour": ("Wrongly coloured {}", "The colour of the {} is wrong."),
    "shadow": ("Shadowless {}", "The shadow of the {} is missing."),
    "reflection": ("{} without a reflection", "The {} has no reflection."),
    "function": ("{} lighting nothing", "The {} glows, but no light falls on anything."),
    "physical_state": ("Tilted liquid in the {}", "The liquid in the {} slants."),
    "text": ("Garbled text on the {}", "The letters on the {} are gibberish."),
    "count": ("Wrong number of parts on the {}", "The {} has five legs instead of four."),
    "lighting": ("Inconsistent lighting of the {}", "The {} is lit from the opposite side."),
    "split": ("Split {}", "The {} is cut in two halves."),
}


def claim(kind: Kind, thing: str, severity: float = 10, **more: Any) -> Anomaly:
    name, phenomenon = (text.format(thing) for text in WORDS[kind])
    return Anomaly(name=name, phenomenon=phenomenon, reasoning="It cannot be so.", severity=severity, **more)


def planted(kind: Kind, *things: str, severity: float = 10, region: Region | None = None) -> Anomaly:
    texts = {"name": "n", "phenomenon": "p", "reasoning": "r"}
    return Anomaly(**texts, severity=severity, kind=kind, objects=things, region=region)


THINGS = (KnownObject("car", ("automobile",)), KnownObject("cup", ("mug",)), KnownObject("tree"), KnownObject("table"))


def scene(name: str, *anomalies: Anomaly, **more: Any) -> KnownImage:
    return KnownImage(name, anomalies, THINGS, **more)


def score(known: Sequence[KnownImage], said: dict[str, Answer], **more: Any) -> ExactScores:
    return score_exact(known, said, np.random.default_rng(0), resamples=200, **more)


def found(anomaly: Anomaly, said: Anomaly) -> bool:
    image = scene("a.png", anomaly)
    return bool(Matcher([image, KnownImage("b.png", (), (KnownObject("table lamp"),))]).pairs(image, [said]))


def test_every_kind_is_found_by_its_words() -> None:
    assert all(found(planted(kind, "car"), claim(kind, "car")) for kind in KINDS)
    assert not any(found(planted(a, "car"), claim(b, "car")) for a in KINDS for b in KINDS if a != b)


def test_object_and_kind_must_agree() -> None:
    assert found(planted("floating", "car"), claim("floating", "red automobiles"))
    assert not found(planted("floating", "car"), claim("floating", "cup"))
    assert not found(planted("floating", "car"), claim("floating", "scar"))
    assert not found(planted("floating", "car"), claim("floating", "vehicle"))
    assert found(planted("floating", "car"), claim("floating", "vehicle", objects=("car",)))


def test_a_table_lamp_is_no_table() -> None:
    assert not found(planted("floating", "table"), claim("floating", "table lamp"))


def test_any_of_the_objects_concerned_will_do() -> None:
    anomaly = planted("intersection", "car", "tree")
    assert found(anomaly, claim("intersection", "car"))
    assert found(anomaly, claim("intersection", "tree"))


def test_the_phenomenon_is_asked_only_when_the_name_says_no_object() -> None:
    beside = claim("floating", "car").model_copy(update={"phenomenon": "The car hovers to the left of the cup."})
    assert not found(planted("floating", "cup"), beside)
    assert found(
        planted("floating", "cup"),
        beside.model_copy(update={"name": "Floating thing", "phenomenon": "The cup hovers."}),
    )


def test_a_region_stands_in_for_the_kind_but_not_for_the_object() -> None:
    anomaly = planted("floating", "car", region=LEFT)
    assert found(anomaly, claim("colour", "car", region=HALF))  # IoU 0.2 / 0.4, just enough
    assert not found(anomaly, claim("colour", "car", region=RIGHT))
    assert not found(anomaly, claim("colour", "cup", region=LEFT))
    assert found(anomaly, claim("floating", "car", region=RIGHT))


def test_numbers_reckoned_by_hand() -> None:
    known = [
        scene("a", planted("floating", "car", severity=5, region=LEFT), planted("colour", "cup", severity=20)),
        scene("b", planted("floating", "tree", severity=15)),
        scene("clean1"),
        scene("clean2"),
    ]
    said = {
        "a": Answer((claim("floating", "car", 15, region=HALF), claim("split", "cup", 0), claim("scale", "tree", 0))),
        "b": Answer((claim("floating", "tree", 10),)),
        "clean1": Answer((claim("shadow", "table"), claim("shadow", "cup"))),
        "clean2": Answer(),
    }
    got = score(known, said)
    assert (got.n, got.clean, got.twins, got.failures) == (4, 2, 0, {})
    assert (got.recall.value, got.recall.n) == (pytest.approx(2 / 3), 3)
    assert (got.precision.value, got.precision.n) == (pytest.approx(2 / 6), 6)
    assert (got.false_anomalies.value, got.false_anomalies.n) == (1.0, 4)
    assert (got.false_on_clean.value, got.false_on_anomalous.value) == (1.0, 1.0)
    assert (got.clean_with_false.value, got.clean_with_false.n) == (0.5, 2)
    assert (got.localisation.value, got.localisation.n) == (pytest.approx(0.5), 1)
    assert (got.severity_error.value, got.severity_bias.value, got.severity_bias.n) == (7.5, 2.5, 2)
    recalls = {kind: scores.recall.value for kind, scores in got.kinds.items()}
    precisions = {kind: scores.precision.value for kind, scores in got.kinds.items()}
    assert recalls == {"floating": 1, "colour": 0, "scale": None, "shadow": None, "split": None}
    assert precisions == {"floating": 1, "colour": None, "scale": 0, "shadow": 0, "split": 0}
    assert got.recall.interval is not None


def test_shares_that_all_or_none_hit_have_a_width_that_shrinks_with_the_scenes() -> None:
    widths = {}
    for count in (1, 3, 30):
        known = [scene(str(n), planted("floating", "car"), planted("scale", "cup")) for n in range(count)]
        answer = Answer((claim("floating", "car"), claim("shadow", "table")))
        got = score(known, {one.image: answer for one in known})
        hit, missed = got.kinds["floating"].recall, got.kinds["scale"].recall
        assert (hit.value, missed.value, got.false_anomalies.value) == (1, 0, 1)
        if count == 1:
            assert (hit.interval, missed.interval, got.recall.interval) == (None, None, None)
            continue
        assert hit.interval is not None
        assert missed.interval is not None
        assert (hit.interval.high, missed.interval.low) == (1, pytest.approx(0))
        assert 1 - hit.interval.low == pytest.approx(missed.interval.high)
        widths[count] = 1 - hit.interval.low
        assert got.recall.interval is None, "scenes that are all alike show no spread"
    assert widths == pytest.approx({3: 0.5615, 30: 0.1135}, abs=1e-4)  # z² / (n + z²), z = 1.96


def test_one_claim_finds_one_anomaly() -> None:
    known = [scene("a", planted("floating", "car"), planted("floating", "car"))]
    assert score(known, {"a": Answer((claim("floating", "car"),))}).recall.value == 0.5
    twice = score(known[:1], {"a": Answer((claim("floating", "car"),) * 3)})
    assert (twice.recall.value, twice.precision.value) == (1.0, pytest.approx(2 / 3))


def test_of_equally_many_pairs_those_that_overlap_best() -> None:
    image = scene("a", planted("floating", "car", region=LEFT), planted("floating", "car", region=RIGHT))
    pairs = Matcher([image]).pairs(image, [claim("floating", "car", region=r) for r in (RIGHT, LEFT)])
    assert [(p.planted, p.predicted, p.iou) for p in pairs] == [(0, 1, 1.0), (1, 0, 1.0)]


def test_failed_images_are_missed_or_left_out_and_always_counted() -> None:
    known = [scene("a", planted("floating", "car")), scene("b", planted("floating", "car")), scene("c")]
    said = {"a": Answer((claim("floating", "car"),)), "b": Answer(failure="refused")}
    got = score(known, said)
    assert (got.recall.value, got.recall.n, got.failures) == (0.5, 2, {"missing": 1, "refused": 1})
    assert (got.false_on_clean.value, got.false_on_clean.n) == (None, 0)
    dropped = score(known, said, failures="dropped")
    assert (dropped.recall.value, dropped.recall.n, dropped.failures) == (1.0, 1, {"missing": 1, "refused": 1})
    with pytest.raises(UsageError, match="'zero'; choose missed or dropped"):
        score(known, said, failures="zero")


FLOATS, GIANT = planted("floating", "car"), planted("scale", "cup")
TWINNED = [
    scene("s", FLOATS, GIANT),
    scene("s-t1", GIANT, twin_of="s", mended=0),
    scene("s-t2", FLOATS, twin_of="s", mended=1),
]


@pytest.mark.parametrize(
    ("on_scene", "on_first", "on_second", "passed"),
    [
        ([FLOATS, GIANT], [GIANT], [FLOATS], 1.0),
        ([FLOATS, GIANT], [], [], 1.0),
        ([FLOATS, GIANT], [FLOATS, GIANT], [FLOATS], 0.5),
        ([FLOATS, GIANT], [FLOATS, GIANT], [FLOATS, GIANT], 0.0),
        ([FLOATS], [GIANT], [FLOATS], 0.5),
        ([], [], [], 0.0),
    ],
)
def test_twins(on_scene: Any, on_first: Any, on_second: Any, passed: float) -> None:
    said = {
        name: Answer(tuple(claim(a.kind, a.objects[0]) for a in what))
        for name, what in (("s", on_scene), ("s-t1", on_first), ("s-t2", on_second))
    }
    got = score(TWINNED, said).twin_test
    assert (got.passed.value, got.passed.n, got.failed) == (passed, 2, 0)


def test_a_claim_that_the_twin_needs_for_another_anomaly_is_no_false_one() -> None:
    known = [scene("s", FLOATS, FLOATS), scene("t", FLOATS, twin_of="s", mended=0)]
    both = Answer((claim("floating", "car"), claim("floating", "car")))
    assert score(known, {"s": both, "t": Answer(both.anomalies[:1])}).twin_test.passed.value == 1.0
    assert score(known, {"s": both, "t": both}).twin_test.passed.value == 0.0


def test_pairs_with_a_failed_side_are_counted_apart() -> None:
    said = {
        "s": Answer((claim("floating", "car"),)),
        "s-t1": Answer(failure="refused"),
        "s-t2": Answer(),
    }
    got = score(TWINNED, said)
    assert (got.twin_test.passed.n, got.twin_test.failed, got.twin_failures) == (1, 1, {"refused": 1})
    nothing = score(TWINNED, {"s-t1": Answer()}).twin_test
    assert (nothing.passed.value, nothing.passed.n, nothing.failed) == (None, 0, 2)


def truth_told(known: Sequence[KnownImage]) -> dict[str, Answer]:
    return {
        one.image: Answer(tuple(claim(a.kind, a.objects[0], a.severity, region=a.region) for a in one.anomalies))
        for one in known
    }


def test_no_claims_have_no_precision() -> None:
    got = score(TWINNED, {one.image: Answer() for one in TWINNED})
    assert (got.recall.value, got.precision.value, got.precision.n) == (0.0, None, 0)
    assert (got.false_anomalies.value, got.localisation.value, got.severity_error.value) == (0.0, None, None)


ANOMALIES = st.builds(
    planted,
    st.sampled_from(KINDS),
    st.sampled_from(["car", "cup", "tree"]),
    severity=st.sampled_from([5.0, 20.0]),
    region=st.sampled_from([None, LEFT, HALF, RIGHT]),
)
CLAIMS = st.builds(
    claim,
    st.sampled_from(["floating", "scale", "colour"]),
    st.sampled_from(["car", "mugs", "tree", "sofa"]),
    st.sampled_from([0.0, 50.0]),
    region=st.sampled_from([None, LEFT, RIGHT]),
)


@st.composite
def worlds(draw: Any) -> list[KnownImage]:
    known = []
    for n in range(draw(st.integers(1, 4))):
        anomalies = draw(st.lists(ANOMALIES, max_size=3, unique_by=lambda a: (a.kind, a.objects)))
        known.append(scene(f"s{n}", *anomalies))
        known += [
            scene(f"s{n}-t{k}", *anomalies[:k], *anomalies[k + 1 :], twin_of=f"s{n}", mended=k)
            for k in range(len(anomalies))
        ]
    return known


@settings(max_examples=50, deadline=None)
@given(known=worlds())
def test_the_truth_itself_is_perfect(known: list[KnownImage]) -> None:
    got = score(known, truth_told(known))
    assert got.recall.value in (1.0, None)
    assert got.precision.value in (1.0, None)
    assert got.twin_test.passed.value in (1.0, None)
    assert (got.recall.value is None) == (got.recall.n == 0)
    assert got.false_anomalies.value == 0.0
    assert got.severity_error.value in (0.0, None)
    assert got.localisation.value == pytest.approx(1.0) if got.localisation.n else got.localisation.value is None


@settings(max_examples=50, deadline=None)
@given(known=worlds(), claims=st.lists(CLAIMS, max_size=5), order=st.randoms(use_true_random=False))
def test_order_makes_no_difference(known: list[KnownImage], claims: list[Anomaly], order: Any) -> None:
    said = {one.image: Answer(tuple(claims)) for one in known}
    shuffled = order.sample(known, len(known))
    other = {one.image: Answer(tuple(order.sample(claims, len(claims)))) for one in known}
    one, two = (scores.model_copy(update={"images": ()}) for scores in (score(known, said), score(shuffled, other)))
    assert one == two


@settings(max_examples=300, deadline=None)
@given(
    worth=st.dictionaries(
        st.tuples(st.integers(0, 4), st.integers(0, 3)), st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.75]), max_size=12
    )
)
def test_the_matching_is_the_best_of_all(worth: dict[tuple[int, int], float]) -> None:
    got = best_matching(worth)
    assert all(edge in worth for edge in got)
    assert len({left for left, _ in got}) == len({right for _, right in got}) == len(got)
    every = [
        [(left, right) for left, right in enumerate(deal) if (left, right) in worth]
        for deal in set(permutations([0, 1, 2, 3, -1, -1, -1, -1, -1], 5))
    ]
    best = max((len(pairs), sum(worth[pair] for pair in pairs)) for pairs in every)
    assert (len(got), sum(worth[pair] for pair in got)) == best


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ([], "no scene"),
        ([scene("t", twin_of="s", mended=0)], "no scene"),
        ([scene("a"), scene("a")], "duplicate image 'a'"),
        ([scene("a"), scene("t", twin_of="b", mended=0)], "twin of 'b', which is no scene"),
        ([scene("a", FLOATS), scene("t", twin_of="a", mended=1)], "lacks anomaly 1 of 'a', which has 1"),
        ([scene("a", *[FLOATS] * (MOST + 1))], f"{MOST + 1} planted anomalies"),
    ],
)
def test_pictures_that_cannot_be_scored_are_refused(known: list[KnownImage], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        score(known, {})
