"""Facts about prices, calls and caps."""

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from anomreason.anomaly import Usage
from anomreason.errors import StorageError, UsageError
from anomreason.files import Appender
from anomreason.images import Encoded
from anomreason.vlm.ledger import (
    CALLS,
    Call,
    Ledger,
    Price,
    calls_since,
    completed,
    image_tokens,
    price_of,
    read_calls,
    unanswered,
    worst_case,
)
from anomreason.vlm.protocol import Request, Sampling, Tag

TAG = Tag("a.jpg", "r", "s")


def call(**changes: object) -> Call:
    whole = Call("a", "r", "s", None, 0, 1, "ok", "m", 100, 0, 10, 0.5, 1.0, 2.0, "k")
    return replace(whole, **changes)  # type: ignore[arg-type]


def test_the_cost_of_a_call_by_hand() -> None:
    price = Price(input=2.5, cached=1.25, output=10)
    assert price.cost(Usage(prompt_tokens=1000, cached_tokens=400, completion_tokens=100)) == pytest.approx(0.003)


def test_dated_and_prefixed_names_find_their_price_and_nothing_else_does(tmp_path: Path) -> None:
    plain = price_of("gpt-4o")
    assert plain is not None
    assert price_of("gpt-4o-2024-08-06") == price_of("openai/gpt-4o") == plain
    assert price_of("gpt-4o-mini") != plain
    assert price_of("gpt-4o-audio") is None
    assert price_of("local:/x") == Price(0, 0, 0)


def test_own_prices_replace_the_table_and_a_wrong_file_says_the_form(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text('[models."mine"]\ninput = 1\ncached = 0.5\noutput = 4\n')
    assert price_of("mine", file) == Price(1, 0.5, 4)
    assert price_of("gpt-4o", file) is None
    (tmp_path / "bad.toml").write_text("[models.x]\ninput = 'a'")
    with pytest.raises(UsageError, match="output = 4"):
        price_of("x", tmp_path / "bad.toml")


@pytest.mark.parametrize(
    ("width", "height", "tokens"),
    [(1024, 1024, 765), (2048, 4096, 1105), (512, 512, 255), (1, 1, 255), (768, 768, 765)],
)
def test_image_tokens_follow_the_published_examples(width: int, height: int, tokens: int) -> None:
    assert image_tokens(width, height) == tokens


def test_pictures_count_by_their_models_own_rule() -> None:
    dear, plain, patched = price_of("gpt-4o-mini"), price_of("gpt-4o"), price_of("gpt-4.1-mini")
    assert dear is not None
    assert plain is not None
    assert patched is not None
    assert (dear.image_tokens(1024, 1024), plain.image_tokens(1024, 1024), patched.image_tokens(1024, 1024)) == (
        25501,
        765,
        1659,
    )
    seen = Request((Encoded(b"", "image/png", 1024, 1024),), TAG)
    assert worst_case(seen, dear).prompt_tokens > 25501


def test_the_ledger_goes_on_adding_after_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        ledger = Ledger(tmp_path / "calls.jsonl", Price(1, 1, 1))
        ledger.record(call())
        ledger.record(call(outcome="timeout", prompt_tokens=0, completion_tokens=0, cost=0.0, key=None))
        ledger.close()
    assert ledger.total == Usage(calls=4, prompt_tokens=200, completion_tokens=20, cost=1.0)
    assert [c.outcome for c in read_calls(tmp_path)] == ["ok", "timeout"] * 2


def request(cap: int = 100) -> Request:
    return Request(("x" * 36,), TAG, sampling=Sampling(max_tokens=cap))


def test_the_worst_case_covers_text_picture_and_cap() -> None:
    bare = worst_case(request())
    assert bare.completion_tokens == 100
    assert bare.prompt_tokens >= 36
    seen = worst_case(Request(("x" * 36, Encoded(b"", "image/png", 1024, 1024)), TAG))
    assert seen.prompt_tokens - bare.prompt_tokens >= 1024 * 1024 / 750


def test_what_the_server_does_not_count_is_estimated_between_the_usual_and_the_worst_case() -> None:
    prose = "The left hand of the woman in the middle has six fingers, which no hand has. " * 40
    picture = Encoded(b"", "image/png", 1024, 768)
    for parts in ((prose,), (prose, picture), ("木" * 500,)):
        asked = Request(parts, TAG)
        estimate = completed(Usage(calls=1, completion_tokens=9, estimated=True), asked)
        assert estimate.prompt_tokens <= worst_case(asked).prompt_tokens
        assert estimate.estimated
    assert completed(Usage(estimated=True), Request((prose,), TAG)).prompt_tokens >= len(prose.split()) * 1.2
    known = price_of("gpt-4o")
    shown = completed(Usage(estimated=True), Request((picture,), TAG), known).prompt_tokens
    assert known is not None
    assert known.image_tokens(1024, 768) <= shown <= known.image_tokens(1024, 768) + 20


def test_what_the_server_counts_is_left_as_it_is() -> None:
    counted = Usage(calls=1, prompt_tokens=7, completion_tokens=9)
    assert completed(counted, request()) is counted


def test_an_answer_that_never_came_counts_with_its_prompt_and_its_whole_cap() -> None:
    lost = unanswered(request(cap=100))
    assert (lost.calls, lost.completion_tokens, lost.estimated) == (1, 100, True)
    assert 9 <= lost.prompt_tokens <= 36


def test_calls_of_a_killed_process_are_entered_and_lines_of_earlier_versions_are_read(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "calls.jsonl", Price(1, 1, 1))
    ledger.adopt([call(outcome="killed", key=None, estimated=True).line()])
    ledger.close()
    old = call().line().replace(', "estimated": false', "")
    assert "estimated" not in old
    with (tmp_path / "calls.jsonl").open("a") as file:
        file.write(old + "\n")
    again = Ledger(tmp_path / "calls.jsonl", Price(1, 1, 1))
    assert (again.total.calls, again.total.estimated, again.estimated) == (2, True, 1)
    again.close()


def test_calls_that_are_rolled_away_stay_counted_and_are_not_read_at_a_start(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / CALLS)
    for n in range(3):
        ledger.record(call(started=float(n), cost=0.1 * n))
        ledger.roll()
    ledger.record(call(started=3.0, estimated=True))
    ledger.close()
    assert [each.started for each in read_calls(tmp_path)] == [0.0, 1.0, 2.0, 3.0]
    (tmp_path / "calls-000001.jsonl").unlink()
    (tmp_path / "calls-000002.jsonl").write_text("damaged\n")
    again = Ledger(tmp_path / CALLS)
    assert (again.total, again.estimated, again.in_file) == (ledger.total, 1, 1)
    again.roll()
    again.close()
    assert Ledger(tmp_path / CALLS).total == ledger.total
    (tmp_path / "calls-sum.json").write_text('{"files": 4, "usage": {"calls": -1, "costs": 0}}')
    with pytest.raises(UsageError, match=r"calls-sum\.json: usage"):
        Ledger(tmp_path / CALLS)


def test_a_file_that_was_put_aside_before_a_kill_is_counted_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / CALLS)
    ledger.record(call())
    ledger.roll()
    summed = (tmp_path / "calls-sum.json").read_bytes()
    ledger.record(call(started=3.0))
    ledger.roll()
    (tmp_path / "calls-sum.json").write_bytes(summed)  # killed when the file was renamed, and not yet summed
    for _ in range(2):
        again = Ledger(tmp_path / CALLS)
        assert again.total.calls == 2
        again.close()
    (tmp_path / "calls-000002.jsonl").unlink()
    last = Ledger(tmp_path / CALLS)
    last.record(call(started=4.0))
    last.roll()
    assert last.total.calls == 3
    assert (tmp_path / "calls-000003.jsonl").exists()


