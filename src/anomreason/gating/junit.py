"""The results of a gate as JUnit XML, which GitLab, Jenkins and most services that build software show as tests.

write_junit(Path("gate.xml"), results)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from anomreason.files import write_atomically
from anomreason.gating.limits import GateResult

_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, however it is written."""


def write_junit(file: Path, results: Sequence[GateResult]) -> None:
    """One test a image: rejected ones are failures, those that could not be assessed errors. Raises StorageError."""
    rejected = sum(result.passed is False for result in results)
    undone = sum(result.passed is None for result in results)
    counts = {"tests": str(len(results)), "failures": str(rejected), "errors": str(undone)}
    suites = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(suites, "testsuite", {"name": "anomreason gate", **counts})
    for result in results:
        test = ElementTree.SubElement(suite, "testcase", {"classname": "gate", "name": _said(result.image)})
        if not result.passed:
            kind = "error" if result.passed is None else "failure"
            why = ElementTree.SubElement(test, kind, {"message": _said("; ".join(result.reasons))})
            why.text = _said("\n\n".join(_anomalies(result)))
    ElementTree.indent(suites)
    write_atomically(file, b'<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suites, "utf-8") + b"\n")


def _anomalies(result: GateResult) -> list[str]:
    worst_first = sorted(result.anomalies, key=lambda anomaly: anomaly.severity)
    return [f"severity {a.severity:g}: {a.name}\nseen: {a.phenomenon}\nwhy: {a.reasoning}" for a in worst_first]


def _said(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
