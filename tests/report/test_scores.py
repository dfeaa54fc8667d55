"""The report of a scoring as a reader meets it: parsed as HTML, and opened in Chromium where there is one."""

import json
import re
import runpy
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anomreason.cli.eval import print_evaluations
from anomreason.errors import UsageError
from anomreason.evaluation.notices import eval_notices
from anomreason.evaluation.records import EvalResult, Matches, read_result
from anomreason.evaluation.semantic import Evaluation
from anomreason.metrics.image_scores import SemanticSettings
from anomreason.report.figures import HEIGHT, WIDTH, Group, Level, Mark, against_threshold, bars, diagonal, strip
from anomreason.report.scores import CHUNK, LONGEST_TEXT, MOST_SHOWN, build_score_report

HERE = Path(__file__).parent
synthetic = runpy.run_path(str(HERE / "synthetic_scores.py"))
Made, said, write_scores, random_images = (synthetic[n] for n in ("Made", "said", "write_scores", "random_images"))
shared = runpy.run_path(str(HERE / "test_html.py"))
Page, Browser, browser, EVIL, EVIL_NAME = (
    shared[n] for n in ("Page", "Browser", "browser", "EVIL", "EVIL_NAME")
)  # fmt: skip


def build(out: Path, made: list[Any], **more: Any) -> Any:
    return Page(build_score_report(write_scores(out, made, **more)))


def called(script: Path) -> list[Any]:
    """What a data script hands to the page."""
    name, _, rest = script.read_text(encoding="ascii").partition("(")
    assert name in ("anomreasonScores.index", "anomreasonScores.chunk")
    assert rest.endswith(");\n")
    arguments: list[Any] = json.loads(f"[{rest[:-3]}]")
    return arguments


def index(out: Path) -> list[Any]:
    return called(out / "report" / "scores" / "index.js")[0]


def one(image: str = "a.png", phe: float = 0.85, rea: float = 0.75, **more: Any) -> Any:
    """One prediction and one truth, full 0.8 unless said otherwise."""
    return Made(image, [said("Bent cup", 10)], [said("Melted cup", 30)], [[phe]], [[rea]], **more)


def failed(image: str, kind: str = "refused") -> Any:
    return Made(image, [], [said("Melted cup")], failure=kind)


def test_the_page_shows_every_figure_of_every_profile_and_view_with_the_signature(tmp_path: Path) -> None:
    text = build(tmp_path, random_images(12), other=random_images(12, second=True), signature={"backbone": "b-1"}).text
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert "b-1" in text
    assert "made-up" in text
    for profile, views in metrics["profiles"].items():
        for view, figures in views.items():
            ceiling = metrics["ceiling"]["profiles"][profile][view]
            for name in ("semap", "semf1"):
                for value in (figures[name], figures["chance"][name], ceiling[name], figures["dropped"][name]):
                    assert f"{value:.4f}" in text
                low, high = figures["interval"][name]
                assert f"{low:.3f}–{high:.3f}" in text
            assert f"{figures['micro']['f1']:.4f}" in text
            for row in figures["thresholds"].values():
                assert f"{row['tp']:,}" in text
                assert f"{row['ap']:.3f}" in text
            difference = metrics["against"]["profiles"][profile][view]["semap"]
            assert f"{difference['value']:+.4f}".replace("-", "−") in text


def test_what_makes_a_number_doubtful_is_said_beside_it(tmp_path: Path) -> None:
    page = build(
        tmp_path,
        [*(one(f"{n}.png", 0.1, 0.1) for n in range(20)), failed("c.png", "missing")],
        signature={"precision": "bf16"},
        drift={"pairs": 9, "mean": 0.0012, "largest": 0.0345},
        texts={"encoded": 9, "truncated": 3, "blank": 2, "limit": 512},
        joined={"by_path": 1, "by_file_name": 1, "not_in_truth": ["stranger.png"]},
        simulated=True,
    )
    for words in (
        "1 missing",
        "Precision bf16:",
        "off fp32 by 0.00120 on average, 0.03450 at most",
        "3 texts, of which only the first 512 tokens count",
        "2 texts without a word, similar to nothing",
        "1 image by file name alone, since paths differ",
        "stranger.png",
        "At 0.7 nearly nothing matches",
        "Simulated answers.",
    ):
        assert words in page.text


