"""Find and explain semantic anomalies in images.

    from anomreason import detect
    detection = detect("photo.jpg", model="gpt-4o")

Names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in `typing`, whose import would cost every command time

if TYPE_CHECKING:
    from typing import Any

    from anomreason.anomaly import Anomaly, Candidate, Detection, Failure, Region, SceneObject, Usage
    from anomreason.detection import DetectOptions, detect, detect_async
    from anomreason.errors import AnomreasonError
    from anomreason.planning import RunPlan, plan

    __version__: str

_HOME = {
    "Anomaly": "anomaly",
    "AnomreasonError": "errors",
    "Candidate": "anomaly",
    "DetectOptions": "detection",
    "Detection": "anomaly",
    "Failure": "anomaly",
    "RunPlan": "planning",
    "Region": "anomaly",
    "SceneObject": "anomaly",
    "Usage": "anomaly",
    "detect": "detection",
    "detect_async": "detection",
    "plan": "planning",
}
"""Modules of the public names. None is called like its module, or importing the module would hide the name."""

__all__ = [
    "Anomaly",
    "AnomreasonError",
    "Candidate",
    "DetectOptions",
    "Detection",
    "Failure",
    "Region",
    "RunPlan",
    "SceneObject",
    "Usage",
    "__version__",
    "detect",
    "detect_async",
    "plan",
]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("anomreason")
    if name not in _HOME:
        raise AttributeError(f"module 'anomreason' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"anomreason.{_HOME[name]}"), name)
