"""What the simulated model says: the truth, through every step that any schedule takes."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from anomreason.agent.forms import DetailedObjects, Form, Objects, schema_of
from anomreason.errors import EndpointError
from anomreason.images import Encoded
from anomreason.textform import find_json
from anomreason.vlm.opening import open_vlm
from anomreason.vlm.protocol import Reply, Request, Sampling, Tag, VLMOptions
from anomreason.vlm.simulator.answers import LOOKING, STEPS, Dice, Query
from anomreason.vlm.simulator.model import Simulator
from anomreason.vlm.simulator.truth import NOTHING, ImageTruth, owner

NASTY = 'two\nlines "quoted" \\back ```json </notes> <think>x</think> @1. Name: \u2028 {"id": 9} é'
FINGERS = {"name": "Six fingers", "phenomenon": NASTY, "reasoning": NASTY, "severity": 12.5, "objects": ["woman"]}
FLOATS = {
    "name": "Floats",
    "phenomenon": "no table",
    "reasoning": "gravity",
    "severity": 40,
    "objects": ["cup", "woman"],
}
SUNS = {"name": "Two suns", "phenomenon": "left and right", "reasoning": "one sun", "severity": 0}
TRUTH = {
    "objects": [
        {"name": "tree", "description": "behind", "box": [0, 0, 0.3, 0.9]},
        {"name": "woman", "description": NASTY, "box": [0.2, 0.1, 0.6, 1]},
        {"name": "cup", "description": "white", "box": [0.1234, 0.5, 0.4, 0.6666]},
    ],
    "anomalies": [FINGERS | {"region": [0.25, 0.5, 0.3, 0.6004]}, FLOATS, SUNS],
    "generated": True,
}


def picture(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    cells = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "png") -> Encoded:
    out = BytesIO()
    image.save(out, kind)
    return Encoded(out.getvalue(), f"image/{kind}", *image.size)


@pytest.fixture(scope="module")
def truth_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("truth")
    for seed in range(2):
        picture(seed).save(folder / f"{seed}.png")
    path = folder / "truth.json"
    path.write_text(json.dumps({"0.png": TRUTH, "1.png": {"objects": [], "anomalies": []}}))
    return path


def request(
    step: str, text: str = "", *, of: str | None = None, shows: Image.Image | None = None, **more: Any
) -> Request:
    shown = (encoded(shows or picture(0)),) if step in LOOKING else ()
    return Request(("common", *shown, text), Tag("any", "Role", step, of, more.pop("sample", 0)), **more)


def ask(simulator: Simulator, *asked: Request) -> list[Reply | EndpointError]:
    async def attempt(one: Request) -> Reply | EndpointError:
        try:
            return await simulator.ask(one)
        except EndpointError as error:
            return error

    async def all_of_them() -> list[Reply | EndpointError]:
        return [await attempt(one) for one in asked]

    return asyncio.run(all_of_them())


def text_of(simulator: Simulator, asked: Request) -> str:
    (reply,) = ask(simulator, asked)
    assert isinstance(reply, Reply)
    assert reply.finish == "stop"
    return reply.text


def answer(simulator: Simulator, asked: Request) -> Any:
    return find_json(text_of(simulator, asked))


def lines(findings: list[dict[str, Any]]) -> str:
    keys = ("name", "phenomenon", "reasoning")
    return "\n".join(
        json.dumps({"id": i, **{k: f[k] for k in keys}, "objects": f.get("objects", [])}, ensure_ascii=False)
        for i, f in enumerate(findings, start=1)
    )


@pytest.fixture
def simulator(truth_file: Path) -> Simulator:
    return Simulator.from_file(truth_file)


def test_it_is_opened_by_its_spec(truth_file: Path) -> None:
    assert open_vlm(f"sim:{truth_file}", VLMOptions()).name == "sim:truth.json"


def test_single_gives_the_truth(simulator: Simulator) -> None:
    reply = answer(simulator, request("single"))
    assert reply["no_anomalies"] is False
    assert reply["anomalies"] == [
        FINGERS | {"box": [250, 500, 300, 600]},
        FLOATS | {"box": None},
        SUNS | {"objects": [], "box": None},
    ]
    assert answer(simulator, request("single", shows=picture(1))) == {"anomalies": [], "no_anomalies": True}


def test_without_a_step_or_with_an_unknown_one_and_a_schema_it_is_single(simulator: Simulator) -> None:
    plain = replace(request("single"), tag=Tag("", "", ""))
    schema = {"type": "object", "properties": {"anomalies": {"type": "array"}}}
    strange = replace(plain, tag=Tag("", "Role", "strange"), schema=schema)
    assert answer(simulator, plain) == answer(simulator, strange) == answer(simulator, request("single"))
    (error,) = ask(simulator, replace(strange, schema=None))
    assert isinstance(error, EndpointError)
    assert error.kind == "rejected"


@pytest.mark.parametrize("step", ["objects-1", "objects-2", "objects-3", "draft"])
def test_objects_are_all_listed_owners_of_anomalies_first(simulator: Simulator, step: str) -> None:
    reply = answer(simulator, request(step))
    assert [(o["name"], o["person"]) for o in reply["objects"]] == [
        ("woman", True),
        ("cup", False),
        ("scene", False),
        ("tree", False),
    ]
    assert reply["objects"][1]["box"] == [123, 500, 400, 667]
    schema = {"properties": {"objects": {"type": "array", "maxItems": 2}}}
    assert answer(simulator, request(step, schema=schema))["objects"] == reply["objects"][:2]


def test_parts_are_named_where_the_schema_asks_for_them() -> None:
    hand = {"name": "left hand", "box": [0.25, 0.5, 0.3, 0.6]}
    objects = [one | ({"parts": [hand]} if one["name"] == "woman" else {}) for one in TRUTH["objects"]]  # type: ignore[attr-defined]
    truth = ImageTruth.model_validate_json(json.dumps(TRUTH | {"objects": objects}))

    def listed(form: type[Form]) -> list[dict[str, Any]]:
        asked = Query(Tag("a", "", "objects-1"), "", truth, Dice(0, b""), schema=schema_of(form))
        return STEPS["objects-1"](asked)["objects"]  # type: ignore[index]

    assert [one["parts"] for one in listed(DetailedObjects)][:2] == [[hand | {"box": [250, 500, 300, 600]}], []]
    assert not any("parts" in one for one in listed(Objects))


def test_merge_unites_the_drafts_of_the_prompt_by_name(simulator: Simulator) -> None:
    woman = {"name": "woman", "description": NASTY, "person": True, "box": [10, 20, 30, 40]}
    cup = {"name": "cup", "description": "x", "person": False, "box": None}
    drafts = [[woman], [woman | {"box": [20, 30, 40, 50]}, cup]]
    text = "\n".join(f"```json\n{json.dumps({'objects': d}, ensure_ascii=False)}\n```" for d in drafts)
    assert answer(simulator, request("merge", f"Lists:\n{text}\n```json\nbroken\n```"))["objects"] == [
        woman,
        cup,
    ]


@pytest.mark.parametrize(
    ("of", "attributes", "relations"),
    [("woman", [FINGERS], []), ("cup", [], [FLOATS]), ("scene", [SUNS], []), ("tree", [], [])],
)
def test_notes_carry_findings_from_the_looking_to_the_writing_step(
    simulator: Simulator, of: str, attributes: list[dict[str, Any]], relations: list[dict[str, Any]]
) -> None:
    for kind, wanted in (("attributes", attributes), ("relations", relations)):
        prose = text_of(simulator, request(f"{kind}-1", of=of))
        assert 130 < len(prose.split()) < 330
        reply = answer(simulator, request(f"{kind}-2", f"What was seen:\n<notes>\n{prose}\n</notes>\nAnswer.", of=of))
        wanted = [{k: f.get(k, []) for k in ("name", "phenomenon", "reasoning", "objects")} for f in wanted]
        assert all((f.pop("sure") < 80) == bool(f.pop("innocent")) for f in reply["findings"])
        counts: dict[str, Any] = {"counts": []} if kind == "attributes" else {}
        assert reply == {"findings": wanted, "nothing_found": not wanted} | counts


def test_steps_without_the_picture_answer_from_their_text_alone(simulator: Simulator) -> None:
    assert answer(simulator, request("attributes-2", "no notes", of="woman"))["nothing_found"] is True
    (error,) = ask(simulator, replace(request("single"), parts=("Picture 0.png has Six fingers",)))
    assert isinstance(error, EndpointError)
    assert error.kind == "rejected"


def test_inspect_speaks_of_each_asked_object_in_order(simulator: Simulator) -> None:
    asked = "\n".join(json.dumps({"object": n, "description": NASTY}) for n in ("tree", "cup", "woman", "scene", "?"))
    reply = answer(simulator, request("inspect", f"Look at\n{asked}\nnow"))
    assert [o["object"] for o in reply["objects"]] == ["tree", "cup", "woman", "scene", "?"]
    found = [[f["name"] for f in o["findings"]] for o in reply["objects"]]
    assert found == [[], ["Floats"], ["Six fingers"], ["Two suns"], []]
    assert all(10 < len(o["look"].split()) < 50 for o in reply["objects"])


def test_scan_finds_what_is_wrong_with_the_scene(simulator: Simulator) -> None:
    assert [f["name"] for f in answer(simulator, request("scan"))["findings"]] == ["Two suns"]


def test_reviews_judge_every_candidate_and_merge_equal_ones(simulator: Simulator) -> None:
    text = lines([FINGERS, FLOATS, FINGERS])
    prose = text_of(simulator, request("review-1", text))
    assert all(f"Candidate {i}, " in prose for i in (1, 2, 3))
    for step in ("review-2", "summary"):
        reply = answer(simulator, request(step, f"{text}\n<notes>\n{prose}\n{lines([SUNS])}\n</notes>"))
        assert [c["id"] for c in reply["checks"]] == [1, 2, 3]
        assert min(c["score"] for c in reply["checks"]) >= 70
        assert [(f["name"], f["phenomenon"], f["from"]) for f in reply["findings"]] == [
            ("Six fingers", NASTY, [1, 3]),
            ("Floats", "no table", [2]),
        ]


def test_a_second_look_scores_the_true_high_and_most_others_low(simulator: Simulator) -> None:
    false = [FLOATS | {"name": f"invented {i}", "objects": ["scene", "cup"]} for i in range(40)]
    text = lines([FINGERS, FLOATS | {"phenomenon": "other"}, SUNS, *false])
    scores = {c["id"]: c["score"] for c in answer(simulator, request("verify", text))["checks"]}
    assert sorted(scores) == list(range(1, 44))
    assert scores[1] >= 85
    assert scores[3] >= 85
    assert 20 <= sum(scores[i] < 50 for i in range(4, 44)) < 40
    reply = answer(simulator, request("look-again", text))
    kept = {c["id"] for c in reply["checks"] if c["score"] >= 50}
    reported = {a["name"]: a for a in reply["anomalies"]}
    assert {i for a in reply["anomalies"] for i in a["from"]} - {2} == kept - {2}
    assert [reported[n]["severity"] for n in ("Six fingers", "Two suns")] == [12.5, 0]
    invented = [a for a in reply["anomalies"] if a["name"].startswith("invented")]
    assert invented
    assert all(30 < a["severity"] < 70 and a["objects"] == ["cup"] for a in invented)


@pytest.mark.parametrize("step", ["format", "finish", "look-again"])
def test_the_report_holds_the_true_candidates_once_with_all_their_ids(simulator: Simulator, step: str) -> None:
    reply = answer(simulator, request(step, lines([SUNS, FINGERS, SUNS])))
    assert [(a["name"], a["from"]) for a in reply["anomalies"]] == [("Two suns", [1, 3]), ("Six fingers", [2])]
    nothing = answer(simulator, request(step, "(none)"))
    assert (nothing["anomalies"], nothing["no_anomalies"]) == ([], True)


def test_two_anomalies_of_one_name_stay_two() -> None:
    twins = [SUNS, SUNS | {"phenomenon": "in the mirror"}]
    truth = ImageTruth.model_validate_json(json.dumps({"objects": [], "anomalies": twins}))
    asked = Query(Tag("", "", "finish"), lines(twins), truth, Dice(0, b""))
    reply = STEPS["finish"](asked)
    assert isinstance(reply, dict)
    assert [(a["phenomenon"], a["from"]) for a in reply["anomalies"]] == [
        ("left and right", [1]),
        ("in the mirror", [2]),
    ]


def test_the_source_is_one_word_with_its_probability(simulator: Simulator) -> None:
    asked = request("source", sampling=Sampling(max_tokens=1, logprobs=True))
    (reply,) = ask(simulator, asked)
    assert isinstance(reply, Reply)
    assert (reply.text, reply.finish) == ("generated", "stop")
    assert max(reply.logprobs, key=lambda word: reply.logprobs[word]) == "generated"
    assert text_of(simulator, request("source", shows=picture(1))) == "unsure"


def test_the_picture_rules_and_not_the_words(simulator: Simulator) -> None:
    named = replace(request("single", "This is 1.png"), tag=Tag("1.png", "", ""))
    jpeg = replace(named, parts=(encoded(picture(0, (200, 150)), "jpeg"), encoded(picture(1)), "1.png"))
    assert len(answer(simulator, named)["anomalies"]) == len(answer(simulator, jpeg)["anomalies"]) == 3
    broken = replace(named, parts=(Encoded(b"GIF89a", "image/gif", 5, 5),))
    unknown = replace(named, parts=(encoded(picture(9)),))
    errors = ask(simulator, broken, unknown)
    assert [isinstance(e, EndpointError) and e.kind for e in errors] == ["rejected", "rejected"]
    assert simulator.outcomes == {"ok": 2, "rejected": 2}


@given(st.sampled_from(sorted(s for s in STEPS)), st.text(), st.text(), st.integers(0, 5))
def test_no_prompt_whatever_breaks_a_step(step: str, text: str, name: str, seed: int) -> None:
    nested = json.dumps({"id": seed, "name": name, "phenomenon": text, "reasoning": name, "object": text}) + "\n"
    asked = Query(
        Tag("", "", step, name),
        f"```json\n{text}\n<notes>\n{text}\n{nested}</notes>\n{nested}",
        NOTHING,
        Dice(seed, b""),
    )
    assert isinstance(STEPS[step](asked), dict | str)


@given(
    st.text(min_size=1).filter(str.strip), st.text(min_size=1).filter(str.strip), st.text(min_size=1).filter(str.strip)
)
def test_any_text_survives_the_notes(name: str, phenomenon: str, about: str) -> None:
    anomaly = {"name": name, "phenomenon": phenomenon, "reasoning": name, "severity": 1, "objects": [about]}
    truth = ImageTruth.model_validate_json(json.dumps({"objects": [], "anomalies": [anomaly]}))
    (true,) = truth.anomalies
    tag = Tag("", "", "", owner(true))
    prose = STEPS["attributes-1"](Query(tag, "", truth, Dice(0, b"")))
    written = STEPS["attributes-2"](Query(tag, f"<notes>\n{prose}\n</notes>", NOTHING, Dice(0, b"")))
    assert isinstance(written, dict)
    assert [(f["name"], f["phenomenon"]) for f in written["findings"]] == [(true.name, true.phenomenon)]
