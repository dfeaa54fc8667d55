"""Rules that are functions of the user's.

    def sharp_enough(path: Path, image: PIL.Image.Image) -> float: ...

`image` is upright, in mode RGB or L. The function gives a score, or a score and the reason that drops the image (one
word; None keeps it). Scores are kept with a hash of the function's file: a changed file measures anew.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from anomreason.dataset.filter.measuring import FunctionRaised, Measuring
from anomreason.dataset.store import storable
from anomreason.errors import UsageError

Hook = Callable[[Path, Image.Image], "float | tuple[float, str | None]"]


def hook_measuring(function: str, beside: Path | None) -> Measuring:
    """What measures images by `module:function`; beside: a folder that modules are looked for in too.

    Raises UsageError when there is no such function.
    """
    hook = HookFunction(function, beside)
    return Measuring(f"python:{function}@{hook.code}", hook, threads=1)


class HookFunction:
    """A function of the user's that gives records. A worker process imports it anew."""

    def __init__(self, function: str, beside: Path | None, code: str | None = None) -> None:
        """code: hash that the function's file must have; None: any."""
        self._function, self._beside = function, beside
        self._hook, self.code = _import(function, beside)
        if code not in (None, self.code):
            raise UsageError(f"the module of {function!r} is another one here; install the same one on all machines")

    def __reduce__(self) -> tuple[type[HookFunction], tuple[str, Path | None, str]]:
        return HookFunction, (self._function, self._beside, self.code)

    def __call__(self, path: Path, image: Image.Image) -> Mapping[str, Any]:
        try:
            return _record(self._hook(path, image))
        except Exception as error:
            reason = storable(f"{type(error).__name__}: {str(error)[:300]}")
            raise FunctionRaised(f"{self._function} raised {reason}") from error


def _import(function: str, beside: Path | None) -> tuple[Hook, str]:
    module, _, name = function.partition(":")
    if beside is not None and str(beside) not in sys.path:
        sys.path.append(str(beside))
    try:
        hook = getattr(importlib.import_module(module), name)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise UsageError(
            f"the function {function!r} cannot be imported ({reason}); install its module, or put it beside the rule "
            "file"
        ) from error
    if not callable(hook):
        raise UsageError(f"{function!r} is no function but a {type(hook).__name__}; name a function")
    spec = importlib.util.find_spec(module)
    origin = Path(spec.origin) if spec and spec.origin else None
    code = origin.read_bytes() if origin and origin.is_file() else b""
    return hook, hashlib.sha256(code).hexdigest()[:12]


def _record(answer: object) -> Mapping[str, Any]:
    score, reason = answer if isinstance(answer, tuple) and len(answer) == 2 else (answer, None)
    number = float(score)  # type: ignore[arg-type]
    if not math.isfinite(number):
        raise ValueError(f"the score is {number}, no finite number")
    if reason is not None and not (isinstance(reason, str) and reason.strip()):
        raise ValueError(f"the reason is {reason!r}, no word")
    return {"score": number, "reason": None if reason is None else storable("_".join(reason.split()))[:40]}
