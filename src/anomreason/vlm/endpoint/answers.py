"""Reads the answer of an OpenAI-compatible server: a completion, or an error in one of the many forms in use.

Answers are not trusted: whatever the server sends is either read or becomes an EndpointError.

    ServerAnswer(429, {"retry-after": "2"}, "{}", "http://127.0.0.1:8000/v1").error("gpt-4o").retry_after  # 2.0
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

from anomreason.errors import Charge, EndpointError, ParseError, ReplyLimit
from anomreason.textform import without_thinking
from anomreason.vlm.endpoint.address import redacted_url
from anomreason.vlm.endpoint.limits import context_size, reply_limit
from anomreason.vlm.endpoint.message import assembled, reply_text
from anomreason.vlm.endpoint.usage import charged, read_usage, written
from anomreason.vlm.protocol import Finish, Reply, Request
from anomreason.vlm.remedies import fewer_calls, shorter_request, smaller_image

# The finish reasons of many servers: OpenAI, Anthropic, Gemini, Mistral, Cohere, TGI, Ollama, llama.cpp, vLLM.
_FINISHES: tuple[tuple[Finish, re.Pattern[str]], ...] = (
    ("length", re.compile(r"length|max|limit|trunc|incomplete|cut[_ -]?off|context|window", re.I)),
    ("refused", re.compile(r"filter|refus|safety|moderat|prohibit|block|recitation|spii|sensitive|guardrail", re.I)),
    ("stop", re.compile(r"stop|eos|end|done|complete|finished|success|normal|tool|function", re.I)),
)
_POLICY_CODES = {
    *("content_filter", "content_policy_violation", "responsibleaipolicyviolation"),
    *("moderation_blocked", "data_inspection_failed"),
}
_POLICY = re.compile(r"content management policy|usage polic|safety system|input was flagged", re.I)
_TOO_LONG = re.compile(
    r"context[ _](length|window|size)|maximum context|prompt is too long|reduce the length|too many (input )?tokens"
    r"|max_(completion_)?tokens\W.{0,60}(too (large|big|high)|at most)",
    re.I,
)
_NO_MONEY = re.compile(r"insufficient[_ ](quota|balance|credit)|billing_hard_limit", re.I)
_BAD_SCHEMA = re.compile(r"invalid schema|in context=|grammar|schema (contains|conversion)|response_?schema", re.I)
_LOADING = re.compile(
    r"\b(is|still|currently|being|model|server|weights)\b.{0,60}\b(load(ing|ed)|starting|warming|initiali[sz]ing|booting)"
    r"|\bloading\b.{0,20}\bmodel|not (yet )?(ready|loaded)|cold.?start|warming up|starting up|spinning up|scaling up",
    re.I,
)
_BROKEN = re.compile(r"fail|error (while |when )?(load|start)|unable|could not|cannot|crash|memory|overload", re.I)
_NOT_TAKEN = re.compile(
    r"unexpected|not (be )?(support|permit|allow|implement|recogni)|unsupported|unknown|unrecogni|invalid|extra",
    re.I,
)
_PARAMETERS = re.compile(r"(request(ed)?|these|un\w+|extra|invalid) (keyword )?(parameter|argument|field)", re.I)
_TOO_LARGE = re.compile(r"exceed|too (large|big|many)|maximum|limit|size|larger|bytes|pixels", re.I)
_TOO_MANY = re.compile(r"\b(max|maximum|at most|between|less|exceeds?|range|greater|larger|up to)\b|<=?", re.I)
_BYTES = re.compile(r"(\d[\d,]*(?:\.\d+)?)\s?(bytes?|[km]i?b)\b", re.I)
SMALLEST_IMAGE = 20_000
"""An image of fewer bytes is not worth sending."""
_IMAGE = re.compile(r"\bimages?\b|picture|base64|image_url|media type", re.I)
_ONE_IMAGE = re.compile(
    r"\b(at most|only|maximum( of)?|max|up to|more than) (1|one|a single) (image|picture)"
    r"|(multiple|several) (images|pictures)\b.{0,40}\bnot\b|not support.{0,20}\b(multiple|several) (images|pictures)"
    r"|\b(1|one|single) (image|picture) (per|a|in each) |limit[-_]mm[-_]per[-_]prompt",
    re.I,
)
_NO_MODEL = re.compile(
    r"\bmodel\b.{0,120}\b(not (be )?(exist|found|available|know|a valid|recogni[sz]ed)|does ?n[o']t exist|unknown"
    r"|deprecated|decommissioned|retired)|\b(no such|unknown|invalid) model\b",
    re.I,
)
_RETIRED = re.compile(r"deprecated|decommissioned|retired|no longer (available|supported|offered)", re.I)
_LOGIN = re.compile(r"log[ -]?in\b|sign[ -]?in\b|/auth\b|oauth|\bsso\b", re.I)
_NO_ENDPOINT = re.compile(r"unexpected endpoint|cannot post|unknown (request )?(url|endpoint|path)|no route", re.I)
_MEMORY = re.compile(r"out of memory|\boom\b|not enough memory", re.I)
_HTTPS = re.compile(r"http request (was )?(sent )?to (an )?https", re.I)
_A_LOGIN = "this is the web page of a login: give the API's address as --base-url, or a key with --api-key-env"
_PAGE = re.compile(r"\s*<(?:!doctype|html|head|body|title|h\d|center|p)\b", re.I)
_MARKUP = re.compile(r"<(script|style)\b.*?</\1>|<[^<>]*>", re.I | re.DOTALL)
_OPTIONS = {
    "response_format": re.compile(r"response[_ ]format|json[_ ]schema|response_?schema|grammar", re.I),
    "max_tokens": re.compile(r"\bmax_tokens\b", re.I),
    "temperature": re.compile(r"\btemperature\b", re.I),
    "seed": re.compile(r"\bseed\b", re.I),
    "logprobs": re.compile(r"logprobs", re.I),
}
_RESET = ("x-ratelimit-reset", "x-ratelimit-reset-requests", "x-ratelimit-reset-tokens")
SHORTEST_SECRET = 12
"""Characters of a key that is worth hiding; local servers are given words such as 'x' or 'EMPTY'."""
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class ServerAnswer:
    """One HTTP answer. `server`: its name in messages. `secret`: a key to remove from every text taken from it."""

    def __init__(self, status: int, headers: Mapping[str, str], body: str, server: str, secret: str = "") -> None:
        self.status, self.headers, self.server, self.secret = status, headers, server, secret
        self.key_name: str | None = None
        """The environment variable of the server's key; None when none is known."""
        self.text = redacted(body, secret)
        try:
            self.data: Any = json.loads(
                body.lstrip("\ufeff")
            )  # as it came: hiding a key inside would change the model's reply
        except (ValueError, RecursionError):
            self.data = assembled(body)
        error = _error_object(self.data)
        if status < 300 and isinstance(self.data, dict) and "error" in self.data and not self.data.get("choices"):
            code = error.get("code")  # gateways wrap a provider's error in a 200
            self.status = code if isinstance(code, int) and 400 <= code < 600 else 500
            if self.status == 500 and _NO_ENDPOINT.search(_message(error)):
                self.status = 404
        self.fault = self.status >= 300
        self.code = str(error.get("code") or "").lower()
        self.param = str(error.get("param") or "")
        said = redacted(_message(error), secret) or ("" if _is_blank(error) else _readable(self.text))
        self.complaint = excerpt(said, 400) if self.fault else ""

    @property
    def policy(self) -> bool:
        """True when a content filter stopped the request: the model would have refused."""
        return self.status in (400, 403) and (self.code in _POLICY_CODES or bool(_POLICY.search(self.complaint)))

    @property
    def too_long(self) -> bool:
        """True when the request is over the model's limits of tokens."""
        return self.code == "context_length_exceeded" or bool(_TOO_LONG.search(self.complaint))

    @property
    def bad_schema(self) -> bool:
        """True when the complaint is about this schema, not about schemas in general."""
        return bool(_BAD_SCHEMA.search(self.complaint))

    @property
    def takes_one_image(self) -> bool:
        """True when the request was rejected for having more than one image."""
        return 400 <= self.status < 500 and bool(_ONE_IMAGE.search(self.complaint))

    @property
    def refused_option(self) -> str | None:
        """The request option that the server rejects; None when it names none that we know."""
        by_mistake = self.status == 500 and _NOT_TAKEN.search(self.complaint)
        if not (self.status in (400, 403, 404, 422) or by_mistake) or self.too_long:
            return None
        for option, name in _OPTIONS.items():
            if name.search(self.param):
                return option
        named = [(found.start(), option) for option, name in _OPTIONS.items() if (found := name.search(self.complaint))]
        return min(named)[1] if named else None

    def reply_limit(self, cap: int) -> ReplyLimit | None:
        """The longest reply that the server allows, when it complains that `cap` tokens are too many."""
        if self.status not in (400, 403, 404, 413, 422, 500):
            return None
        return reply_limit(self.complaint, self.param, cap)

    def image_limit(self, largest: int) -> int | None:
        """Bytes that the server allows an image, when it complains that one of `largest` bytes (in base64) is too many.

        None for other complaints, and when the images are within the limit that it names.
        """
        about = _IMAGE.search(self.complaint) and _TOO_LARGE.search(self.complaint)
        if self.status not in (400, 413, 422) or not (about or self.status == 413):
            return None
        units = {"b": 1, "k": 1000, "m": 10**6}
        sizes = [float(n.replace(",", "")) * units[unit[0].lower()] for n, unit in _BYTES.findall(self.complaint)]
        limit = int(min(sizes, default=largest / 2 if self.status == 413 else 0))
        return limit if SMALLEST_IMAGE <= limit < largest else None

    @property
    def most_alternatives(self) -> int | None:
        """The most alternatives of a token that the server gives, where it complains that we ask for too many."""
        if not _TOO_MANY.search(self.complaint):
            return None
        return max((n for found in re.findall(r"\b\d+\b", self.complaint) if 2 <= (n := int(found)) < 20), default=None)

    @property
    def unexplained(self) -> bool:
        """True when the request was rejected for a reason that we do not recognise."""
        if self.too_long or self.refused_option is not None or _IMAGE.search(self.complaint):
            return False
        return self.status in (400, 422) or (self.status in (404, 500) and bool(_PARAMETERS.search(self.complaint)))

    @property
    def retry_after(self) -> float | None:
        """Seconds that the server asks us to wait; None when it does not ask."""
        milliseconds = _number(self.headers.get("retry-after-ms", ""))
        if milliseconds is not None:
            return milliseconds / 1000
        wait = self.headers.get("retry-after", "")
        seconds = _number(wait)
        if seconds is None and wait:
            seconds = _until(wait)
        if seconds is None and self.status == 429:
            seconds = min((s for name in _RESET if (s := _reset(self.headers.get(name, ""))) is not None), default=None)
        return seconds

    @property
    def shown(self) -> str:
        """What came, for messages."""
        if _PAGE.match(self.text):
            return _readable(self.text)
        return repr(excerpt(self.text)) if self.text.strip() else "an empty body"

    @property
    def summary(self) -> str:
        """The answer in one line, for messages."""
        reason = f": {self.complaint}" if self.complaint else " and gave no reason"
        return f"{self.server} answered {self.status}{reason}"

    @property
    def charge(self) -> Charge | None:
        """What a failed attempt was charged: as the answer says, or not known where a gateway gave up waiting."""
        counts = self.data.get("usage") if isinstance(self.data, dict) else None
        if isinstance(counts, dict) and counts:
            usage = read_usage(counts, 0)
            return charged(usage) if usage.tokens else None
        return Charge() if self.status in (408, 504, 524) else None

    def error(self, model: str, request: Request | None = None, in_flight: int = 0) -> EndpointError:
        """This answer as a failed attempt. The request and the calls in flight are named in what to do, where given."""
        if self.status == 429 and not _NO_MONEY.search(f"{self.code} {self.complaint}"):
            return EndpointError("rate_limit", self.summary, self.retry_after, charge=self.charge)
        if self.status >= 500 and _LOADING.search(self.complaint) and not _BROKEN.search(self.complaint):
            return EndpointError("loading", self.summary, self.retry_after)
        if self.status in (408, 409, 425) or self.status >= 500:
            later = "run the same command again later; the server's log may say why"
            remedy = later
            if _MEMORY.search(self.complaint):
                calls = f"{fewer_calls(in_flight)}, " if in_flight != 1 else ""
                remedy = f"the server is short of memory: {calls}{smaller_image(request)}, or give it more"
            elif self.status in (502, 504):
                remedy = (
                    "a proxy answered, the model server behind it did not: check that it runs, then run the same "
                    "command again"
                )
            return EndpointError("server", self.summary, self.retry_after, remedy=remedy, charge=self.charge)
        wrong, remedy = self._redirect() if self.status < 400 else (self.summary, self._remedy(model, request))
        return EndpointError("rejected", wrong, remedy=remedy, charge=self.charge)

    def _remedy(self, model: str, request: Request | None) -> str:
        if self.status == 429:
            return (
                "a quota is used up (money, or a limit a day or month): see billing and limits at the provider, or "
                "wait until it resets"
            )
        if self.status == 402:
            return "the account has no money left for this: see the provider's billing page"
        if self.status == 413:
            return f"the request has too many bytes for the server, or a proxy before it: {smaller_image(request)}"
        if self.too_long:
            return shorter_request(request, context_size(self.complaint))
        if self.status in (401, 403) and not self.secret:
            if self.key_name:
                return f"no key was sent: set {self.key_name} to the key for this server"
            return (
                "no key was sent: put the key for this server in an environment variable and name that, e.g. "
                "--api-key-env MY_KEY"
            )
        if self.status in (401, 403):
            return f"the key was not accepted: check {self.key_name}, and that it may use this model"
        about_image = bool(_IMAGE.search(self.complaint))
        if about_image and _TOO_LARGE.search(self.complaint):
            return f"the image is over the server's limits: {smaller_image(request)}"
        if _HTTPS.search(self.complaint):
            return f"the server wants https: give --base-url https://{self.server.partition('://')[2]}"
        if self.status in (400, 404, 410, 422) and _NO_MODEL.search(self.complaint) and not about_image:
            if _RETIRED.search(self.complaint):
                return f"the server no longer offers {model!r}: choose one of {self.models} (--model)"
            return f"check the name {model!r} (--model): servers list the names they know at {self.models}"
        if self.status == 404:
            return f"{self.address}, and check that the server has the model {model!r}"
        if self.status == 405:
            return f"there is no chat endpoint at this address: {self.address}"
        if self.status == 407:
            parts = urlsplit(self.server)
            variable = f"{parts.scheme.upper()}_PROXY=http://USER:PASSWORD@HOST:PORT"
            return f"a proxy wants a user name and password: set {variable}, or skip it with NO_PROXY={parts.hostname}"
        if self.status == 451:
            return "not available for legal reasons: the provider blocks this request or region"
        if self.status in (400, 422) or about_image:
            return f"check that {model!r} accepts images, and read the server's log for the reason"
        return f"{self.address}, check --model {model!r}, and read the server's log for the reason"

    @property
    def stranger(self) -> str:
        """What to do about an answer that is neither a completion nor an error."""
        if not self.text.strip():
            return f"check the server's log, and a proxy before it; {self.address}"
        if _PAGE.match(self.text) and _LOGIN.search(self.shown):
            return _A_LOGIN
        return f"this is probably no OpenAI-compatible server: {self.address}"

    @property
    def address(self) -> str:
        """What to do about a base URL that may be wrong."""
        return self.address_in("--base-url")

    def address_in(self, setting: str) -> str:
        """What to do about a base URL that may be wrong, by the name of the setting that gives it."""
        path = urlsplit(self.server).path.rstrip("/")
        if route := re.search(r"/(chat/completions|images/generations)\Z", path):
            return f"give {setting} without {route[0]}: {self.server.rstrip('/').removesuffix(route[0])}"
        if not re.search(r"/v\d", path):
            return f"check {setting}, which usually ends in /v1: {self.server.rstrip('/')}/v1"
        return f"check {setting} (is there a prefix before /v1?): open {self.models}, which should show JSON"

    @property
    def models(self) -> str:
        """Where the server lists its models."""
        return f"{self.server.rstrip('/')}/models"

    def _redirect(self) -> tuple[str, str]:
        """What a redirect says, and what to do: it is not followed, as the key would go where nobody sent it."""
        answered = f"{self.server} answered {self.status}, a redirect"
        try:
            target = redacted_url(urljoin(f"{self.server.rstrip('/')}/chat/completions", self.headers["location"]))
        except (KeyError, ValueError):
            return f"{answered} without a target (no Location header)", self.address
        target = excerpt(redacted(target, self.secret))
        base = target.rstrip("/").removesuffix("/chat/completions")
        if base == target.rstrip("/"):
            remedy = _A_LOGIN if _LOGIN.search(target) else self.address
            return f"{answered} to {target}, which is no chat endpoint", remedy
        return f"{answered} to {base}", f"give that as --base-url {base}"


