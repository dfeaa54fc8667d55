"""Every error anomreason raises on purpose.

    AnomreasonError
    ├── UsageError          what was asked cannot be done as asked (CLI exit status 2)
    │   ├── RunConflict     the run folder holds other settings, or another process works in it
    │   ├── NoEffect        an option that does nothing with the model at hand
    │   └── MissingExtra    an optional dependency is not installed
    ├── StorageError        a run's file cannot be written or read back: disk full, read-only (CLI exit status 1)
    ├── UnreadableImage     a file that cannot be opened as an image
    │   └── UnreachableImage  its bucket or web server is at fault: no key, no network, half a file
    ├── ParseError          a text that is not in the asked form
    ├── EndpointError       one attempt at a model failed; may be worth another
    ├── CallFailed          a call is lost for good; its kind says why
    ├── NoneAssessed        no image could be assessed, so that none is the best
    ├── Stopped             the run was asked to stop before this was sent
    └── Deferred            the answer to a call is not here yet: it comes with a batch

A message says what is wrong, with the value, and what to do next. A model's or a file's fault is recorded in the
results and the work goes on; our own mistake raises something that is not in this tree.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pydantic import ValidationError

CallFailureKind = Literal["refused", "truncated", "unparsable", "endpoint", "budget"]
UnreadableReason = Literal[
    "missing", "empty", "not_image", "damaged", "too_large", "forbidden", "unsupported", "memory", "unreachable"
]
EndpointErrorKind = Literal["rate_limit", "server", "loading", "timeout", "connection", "rejected", "adjusted"]


class AnomreasonError(Exception):
    """Anything this package raises on purpose."""


class UsageError(AnomreasonError):
    """Arguments, settings or files that cannot be used as given."""


class RunConflict(UsageError):
    """An existing run folder was made with other settings, or is in use by another process."""


class NoEffect(UsageError):
    """An option that the model at hand has no use for."""

    def __init__(self, option: str, why: str, message: str) -> None:
        super().__init__(message)
        self.option = option
        """The option's name in Python."""
        self.why = why
        """A clause that gives the reason."""


class MissingExtra(UsageError):
    """An optional dependency is missing; the message names the pip command."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"for {what} the optional part {extra!r} must be installed: pip install '.[{extra}]' "
            "in the clone of anomreason"
        )


def require(what: str, extra: str, *libraries: str) -> None:
    """Raise MissingExtra unless all libraries are installed; imports none of them."""
    for library in libraries:
        try:
            missing = find_spec(library) is None
        except (ImportError, ValueError):
            missing = True
        if missing:
            raise MissingExtra(what, extra)


class StorageError(AnomreasonError):
    """A file of the run cannot be written or read back; what was recorded before is safe."""


class UnreadableImage(AnomreasonError):
    """A file that is missing, not an image, damaged, or too large to be decoded safely.

    final: False when the file is not at fault (an optional part, a permission, memory), so that trying again may help.
    reason: the message in one word, to count and list by.
    """

    def __init__(self, message: str, final: bool = True, *, reason: UnreadableReason = "damaged") -> None:
        super().__init__(message)
        self.final = final
        self.reason: UnreadableReason = reason


class UnreachableImage(UnreadableImage):
    """An image whose bucket or web server does not give it; trying again may help."""

    def __init__(self, message: str, *, reason: UnreadableReason = "unreachable") -> None:
        super().__init__(message, final=False, reason=reason)


class ParseError(AnomreasonError):
    """A text that is not in the asked form. The message can be shown to the one who wrote it, mostly a model.

    wrong: what is wrong with the text, for readers who did not write it.
    write: what to write instead, which the message adds.
    otherwise: what counts when the model, asked again, repeats it; None: then the text is of no use.
    """

    def __init__(self, wrong: str, otherwise: object = None, *, write: str = "") -> None:
        super().__init__(f"{wrong}; {write}" if write else wrong)
        self.wrong = wrong
        self.write = write
        self.otherwise = otherwise


class EndpointError(AnomreasonError):
    """One attempt at a model failed.

    kind: `rate_limit` (429), `server` (5xx), `loading` (the model is not ready yet), `timeout`, `connection`,
    `rejected` (the server will never take this request), `adjusted` (the server refused an option, which is
    left out from now on, so ask again at once).
    wrong: what happened, without the remedy.
    remedy: what a person can do, which the message adds; empty when the kind says enough.
    retry_after: seconds the server asked us to wait, None when it did not say.
    reply_limit: with `adjusted`, the longest reply that the server allows, tokens.
    charge: what the server charged for the attempt; None when nothing.
    tries: failed attempts at this call so far, where earlier ones were made by other processes.
    """

    def __init__(
        self,
        kind: EndpointErrorKind,
        wrong: str,
        retry_after: float | None = None,
        *,
        remedy: str = "",
        reply_limit: ReplyLimit | None = None,
        charge: Charge | None = None,
    ) -> None:
        super().__init__(f"{wrong}; {remedy}" if remedy else wrong)
        self.wrong, self.remedy = wrong, remedy
        self.kind: EndpointErrorKind = kind
        self.retry_after = retry_after
        self.reply_limit = reply_limit
        self.charge = charge
        self.tries = 1


@dataclass(frozen=True, slots=True)
class Charge:
    """Tokens that the server charged for an attempt of no use; `Charge()` when it is not known whether it did."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ReplyLimit:
    """The longest reply that a server allows, as its complaint about a longer one says."""

    tokens: int
    by_context: bool = False
    """Whether it is what the prompt leaves of the model's context, so that other prompts have other limits."""


class CallFailed(AnomreasonError):
    """A model call is lost for good, after every retry that made sense."""

    def __init__(self, kind: CallFailureKind, message: str) -> None:
        super().__init__(message)
        self.kind: CallFailureKind = kind


class NoneAssessed(AnomreasonError):
    """None of several images could be assessed."""


class Stopped(AnomreasonError):
    """The run was asked to stop before this call was sent; the image stays undecided and is done by the next run."""


class Deferred(AnomreasonError):
    """The answer to a call comes with a batch later; the image goes on from there."""


def shown(value: object) -> str:
    """A value as a message can carry it: short, printable, whatever it holds."""
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:59] + "…")
    if value is None or isinstance(value, bool | float):
        return repr(value)
    if isinstance(value, int) and abs(value) < 10**12:
        return str(value)
    return {dict: "an object", list: "a list", int: "a huge number"}.get(type(value), f"a {type(value).__name__}")


def first_error(error: ValidationError, whole: str = "the line") -> str:
    """The first error of a pydantic validation as `place: reason`; whole: the place of an error of the whole value."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"])) or whole
    reason = first["msg"].removeprefix("Value error, ")
    return f"{place if place.isprintable() and len(place) <= 60 else shown(place)}: {reason}"


class UnknownKeys(UserWarning):
    """A file holds keys that this version does not know; they are left out."""
