"""Strangers see nothing, a page of another site can do nothing, and no input brings the server down."""

import stat
from pathlib import Path

import pytest
from sqlalchemy import select
from tests.review.visiting import visits

from anomreason.dataset.store import Store
from anomreason.dataset.tables import CandidateRow, PersonRow
from anomreason.errors import UsageError
from anomreason.review.people import admit, read_people
from anomreason.review.security import Links, reviewer_of
from anomreason.web.guard import MOST_BYTES
from anomreason.web.tokens import hashed

DATA_ROUTES = ("/api/me", "/api/next", "/api/owner", "/api/disputed", "/api/opinions/1", "/image/1", "/crop/1")
PAYLOADS = (
    "<script>alert(1)</script>",
    '" onerror="alert(1)',
    "{{ 7 * 7 }}",
    "\u202etxt.exe",
    "</script><img src=x>",
    "a" * 4_000,
)


def test_a_link_is_exchanged_for_a_cookie_that_scripts_and_other_sites_cannot_use(sqlite_store: Store) -> None:
    with visits(sqlite_store, ["ada"]) as visit:
        ada = visit["ada"]
        token = ada.review.links.token("ada")
        answer = ada.client.get(f"/enter/{token}")
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith(f"{ada.review.links.cookie}={token};")
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert ada.client.get("/api/me").json()["person"] == "ada", "the client has kept the cookie"
        refused = ada.client.get("/enter/guessed")
        assert refused.status_code == 401
        assert "ask the owner of the dataset" in refused.text
        assert ada.client.get("/static/notice.css").status_code == 200
        assert "set-cookie" not in refused.headers


@pytest.mark.parametrize("path", DATA_ROUTES)
def test_without_a_valid_cookie_nothing_is_shown(sqlite_store: Store, path: str) -> None:
    with visits(sqlite_store, ["ada"]) as visit:
        client, cookie = visit["ada"].client, visit["ada"].review.links.cookie
        for headers in ({}, {"Cookie": f"{cookie}=guessed"}, {"Cookie": f"{cookie}={hashed('x')}"}):
            answer = client.get(path, headers=headers)
            assert answer.status_code == 401
            assert "open the link that you were given again" in answer.json()["error"]


def test_what_is_the_owners_is_refused_to_others(sqlite_store: Store) -> None:
    with visits(sqlite_store, ["ada"]) as visit:
        for path in ("/api/owner", "/api/disputed", "/api/opinions/1"):
            assert "for the owner" in visit["ada"].get(path, status=403)["error"]
        candidate = visit["ada"].get("/api/next?count=1")["items"][0]["candidate"]
        refused = visit["ada"].post(
            "/api/verdict", 403, key="final-01", candidate=candidate, choice="accept", final=True
        )
        assert "only the owner settles" in refused["error"]


def test_a_write_needs_the_header_that_another_site_cannot_send(sqlite_store: Store) -> None:
    with visits(sqlite_store, ["ada"]) as visit:
        headers = {"Cookie": visit["ada"].headers["Cookie"]}
        for path in ("/api/verdict", "/api/undo", "/api/image/1", "/api/annotation", "/api/annotated", "/nowhere"):
            answer = visit["ada"].client.post(path, json={"key": "no-header"}, headers=headers)
            assert (answer.status_code, "X-Anomreason" in answer.json()["error"]) == (403, True)


def test_every_answer_forbids_scripts_of_others_framing_and_sniffing(sqlite_store: Store) -> None:
    with visits(sqlite_store) as visit:
        for path in ("/", "/api/next", "/nowhere", "/enter/x", "/static/x"):
            headers = visit["owner"].client.get(path, headers=visit["owner"].headers).headers
            policy = headers["content-security-policy"]
            assert policy.startswith("default-src 'self';")
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert headers["referrer-policy"] == "no-referrer"
        assert (
            visit["owner"].client.get("/api/next", headers=visit["owner"].headers).headers["cache-control"]
            == "no-store"
        )


def test_large_bodies_are_refused_before_they_are_read(sqlite_store: Store) -> None:
    with visits(sqlite_store) as visit:
        answer = visit["owner"].client.post(
            "/api/undo", content=b" " * (MOST_BYTES + 1), headers=visit["owner"].headers
        )
        assert answer.status_code == 413
        assert "65,536 bytes" in answer.json()["error"]


@pytest.mark.parametrize("name", ["..%2f..%2fapp.py", "%2e%2e", "app.py", "..", "%00", "a" * 300])
def test_no_path_leads_out_of_the_pages_folder(sqlite_store: Store, name: str) -> None:
    with visits(sqlite_store) as visit:
        answer = visit["owner"].client.get(f"/static/{name}")
        assert answer.status_code in (404, 200)
        assert "create_app" not in answer.text
        assert answer.status_code == 404 or "<html" in answer.text, "the client itself may have gone up to /"


@pytest.mark.parametrize("payload", PAYLOADS)
def test_texts_of_models_arrive_as_they_are_inside_json(sqlite_store: Store, payload: str) -> None:
    with visits(sqlite_store, images=1) as visit:
        with sqlite_store.writing() as session:
            for candidate in session.scalars(select(CandidateRow)):
                candidate.name = candidate.phenomenon = candidate.reasoning = candidate.kind = payload
        answer = visit["owner"].client.get("/api/next", headers=visit["owner"].headers)
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["items"][0]["name"] == payload


