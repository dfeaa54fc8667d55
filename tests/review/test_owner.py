"""The owner sees how far the review is, how well people agree, and who should be talked to."""

import pytest
from sqlalchemy import select
from tests.review.visiting import visits

from anomreason.dataset.store import Store
from anomreason.dataset.tables import ItemRow, TallyRow
from anomreason.review.estimate import ShareCorrect
from anomreason.review.owner import people_reports, stop_report
from anomreason.review.rounds import RoundOptions


def tally(person: str, choice: str, count: int, seconds: float = 3.0, gold: str = "") -> TallyRow:
    sort = {"source": "flux", "detector": "reader", "role": "", "kind": "hand"}
    return TallyRow(round_id=1, person=person, choice=choice, count=count, seconds=seconds * count, gold=gold, **sort)


def warned(*tallies: TallyRow) -> dict[str, list[str]]:
    return {report.name: report.warnings for report in people_reports(tallies)}


def test_progress_and_acceptance_by_person_kind_role_source_and_detector(store: Store) -> None:
    with visits(store, ["ada", "ben"], images=4) as visit:
        for person, choices in (("ada", ["accept", "accept", "reject", "unsure"]), ("ben", ["reject", "reject"])):
            for item, choice in zip(visit[person].get("/api/next?count=4")["items"], choices, strict=False):
                visit[person].judge(item["candidate"], choice, seconds=4.0)
        report = visit["owner"].get("/api/owner")
        assert (report["verdicts"], report["wanted"]) == (6, 12)
        people = {p["name"]: p for p in report["people"]}
        assert (people["ada"]["accept"], people["ada"]["reject"], people["ada"]["unsure"]) == (2, 1, 1)
        assert people["ada"]["accepted"]["value"] == pytest.approx(2 / 3)
        assert people["ben"]["seconds"] == 4
        for sort in ("sources", "kinds", "roles", "detectors"):
            assert sum(c["accept"] for c in report[sort]) == 2
            assert sum(c["reject"] for c in report[sort]) == 3
            assert sum(c["size"] for c in report[sort]) <= 12
            assert {c["correct"]["value"] for c in report[sort]} == {None}, "too few drawn at random"
        assert {c["name"] for c in report["kinds"]} <= {"anatomy", "physics", "lettering"}
        assert report["agreement"] is None


def test_agreement_on_the_overlap_is_that_of_a_hand_computed_case(store: Store) -> None:
    """Ten candidates judged by both: 5 accepted by both, 3 rejected by both, 2 accepted by ada alone."""
    choices = {"ada": ["accept"] * 7 + ["reject"] * 3, "ben": ["accept"] * 5 + ["reject"] * 5}
    with visits(store, ["ada", "ben"], images=4, options=RoundOptions(overlap=1.0)) as visit:
        with store.reading() as session:
            candidates = session.scalars(select(ItemRow.candidate_id).order_by(ItemRow.candidate_id)).all()
        for person, said in choices.items():
            for candidate, choice in zip(candidates, said, strict=False):
                visit[person].judge(candidate, choice)
        visit["ada"].judge(candidates[11])  # judged once: not compared
        found = visit["owner"].get("/api/owner")["agreement"]
        disputed = visit["owner"].get("/api/owner")["disputed"]
        (pair,) = found["pairs"]
        assert found["items"] == found["agree"]["n"] == 10
        assert found["agree"]["value"] == pytest.approx(0.8)
        assert (pair["one"], pair["other"]) == ("ada", "ben")
        # By chance .7 x .5 + .3 x .5 = .5 agree.
        assert pair["cohen_kappa"]["value"] == pytest.approx(0.6)
        assert pair["cohen_kappa"]["low"] < 0.6 < pair["cohen_kappa"]["high"]
        # Coincidences: of 20 verdicts 12 are accept, 8 reject; expected disagreement 2 x 12 x 8 / (20 x 19).
        assert found["krippendorff_alpha"]["value"] == pytest.approx(1 - 0.2 / (2 * 12 * 8 / (20 * 19)))
        assert found["gwet_ac1"]["value"] > found["krippendorff_alpha"]["value"]
        assert disputed == 2