def read_completion(answer: ServerAnswer, asked: str) -> Reply:
    """The reply in a successful answer. Raises EndpointError 'server' when there is no completion in it."""
    data = answer.data if isinstance(answer.data, dict) else {}
    choices = data.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = choice.get("message")
    usage = read_usage(data.get("usage"), written(message)) if choices or data.get("usage") else None
    charge = charged(usage) if usage is not None else None
    later = "run the same command again later; the server's log may say why"
    if not choice:
        wrong = f"{answer.server} sent no completion, but {answer.shown}"
        remedy = later if choices == [] else answer.stranger
        raise EndpointError("server", wrong, remedy=remedy, charge=charge)
    if not isinstance(message, dict) or choice.get("finish_reason") == "error":
        wrong = f"{answer.server} broke off the completion: {answer.shown}"
        raise EndpointError("server", wrong, remedy=later, charge=charge)
    finish = _finish(choice)
    text, refusal = reply_text(message), message.get("refusal")
    if isinstance(refusal, str) and refusal:
        text, finish = text or refusal, "refused"
    if text is None and finish in ("stop", "unknown"):
        wrong = f"{answer.server} sent a completion without text: {answer.shown}"
        remedy = "run the same command again later; if it goes on, use another model"
        raise EndpointError("server", wrong, remedy=remedy, charge=charge)
    named = data.get("model")
    return Reply(
        text=redacted(text or "", answer.secret),
        finish=finish,
        usage=usage or read_usage(None, written(message)),
        model=excerpt(redacted(named, answer.secret)) if isinstance(named, str) and named.strip() else asked,
        logprobs=_answer_token(choice.get("logprobs"), text or ""),
    )


