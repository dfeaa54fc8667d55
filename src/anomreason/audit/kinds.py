"""The kind of an anomaly in an audit: what people look for in generated images, with parts of bodies by name.

>>> audit_kind(Anomaly(name="Six fingers", phenomenon="One too many.", reasoning="Hands have five.", severity=5))
'hands'
"""

from __future__ import annotations

import re

from anomreason.anomaly import Anomaly
from anomreason.metrics.kinds import kind_of

OTHER = "other"
"""Kind of an anomaly whose texts name none or several."""
BODY = {
    "hands": re.compile(r"\b(?:hands?|fingers?|thumbs?|knuckles?|wrists?)\b", re.IGNORECASE),
    "faces": re.compile(r"\b(?:faces?|facial|eyes?|mouths?|lips|teeth|tooth|noses?|ears?)\b", re.IGNORECASE),
    "limbs": re.compile(r"\b(?:arms?|legs?|limbs?|foot|feet|toes?|knees?|elbows?)\b", re.IGNORECASE),
}
"""Parts of a body, by the words that name them: what people look for in generated images."""
_THINGS = re.compile(r"\b(?:clock|watch|dial|chair|table|sofa|couch|bench|desk|stool|needle)", re.IGNORECASE)
"""Things whose parts have the same names."""


def audit_kind(anomaly: Anomaly) -> str:
    """The kind that the detector gave, else the part of a body that the name has first, else that of the texts."""
    if anomaly.kind:
        return anomaly.kind.replace("_", " ")
    if not _THINGS.search(anomaly.name):
        parts = [(place.start(), part) for part, words in BODY.items() if (place := words.search(anomaly.name))]
        if parts:
            return min(parts)[1]
    kind = kind_of(anomaly.name, anomaly.phenomenon, anomaly.reasoning)
    return kind.replace("_", " ") if kind else OTHER
