"""What the review page asks the server for, and what it gets."""

from sqlalchemy import func, select
from tests.review.visiting import again, visits

from anomreason.dataset.store import Store
from anomreason.dataset.tables import CandidateRow, DecisionRow, ImageRow, VerdictRow
from anomreason.review.rounds import RoundOptions


def test_a_person_judges_the_round_to_its_end(store: Store) -> None:
    with visits(store, ["ada"], images=2) as visit:
        judged = []
        while items := visit["ada"].get("/api/next?count=2")["items"]:
            for item in items:
                progress = visit["ada"].judge(item["candidate"])["progress"]
                judged.append(item["candidate"])
        assert sorted(judged) == sorted(set(judged))
        assert (progress["verdicts"], progress["wanted"], progress["mine"]) == (6, 6, 6)
        assert visit["ada"].get("/api/next")["state"] == "finished"
        with store.reading() as session:
            assert session.scalar(select(func.count()).select_from(VerdictRow)) == 6
            assert set(session.scalars(select(CandidateRow.outcome))) == {"accepted"}


def test_what_the_page_has_is_not_given_again_and_what_others_have_open_is_not_given(store: Store) -> None:
    with visits(store, ["ada", "ben"], images=2) as visit:
        mine = [i["candidate"] for i in visit["ada"].get("/api/next?count=3")["items"]]
        more = visit["ada"].get(f"/api/next?count=2&have={','.join(map(str, mine))}")["items"]
        theirs = visit["ben"].get("/api/next?count=20")["items"]
        assert len({*mine, *(i["candidate"] for i in [*more, *theirs])}) == 6
        assert visit["owner"].get("/api/next")["state"] == "empty"


def test_a_whole_image_is_judged_at_once(store: Store) -> None:
    with visits(store, ["ada", "ben"], images=3) as visit:
        first = visit["ada"].get("/api/next?count=1")["items"][0]
        items = visit["ada"].get(f"/api/image-items/{first['image']}")["items"]
        assert len(items) == 3
        assert {i["image"] for i in items} == {first["image"]}
        assert visit["ben"].get(f"/api/image-items/{first['image']}")["items"] == [], "they are Ada's"
        for item in items:
            visit["ada"].judge(item["candidate"])
        assert visit["ada"].get(f"/api/image-items/{first['image']}")["items"] == []


def test_a_dropped_image_leaves_the_round_and_comes_back_when_it_is_kept(store: Store) -> None:
    with visits(store, ["ada"], images=2) as visit:
        ada = visit["ada"]
        assert ada.post("/api/image/1", key="drop-image-1", keep=False, reason="collage")["progress"]["wanted"] == 3
        assert not ada.post("/api/image/1", key="drop-image-1", keep=False, reason="collage")["new"]
        with store.reading() as session:
            image = session.get_one(ImageRow, 1)
            assert (image.status, image.reason) == ("dropped", "collage")
            decision = session.get_one(DecisionRow, (1, "review"))
            assert decision.message == "dropped by ada"
        items = ada.get("/api/next?count=20")["items"]
        assert {i["image"] for i in items} == {2}
        for item in items:
            ada.judge(item["candidate"])
        assert ada.get("/api/next")["state"] == "finished"
        estimate = visit["owner"].get("/api/owner")["estimate"]
        assert (estimate["share"], estimate["low"], estimate["size"]) == (1, 1, 3)
        assert ada.post("/api/image/1", key="keep-image-1", keep=True)["progress"]["wanted"] == 6
        assert {i["image"] for i in ada.get("/api/next?count=20")["items"]} == {1}


def test_each_image_is_offered_to_be_kept_or_dropped_until_somebody_has_decided(store: Store) -> None:
    with visits(store, ["ada", "ben"], images=6) as visit:
        offered = {name: visit[name].get("/api/images?mode=keep&count=6")["images"] for name in ("ada", "ben")}
        assert {i["image"] for i in offered["ada"]} == {i["image"] for i in offered["ben"]} == set(range(1, 7))
        assert offered["ada"] != offered["ben"], "they begin at different places"
        first = offered["ada"][0]["image"]
        visit["ada"].post(f"/api/image/{first}", key=f"keep-image-{first}", keep=True)
        left = visit["ben"].get("/api/images?mode=keep&count=6")["images"]
        assert {i["image"] for i in left} == set(range(1, 7)) - {first}
        assert len(visit["ben"].get(f"/api/images?mode=keep&count=6&have={left[0]['image']}")["images"]) == 4


