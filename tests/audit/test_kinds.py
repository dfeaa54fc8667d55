"""Facts about kinds of anomalies in audits."""

import pytest

from anomreason.anomaly import Anomaly
from anomreason.audit.kinds import audit_kind


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("Left hand with six fingers", None, "hands"),
        ("Distorted face of the man holding hands", None, "faces"),
        ("Three arms", None, "limbs"),
        ("Clock with three hands", None, "count"),
        ("Six fingers", "duplicated_part", "duplicated part"),
        ("x", None, "other"),
    ],
)
def test_a_kind_is_the_detectors_own_else_a_part_of_the_body_else_what_the_texts_describe(
    name: str, kind: str | None, expected: str
) -> None:
    made = Anomaly(name=name, phenomenon="y", reasoning="z", severity=1, kind=kind)
    assert audit_kind(made) == expected
