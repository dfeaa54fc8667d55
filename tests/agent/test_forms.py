"""The JSON schemas of the forms, as strict modes of servers take them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from anomreason.agent.forms import DetailedObjects, EnlargedReport, Form, schema_of
from anomreason.agent.roles import STEPS

FORMS = {s.form for s in STEPS.values() if s.form} | {EnlargedReport, DetailedObjects}


@pytest.mark.parametrize("form", sorted(FORMS, key=lambda f: f.__name__))
def test_schemas_are_closed_whole_and_bounded(form: type[Form]) -> None:
    def walk(node: Any) -> None:
        if isinstance(node, list):
            for n in node:
                walk(n)
        if not isinstance(node, dict):
            return
        assert "$ref" not in node
        kind = node.get("type")
        if kind == "object":
            assert node["additionalProperties"] is False
            assert node["required"] == list(node["properties"])
            assert len(node["properties"]) > 0
            for n in node["properties"].values():
                walk(n)
            return
        if kind == "array":
            assert "maxItems" in node
        if kind == "string" and "enum" not in node:
            assert "maxLength" in node
        if kind in ("integer", "number"):
            assert "maximum" in node
            assert "minimum" in node
        for n in node.values():
            walk(n)

    walk(schema_of(form))
    assert json.loads(json.dumps(schema_of(form))) == schema_of(form)