def test_people_write_their_own_anomalies_of_the_same_images(store: Store) -> None:
    found = {"name": "Two moons", "phenomenon": "Two moons stand in the sky.", "reasoning": "There is one."}
    region = {"x0": 0.1, "y0": 0.1, "x1": 0.3, "y1": 0.2}
    with visits(store, ["ada", "ben"], images=3) as visit:
        offered = [visit[name].get("/api/images?mode=annotate&count=2")["images"] for name in ("ada", "ben")]
        assert offered[0] == offered[1]
        image = offered[0][0]["image"]
        sent = {**found, "key": "ada-moons", "image": image, "severity": 4, "region": region}
        first = visit["ada"].post("/api/annotation", **sent)
        assert first["new"]
        assert visit["ada"].post("/api/annotation", **sent) == {**first, "new": False}
        second = visit["ada"].post("/api/annotation", **{**sent, "key": "ada-more", "region": None})
        assert visit["ada"].post("/api/annotated", key="ada-done", image=image)["new"]
        assert not visit["ada"].post("/api/annotated", key="ada-done", image=image)["new"]
        assert visit["ada"].get("/api/images?mode=annotate&count=1")["images"][0]["image"] != image
        assert visit["ben"].get("/api/images?mode=annotate&count=1")["images"][0]["image"] == image
        with store.reading() as session:
            rows = session.scalars(select(CandidateRow).where(CandidateRow.detector == "ada")).all()
        assert [r.id for r in rows] == [first["candidate"], second["candidate"]]
        assert {(r.origin, r.outcome, r.severity, r.name) for r in rows} == {("person", "accepted", 4, "Two moons")}
        assert [r.number for r in rows] == [0, 1]
        assert rows[0].region == {**region, "polygon": None}


def test_an_edit_keeps_the_original(store: Store) -> None:
    with visits(store, ["ada"], images=1) as visit:
        item = visit["ada"].get("/api/next?count=1")["items"][0]
        edit = {"name": "Seven fingers", "severity": 3}
        visit["ada"].judge(item["candidate"], edit=edit, reason="wrong_name")
        with store.reading() as session:
            assert session.get_one(CandidateRow, item["candidate"]).name == item["name"]
            verdict = session.scalars(select(VerdictRow)).one()
        assert (verdict.edit, verdict.reason, verdict.choice) == (edit, "wrong_name", "accept")


def test_undo_gives_the_item_back_and_sent_again_undoes_nothing_more(store: Store) -> None:
    with visits(store, ["ada"], images=2) as visit:
        ada = visit["ada"]
        items = ada.get("/api/next?count=2")["items"]
        for item in items:
            ada.judge(item["candidate"], "reject")
        once = ada.post("/api/undo", key="undo-0001")
        assert once["undone"] == {"candidate": items[1]["candidate"], "choice": "reject"}
        assert once["item"] == items[1]
        assert ada.post("/api/undo", key="undo-0001") == once
        assert once["progress"]["mine"] == once["progress"]["mine_today"] == 1
        ada.post("/api/undo", key="undo-0002")
        nothing = ada.post("/api/undo", key="undo-0003")
        assert (nothing["undone"], nothing["item"], nothing["progress"]["mine_today"]) == (None, None, 0)


def test_nobody_can_tell_a_gold_item_from_others(store: Store) -> None:
    with visits(store, ["ada"], images=2) as visit:
        for item in visit["ada"].get("/api/next?count=6")["items"]:
            visit["ada"].judge(item["candidate"])
    with store.writing() as session:
        for candidate in session.scalars(select(CandidateRow).where(CandidateRow.image_id == 2)):
            candidate.outcome = "unverified"
    with again(store, RoundOptions("second", gold=2)) as ada:
        items = ada.get("/api/next?count=20")["items"]
        assert len(items) == 5
        assert ada.get("/api/next?count=0")["progress"]["wanted"] == 5
        fields = [set(item) for item in items]
        assert all(f == fields[0] for f in fields)
        steps = [ada.judge(item["candidate"], key=f"second-{item['candidate']}")["progress"] for item in items]
        assert [p["verdicts"] for p in steps] == [p["mine"] for p in steps] == [1, 2, 3, 4, 5]


def test_reviewers_see_neither_scores_nor_the_share(store: Store) -> None:
    with visits(store, ["ada"], images=1) as visit:
        reply = visit["ada"].get("/api/next?count=3")
        assert not {"score", "detector", "role", "outcome"} & set(reply["items"][0])
        assert (reply["progress"]["share"], reply["progress"]["low"]) == (None, None)
        assert visit["owner"].get("/api/next")["progress"]["high"] == 1.0


def test_an_annotation_is_taken_back_by_the_one_who_wrote_it_and_stays_in_the_store(store: Store) -> None:
    with visits(store, ["ada", "ben"], images=1) as visit:
        ada, ben = visit["ada"], visit["ben"]
        written = {"name": "Six fingers", "phenomenon": "Six.", "reasoning": "Five.", "severity": 5}
        candidate = ada.post("/api/annotation", key="annotation-1", image=1, **written)["candidate"]
        ben.post("/api/annotation/undo", status=400, key="undo-of-ben", annotation="annotation-1")
        ada.post("/api/annotation/undo", status=400, key="undo-of-none", annotation="annotation-9")
        assert ada.post("/api/annotation/undo", key="undo-of-ada", annotation="annotation-1")["new"]
        assert not ada.post("/api/annotation/undo", key="undo-of-ada", annotation="annotation-1")["new"]
        assert not ada.post("/api/annotation/undo", key="undo-again", annotation="annotation-1")["new"]
        with store.reading() as session:
            row = session.get_one(CandidateRow, candidate)
            assert (row.outcome, row.dropped) == ("unverified", "taken back")
            assert session.scalars(select(VerdictRow.choice).order_by(VerdictRow.id)).all() == ["accept", "undo"]
