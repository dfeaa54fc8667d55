"""People review in a browser: every key does what it says, nothing is lost, and no text does anything."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update
from tests.chromium import answered, noted
from tests.review.browsing import Opening, Room, entered, judge, mine, rows, shown, until

from anomreason.dataset.tables import (
    CandidateRow,
    DecisionRow,
    DetectionRow,
    ImageRow,
    PromptRow,
    SourceRow,
    VerdictRow,
)
from anomreason.review.rounds import RoundOptions

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

AXE = Path(__file__).parents[1] / "data" / "axe" / "axe.min.js"


def test_twenty_candidates_are_judged_by_keyboard(room: Room) -> None:
    page = room.enter()
    keys = ["a", "x", "r", " ", "u", "1", "9", "A", "Numpad2", "3"]
    said = [
        ("accept", None),
        ("reject", None),
        ("reject", None),
        ("unsure", None),
        ("unsure", None),
        ("reject", "not visible"),
        ("reject", "unclear"),
        ("accept", None),
        ("reject", "plausible"),
        ("reject", "wrong object"),
    ]
    given = [(judge(page, key), *what) for key, what in zip(keys * 2, said * 2, strict=True)]
    mine(page, len(given))
    assert room.verdicts() == given
    assert len({candidate for candidate, *_ in given}) == len(given)
    assert all(0 < seconds < 60 for (seconds,) in rows(room.review, select(VerdictRow.seconds)))
    assert page.problems == []  # type: ignore[attr-defined]


def test_a_digit_right_after_a_rejection_is_its_reason_and_judges_nothing_else(room: Room) -> None:
    page = room.enter()
    before = judge(page, "a")
    first = shown(page)
    at_once(page, "KeyX", "Digit4")
    noted(page, "Rejected (wrong place)")
    second = shown(page, other_than=first)
    until(room, select(VerdictRow.id), 3)
    mine(page, 2)
    assert room.verdicts()[1:] == [(first, "reject", None), (first, "reject", "wrong place")]
    page.keyboard.press("z")  # one undo takes both back
    page.wait_for_selector(f'article[aria-busy="false"][data-candidate="{first}"]')
    page.keyboard.press("z")
    page.wait_for_selector(f'article[aria-busy="false"][data-candidate="{before}"]')
    page.locator("#progress", has_text="0 by you").wait_for()
    for candidate in (before, first, second):
        assert judge(page, "a") == candidate
    page.click("#modes a:text-is('Keep or drop')")
    page.locator("summary", has_text="Drop because … (1 to 9 instead of X)").wait_for()
    at_once(page, "KeyX", "Digit3")
    until(room, select(DecisionRow.image_id).where(DecisionRow.reason == "watermark"))
    assert len(rows(room.review, select(DecisionRow.image_id))) == 1


def at_once(page: Page, *codes: str) -> None:
    """Press keys one after the other, however slow the machine is."""
    press = "code => document.body.dispatchEvent(new KeyboardEvent('keydown', { code, bubbles: true }))"
    page.evaluate(f"codes => codes.forEach({press})", list(codes))


def test_a_key_that_is_held_down_judges_once(room: Room) -> None:
    page = room.enter()
    first = shown(page)
    page.keyboard.down("a")
    second = shown(page, other_than=first)
    for _ in range(5):
        page.keyboard.down("a")  # what a keyboard sends while the key stays down
    page.keyboard.up("a")
    judge(page, "x")
    mine(page, 2)
    assert [(candidate, choice) for candidate, choice, _ in room.verdicts()] == [(first, "accept"), (second, "reject")]


def test_keys_lie_where_they_lie_under_any_layout(room: Room) -> None:
    page = room.enter()
    first = shown(page)
    cyrillic = {"key": "ф", "code": "KeyA", "bubbles": True}
    page.dispatch_event("body", "keydown", {**cyrillic, "ctrlKey": True})  # a shortcut of the browser
    page.dispatch_event("body", "keydown", cyrillic)
    shown(page, other_than=first)
    mine(page, 1)
    assert room.verdicts() == [(first, "accept", None)]


def test_undo_goes_back_to_the_first_verdict_and_a_reload_does_not_stop_it(room: Room) -> None:
    page = room.enter()
    given = [judge(page, key) for key in "axaxa"]
    for candidate in reversed(given[3:]):
        page.keyboard.press("Backspace")
        page.wait_for_selector(f'article[aria-busy="false"][data-candidate="{candidate}"]')
    mine(page, 3)
    page.reload()
    shown(page)
    for candidate in reversed(given[:3]):
        page.keyboard.press("z")
        page.wait_for_selector(f'article[aria-busy="false"][data-candidate="{candidate}"]')
    page.keyboard.press("z")
    noted(page, "nothing to undo")
    again: list[int] = []
    while not set(given) <= set(again):  # those that were undone before the reload may come behind fetched ones
        assert len(again) < 15
        again.append(judge(page, "r"))
    mine(page, len(again))
    assert again[:3] == given[:3]
    assert len(set(again)) == len(again)
    assert {row for (row,) in rows(room.review, select(CandidateRow.outcome).where(CandidateRow.id.in_(given)))} == {
        "rejected"
    }
    assert [choice for _, choice, _ in room.verdicts()].count("undo") == 5


def test_an_edit_keeps_the_original_and_says_what_was_changed(room: Room) -> None:
    page = room.enter()
    candidate = shown(page)
    before = rows(room.review, select(CandidateRow.name, CandidateRow.region).where(CandidateRow.id == candidate))
    page.keyboard.press("e")
    page.fill("[name=name]", "Corrected x")  # keys in a field judge nothing
    page.press("[name=name]", "x")
    page.click("text=Save and accept")
    page.locator(".error", has_text="choose what was changed").wait_for()
    page.select_option("[name=reason]", "wording")
    drag(page, (0.25, 0.25), (0.5, 0.75))
    page.press("[name=reasoning]", "Control+Enter")
    shown(page, other_than=candidate)
    mine(page, 1)
    ((choice, reason, edit),) = rows(room.review, select(VerdictRow.choice, VerdictRow.reason, VerdictRow.edit))
    assert (choice, reason, edit["name"]) == ("accept", "wording", "Corrected xx")
    assert set(edit) == {"name", "region"}
    assert edit["region"]["x1"] == pytest.approx(0.5, abs=0.02)
    assert before == rows(
        room.review, select(CandidateRow.name, CandidateRow.region).where(CandidateRow.id == candidate)
    )


def test_an_edit_says_that_no_place_is_to_be_marked(room: Room) -> None:
    page = room.enter()
    candidate = shown(page)
    kinds = page.request.get(f"{room.at}/api/me").json()["kinds"]
    assert any("_" in kind for kind in kinds)
    page.keyboard.press("e")
    assert "_" not in "".join(page.locator("#kinds option").evaluate_all("all => all.map(({ value }) => value)"))
    page.click("text=No box")
    assert page.locator(".canvas .box").count() == 0
    page.select_option("[name=reason]", "place")
    page.press("[name=reasoning]", "Control+Enter")
    shown(page, other_than=candidate)
    mine(page, 1)
    assert rows(room.review, select(VerdictRow.choice, VerdictRow.edit)) == [("accept", {"region": None})]


def test_a_flag_shows_and_is_given_once(room: Room) -> None:
    page = room.enter()
    shown(page)
    flag = page.locator(".verdicts [data-action=flag]")
    assert flag.get_attribute("aria-pressed") == "false"
    page.keyboard.press("f")
    page.keyboard.press("f")
    noted(page, "It is flagged already")
    assert flag.get_attribute("aria-pressed") == "true"
    page.keyboard.press("z")
    noted(page, "Taken back")
    assert flag.get_attribute("aria-pressed") == "false"
    until(room, select(VerdictRow.id), 2)
    assert [choice for _, choice, _ in room.verdicts()] == ["flag", "undo"]


def test_the_keys_zoom_on_the_marked_place(room: Room) -> None:
    page = room.enter()
    shown(page)
    for _ in range(6):
        page.keyboard.press("+")
    stage, box = page.locator(".stage").bounding_box(), page.locator(".canvas .box .edge").first.bounding_box()
    assert stage
    assert box
    for start, size in (("x", "width"), ("y", "height")):
        middle = box[start] + box[size] / 2
        assert stage[start] <= middle <= stage[start] + stage[size]


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag from one place of the image to another, in fractions of it."""
    box = page.locator(".canvas").bounding_box()
    assert box
    for n, (x, y) in enumerate((start, end)):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=3)
        (page.mouse.up if n else page.mouse.down)()