def test_the_page_and_the_terminal_give_the_same_warnings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every kind of warning at once; the page used to lack the ambiguous and the missing images."""
    monkeypatch.setenv("COLUMNS", "1000")
    page = build(
        tmp_path,
        [*(one(f"{n}.png", 0.1, 0.1) for n in range(20)), Made("empty.png"), failed("c.png", "missing")],
        signature={"precision": "bf16"},
        drift={"pairs": 9, "mean": 0.0012, "largest": 0.0345},
        texts={"encoded": 9, "truncated": 3, "blank": 2, "limit": 512},
        joined={
            "by_file_name": 1,
            "not_in_truth": ["a<b>"],
            "ambiguous": ["Zoe\u0308.png"],
            "missing": ["Zo\u00eb.png"],
            "by_spelling": 2,
            "by_upload_prefix": 1,
            "respelled": [["my%20cup.png", "my cup.png"]],
        },
        left_out={"photographs": ["p.png"], "truth_failed": ["f.png"], "subset_unknown": ["u.png"]},
    )
    result = read_result(tmp_path / "metrics.json", EvalResult)
    notices = list(eval_notices(result))
    assert len({notice.title for notice in notices}) == 7
    assert len(notices) == 14
    print_evaluations([Evaluation(tmp_path, result)])
    printed = capsys.readouterr().out
    assert "2 images by another spelling and 1 image by the name behind an upload prefix: 'my%20cup.png' as" in printed
    assert "'Zoe\\u0308.png'" in printed, "not to be mistaken for the missing 'Zoë.png'"
    for notice in notices:
        assert f"{notice.title}: {notice.text}\n" in printed
        assert f"{notice.title}:" in page.texts["strong"]
        assert notice.text in page.text
    assert printed.count("Not joined: ") == page.texts["strong"].count("Not joined:") == 6


@pytest.mark.parametrize(("how", "order"), [("zero", ("0.3333", "0.6667")), ("drop", ("0.6667", "0.3333"))])
def test_failed_images_are_counted_as_asked_and_the_other_way_beside(
    tmp_path: Path, how: str, order: tuple[str, str]
) -> None:
    page = build(tmp_path, [one(), failed("b.png")], settings={"failures": how, "shuffles": 20, "seed": 0})
    shown = page.text.index(order[0])
    assert shown < page.text.index(order[1])
    assert ("Without failed" if how == "zero" else "Failed at zero") in page.text


def test_every_image_is_there_once_worst_first_and_failed_ones_after_answered_ones(tmp_path: Path) -> None:
    made = [one("good.png"), failed("lost.png"), one("bad.png", 0.1, 0.1), Made("none.png"), one("fair.png", 0.7, 0.7)]
    build(tmp_path, made)
    images, failures, predictions, truths, *columns = index(tmp_path)
    assert images == ["bad.png", "lost.png", "fair.png", "good.png", "none.png"]
    assert failures == [None, "refused", None, None, None]
    assert (predictions, truths) == ([1, 0, 1, 1, 0], [1, 1, 1, 1, 0])
    assert columns[4] == [0, 0, 3333, 6667, 10000]  # paper, full, SemAP
    assert len(columns) == 2 * 3 * 2


def test_the_texts_of_images_come_in_scripts_of_a_bounded_number_and_none_stands_in_the_page(tmp_path: Path) -> None:
    page = build(tmp_path, [one(f"{n}.png", n / 250, n / 250) for n in range(250)])
    small = build(tmp_path / "small", [one(f"{n}.png", n / 25, n / 25) for n in range(25)])
    assert len(page.path.read_text()) < len(small.path.read_text()) + 5_000
    chunks = [called(tmp_path / "report" / "scores" / f"{n}.js") for n in range(3)]
    assert [(number, len(rows)) for number, rows in chunks] == [(0, CHUNK), (1, CHUNK), (2, 50)]
    assert index(tmp_path)[0][:2] == ["0.png", "1.png"]
    predictions, truths, [[p, t, phe, rea, cells, why]], found = chunks[2][1][-1]
    assert predictions == [["Bent cup", "Seen.", "It cannot be.", 10]]
    assert truths == [["Melted cup", "Seen.", "It cannot be.", 30]]
    assert (p, t, phe, rea, cells, why) == (0, 0, 0.996, 0.996, list(range(18)), "")
    assert found == [1] * 18


def test_a_shorter_report_leaves_no_scripts_of_a_longer_one(tmp_path: Path) -> None:
    build(tmp_path, [one(f"{n}.png") for n in range(150)])
    build(tmp_path, [one()])
    assert {file.name for file in (tmp_path / "report" / "scores").iterdir()} == {"0.js", "index.js"}
    assert not list(tmp_path.rglob("*.part"))


def test_huge_texts_and_images_are_cut_and_still_counted_whole(tmp_path: Path) -> None:
    crowd = [said("x" * (LONGEST_TEXT + 7), n / 10) for n in range(MOST_SHOWN + 5)]
    alike = [[float(p == t) for t in range(len(crowd))] for p in range(len(crowd))]
    build(tmp_path, [Made("crowd.png", crowd, crowd, alike, alike)])
    predictions, truths, pairs, found = called(tmp_path / "report" / "scores" / "0.js")[1][0]
    assert len(predictions) == len(truths) == MOST_SHOWN
    assert all(pair[0] < MOST_SHOWN and pair[1] < MOST_SHOWN for pair in pairs)
    assert set(found) == {MOST_SHOWN + 5}
    assert predictions[0][0] == "x" * LONGEST_TEXT + " … (7 more characters in matches.jsonl)"


def hostile(out: Path) -> Any:
    """A report in which every text that comes from outside is hostile."""
    bad = [said(EVIL, 10, EVIL, EVIL)]
    made = [Made(EVIL_NAME, bad, bad, [[0.85]], [[0.75]]), Made("__proto__", [], bad, failure=EVIL), one("z.png")]
    return build(
        out,
        made,
        other=[Made(each.image, bad, bad, [[0.9]], [[0.9]]) for each in made],
        name=EVIL,
        signature={EVIL: EVIL},
        joined={"not_in_truth": [EVIL]},
        **{"__proto__": EVIL, EVIL: {EVIL: [EVIL]}},
    )


def test_nothing_from_a_file_becomes_an_element_an_attribute_or_code(tmp_path: Path) -> None:
    page = hostile(tmp_path)
    scripts = [attributes for tag, attributes in page.elements if tag == "script"]
    assert [set(a) for a in scripts] == [{"src", "defer"}, {"src", "defer"}, {"type", "id"}]
    assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on") or a == "style"]
    assert not [tag for tag, _ in page.elements if tag == "img"]
    assert page.texts["h1"] == [EVIL]
    assert json.loads(page.texts["script"][-1])["failures"] == [[EVIL, EVIL.replace("_", " ")]]
    images, failures, *_ = index(tmp_path)
    assert sorted(images) == sorted([EVIL_NAME, "__proto__", "z.png"])
    assert EVIL in failures
    rows = called(tmp_path / "report" / "scores" / "0.js")[1]
    assert rows[images.index(EVIL_NAME)][0] == [[EVIL, EVIL, EVIL, 10]]


def test_every_address_leads_to_a_file_and_none_to_the_network(tmp_path: Path) -> None:
    page = hostile(tmp_path)
    assert set(page.links()) == {
        "report/report.css",
        "report/scores.css",
        "report/scores.js",
        "report/scores/index.js",
    }
    assert all((tmp_path / link).is_file() for link in page.links())
    assert not [f for f in (tmp_path / "report").glob("*.*s") if "://" in f.read_text(encoding="utf-8")]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(codec="utf-8"), min_size=1))
def test_any_text_arrives_as_it_was_written(tmp_path: Path, text: str) -> None:
    build(tmp_path, [Made(text, [said(f"x{text}x")], [said("t", 5, f"x{text}x")], [[0.1]], [[0.1]])])
    [[predictions, truths, _, _]] = called(tmp_path / "report" / "scores" / "0.js")[1]
    assert index(tmp_path)[0] == [text]
    assert (predictions[0][0], truths[0][1]) == (f"x{text}x", f"x{text}x")


def test_halves_of_characters_in_a_name_do_not_stop_the_report(tmp_path: Path) -> None:
    write_scores(tmp_path, [one("caf_.png")])
    file = tmp_path / "matches.jsonl"
    file.write_text(file.read_text().replace("caf_", "caf\\udce9"))
    build_score_report(tmp_path)
    assert index(tmp_path)[0] == ["caf?.png"]


@pytest.mark.parametrize(
    ("broken", "said_of_it"),
    [
        (lambda text: text[:-20], r"matches.jsonl, line 2: .*Invalid JSON"),
        (lambda text: text.replace('"p": 0', '"p": 7', 1), r"matches.jsonl, line 1: .*pair \(7, 0\)"),
        (lambda text: text.replace('"truths"', '"truth"', 1), r"matches.jsonl, line 1: truths: Field required"),
        (lambda text: text.replace("0.85", "NaN", 1), r"matches.jsonl, line 1: pairs.0.phe"),
        (lambda text: text.partition("\n")[0] + "\n", r"is of 2 images and .*matches.jsonl is? ?of 1|2 images"),
    ],
)
def test_a_file_that_is_not_as_eval_writes_it_is_named_with_the_line_and_nothing_is_written(
    tmp_path: Path, broken: Any, said_of_it: str
) -> None:
    write_scores(tmp_path, [one("a.png"), one("b.png")])
    file = tmp_path / "matches.jsonl"
    file.write_text(broken(file.read_text()))
    with pytest.raises(UsageError, match=said_of_it):
        build_score_report(tmp_path)
    assert {f.name for f in tmp_path.iterdir()} == {"metrics.json", "matches.jsonl"}


@pytest.mark.parametrize(
    ("change", "said_of_it"),
    [
        ({"n": "many"}, "metrics.json: n: "),
        ({"profiles": {}}, "metrics.json: .*every profile must"),
        ({"n": 1e400}, "metrics.json: .*n"),
        ({"signature": None}, "metrics.json: signature"),
    ],
)
def test_figures_that_cannot_be_read_are_named_with_their_place(
    tmp_path: Path, change: dict[str, Any], said_of_it: str
) -> None:
    write_scores(tmp_path, [one()], **change)
    with pytest.raises(UsageError, match=said_of_it):
        build_score_report(tmp_path)


def test_views_that_profiles_do_not_share_and_names_that_are_no_views_are_refused(tmp_path: Path) -> None:
    for change, words in (("phe", "same views"), ("full", "same views"), ("both", "is not a view")):
        write_scores(tmp_path, [one()])
        metrics = json.loads((tmp_path / "metrics.json").read_text())
        for views in list(metrics["profiles"].values())[: 2 if change == "both" else 1]:
            views["sideways"] = views.pop("phe" if change == "both" else change)
        (tmp_path / "metrics.json").write_text(json.dumps(metrics))
        with pytest.raises(UsageError, match=words):
            build_score_report(tmp_path)


def test_a_folder_without_scores_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"metrics\.json.*--out"):
        build_score_report(tmp_path)


def test_further_alphas_and_a_single_profile_make_a_report(tmp_path: Path) -> None:
    semantic = SemanticSettings(thresholds=(0.75,), alphas=(0.3,), profiles=("release",))
    page = build(tmp_path, [one()], semantic=semantic)
    setup = json.loads(page.texts["script"][-1])
    assert setup["views"] == [["phe", 1.0], ["rea", 0.0], ["full@0.3", 0.3]]
    assert (setup["profiles"], setup["thresholds"]) == (["release"], ["0.75"])


def test_lines_are_read_in_any_order_and_counted_without_being_held(tmp_path: Path) -> None:
    with Matches(write_scores(tmp_path, [one(f"{n}.png") for n in range(5)])) as matches:
        assert len(matches) == 5
        assert [matches[k].image for k in (3, 0, 4)] == ["3.png", "0.png", "4.png"]
        assert [each.image for each in matches] == [f"{n}.png" for n in range(5)]


def numbers(svg: str, *names: str) -> list[float]:
    """Values of attributes in a plot."""
    found = [match for name in names for match in re.findall(rf' {name}="([^"%]*)"', svg)]
    return [float(part) for values in found for part in re.split(r"[ ,]", values)]


@given(
    values=st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=6),
    saturated=st.sampled_from([None, "nothing", "everything"]),
)
def test_plots_stay_within_their_frame(values: list[tuple[float, ...]], saturated: str | None) -> None:
    levels = [
        Level(k / 10, value, chance, (min(chance, low), max(chance, low)), ceiling, saturated)
        for k, (value, chance, low, ceiling) in enumerate(values)
    ]
    groups = [
        Group(str(k), "9", [Mark(v, "9 images", (min(v, w), max(v, w))), None]) for k, (v, w, *_) in enumerate(values)
    ]
    drawn = [
        against_threshold(levels, "F1", "F1"),
        bars(groups, ["a", "b"], "bars", "below", "beside"),
        diagonal([(100 * v, 100 * w, k + 1) for k, (v, w, *_) in enumerate(values)], "d", "x", "y"),
    ]
    for svg in drawn:
        assert all(0 <= x <= WIDTH for x in numbers(svg, "x", "x1", "x2", "cx"))
        assert all(0 <= y <= HEIGHT for y in numbers(svg, "y", "y1", "y2", "cy"))
        places = numbers(svg, "points")
        assert all(0 <= x <= WIDTH for x in places[::2])
        assert all(0 <= y <= HEIGHT for y in places[1::2])


def test_labels_of_saturated_thresholds_do_not_run_into_each_other() -> None:
    svg = against_threshold([Level(k / 10, 1.0, saturated="everything") for k in range(5, 10)], "F1", "title")
    places = [float(x) for x in re.findall(r'<text class="tick warn" x="([^"]+)" y="[^"]+">nearly all<', svg)]
    assert len(places) == 5
    # Letters of ten pixels are six wide on average.
    assert min(b - a for a, b in pairwise(places)) > 6 * len("nearly all")
    assert "nearly everything matches here" in svg


def test_higher_scores_are_drawn_higher_and_the_band_of_chance_lies_between_its_ends() -> None:
    svg = against_threshold([Level(0.7, 0.6, 0.2, (0.1, 0.3)), Level(0.8, 0.3, 0.1, (0.0, 0.2))], "F1", "title")
    high, low = numbers(svg, "cy")
    assert high < low
    ys = numbers(svg[svg.index("band") :].partition("/>")[0], "points")[1::2]
    assert len(ys) == 4
    assert all(high < y for y in ys)
    assert "F1 0.6000 at 0.7; chance 0.2000 (0.1000 to 0.3000)" in svg


def test_plots_of_nothing_are_empty_frames() -> None:
    assert "<circle" not in diagonal([], "d", "x", "y")
    assert "<rect" not in bars([], ["a"], "b", "x", "y")
    assert "polyline" not in against_threshold([Level(0.7, 0.5)], "F1", "t")


def test_what_is_plotted_is_escaped() -> None:
    svg = bars([Group(EVIL, EVIL, [Mark(0.5, EVIL)])], [EVIL], EVIL, EVIL, EVIL)
    svg += against_threshold([Level(0.7, 0.5, saturated=EVIL)], EVIL, EVIL) + strip(0.5, None, None, None)
    assert "<script" not in svg
    assert "<img" not in svg
    assert 'onload="' not in svg.replace("&#34;", "'")


SHOWN = "[...document.querySelectorAll('.scored h3')].map(e => e.textContent).join()"


def test_chromium_shows_hostile_names_and_texts_as_plain_text(tmp_path: Path, browser: Any) -> None:
    browser.open(hostile(tmp_path).path.as_uri())
    browser.until("document.querySelectorAll('.scored').length === 3")
    assert EVIL_NAME in browser.see("[...document.querySelectorAll('.scored h3')].map(e => e.textContent)")
    assert EVIL in browser.see("[...document.querySelectorAll('.scored strong')].map(e => e.textContent)")
    assert browser.see("[...document.querySelectorAll('.scored img, .scored script')].length") == 0
    assert browser.see("typeof pwned") == "undefined"
    assert browser.see("document.getElementById('gone').hidden") is True


def test_chromium_joins_pairs_at_the_chosen_threshold_and_says_why_not(tmp_path: Path, browser: Any) -> None:
    predictions, truths = [said("First", 10), said("Second", 20)], [said("True", 30)]
    address = build(tmp_path, [Made("a.png", predictions, truths, [[0.85], [0.95]], [[0.75], [0.87]])]).path.as_uri()
    near = "[...document.querySelectorAll('.near summary')].map(e => e.textContent)"
    joined = "[...document.querySelectorAll('.pill b')].map(e => e.textContent).join()"
    browser.open(address)
    browser.until("document.querySelector('.scored') !== null")
    assert browser.see(joined) == "0.800"
    assert browser.see(near) == ["nearest: truth 0 0.910, truth 0 was taken by prediction 0 (0.800)"]
    assert "Recorded for paper, full: " in browser.see("document.querySelector('.near summary').title")
    browser.see("document.querySelector('input[name=threshold][value=\"2\"]').click()")
    browser.until(f"{joined} === '0.910'")
    assert browser.see(near) == ["nearest: truth 0 0.800, below 0.9"]
    browser.see("document.querySelector('input[name=view][value=\"1\"]').click()")
    browser.until(f"{joined} === ''")
    assert browser.see("document.querySelectorAll('.missed .said-box').length") == 1
    assert browser.see("document.querySelectorAll('.extra .said-box').length") == 2
    assert browser.see("document.querySelector('.scored .sum').textContent").endswith(
        "0 matched · 1 missed · 2 without a match"
    )
    assert browser.see("[...document.querySelectorAll('figure:not([hidden]) figcaption')].length") == 6
    assert browser.see("location.hash") == "#view=rea&threshold=0.9"


def test_chromium_filters_by_text_failure_and_score_and_sorts(tmp_path: Path, browser: Any) -> None:
    odd = Made("odd.png", [said("Winged shoe")], [said("Shoe flies", 5, "A pair of wings.")], [[0.72]], [[0.72]])
    made = [one("good.png"), failed("lost.png"), failed("gone.png", "missing"), odd, one("bad.png", 0.1, 0.1)]
    address = build(tmp_path, made).path.as_uri()

    def shown(state: str) -> Any:
        browser.open(f"{address}#{state}")
        browser.until("document.getElementById('count').textContent.endsWith('images')")
        browser.until("document.querySelector('.scored') !== null || !document.getElementById('empty').hidden")
        return browser.see(SHOWN)

    assert shown("") == "bad.png,gone.png,lost.png,odd.png,good.png"
    assert shown("find=WINGS+shoe") == "odd.png"
    assert shown("find=od") == "odd.png,good.png"
    assert shown("show=failed%3Amissing") == "gone.png"
    assert shown("show=answered&sort=best") == "good.png,odd.png,bad.png"
    assert shown("low=0.3&high=0.5") == "odd.png"
    assert shown("sort=name") == "bad.png,gone.png,good.png,lost.png,odd.png"
    assert shown("metric=SemF1&low=0.5") == "good.png"
    assert shown("find=nowhere") == ""


def test_chromium_says_so_when_the_folder_beside_the_page_is_gone(tmp_path: Path, browser: Any) -> None:
    page = build(tmp_path, [one()])
    (tmp_path / "report" / "scores" / "index.js").unlink()
    browser.open(page.path.as_uri())
    browser.until("!document.getElementById('gone').hidden")
    shutil.move(page.path, tmp_path / "moved.html")
    build(tmp_path, [one()])
    (tmp_path / "report" / "scores" / "0.js").unlink()
    browser.open(page.path.as_uri())
    browser.until("!document.getElementById('gone').hidden")


@pytest.mark.slow
def test_chromium_opens_10774_images_from_the_first_script_and_finds_a_text_in_the_last(
    tmp_path: Path, browser: Any
) -> None:
    semantic = SemanticSettings(thresholds=(0.7,), profiles=("paper",))
    made = [one(f"{n:05}.png", 0.5) for n in range(10_773)]
    made.append(Made("last.png", [said("Green moon")], [said("Moon")], [[0.99]], [[0.99]]))
    page = build(tmp_path, made, semantic=semantic, repeats=1)
    assert page.path.stat().st_size < 200_000
    data, away = tmp_path / "report" / "scores", tmp_path / "away"
    away.mkdir()
    later = [data / f"{number}.js" for number in range(1, 108)]
    for file in later:
        file.rename(away / file.name)
    browser.open(page.path.as_uri())
    browser.until("document.querySelectorAll('.scored').length >= 20")
    assert browser.see("document.querySelectorAll('.scored').length") <= CHUNK
    assert browser.see("document.getElementById('gone').hidden") is True
    for file in later:
        (away / file.name).rename(file)
    browser.see("location.hash = 'find=green+moon'")
    browser.until(f"{SHOWN} === 'last.png'")