@pytest.mark.parametrize(
    "sent",
    [
        {"key": "short", "candidate": 1, "choice": "accept"},
        {"key": "long-enough", "candidate": 2**63, "choice": "accept"},
        {"key": "long-enough", "candidate": -1, "choice": "accept"},
        {"key": "long-enough", "candidate": 1, "choice": "burn"},
        {"key": "long-enough", "candidate": 1, "choice": "accept", "unknown\u202e": 1},
        {"key": "long-enough", "candidate": 1, "choice": "accept", "reason": "x" * 201},
        {"key": "long-enough", "candidate": 1, "choice": "accept", "seconds": -1},
        {"key": "long-enough", "candidate": 1, "choice": "accept", "edit": {"severity": 101}},
        {"key": "long-enough", "candidate": 1, "choice": "accept", "edit": {"region": [0, 0, 2, 2]}},
    ],
)
def test_what_does_not_fit_is_refused_with_a_sentence(sqlite_store: Store, sent: dict[str, object]) -> None:
    with visits(sqlite_store) as visit:
        assert "load the page again" in visit["owner"].post("/api/verdict", 422, **sent)["error"]


def test_a_body_that_is_no_json_or_no_unicode_is_refused_with_a_sentence(sqlite_store: Store) -> None:
    with visits(sqlite_store) as visit:
        for body in (b"{", b"[]", b"\xff", b"", b'{"key": "\\ud800aaaaaaaa"}', b'{"\\ud800": 1}', b"[" * 30_000):
            answer = visit["owner"].client.post("/api/undo", content=body, headers=visit["owner"].headers)
            assert (answer.status_code, "load the page again" in answer.json()["error"]) == (422, True)


def test_texts_that_no_database_holds_are_kept_without_what_it_cannot_hold(store: Store) -> None:
    with visits(store, images=1) as visit:
        candidate = visit["owner"].get("/api/next?count=1")["items"][0]["candidate"]
        visit["owner"].judge(candidate, reason="a\0b")
        (opinion,) = visit["owner"].get(f"/api/opinions/{candidate}")["opinions"]
        assert opinion["reason"] == "a\N{REPLACEMENT CHARACTER}b"


def test_the_secret_is_for_its_owner_alone_and_no_token_is_stored(sqlite_store: Store) -> None:
    with visits(sqlite_store, ["ada"]) as visit:
        token = visit["ada"].review.links.token("ada")
        secret = sqlite_store.folder / "review" / "secret"
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        with sqlite_store.reading() as session:
            rows = {row.name: row.token_sha256 for row in session.scalars(select(PersonRow))}
        assert rows["ada"] == hashed(token)
        for file in sqlite_store.folder.rglob("*"):
            assert not file.is_file() or token.encode() not in file.read_bytes()


def test_links_stay_over_restarts_until_they_are_made_anew(sqlite_store: Store) -> None:
    folder = sqlite_store.folder
    with sqlite_store.command("review", {}) as command:
        before = Links.of(folder)
        admit(sqlite_store, command.id, before, ["ada", "ben"])
        assert Links.of(folder) == before
        assert [p.name for p in admit(sqlite_store, command.id, before, ["cleo"])] == ["owner", "ada", "ben", "cleo"]
        after = Links.of(folder, new=True)
        people = admit(sqlite_store, command.id, after, ["ada"])
    assert [(p.name, p.owner) for p in people] == [("owner", True), ("ada", False)]
    assert reviewer_of(before.token("ada"), people) is None
    assert reviewer_of(after.token("ben"), people) is None, "not named beside --new-links"
    assert reviewer_of(after.token("ada"), people) is people[1]


def test_another_owner_takes_over(sqlite_store: Store) -> None:
    links = Links.of(sqlite_store.folder)
    with sqlite_store.command("review", {}) as command:
        admit(sqlite_store, command.id, links, ["ada"], owner="cleo")
        people = admit(sqlite_store, command.id, links, [])
        assert [(p.name, p.owner) for p in people] == [("cleo", True), ("ada", False)]
        people = admit(sqlite_store, command.id, links, [], owner="ada")
        assert [(p.name, p.owner) for p in people] == [("ada", True), ("cleo", False)]


def test_people_are_read_from_a_file(tmp_path: Path, sqlite_store: Store) -> None:
    file = tmp_path / "people.toml"
    file.write_text('people = ["ada", "Ben K."]\nowner = "cleo"\n')
    assert (read_people(file).people, read_people(file).owner) == (("ada", "Ben K."), "cleo")
    for text in ("people = [1]", "names = []", "people = ", 'owner = ["a"]'):
        file.write_text(text)
        with pytest.raises(UsageError, match=r'write people = \["ada", "ben"\]'):
            read_people(file)
    with sqlite_store.command("review", {}) as command, pytest.raises(UsageError, match="is no name for a person"):
        admit(sqlite_store, command.id, Links.of(sqlite_store.folder), ["a/b"])