def _finish(choice: Mapping[str, Any]) -> Finish:
    details = choice.get("finish_details")
    details = details.get("type") if isinstance(details, dict) else details
    for reason in (choice.get("finish_reason"), choice.get("native_finish_reason"), choice.get("stop_reason"), details):
        if isinstance(reason, str):
            plain = reason.lower().removeprefix("finish_reason_")
            for finish, words in _FINISHES:
                if words.search(plain):
                    return finish
    return "unknown"


def _readable(text: str) -> str:
    """A text as a person reads it: of a web page, what it shows."""
    return f"a web page, {excerpt(_MARKUP.sub(' ', text[:8000]))!r}" if _PAGE.match(text) else text


def redacted(text: str, secret: str) -> str:
    """`text` without `secret`, unless that is too short to be a key ('none', 'EMPTY')."""
    return text.replace(secret, "[key]") if len(secret) >= SHORTEST_SECRET else text


def excerpt(text: str, length: int = 200) -> str:
    """The start of a foreign text on one line, without control characters."""
    flat = "".join(c if c.isprintable() else " " for c in text[: 4 * length])
    flat = " ".join(flat.split())
    return flat if len(flat) <= length else flat[: length - 3] + "..."


def _error_object(data: Any) -> dict[str, Any]:
    body = data[0] if isinstance(data, list) and data else data
    if not isinstance(body, dict):
        return {}
    error = body.get("error")
    if isinstance(error, str):
        return {"message": error}
    if isinstance(error, dict):
        return error
    return body


