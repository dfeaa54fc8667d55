"""Every failure names its cause and the next step, in a message that is understood by somebody who sees it alone.

Each message comes from a real command or call: against a small server of the test's own, or with a file as it is found
on a disk.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from anomreason import Detection, detect
from anomreason.cli import main
from anomreason.errors import UsageError

Answer = tuple[int, dict[str, str], bytes]
ANOMALY = {
    "name": "Six fingers",
    "phenomenon": "Six.",
    "reasoning": "Five.",
    "severity": 10,
    "objects": [],
    "box": None,
}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OPENAI_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.effect_noise((128, 96), 50).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@contextmanager
def server(answer: Callable[[dict[str, Any]], Answer]) -> Iterator[str]:
    """Serves `answer` of each request's body; gives the base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, headers, data = answer(body)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_address[1]}/v1"
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


def reply(text: str | None, finish: str = "stop", tokens: int | None = None, **message: Any) -> Answer:
    body = {
        "model": "my-model",
        "choices": [{"message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 1500, "completion_tokens": tokens or 30, "total_tokens": 1500 + (tokens or 30)},
    }
    return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()


def fault(status: int, message: str, code: str | None = None, **headers: str) -> Answer:
    body = {"error": {"message": message, "code": code, "type": "error", "param": None}}
    return status, {"Content-Type": "application/json", **headers}, json.dumps(body).encode()


def page(status: int, html: str, **headers: str) -> Answer:
    return status, {"Content-Type": "text/html", **headers}, html.encode()


def cut(text: str, tokens: int = 0) -> Callable[[dict[str, Any]], Answer]:
    """A reply that is cut after so many tokens, 0 for as many as were allowed."""

    def answer(body: dict[str, Any]) -> Answer:
        cap = body.get("max_tokens") or body["max_completion_tokens"]
        return reply(text, "length", min(tokens or cap, cap))

    return answer


@dataclass(frozen=True)
class Case:
    """What the server answers, and phrases of the message: its cause and the next step."""

    name: str
    answer: Answer | Callable[[dict[str, Any]], Answer]
    kind: str
    cause: str
    step: str


def rated(severity: object) -> str:
    return json.dumps({"anomalies": [{**ANOMALY, "severity": severity}], "no_anomalies": False})


ASKED_TWICE = "did not answer in the requested form, twice"
ANOTHER = "Use another model for this image, or leave it out"
BETTER = "Use a model that follows instructions better, or a server that supports JSON schemas"
PREFIX = "check --base-url (is there a prefix before /v1?): open http://127.0.0.1"
ADDRESS = f"this is probably no OpenAI-compatible server: {PREFIX}"
LOGIN = "this is the web page of a login: give the API's address as --base-url, or a key with --api-key-env"
LATER = "run the same command again later; the server's log may say why"
RAISE = (
    "Raise the limit on the server, of the context or of the longest reply (vLLM: --max-model-len); else lower --max-"
)
NO_THINKING = "turn thinking off at the server (vLLM: --default-chat-template-kwargs"


def capped(body: dict[str, Any]) -> Answer:
    """A server that allows replies of 1000 tokens, and cuts them there."""
    longest = body.get("max_tokens") or body["max_completion_tokens"]
    return cut('{"anomalies": [')(body) if longest <= 1000 else fault(400, "max_tokens must be at most 1000")


SERVED = [
    Case("a content filter", reply("", "content_filter"), "refused", "a content filter", ANOTHER),
    Case("a refusal field", reply(None, refusal="I can't help with people."), "refused", "help with people", ANOTHER),
    Case("words of refusal", reply("I'm sorry, I can't assist with that."), "refused", "the model refused", ANOTHER),
    Case(
        "a policy",
        fault(400, "Filtered by Azure OpenAI's content management policy.", "content_filter"),
        "refused",
        "content management policy",
        ANOTHER,
    ),
    Case(
        "always cut",
        cut('{"anomalies": ['),
        "truncated",
        "stopped at the reply limit of 8192 tokens",
        "--max-reply-tokens 16384",
    ),
    Case(
        "always thinking",
        cut("<think>Hm, a"),
        "truncated",
        "8192 tokens, all of them thinking",
        NO_THINKING,
    ),
    Case(
        "a limit of its own",
        cut('{"anomalies": [', 500),
        "truncated",
        "after 500 tokens (prompt and reply: 1500 + 500 = 2000 tokens), although 4096 were allowed",
        RAISE,
    ),
    Case(
        "a known limit",
        capped,
        "truncated",
        "the longest that the server allows here (prompt and reply: 1500 + 1000 = 2500 tokens)",
        RAISE,
    ),
    Case(
        "prose",
        reply("A cup."),
        "unparsable",
        f"{ASKED_TWICE}: no anomaly could be read. The last reply was 'A cup.'",
        BETTER,
    ),
    Case(
        "an empty list",
        reply("[]"),
        "unparsable",
        "an empty list that does not say that the image has no anomalies, so it is not counted as clean. The",
        BETTER,
    ),
    Case("an empty reply", reply(""), "unparsable", "the reply is empty", "Check the server's log and chat template"),
    Case(
        "no number",
        reply(rated("bad")),
        "unparsable",
        "twice: anomalies.0.severity: 'bad' is not a number from 0 to 100. ",
        BETTER,
    ),
    Case("fractions", reply(rated(0.2)), "unparsable", "as on a scale other than 0 to 100. The last reply was", BETTER),
    Case("no key", fault(401, "No API key"), "endpoint", "no key was sent", "--api-key-env MY_KEY"),
    Case("no access", fault(403, "Forbidden"), "endpoint", "no key was sent", "--api-key-env MY_KEY"),
    Case(
        "an unknown model",
        fault(404, "model not found"),
        "endpoint",
        "answered 404: model not found",
        "check the name 'my-model' (--model)",
    ),
    Case(
        "a retired model",
        fault(400, "The model is deprecated"),
        "endpoint",
        "is deprecated",
        "the server no longer offers 'my-model': choose one of http://127.0.0.1",
    ),
    Case(
        "a wrong path",
        page(404, "<h1>Not Found</h1>"),
        "endpoint",
        "answered 404: a web page, 'Not Found'",
        PREFIX,
    ),
    Case(
        "a wrong method",
        page(405, ""),
        "endpoint",
        "no chat endpoint at this address",
        PREFIX,
    ),
    Case(
        "no vision", fault(400, "no multimodal support"), "endpoint", "no multimodal", "check that 'my-model' accepts"
    ),
    Case(
        "no images",
        fault(400, "model: unknown part image_url"),
        "endpoint",
        "unknown part",
        "'my-model' accepts images",
    ),
    Case("no reason", fault(400, ""), "endpoint", "answered 400 and gave no reason (tried", "read the server's log"),
    Case(
        "too large",
        fault(413, "Payload too large"),
        "endpoint",
        "too many bytes for the server",
        "lower --max-side (the image was sent with 128 pixels on its longer side), e.g. to 96",
    ),
    Case(
        "a short context",
        fault(400, "maximum context length is 4096 tokens", "context_length_exceeded"),
        "endpoint",
        "tokens of prompt and up to 2,048 of reply",
        "serve more context (vLLM: --max-model-len), or lower --max-reply-tokens, e.g. to 1024, or",
    ),
    Case("no money", fault(402, "Insufficient credits"), "endpoint", "no money left", "the provider's billing page"),
    Case(
        "no quota",
        fault(429, "Quota", "insufficient_quota"),
        "endpoint",
        "a quota is used up (money",
        "wait until it resets",
    ),
    Case(
        "busy",
        fault(429, "Rate limit reached"),
        "endpoint",
        "Rate limit reached",
        "lower --in-flight (now 32), e.g. to 16, or",
    ),
    Case("asked to wait", fault(429, "Rate limit", **{"Retry-After": "7200"}), "endpoint", "2.0 hours", "after that"),
    Case("broken", fault(500, "Internal error"), "endpoint", "answered 500: Internal error (tried once)", LATER),
    Case(
        "no memory",
        fault(500, "CUDA out of memory"),
        "endpoint",
        "out of memory",
        "lower --in-flight (now 32), e.g. to 16, lower --max-side",
    ),
    Case(
        "a gateway",
        page(502, "<html><h1>Bad Gateway</h1></html>"),
        "endpoint",
        "a web page, 'Bad Gateway'",
        "the model server behind it did not",
    ),
    Case("a login page", page(200, "<h1>Login</h1>"), "endpoint", "no completion, but a web page, 'Login'", LOGIN),
    Case("other JSON", (200, {}, b'{"status": "ok"}'), "endpoint", """but '{"status": "ok"}'""", ADDRESS),
    Case(
        "nothing",
        (200, {}, b""),
        "endpoint",
        "sent no completion, but an empty body",
        "check the server's log, and a proxy before it",
    ),
    Case("another API", (200, {}, b'{"error": "Unexpected endpoint"}'), "endpoint", "Unexpected", PREFIX),
    Case("broken off", reply("", "error"), "endpoint", "broke off the completion", LATER),
    Case("no text", reply(None), "endpoint", "a completion without text", "use another model"),
    Case(
        "packed badly",
        page(200, "not packed", **{"Content-Encoding": "gzip"}),
        "endpoint",
        "compression",
        "look at the proxy",
    ),
    Case(
        "https wanted",
        page(400, "<p>HTTP request sent to HTTPS port"),
        "endpoint",
        "HTTPS port",
        "give --base-url https://127.0.0.1:",
    ),
    Case(
        "a proxy's key",
        page(407, ""),
        "endpoint",
        "answered 407",
        "set HTTP_PROXY=http://USER:PASSWORD@HOST:PORT, or skip it with NO_PROXY=127.0.0.1",
    ),
    Case("odd", page(418, ""), "endpoint", "answered 418 and gave no reason", "read the server's log for the reason"),
    Case("barred", page(451, ""), "endpoint", "not available for legal reasons", "blocks this request or region"),
    Case(
        "thinking",
        reply(None, reasoning_content="Hm"),
        "unparsable",
        "no answer after it (30 tokens of 2048 allowed)",
        NO_THINKING,
    ),
    Case(
        "moved",
        page(308, "", Location="https://me:pw@new.example/api/v1/chat/completions?key=sk-123"),
        "endpoint",
        "answered 308, a redirect to https://new.example/api/v1 (tried once)",
        "give that as --base-url https://new.example/api/v1",
    ),
    Case(
        "a login",
        page(302, "", Location="/login?next=%2F"),
        "endpoint",
        "/login, which is no chat endpoint",
        LOGIN,
    ),
    Case(
        "a redirect to nowhere", page(307, ""), "endpoint", "a redirect without a target (no Location header)", PREFIX
    ),
]


@pytest.mark.parametrize("case", SERVED, ids=lambda c: c.name)
def test_a_failure_at_the_server_names_its_cause_and_the_next_step(case: Case, photo: Path) -> None:
    def answer(body: dict[str, Any]) -> Answer:
        return case.answer(body) if callable(case.answer) else case.answer

    with server(answer) as url:
        failed = detect(str(photo), model="my-model", base_urls=url, schedule="single", retries=0)
    assert failed.failure is not None
    assert failed.failure.kind == case.kind
    assert case.cause in failed.failure.message
    assert case.step in failed.failure.message
    assert failed.anomalies == ()


def test_what_the_model_is_asked_to_write_stands_in_the_second_question_alone(photo: Path) -> None:
    asked_for = []

    def answer(body: dict[str, Any]) -> Answer:
        asked_for.append(str(body["messages"][-1]["content"]))
        return reply(rated("bad"))

    with server(answer) as url:
        failed = message(asked(photo, url))
    assert "write one number from 0 (completely implausible) to 100 (fully realistic)" in asked_for[1]
    assert "write one number" not in failed


def test_a_key_that_is_not_accepted_is_named_by_its_variable(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-1234567890abcdef")
    with server(lambda _: fault(401, "Incorrect API key provided: sk-1234567890abcdef")) as url:
        failed = message(asked(photo, url, api_key_env="MY_KEY"))
    assert "the key was not accepted: check MY_KEY" in failed
    assert "sk-1234567890abcdef" not in failed


def test_a_server_that_is_silent_or_absent_is_named_with_what_to_do(photo: Path) -> None:
    held = threading.Event()

    def answer(_: dict[str, Any]) -> Answer:
        held.wait(20)
        return reply("late")

    with server(answer) as url:
        silent = asked(photo, url, timeout=0.5)
        held.set()
    slow = "raise --timeout (now 0.5 seconds), e.g. to 120, or lower --in-flight (now 32), e.g. to 16"
    assert f"'my-model' gave no answer within 0.5 s (tried once); {slow}" in message(silent)
    with server(lambda _: fault(503, "Loading model")) as url:
        loading = message(asked(photo, url, patience=0))
    assert "Loading model" in loading
    assert "(--patience 0, in seconds); wait longer, e.g. with --patience 600" in loading
    absent = message(asked(photo, "http://127.0.0.1:9/v1"))
    assert absent.startswith("no connection to http://127.0.0.1:9/v1 (Cannot connect to host 127.0.0.1:9")
    assert absent.endswith("is it running? Check the server, --base-url and the network")


def test_an_address_that_is_nearly_right_is_answered_with_the_right_one(photo: Path) -> None:
    missing = page(404, "<h1>Not Found</h1>")
    with server(lambda _: missing) as url:
        assert f"check --base-url, which usually ends in /v1: {url}, and" in message(asked(photo, url[:-3]))
        whole = message(asked(photo, f"{url}/chat/completions"))
        assert f"give --base-url without /chat/completions: {url}, and" in whole
        assert f"give --base-url {url}" in message(asked(photo, url.replace("http:", "https:")))


def test_a_host_without_an_address_is_named(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)  # the answer of a network without such a host, on any network
    failed = message(asked(photo, "http://no-such.invalid/v1"))
    assert "no connection to http://no-such.invalid/v1" in failed
    assert failed.endswith("there is no such host: check --base-url and the network")


def test_a_connection_that_is_closed_is_told_from_one_that_was_never_there(photo: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"

        def hang_up() -> None:
            connection, _ = listening.accept()
            connection.recv(1000)
            connection.close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        closed = message(asked(photo, url))
        thread.join()
    assert closed.startswith(f"{url} closed the connection without a whole answer (tried once); run the same command")


def test_no_message_shows_the_secrets_of_a_redirect(photo: Path) -> None:
    target = "https://me:hunter2@new.example/v1/chat/completions?key=sk-123#sk-456"
    with server(lambda _: page(301, "", Location=target)) as url:
        moved = message(asked(photo, url))
    assert "https://new.example/v1" in moved
    assert not re.search("hunter2|sk-", moved)


def asked(photo: Path, url: str, **options: Any) -> Detection:
    return detect(str(photo), model="my-model", base_urls=url, schedule="single", retries=0, **options)


def message(detection: Detection) -> str:
    assert detection.failure is not None
    return detection.failure.message


def test_a_limit_that_is_reached_is_named_with_the_one_that_suffices(photo: Path) -> None:
    with server(lambda _: reply("never asked")) as url:
        failed = message(asked(photo, url, max_tokens=100))
    assert failed.startswith("stopped at --max-tokens 100: 0 are used")
    assert re.search(r"run the same command with --max-tokens \d{4,} or more$", failed)


def test_a_limit_that_is_reached_says_what_the_images_that_are_left_need(photo: Path) -> None:
    for name in ("b.png", "c.png"):
        (photo.parent / name).write_bytes(photo.read_bytes())
    with server(lambda _: reply('{"anomalies": [], "no_anomalies": true}')) as url:
        options: dict[str, Any] = {"model": "my-model", "base_urls": url, "schedule": "single", "in_flight": 1}
        unknown = list(detect([str(photo.parent)], max_tokens=100, **options))
        known = list(detect([str(photo.parent)], max_tokens=3300, **options))
    assert message(unknown[0]).endswith("3 images are not done, and how much they need is not known before one is")
    assert known[0].failure is None
    assert message(known[-1]).endswith("the 2 images that are not done need about 3,060 tokens more")


def test_what_python_is_given_by_mistake_is_answered_with_what_to_give(photo: Path) -> None:
    mistakes: list[Any] = [7, [7], [None], object()]
    for images in mistakes:
        with pytest.raises(UsageError, match=r"give a path, a Pillow image, a NumPy array, .*or the bytes of an image"):
            detect(images, model="m", base_urls="http://h/v1")
    with pytest.raises(UsageError, match="there is no option 'base_url'; did you mean 'base_urls'"):
        detect(str(photo), model="m", base_url="http://h/v1")


def test_a_damaged_run_is_answered_with_the_way_round_it(photo: Path) -> None:
    (photo.parent / "run").mkdir()
    (photo.parent / "run" / "run.json").write_text("{")
    with pytest.raises(
        UsageError,
        match=r"run\.json: the JSON cannot be read.*; repair the file, or give another --run, which starts anew",
    ):
        detect(str(photo), model="m", base_urls="http://h/v1", run=photo.parent / "run")


FILES = [
    ("empty.png", b"", "is empty (0 bytes)", "copy or download it again"),
    ("text.jpg", b"hello there", "is a text file, not an image", "give the image itself"),
    ("page.png", b"<!doctype html><html></html>", "is a web page", "download the image itself"),
    ("drawing.png", b"<svg xmlns='x'></svg>", "is an SVG drawing", "render it to PNG first"),
    ("odd.jpg", bytes(range(256)), "is not an image of a known type", "convert it to PNG"),
    ("cut.png", None, "is damaged, incomplete", "export it again, e.g. as PNG"),
    ("huge.png", None, "is 20000x6000 pixels", "scale it down first"),
    ("pointer.png", b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer", "`git lfs pull`"),
    ("link.png", None, "is a link to 'lost.png', which does not exist", "check the path"),
    ("pipe.png", None, "is a pipe or a device", "save the image to a file first"),
]


def test_a_file_that_cannot_be_read_is_named_with_its_cause_and_the_next_step(photo: Path) -> None:
    folder = photo.parent
    for name, data, *_ in FILES:
        if data is not None:
            (folder / name).write_bytes(data)
    (folder / "cut.png").write_bytes(photo.read_bytes()[:300])
    Image.new("L", (20000, 6000)).save(folder / "huge.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "link.png").symlink_to("lost.png")
    (folder / "list.jsonl").write_text('{"file_name": "gone.png"}\n')
    inputs = [*(str(folder / name) for name, *_ in FILES), str(folder / "list.jsonl")]
    failed = {d.image: message(d) for d in detect(inputs, model="my-model", base_urls="http://127.0.0.1:9/v1")}
    for name, _, cause, step in (*FILES, ("gone.png", b"", "does not exist", "check the path")):
        assert repr(str(folder / name)) in failed[name]
        assert cause in failed[name]
        assert step in failed[name]


LOCAL_FORMS = "For a model of the Hugging Face hub write OWNER/NAME (with detect: --model local:OWNER/NAME)"
MISTAKES = [
    (["photo.png", "--model", "gpt-4o"], "no key for OpenAI", "set OPENAI_API_KEY, or pass --base-url"),
    (["phtos", "--model", "m"], "'phtos' does not exist", "give image files, folders"),
    (["empty", "--model", "m"], "'empty' holds no images", "name the folder that does, or the files"),
    (["*.tiff", "--model", "m"], "'*.tiff' matches no file in '/", "check the folder and the pattern"),
    (["photo.png", "--model", "m", "--base-url", "localhost:8000"], "is not a base URL", "give one like http://"),
    (["none.zip", "--model", "m"], "'none.zip' holds no images", "or unpack it and name the files"),
    (["photo.png", "--model", "local:nowhere/..."], "there is no folder 'nowhere/...'", LOCAL_FORMS),
    (["photo.png", "--model", "local:here/it/is"], "there is no folder 'here/it/is'", LOCAL_FORMS),
    (["photo.png", "--model", "local:"], "'local:' names no model", "write local:FOLDER or local:OWNER/NAME"),
    (["photo.png", "--model", "local:empty"], "'empty' holds no config.json", "name the folder of a Qwen2.5-VL"),
    (["photo.png", "--model", "sim:truth.json"], "truth.json cannot be read: No such file", "check the path"),
    (
        ["photo.png", "--model", "m", "--prompts", "p"],
        "'p' does not exist",
        "give a folder whose .md files replace prompts of the same name: attributes-1.md,",
    ),
    (["photo.png", "--model", "m", "--prices", "p"], "cannot read prices from 'p': No such file", "check the path"),
    (["photo.png", "--model", " "], "is not a model name", "--model gpt-4o"),
    (["photo.png", "--model", "m", "--schedule", "fast"], "schedule must be one of lean, paper", "not 'fast'"),
    (["photo.png", "--model", "m", "--max-cost", "1", "--base-url", "http://h/v1"], "price", "--max-tokens"),
]


@pytest.mark.parametrize(
    ("arguments", "cause", "step"), MISTAKES, ids=lambda v: " ".join(v) if isinstance(v, list) else ""
)
def test_the_first_mistakes_of_a_newcomer_are_answered_with_what_to_do(
    arguments: list[str],
    cause: str,
    step: str,
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (photo.parent / "empty").mkdir()
    with zipfile.ZipFile(photo.parent / "none.zip", "w") as archive:
        archive.writestr("notes.txt", "nothing to see")
    monkeypatch.chdir(photo.parent)
    monkeypatch.setattr("sys.argv", ["anomreason", "detect", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr().err
    assert ended.value.code == 2
    assert shown.startswith("anomreason: ")
    assert shown.count("\n") == 1
    assert cause in shown
    assert step in shown
    assert not (photo.parent / "runs").exists()