def test_somebody_who_accepts_far_more_than_the_others_is_named() -> None:
    found = warned(
        tally("ada", "accept", 98), tally("ada", "reject", 2), tally("ben", "accept", 60), tally("ben", "reject", 40)
    )
    assert found["ada"] == ["accepts 98%, the others 60%"]


def test_a_difference_that_may_be_chance_names_nobody() -> None:
    found = warned(
        tally("ada", "accept", 18), tally("ada", "reject", 12), tally("ben", "accept", 15), tally("ben", "reject", 15)
    )
    assert found == {"ada": [], "ben": []}


def test_somebody_who_is_much_faster_than_the_others_is_named() -> None:
    found = warned(tally("ada", "accept", 50, 0.4), tally("ben", "accept", 50, 4.0))
    assert found["ada"] == ["takes 0.4 s a verdict, the others 4.0 s"]


def test_somebody_who_is_wrong_on_what_is_known_is_named() -> None:
    golds = (tally("ada", "accept", 6, gold="reject"), tally("ada", "accept", 6, gold="accept"))
    (report,) = people_reports([*golds, tally("ada", "reject", 5)])
    assert report.gold.value == 0.5
    assert report.warnings == ["is right on 50% of 12 gold candidates"]
    assert (report.accept, report.reject) == (0, 5), "gold candidates do not count for the rest"


def test_the_owner_is_told_when_it_is_enough_and_what_more_would_gain() -> None:
    before = stop_report(ShareCorrect(0.7, 0.66, 0.74, judged=500, size=174_872), 0.02, random_share=0.3)
    assert not before.reached
    assert "You wanted ±2.0%; it is ±4.0% after 500 of 174,872 candidates. About" in before.sentence
    assert [half for half, _ in before.outlook] == [0.03, 0.02, 0.01]
    assert before.outlook[0][1] < before.outlook[1][1] == before.needed < before.outlook[2][1]
    after = stop_report(ShareCorrect(0.7, 0.681, 0.719, judged=6_840, size=174_872), 0.02, random_share=0.3)
    assert after.reached
    assert after.sentence == "You wanted ±2.0%; it is ±1.9% after 6,840 of 174,872 candidates. Reviewing may stop."
    never = stop_report(ShareCorrect(None, 0, 1, judged=10, size=100), 0.02, random_share=0)
    assert never.sentence.endswith("Nothing is drawn at random in this round: the share is known when all are judged.")
    assert never.needed == 90
    nothing = stop_report(ShareCorrect(None, 0, 1, judged=0, size=100), 0.02, random_share=0.3)
    assert nothing.sentence == "You wanted ±2.0%. Too few verdicts at random yet: an estimate needs 10 of them, or all."


def test_flags_are_listed_and_disagreements_are_settled_blind(store: Store) -> None:
    with visits(store, ["ada", "ben"], images=1, options=RoundOptions(overlap=1.0)) as visit:
        candidate = visit["ada"].get("/api/next?count=1")["items"][0]["candidate"]
        visit["ada"].judge(candidate, "flag", reason="two images in one")
        visit["ada"].judge(candidate, "accept")
        visit["ben"].judge(candidate, "reject")
        owner = visit["owner"]
        (flagged,) = owner.get("/api/owner")["flagged"]
        assert (flagged["candidate"], flagged["person"], flagged["reason"]) == (candidate, "ada", "two images in one")
        (item,) = owner.get("/api/disputed")["items"]
        assert item["candidate"] == candidate
        assert "accept" not in str(item)
        opened = owner.get(f"/api/opinions/{candidate}")["opinions"]
        assert {(o["person"], o["choice"]) for o in opened} == {("ada", "accept"), ("ben", "reject")}
        owner.judge(candidate, "accept", final=True)
        assert owner.get("/api/disputed")["items"] == []
        assert owner.get("/api/owner")["verdicts"] == 2, "settling is no further pass"
        owner.post("/api/undo", key="undo-the-last-one")
        assert owner.get("/api/disputed")["items"] == [item]
