"""Facts about seeing one call through: retries, caps, re-asks, refusals, kept replies."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from anomreason.anomaly import Usage
from anomreason.errors import CallFailed, Charge, EndpointError, EndpointErrorKind, ParseError, ReplyLimit, Stopped
from anomreason.vlm.budget import Budget
from anomreason.vlm.cache import ReplyStore
from anomreason.vlm.calling import Caller, Meter, Patience
from anomreason.vlm.ledger import Ledger, Price, read_calls, unanswered, worst_case
from anomreason.vlm.protocol import Finish, Reply, Request, Sampling, Tag
from anomreason.vlm.slots import AT_FIRST

ASKED = Request(("question",), Tag("a.jpg", "Role", "step"), sampling=Sampling(max_tokens=100))
QUICK = Patience(retries=3, timeout=5, max_reply_tokens=400, first_wait=0.0)


class Scripted:
    """A VLM that plays a script: replies, errors, or functions of the request."""

    name = "scripted"
    bounds_pixels = False

    def __init__(self, script: Sequence[object]) -> None:
        self.script = list(script)
        self.asked: list[Request] = []

    async def ask(self, request: Request) -> Reply:
        self.asked.append(request)
        move = self.script.pop(0)
        if isinstance(move, BaseException):
            raise move
        if callable(move):
            waiting: Callable[[], Awaitable[None]] = move
            await waiting()
            move = "late"
        return reply(*move) if isinstance(move, tuple) else reply(str(move))

    async def close(self) -> None:
        return


def reply(text: str, finish: Finish = "stop") -> Reply:
    said = 0 if finish == "length" else 2
    return Reply(text, finish, Usage(calls=1, prompt_tokens=10, completion_tokens=said), "scripted-1")


def number(answer: Reply) -> int:
    try:
        return int(answer.text)
    except ValueError:
        raise ParseError("that is no number") from None


def pursue(folder: Path, script: Sequence[object], patience: Patience = QUICK) -> tuple[Scripted, object, list[str]]:
    """Ask once; gives the VLM, the value or the failure, and the outcomes in the ledger."""
    vlm = Scripted(script)
    caller = Caller(vlm, Ledger(folder / "calls.jsonl"), ReplyStore(folder / "r.sqlite"), patience=patience)
    try:
        value: object = asyncio.run(caller.call(ASKED, number, Meter()))
    except CallFailed as e:
        value = e
    caller.ledger.close()
    return vlm, value, [c.outcome for c in read_calls(folder)]


def test_faults_are_retried_and_every_attempt_is_written_down(tmp_path: Path) -> None:
    faults = [EndpointError("rate_limit", "429", 0.0), EndpointError("server", "500"), EndpointError("connection", "x")]
    vlm, value, outcomes = pursue(tmp_path, [*faults, "7"])
    assert value == 7
    assert outcomes == ["rate_limit", "server", "connection", "ok"]
    assert [c.attempt for c in read_calls(tmp_path)] == [1, 2, 3, 4]
    assert len(vlm.asked) == 4


def test_retries_end(tmp_path: Path) -> None:
    _, value, outcomes = pursue(tmp_path, [EndpointError("server", "boom")] * 9)
    assert isinstance(value, CallFailed)
    assert value.kind == "endpoint"
    assert "boom (tried 4 times)" in str(value)
    assert outcomes == ["server"] * 4


def test_what_the_server_will_never_take_is_asked_once(tmp_path: Path) -> None:
    _, value, outcomes = pursue(tmp_path, [EndpointError("rejected", "no such model")])
    assert isinstance(value, CallFailed)
    assert value.kind == "endpoint"
    assert outcomes == ["rejected"]


def test_a_dropped_option_costs_no_retry(tmp_path: Path) -> None:
    _, value, _ = pursue(tmp_path, [EndpointError("adjusted", "x")] * 4 + ["1"], replace(QUICK, retries=0))
    assert value == 1


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    _, value, outcomes = pursue(tmp_path, [hang, "1"], replace(QUICK, timeout=0.05))
    assert value == 1
    assert outcomes == ["timeout", "ok"]


def test_a_model_that_times_out_by_itself_is_retried_without_a_time_limit_of_ours(tmp_path: Path) -> None:
    unlimited = replace(QUICK, timeout=None, retries=1)
    _, value, outcomes = pursue(tmp_path, [TimeoutError(), TimeoutError()], unlimited)
    assert str(value) == "'scripted' gave no answer in time (tried 2 times)"
    assert outcomes == ["timeout", "timeout"]


def test_a_cut_reply_is_asked_for_again_with_twice_the_cap_up_to_the_limit(tmp_path: Path) -> None:
    vlm, value, outcomes = pursue(tmp_path, [("cut " * n, "length") for n in (1, 2, 3)])
    assert [r.sampling.max_tokens for r in vlm.asked] == [100, 200, 400]
    assert isinstance(value, CallFailed)
    assert value.kind == "truncated"
    assert outcomes == ["length"] * 3


def test_a_larger_cap_that_brings_nothing_is_not_raised_again() -> None:
    class Full(Scripted):
        async def ask(self, request: Request) -> Reply:
            self.asked.append(request)
            return Reply("cut", "length", Usage(calls=1, completion_tokens=60), "m")

    vlm = Full([])
    with pytest.raises(CallFailed, match="context is full") as failed:
        asyncio.run(Caller(vlm, patience=QUICK).call(ASKED, number, Meter()))
    assert failed.value.kind == "truncated"
    assert [r.sampling.max_tokens for r in vlm.asked] == [100, 200]


OPEN = '{"anomalies": [{"name": "Six fing'
CLOSED = '{"anomalies": []}'


@pytest.mark.parametrize(
    ("text", "finish", "tokens", "cut"),
    [
        ("Severity Score: 8", "unknown", 100, True),
        ("Severity Score: 8", "unknown", 130, True),  # its reasoning counts too
        ("Severity Score: 8", "stop", 100, True),  # so say servers that do not tell
        ("Severity Score: 8", "stop", 99, False),
        ("Severity Score: 8", "stop", 5000, False),  # a server that knows no cap
        ("Severity Score: 8", "unknown", 99, False),
        ("Severity Score: 8", "unknown", 0, False),
        ("x" * 250, "unknown", 0, True),
        ("x" * 250, "stop", 0, False),
        (OPEN, "unknown", 9, True),
        (OPEN, "unknown", 0, True),
        ("```json\n" + OPEN, "unknown", 9, True),
        (CLOSED, "unknown", 9, False),
        ("```json\n" + CLOSED + "\n```", "unknown", 9, False),
        ("{see [above", "stop", 9, False),
        ("", "unknown", 0, False),
    ],
)
def test_a_reply_is_cut_whatever_the_server_calls_it(text: str, finish: Finish, tokens: int, cut: bool) -> None:
    class Once(Scripted):
        async def ask(self, request: Request) -> Reply:
            self.asked.append(request)
            if len(self.asked) > 1:
                return reply("whole")
            return Reply(text, finish, Usage(calls=1, completion_tokens=tokens), "m")

    vlm = Once([])
    value = asyncio.run(Caller(vlm, patience=QUICK).call(ASKED, lambda r: r.text, Meter()))
    assert value == ("whole" if cut else text)
    assert [r.sampling.max_tokens for r in vlm.asked] == ([100, 200] if cut else [100])


def too_long(tokens: int, by_context: bool = False) -> EndpointError:
    return EndpointError("adjusted", "too long", reply_limit=ReplyLimit(tokens, by_context))


def test_the_servers_longest_reply_is_learnt_once_and_what_is_still_cut_is_truncated() -> None:
    vlm = Scripted(
        [("cut", "length"), too_long(150), ("cut more", "length"), ("cut", "length"), ("cut more", "length")]
    )
    caller = Caller(vlm, patience=QUICK)

    async def run() -> list[CallFailed]:
        failures = []
        for n in range(2):
            with pytest.raises(CallFailed) as failed:
                await caller.call(replace(ASKED, parts=(f"question {n}",)), number, Meter())
            failures.append(failed.value)
        return failures

    failures = asyncio.run(run())
    assert [r.sampling.max_tokens for r in vlm.asked] == [100, 200, 150, 100, 150]
    assert {f.kind for f in failures} == {"truncated"}
    assert "150 tokens" in str(failures[0])


def test_a_limit_that_a_reply_was_cut_at_already_is_not_tried_again() -> None:
    vlm = Scripted([("cut", "length"), too_long(100)])
    with pytest.raises(CallFailed, match="100 tokens, the longest that the server allows") as failed:
        asyncio.run(Caller(vlm, patience=QUICK).call(ASKED, number, Meter()))
    assert failed.value.kind == "truncated"


def test_a_reply_that_fills_the_context_is_told_from_one_at_the_servers_limit() -> None:
    vlm = Scripted([too_long(60, by_context=True), ("cut", "length")])
    with pytest.raises(
        CallFailed, match="60 tokens of reply, which are all that the prompt leaves of the model's context"
    ):
        asyncio.run(Caller(vlm, patience=QUICK).call(ASKED, number, Meter()))


def test_what_a_prompt_leaves_of_the_context_holds_for_its_step_alone() -> None:
    vlm = Scripted([too_long(60, by_context=True), "1", "2", "3"])
    caller = Caller(vlm, patience=QUICK)
    other = replace(ASKED, tag=replace(ASKED.tag, step="other"))

    async def run() -> None:
        for asked in (ASKED, replace(ASKED, parts=("more",)), other):
            await caller.call(asked, number, Meter())

    asyncio.run(run())
    assert [r.sampling.max_tokens for r in vlm.asked] == [100, 60, 60, 100]


@pytest.mark.parametrize(
    "text",
    [
        "I cannot identify any anomalies in this image.",
        "I can't see the left hand well enough to identify each finger, but the right hand clearly has six fingers.",
        "I'm sorry to say that the clock has thirteen hours. "
        + "It is a plain error. " * 20
        + "I can't help with that.",
    ],
)
def test_an_answer_that_only_sounds_like_a_refusal_is_an_answer(text: str) -> None:
    caller = Caller(Scripted([text]))
    assert asyncio.run(caller.call(ASKED, lambda r: r.text, Meter())) == text


def test_half_a_character_is_replaced_and_kept(tmp_path: Path) -> None:
    caller = Caller(Scripted(["cut \ud83d"]), store=ReplyStore(tmp_path / "r.sqlite"))
    assert asyncio.run(caller.call(ASKED, lambda r: r.text, Meter())) == "cut ?"


def test_a_server_that_asks_for_an_hour_has_lost_the_call(tmp_path: Path) -> None:
    _, value, outcomes = pursue(tmp_path, [EndpointError("rate_limit", "later", 3600.0)])
    assert isinstance(value, CallFailed)
    assert "60 minutes" in str(value)
    assert outcomes == ["rate_limit"]


def test_stopping_holds_for_calls_that_wait_for_the_budget() -> None:
    async def run() -> tuple[list[object], int]:
        begun, go = asyncio.Event(), asyncio.Event()

        async def wait() -> None:
            begun.set()
            await go.wait()

        vlm, ledger = Scripted([wait, "no", "no"]), Ledger()
        room = worst_case(ASKED).tokens
        caller = Caller(vlm, ledger, budget=Budget(ledger, max_tokens=room * 3 // 2), in_flight=3)
        asked = [replace(ASKED, parts=(f"question {n}",)) for n in range(3)]
        jobs = [asyncio.create_task(caller.call(a, lambda r: r.text, Meter())) for a in asked]
        await begun.wait()
        caller.stopping = True
        go.set()
        return list(await asyncio.gather(*jobs, return_exceptions=True)), len(vlm.asked)

    results, asked = asyncio.run(run())
    assert results[0] == "late"
    assert all(isinstance(r, Stopped) for r in results[1:])
    assert asked == 1


def test_an_equal_request_in_flight_is_waited_for_and_not_paid_twice(tmp_path: Path) -> None:
    async def run() -> tuple[list[int], int]:
        vlm = Scripted(["7"])
        caller = Caller(vlm, store=ReplyStore(tmp_path / "r.sqlite"))
        return list(await asyncio.gather(*(caller.call(ASKED, number, Meter()) for _ in range(5)))), len(vlm.asked)

    assert asyncio.run(run()) == ([7] * 5, 1)


def test_an_unreadable_reply_is_asked_for_once_more_with_the_complaint(tmp_path: Path) -> None:
    vlm, value, outcomes = pursue(tmp_path, ["seven", "7"])
    assert value == 7
    assert outcomes == ["unparsable", "ok"]
    assert vlm.asked[1].turns[0][0] == "seven"
    assert "that is no number" in vlm.asked[1].turns[0][1]


def test_two_unreadable_replies_are_unparsable_and_never_a_guess(tmp_path: Path) -> None:
    _, value, outcomes = pursue(tmp_path, ["seven", "acht"])
    assert isinstance(value, CallFailed)
    assert value.kind == "unparsable"
    assert "'acht'" in str(value)
    assert outcomes == ["unparsable"] * 2


@pytest.mark.parametrize(
    "move",
    [("", "refused"), "I'm sorry, but I can't assist with that request.", "Sorry, I cannot help with this image."],
)
def test_a_refusal_is_refused_and_not_pursued(tmp_path: Path, move: object) -> None:
    _, value, outcomes = pursue(tmp_path, [move])
    assert isinstance(value, CallFailed)
    assert value.kind == "refused"
    assert outcomes == ["refused"]


def test_a_kept_reply_is_not_paid_for_again_even_after_a_reask_and_a_larger_cap(tmp_path: Path) -> None:
    _, first, _ = pursue(tmp_path, [("cut", "length"), "seven", "7"])
    vlm, second, outcomes = pursue(tmp_path, [])
    assert first == second == 7
    assert vlm.asked == []
    assert len(outcomes) == 3


def test_a_call_cut_off_between_its_attempts_goes_on_where_it_was(tmp_path: Path) -> None:
    for script in (["seven", KeyboardInterrupt()], [("cut", "length"), KeyboardInterrupt()]):
        with pytest.raises(KeyboardInterrupt):
            pursue(tmp_path, script)
    vlm, value, _ = pursue(tmp_path, ["7"])
    assert value == 7
    assert len(vlm.asked) == 1
    assert vlm.asked[0].turns[0][0] == "seven"
    assert vlm.asked[0].sampling.max_tokens == 200


def test_a_bad_reply_is_not_used_again(tmp_path: Path) -> None:
    pursue(tmp_path, ["seven", "acht"])
    vlm, value, _ = pursue(tmp_path, ["8"])
    assert value == 8
    assert len(vlm.asked) == 1


def test_no_more_than_the_allowed_calls_are_in_flight() -> None:
    now, most = 0, 0

    async def busy() -> None:
        nonlocal now, most
        now, most = now + 1, max(most, now + 1)
        await asyncio.sleep(0)
        now -= 1

    async def run() -> None:
        caller = Caller(Scripted([busy] * 20), in_flight=3)
        jobs = [caller.call(replace(ASKED, parts=(str(n),)), lambda r: r.text, Meter()) for n in range(20)]
        assert await asyncio.gather(*jobs) == ["late"] * 20

    asyncio.run(run())
    assert most == 3


def test_stopping_sends_nothing_new_and_lets_calls_in_flight_end() -> None:
    async def run() -> list[object]:
        begun, go = asyncio.Event(), asyncio.Event()

        async def wait() -> None:
            begun.set()
            await go.wait()

        vlm = Scripted([wait, "never"])
        caller = Caller(vlm, in_flight=1)
        jobs = [
            asyncio.create_task(caller.call(replace(ASKED, parts=(str(n),)), lambda r: r.text, Meter())) for n in (1, 2)
        ]
        await begun.wait()
        caller.stopping = True
        go.set()
        return list(await asyncio.gather(*jobs, return_exceptions=True))

    first, second = asyncio.run(run())
    assert first == "late"
    assert isinstance(second, Stopped)


def test_once_a_step_of_an_image_is_lost_its_others_are_not_paid_for() -> None:
    async def run() -> tuple[list[object], int]:
        vlm, meter = Scripted([EndpointError("rejected", "x"), "1"]), Meter()
        caller = Caller(vlm, in_flight=1)
        jobs = [caller.call(replace(ASKED, parts=(str(n),)), number, meter) for n in range(3)]
        return list(await asyncio.gather(*jobs, return_exceptions=True)), len(vlm.asked)

    results, asked = asyncio.run(run())
    assert [isinstance(r, CallFailed) and r.kind for r in results] == ["endpoint"] * 3
    assert asked == 1


class Counting(Scripted):
    """Answers with this usage, or fails with it."""

    def __init__(self, usage: Usage | Charge | None, kind: EndpointErrorKind | None = None) -> None:
        super().__init__([])
        self.usage, self.kind = usage, kind

    async def ask(self, request: Request) -> Reply:
        self.asked.append(request)
        if self.kind is not None:
            raise EndpointError(self.kind, "failed", charge=self.usage if isinstance(self.usage, Charge) else None)
        return Reply("7", "stop", self.usage if isinstance(self.usage, Usage) else Usage(calls=1), "m")


@pytest.mark.parametrize(
    ("usage", "kind", "booked"),
    [
        (Usage(calls=1, prompt_tokens=90, completion_tokens=5), None, (90, 5, False)),
        (Usage(calls=1, completion_tokens=5, estimated=True), None, (10, 5, True)),
        (Charge(prompt_tokens=90, completion_tokens=5), "server", (90, 5, False)),
        (None, "server", (0, 0, False)),
        (None, "rejected", (0, 0, False)),
        (Charge(), "server", (10, 100, True)),
        (Charge(), "connection", (10, 100, True)),
        (None, "timeout", (10, 100, True)),
    ],
)
def test_what_was_used_is_booked_whatever_the_answer_was_worth(
    tmp_path: Path, usage: Usage | Charge | None, kind: EndpointErrorKind | None, booked: tuple[int, int, bool]
) -> None:
    ledger = Ledger(tmp_path / "calls.jsonl", Price(1, 1, 1))
    meter, once = Meter(), replace(QUICK, retries=0)
    with suppress(CallFailed):
        asyncio.run(Caller(Counting(usage, kind), ledger, patience=once).call(ASKED, number, meter))
    ledger.close()
    [call] = read_calls(tmp_path)
    assert (call.prompt_tokens, call.completion_tokens, call.estimated) == booked
    assert call.cost == pytest.approx((booked[0] + booked[1]) / 1e6)
    assert (meter.usage.prompt_tokens, meter.usage.completion_tokens, meter.usage.estimated) == booked
    assert meter.usage == ledger.total


def test_a_call_in_flight_when_the_process_is_killed_is_known_to_the_next_one(tmp_path: Path) -> None:
    class Killed(Scripted):
        async def ask(self, request: Request) -> Reply:
            if request.parts == ("done",):
                return reply("7")
            with closing(ReplyStore(tmp_path / "r.sqlite")) as next_process:
                self.left = next_process.unanswered()
            return reply("7")

    vlm = Killed([])
    store = ReplyStore(tmp_path / "r.sqlite")
    caller = Caller(vlm, store=store)
    asyncio.run(caller.call(replace(ASKED, parts=("done",)), number, Meter()))
    asyncio.run(caller.call(ASKED, number, Meter()))
    [line] = vlm.left
    ledger = Ledger(tmp_path / "calls.jsonl")
    ledger.adopt([line])
    ledger.close()
    [call] = read_calls(tmp_path)
    assert (call.outcome, call.usage) == ("killed", unanswered(ASKED))
    store.close()
    with closing(ReplyStore(tmp_path / "r.sqlite")) as later:
        assert later.unanswered() == []  # crossed out when the store was closed


def test_a_server_that_loads_its_model_is_waited_for_and_that_is_no_retry(tmp_path: Path) -> None:
    loading = EndpointError("loading", "503: Loading model")
    _, value, outcomes = pursue(tmp_path, [*[loading] * 12, "7"], replace(QUICK, retries=0))
    assert value == 7
    assert outcomes == ["loading"] * 12 + ["ok"]
    assert {c.cost for c in read_calls(tmp_path)} == {None}
    assert sum(c.usage.tokens for c in read_calls(tmp_path)) == 12


def test_patience_with_a_loading_server_ends_and_the_message_says_how_to_wait_longer(tmp_path: Path) -> None:
    _, value, _ = pursue(tmp_path, [EndpointError("loading", "503: Loading model")], replace(QUICK, loading=0))
    assert isinstance(value, CallFailed)
    assert value.kind == "endpoint"
    assert "--patience" in str(value)


def test_while_the_model_loads_one_call_at_a_time_asks_for_it() -> None:
    now = most = 0

    class Loading(Scripted):
        async def ask(self, request: Request) -> Reply:
            nonlocal now, most
            self.asked.append(request)
            if len(self.asked) > AT_FIRST:
                now += 1
                most = max(most, now)
                await asyncio.sleep(0)
                now -= 1
            if len(self.asked) < 20:
                raise EndpointError("loading", "503: Loading model")
            return reply("7")

    async def run() -> tuple[list[int], str]:
        caller = Caller(Loading([]), patience=QUICK)
        jobs = [asyncio.create_task(caller.call(replace(ASKED, parts=(str(n),)), number, Meter())) for n in range(8)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting = caller.waiting
        return await asyncio.gather(*jobs), waiting

    values, waiting = asyncio.run(run())
    assert values == [7] * 8
    assert "0 of 600 s" in waiting


def test_a_timeout_names_both_ways_out(tmp_path: Path) -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    _, value, _ = pursue(tmp_path, [hang], replace(QUICK, timeout=0.01, retries=0))
    assert "--in-flight" in str(value)
    assert "--timeout" in str(value)