def test_zoom_and_look_around(room: Room) -> None:
    page = room.enter()
    shown(page)
    canvas = page.locator(".canvas")
    whole = canvas.bounding_box()
    assert whole
    for key in ("+", "+", "=", "ArrowRight"):
        page.keyboard.press(key)
    close = canvas.bounding_box()
    assert close
    assert close["width"] == pytest.approx(whole["width"] * 1.4**3, rel=0.01)
    page.keyboard.press("ArrowLeft")
    moved = canvas.bounding_box()
    assert moved
    assert moved["x"] > close["x"]
    page.mouse.move(whole["x"] + whole["width"] / 2, whole["y"] + whole["height"] / 2)
    page.mouse.wheel(0, -100)
    page.wait_for_function("width => document.querySelector('.canvas').clientWidth > width", arg=close["width"])
    page.keyboard.press("0")
    assert canvas.bounding_box() == whole
    assert room.verdicts() == []


def test_nothing_is_judged_before_its_image_is_there(room: Room) -> None:
    context = room.context()
    slow: list[Route] = []
    context.route("**/image/*", lambda route: slow.append(route))
    page = entered(context, room.at, room.review, "ada")
    page.locator(".missing", has_text="Loading the image").wait_for()
    page.keyboard.press("a")
    while slow:
        slow.pop().continue_()
    context.unroute("**/image/*")
    first = shown(page)
    page.keyboard.press("x")
    shown(page, other_than=first)
    mine(page, 1)
    assert room.verdicts() == [(first, "reject", None)]