def _message(error: Mapping[str, Any]) -> str:
    """The message of an error object: `message`, a validator's list of places, or a gateway's quote of its provider."""
    message = error.get("message") or error.get("detail") or error.get("msg")
    if isinstance(message, list):  # never the rejected `input`, which can be a whole image
        places = [m for m in message if isinstance(m, dict)]
        message = "; ".join(f"{_place(m.get('loc'))}: {m.get('msg')}" for m in places)
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    return ": ".join(m for m in (message, raw) if isinstance(m, str) and m)


def _is_blank(error: Mapping[str, Any]) -> bool:
    """Whether an error object says nothing that a person could use."""
    said = [value for key, value in error.items() if key not in ("type", "param", "object")]
    return bool(error) and not any(value for value in said if not isinstance(value, int))


def _place(loc: Any) -> str:
    return ".".join(map(str, loc)) if isinstance(loc, list) else str(loc or "")


def _answer_token(logprobs: Any, text: str) -> dict[str, float]:
    """The alternatives of the token that begins the answer: thinking, blanks and marks before it are passed over."""
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    entries = [entry for entry in content if isinstance(entry, dict)] if isinstance(content, list) else []
    if not entries:
        return {}
    tokens = [token if isinstance(token := entry.get("token"), str) else "" for entry in entries]
    try:
        answer = re.sub(r"\A\W+", "", without_thinking(text))
    except ParseError:
        return {}
    start, end, first = max(0, "".join(tokens).rfind(answer)), 0, dict[str, Any]()
    for entry, token in zip(entries, tokens, strict=True):
        end += len(token)
        if end > start and any(c.isalnum() for c in token):
            first = entry
            break
    more = first.get("top_logprobs")
    found: dict[str, float] = {}
    for entry in [first, *(more if isinstance(more, list) else [])]:
        token, value = (entry.get("token"), entry.get("logprob")) if isinstance(entry, dict) else (None, None)
        if isinstance(token, str) and isinstance(value, int | float) and -1e4 < value <= 0:
            found.setdefault(token, float(value))
    return found


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return max(value, 0.0) if math.isfinite(value) else None


def _until(date: str) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
        return max((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


def _reset(text: str) -> float | None:
    """Seconds from `6m0s`, from a number of seconds, or from a moment in seconds or milliseconds since 1970."""
    value = _number(text)
    if value is None:
        spans = _DURATION.findall(text)
        return sum(float(n) * _SECONDS[unit] for n, unit in spans) if spans else None
    if value > 1e9:
        return max(value / (1000 if value > 1e11 else 1) - time.time(), 0.0)
    return value
