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
    from anomreason.detecting import detect, detect_async
    from anomreason.detector import DetectOptions
    from anomreason.errors import AnomreasonError
    from anomreason.gating.choosing import BestOf, best_of, best_of_async, gate, gate_async, rewards, rewards_async
    from anomreason.gating.limits import AssessedImage, GateResult
    from anomreason.planning import RunPlan, plan
    from anomreason.report.rows import rows

    __version__: str

_HOME = {
    "Anomaly": "anomaly",
    "AnomreasonError": "errors",
    "AssessedImage": "gating.limits",
    "BestOf": "gating.choosing",
    "Candidate": "anomaly",
    "DetectOptions": "detector",
    "Detection": "anomaly",
    "Failure": "anomaly",
    "GateResult": "gating.limits",
    "RunPlan": "planning",
    "Region": "anomaly",
    "SceneObject": "anomaly",
    "Usage": "anomaly",
    "best_of": "gating.choosing",
    "best_of_async": "gating.choosing",
    "detect": "detecting",
    "detect_async": "detecting",
    "gate": "gating.choosing",
    "gate_async": "gating.choosing",
    "plan": "planning",
    "rewards": "gating.choosing",
    "rewards_async": "gating.choosing",
    "rows": "report.rows",
}
"""Modules of the public names. None is called like its module, or importing the module would hide the name."""

__all__ = [
    "Anomaly",
    "AnomreasonError",
    "AssessedImage",
    "BestOf",
    "Candidate",
    "DetectOptions",
    "Detection",
    "Failure",
    "GateResult",
    "Region",
    "RunPlan",
    "SceneObject",
    "Usage",
    "__version__",
    "best_of",
    "best_of_async",
    "detect",
    "detect_async",
    "gate",
    "gate_async",
    "plan",
    "rewards",
    "rewards_async",
    "rows",
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