def test_what_was_judged_in_one_mode_does_not_come_in_another(room: Room) -> None:
    page = room.enter()
    shown(page)
    page.click("#modes a:text-is('Whole images')")
    page.locator(".entry").first.wait_for()
    page.keyboard.press("Enter")
    noted(page, "Accepted")
    page.click("#modes a:text-is('Candidates')")
    for _ in range(4):
        judge(page, "x")
    until(room, select(VerdictRow.id).where(VerdictRow.choice == "reject"), 4)
    given = [candidate for candidate, *_ in room.verdicts()]
    assert len(set(given)) == len(given)


def test_undo_reaches_over_modes(room: Room) -> None:
    page = room.enter()
    first = judge(page, "a")
    page.click("#modes a:text-is('Whole images')")
    entry = page.locator(".entry").first
    entry.wait_for()
    second = int(entry.get_attribute("data-candidate") or 0)
    entry.get_by_role("button", name="Reject").click()
    mine(page, 2)
    page.click("#modes a:text-is('Candidates')")
    for candidate in (second, first):
        shown(page)
        page.keyboard.press("z")
        page.wait_for_selector(f'article[aria-busy="false"][data-candidate="{candidate}"]')
    page.locator("#progress", has_text="0 by you").wait_for()


def test_people_write_down_what_is_wrong_and_where(room: Room) -> None:
    page = room.enter(mode="annotate")
    page.fill("[name=name]", "Bucket in mid-air")
    page.click("text=Nothing is wrong: next image")
    page.locator(".error", has_text="Save what you wrote").wait_for()
    page.fill("[name=phenomenon]", "The bucket floats.")
    page.fill("[name=reasoning]", "Nothing holds it.")
    page.click("#modes a:text-is('Keep or drop')")
    page.locator("text=Does this image belong").wait_for()
    page.click("#modes a:text-is('Annotate')")
    page.locator("form.editor").wait_for()
    drag(page, (0.2, 0.3), (0.6, 0.8))
    page.click("button:text-is('Save')")
    page.locator(".error", has_text="set the severity").wait_for()
    page.focus("[name=severity]")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.click("button:text-is('Save')")
    line = page.locator(".saved li", has_text="Bucket in mid-air")
    line.get_by_role("button", name="Take back").click()
    line.wait_for(state="detached")
    assert page.input_value("[name=phenomenon]") == "The bucket floats.", "what was taken back can be corrected"
    page.fill("[name=kind]", "missing part")
    page.click("button:text-is('Save')")
    page.click("text=Nothing more: next image")
    page.locator("h1", has_text="What is wrong").wait_for()
    page.focus(".stage")
    page.keyboard.press("z")
    line.wait_for()
    page.click("text=Nothing more: next image")
    page.locator("h1", has_text="What is wrong").wait_for()
    query = select(CandidateRow.name, CandidateRow.severity, CandidateRow.region, CandidateRow.outcome)
    found = until(room, query.where(CandidateRow.origin == "person").order_by(CandidateRow.number), 2)
    assert [row.outcome for row in found] == ["unverified", "accepted"], "the first one was taken back"
    name, severity, region, outcome = found[1]
    assert rows(
        room.review, select(CandidateRow.kind).where(CandidateRow.number == 1, CandidateRow.detector == "ada")
    ) == [("missing_part",)]
    assert (name, severity, outcome) == ("Bucket in mid-air", 1, "accepted")
    assert [region[k] for k in ("x0", "y0", "x1", "y1")] == pytest.approx([0.2, 0.3, 0.6, 0.8], abs=0.02)
    images = select(DetectionRow.image_id).where(DetectionRow.detector == "ada")
    assert len(until(room, images)) == 1


