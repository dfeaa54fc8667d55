"""What the review page asks the server for, and what it gets."""

from sqlalchemy import func, select
from tests.review.visiting import visits

from anomreason.dataset.store import Store
from anomreason.dataset.tables import CandidateRow, VerdictRow


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