def test_a_file_that_could_not_be_put_aside_is_put_aside_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more_files(path: Path) -> Appender:
        raise OSError(errno.EMFILE, "Too many open files")

    ledger = Ledger(tmp_path / CALLS)
    ledger.record(call())
    with monkeypatch.context() as patched:
        patched.setattr("anomreason.vlm.ledger.Appender", no_more_files)
        with pytest.raises(StorageError, match="Too many open files"):
            ledger.roll()
    ledger.record(call(started=3.0))
    ledger.roll()
    ledger.record(call(started=4.0))
    ledger.close()
    assert len((tmp_path / "calls-000001.jsonl").read_text().splitlines()) == 2
    assert [each.started for each in read_calls(tmp_path)] == [2.0, 3.0, 4.0]


def test_no_file_that_was_put_aside_is_written_over(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / CALLS)
    ledger.record(call())
    (tmp_path / "calls-000001.jsonl").write_text(call(started=1.0).line() + "\n")
    with pytest.raises(StorageError, match="exists"):
        ledger.roll()
    ledger.record(call(started=3.0))
    ledger.close()
    assert [each.started for each in read_calls(tmp_path)] == [1.0, 2.0, 3.0]


def test_a_call_that_was_rolled_away_is_not_entered_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / CALLS)
    ledger.record(call(started=9_000.0))
    ledger.roll()
    ledger.adopt([call(started=9_000.0, outcome="killed").line()])
    assert ledger.total.calls == 1
    ledger.adopt([call(started=9_001.0, outcome="killed").line()])
    assert ledger.total.calls == 2


def test_files_of_older_calls_are_left_unread(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / CALLS)
    for started in (0.0, 10_000.0, 20_000.0):
        ledger.record(call(started=started))
        ledger.roll()
    (tmp_path / "calls-000001.jsonl").write_text("damaged\n")
    assert [each.started for each in calls_since(tmp_path, 15_000.0)] == [20_000.0, 10_000.0]