def test_images_are_kept_or_dropped_with_a_reason_and_decided_again(room: Room) -> None:
    page = room.enter(mode="keep")
    page.get_by_role("button", name="Keep", exact=False).first.wait_for()
    last = ""
    for key in ("a", "3", "x"):
        last = page.locator(".stage img").get_attribute("src") or ""
        page.keyboard.press(key)
        noted(page, "Kept" if key == "a" else "Dropped")
        page.wait_for_selector(f'.stage img:not([src="{last}"])')
    page.keyboard.press("z")
    noted(page, "Decide again")
    page.wait_for_selector(f'.stage img[src="{last}"]')
    page.keyboard.press("a")
    noted(page, "Kept")
    decisions = select(DecisionRow.keep, DecisionRow.reason).order_by(DecisionRow.image_id)
    kept = decisions.where(DecisionRow.keep.is_(True))
    assert len(until(room, kept, 2)) == 2
    assert [tuple(row) for row in until(room, decisions.where(DecisionRow.keep.is_(False)))] == [(False, "watermark")]


def test_all_candidates_of_an_image_at_once(room: Room) -> None:
    with room.review.store.writing() as session:
        image = session.scalar(select(CandidateRow.image_id).limit(1))
        session.execute(update(CandidateRow).values(image_id=image, number=CandidateRow.id))
    page = room.enter(mode="images")
    entries = page.locator(".entry")
    entries.first.wait_for()
    listed = [int(entry.get_attribute("data-candidate") or 0) for entry in entries.all()]
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("1")
    page.keyboard.press("z")
    entries.nth(2).get_by_role("button", name="Unsure").click()
    page.keyboard.press("Enter")
    page.wait_for_selector('.state[data-state="finished"]')
    standing = {candidate: choice for candidate, choice, _ in room.verdicts() if choice != "undo"}
    assert standing == {c: {0: "reject", 2: "unsure"}.get(n, "accept") for n, c in enumerate(listed)}
    assert len(listed) > 4


def test_a_group_gets_one_verdict_each_with_one_key_and_one_undo_takes_them_back(room: Room) -> None:
    with room.review.store.writing() as session:
        said = {"name": "Hand with six fingers", "phenomenon": "It has six fingers.", "kind": "anatomy"}
        ids = session.scalars(select(CandidateRow.id).order_by(CandidateRow.id).limit(5)).all()
        session.execute(update(CandidateRow).values(kind=None, name=CandidateRow.kind))
        session.execute(update(CandidateRow).where(CandidateRow.id.in_(ids)).values(**said))
        images = session.scalars(select(ImageRow.id).limit(5)).all()
        for image, candidate in zip(images, ids, strict=True):
            session.get_one(CandidateRow, candidate).image_id = image
            session.get_one(CandidateRow, candidate).number = 100 + candidate
    page = room.enter(mode="groups")
    tiles = page.locator(".tile")
    before = 0
    while (group := grouped(page))[0] not in ids:
        before += len(group)
        judge_group(page, "u")
    mine(page, before)
    assert set(grouped(page)) == set(ids)
    page.keyboard.press("j")
    page.keyboard.press("t")
    out = grouped(page)[1]
    page.locator(".question", has_text="4 of 5").wait_for()
    tiles.nth(2).get_by_role("button", name="Take out").click()
    tiles.nth(2).get_by_role("button", name="Put back").click()
    assert page.locator(".tile.out").count() == 1
    rest = [candidate for candidate in grouped(page) if candidate != out]
    judge_group(page, "x")
    assert grouped(page) == [out], "what was taken out comes alone"
    mine(page, before + 4)
    assert {(c, choice) for c, choice, _ in room.verdicts()[before:]} == {(c, "reject") for c in rest}
    keys = rows(room.review, select(VerdictRow.key))
    assert len(set(keys)) == len(keys)
    page.keyboard.press("z")
    noted(page, "the verdicts on 4 candidates")
    page.wait_for_function("() => document.querySelectorAll('.tile').length === 4")
    mine(page, before)
    judge_group(page, "2")
    mine(page, before + 4)
    last = room.verdicts()[-4:]
    assert set(last) == {(c, "reject", "plausible") for c in rest}


def grouped(page: Page) -> list[int]:
    """The candidates of the group on the screen."""
    page.wait_for_selector('article[aria-busy="false"][data-candidate]')
    return [int(tile.get_attribute("data-candidate") or 0) for tile in page.locator(".tile").all()]


def judge_group(page: Page, key: str) -> None:
    first = grouped(page)[0]
    page.keyboard.press(key)
    page.wait_for_selector(f'.tile:first-child:not([data-candidate="{first}"])')


def test_one_of_a_group_is_corrected_alone(room: Room) -> None:
    with room.review.store.writing() as session:
        session.execute(update(CandidateRow).values(kind="anatomy", name="Six fingers", phenomenon="Six", region=None))
    page = room.enter(mode="groups")
    group = grouped(page)
    assert len(group) == 12
    page.keyboard.press("f")
    flag = page.get_by_role("button", name="Flagged")
    assert flag.get_attribute("aria-pressed") == "true"
    page.keyboard.press("e")
    page.fill("[name=name]", "Seven fingers")
    page.select_option("[name=reason]", "wording")
    page.press("[name=name]", "Control+Enter")
    page.wait_for_function("() => document.querySelectorAll('.tile').length === 11")
    mine(page, 1)
    assert grouped(page) == group[1:]
    assert room.verdicts() == [(group[0], "flag", None), (group[0], "accept", "wording")]


def test_two_people_side_by_side_never_get_the_same(room: Room) -> None:
    pages = [room.enter("ada"), room.enter("ben")]
    given: dict[int, list[int]] = {0: [], 1: []}
    for _ in range(4):
        for n, page in enumerate(pages):
            given[n].append(judge(page, "a"))
    assert not set(given[0]) & set(given[1])
    for page in pages:
        mine(page, 4)
    people = rows(room.review, select(VerdictRow.person, VerdictRow.candidate_id))
    assert sorted(people) == sorted([("ada", c) for c in given[0]] + [("ben", c) for c in given[1]])


def test_a_phone_shows_all_and_takes_taps(room: Room) -> None:
    page = room.enter(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    first = shown(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for name in ("Accept", "Reject", "Unsure", "Undo"):
        box = page.get_by_role("button", name=name, exact=True).bounding_box()
        assert box, name
        assert box["y"] + box["height"] <= 740, name
        assert box["height"] >= 36, name
    page.tap(".verdicts .reject")
    second = shown(page, other_than=first)
    page.tap("summary:has-text('Reject because')")
    page.tap("text=The marked place is wrong")
    shown(page, other_than=second)
    mine(page, 2)
    assert room.verdicts() == [(first, "reject", None), (second, "reject", "wrong place")]


def test_verdicts_given_offline_arrive_once_the_server_is_back(room: Room) -> None:
    page = room.enter()
    first = shown(page)
    answered(page, "/api/next", 2)  # three are there behind the first
    page.context.set_offline(True)
    given = [judge(page, "a"), judge(page, "x"), judge(page, "a")]
    page.keyboard.press("z")  # the last one is taken back, and judged otherwise
    assert judge(page, "r") == given[2]
    page.locator("#connection", has_text="Offline: 5 wait here").wait_for()
    judge(page, "a")
    page.wait_for_selector('.state[data-state="offline"]')
    page.context.set_offline(False)
    shown(page)
    mine(page, 4)
    assert given[0] == first
    assert [(c, choice) for c, choice, _ in room.verdicts() if c in given] == [
        (given[0], "accept"),
        (given[1], "reject"),
        (given[2], "accept"),
        (given[2], "undo"),
        (given[2], "reject"),
    ]


def test_what_waits_survives_a_reload_and_a_lost_answer_is_no_second_verdict(room: Room) -> None:
    page = room.enter()
    taken: list[int] = []

    def lose_answer(route: Route) -> None:
        if not taken:
            taken.append(route.fetch().status)  # the server has it, the page does not know
        route.abort()

    page.route("**/api/verdict", lose_answer)
    given = [judge(page, "a"), judge(page, "x")]
    page.locator("#connection", has_text="Offline: 2 wait here").wait_for()
    page.reload()
    assert shown(page) not in given
    page.unroute("**/api/verdict")
    mine(page, 2)
    assert taken == [200]
    assert room.verdicts() == [(given[0], "accept", None), (given[1], "reject", None)]


def test_nobody_sends_what_waits_in_anothers_name(room: Room) -> None:
    page = room.enter("ada")
    page.route("**/api/verdict", lambda route: route.abort())
    candidate = judge(page, "a")
    page.locator("#connection", has_text="Offline: 1 waits here").wait_for()
    page.unroute("**/api/verdict")
    page.context.clear_cookies()
    page.reload()
    page.wait_for_selector('.state[data-state="ended"]')
    ben = entered(page.context, room.at, room.review, "ben")
    shown(ben)
    judge(ben, "x")
    mine(ben, 1)
    again = entered(page.context, room.at, room.review, "ada")
    mine(again, 1)
    query = select(VerdictRow.person, VerdictRow.choice).where(VerdictRow.candidate_id == candidate)
    assert rows(room.review, query) == [("ada", "accept")]


def test_what_the_server_refuses_is_said_and_kept_until_dismissed(room: Room) -> None:
    page = room.enter()
    refusal = {"error": "candidate 7 is not in this round; load the page again"}
    page.route("**/api/verdict", lambda route: route.fulfill(status=400, json=refusal))
    judge(page, "a")
    page.locator("#refused", has_text="candidate 7 is not in this round").wait_for()
    page.unroute("**/api/verdict")
    page.reload()
    page.click("#refused button")
    page.locator("#refused").wait_for(state="hidden")
    judge(page, "x")
    mine(page, 1)


def test_the_end_and_nothing_for_now_say_what_to_do(opened: Opening) -> None:
    room = opened(count=6)
    ada, ben = room.enter("ada"), room.enter("ben")
    shown(ben)
    while ada.query_selector('.state[data-state="empty"]') is None:
        judge(ada, "a")
    assert "Others have the last candidates open" in ada.inner_text("main")
    while ben.query_selector(".state") is None:
        judge(ben, "a")
    ben.wait_for_selector('.state[data-state="finished"]')
    assert "You can close this page" in ben.inner_text("main")


PAYLOADS = [
    "<script>document.title = 'owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'"><i class="of-model">bold</i>',
    "{{constructor.constructor('document.title=1')()}} ${document.title = 'owned'} <%= 1 %>",
    "javascript:document.title='owned'//</title></textarea><svg onload=document.title=1>",
    "accept \u202etcejer\u2066\u2069 \u0007",
]


def test_texts_of_models_do_nothing(room: Room) -> None:
    text = " ".join(PAYLOADS)
    with room.review.store.writing() as session:
        for row in session.scalars(select(CandidateRow)):
            row.name = row.phenomenon = row.reasoning = row.kind = text
            row.objects = [text, text]
        prompt = PromptRow(sha256="0" * 64, text=text, command_id=1)
        session.add(prompt)
        session.flush()
        session.execute(update(ImageRow).values(prompt_id=prompt.id))
        session.execute(update(SourceRow).values(name=text))
    page = room.enter()
    shown(page)
    page.click("text=The image was made from this prompt")
    page.keyboard.press("e")
    page.press("[name=name]", "Escape")
    harmless = re.sub("[\u202e\u2066\u2069\u0007]", "\ufffd", text)
    for field in ("name", "phenomenon", "reasoning", "prompt"):
        assert page.text_content(f"article [data-field={field}]") == harmless
    judge(page, "a")
    for mode, ready in (("images", "entry"), ("groups", "tile"), ("annotate", "card"), ("keep", "card")):
        page.click(f"#modes a[href='#{mode}']")
        page.locator(f"main .{ready}").first.wait_for()
        assert not set("\u202e\u2066\u2069") & set(page.content())
        assert page.locator("main script, main .of-model, main img[src=x], main svg[onload]").count() == 0
    assert page.title() == "Review"
    assert page.problems == []  # type: ignore[attr-defined]


def serious(page: Page, *rules: str) -> list[tuple[str, str]]:
    """What axe finds: rule and element."""
    options = {"runOnly": list(rules)} if rules else {}
    found = page.evaluate("options => axe.run(options).then(({violations}) => violations)", options)
    worst = [each for each in found if each["impact"] in ("serious", "critical")]
    return [(each["id"], node["html"]) for each in worst for node in each["nodes"]]


def test_nothing_serious_for_people_with_disabilities(room: Room) -> None:
    page = room.enter("owner")
    shown(page)
    page.evaluate(AXE.read_text(encoding="utf-8"))

    def in_both_schemes() -> list[tuple[str, str]]:
        found = serious(page)
        page.emulate_media(color_scheme="dark")
        found += serious(page, "color-contrast")
        page.emulate_media(color_scheme="light")
        return found

    assert in_both_schemes() == []
    page.click("summary:has-text('Reject because')")
    assert in_both_schemes() == []
    page.keyboard.press("h")
    assert in_both_schemes() == []
    page.keyboard.press("Escape")
    page.keyboard.press("e")
    assert in_both_schemes() == []
    for mode, ready in (
        ("images", ".entry"),
        ("groups", ".tile"),
        ("annotate", "form"),
        ("keep", ".card"),
        ("disputed", ".state"),
    ):
        page.click(f"#modes a[href='#{mode}']")
        page.locator(f"main {ready}").first.wait_for()
        assert in_both_schemes() == [], mode


def test_every_button_tells_its_keys(room: Room) -> None:
    page = room.enter()
    shown(page)
    keys = {
        b.inner_text().split()[0]: b.get_attribute("aria-keyshortcuts")
        for b in page.locator(".verdicts > button").all()
    }
    assert keys == {
        "Accept": "A",
        "Reject": "X R",
        "Unsure": "Space U",
        "Edit": "E",
        "Flag": "F",
        "Undo": "Backspace Z",
    }


def test_the_owner_settles_disagreements_without_seeing_who_said_what_first(opened: Opening) -> None:
    room = opened(RoundOptions(overlap=1.0), count=2)
    candidate = judge(room.enter("ada"), "a")
    ben = room.enter("ben")
    while judge(ben, "x") != candidate:
        pass
    until(room, select(CandidateRow.id).where(CandidateRow.outcome == "disputed"))
    owner = room.enter("owner", "disputed")
    assert shown(owner) == candidate
    assert "ada" not in owner.inner_text("main")
    owner.click("text=Show what people said")
    owner.locator(".opinions li", has_text="ada: accept").wait_for()
    owner.keyboard.press("a")
    owner.wait_for_selector('.state[data-state="settled"]')
    until(room, select(CandidateRow.id).where(CandidateRow.id == candidate, CandidateRow.outcome == "accepted"))


def test_the_owner_is_shown_no_estimate_from_few_verdicts(room: Room) -> None:
    owner = room.enter("owner")
    judge(owner, "a")
    owner.locator("#progress", has_text=re.compile("1 by you .* no estimate yet")).wait_for()
    ada = room.enter("ada")
    mine(ada, 0)
    assert "at random" not in ada.inner_text("#progress")


def test_the_owner_sees_how_the_review_goes(opened: Opening) -> None:
    room = opened(RoundOptions(order="random", overlap=1.0), count=6)
    ada = room.enter("ada")
    for key in "aaxau":
        judge(ada, key)
    mine(ada, 5)
    ada.keyboard.press("f")
    noted(ada, "Flagged")
    ben = room.enter("ben")
    for key in "xaa":
        judge(ben, key)
    ben.locator("#progress", has_text="3 by you · 8 of 12").wait_for()
    until(room, select(VerdictRow.id).where(VerdictRow.choice == "flag"))
    owner = room.enter("owner")
    owner.wait_for_selector("article, .state")
    owner.click("#modes a:text-is('Owner')")
    owner.locator("h1", has_text="How good the candidates are").wait_for()
    people = {
        row.inner_text().split()[0]: row.inner_text() for row in owner.locator("[data-part=people] tbody tr").all()
    }
    assert people["ada"].split("\t")[2:5] == ["3", "1", "1"]
    assert people["ben"].split("\t")[2:5] == ["2", "1", "0"]
    assert "8 of 12 verdicts" in owner.inner_text("[data-part=progress]")
    assert "flagged by ada" in owner.inner_text("[data-part=flagged]")
    owner.wait_for_function("() => document.querySelector('[data-part=flagged] img')?.naturalWidth > 0")
    owner.evaluate(AXE.read_text(encoding="utf-8"))
    assert serious(owner) == []
    ada.goto(f"{room.at}/owner")
    ada.locator("text=This page is for the owner").wait_for()
