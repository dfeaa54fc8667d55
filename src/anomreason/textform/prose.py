"""What a reply says in prose: that nothing is wrong.

>>> says_no_anomalies("There are no semantic anomalies in this image.")
True
"""

from __future__ import annotations

import re

from anomreason.errors import ParseError
from anomreason.textform.thinking import without_thinking

_PICTURE = r"(?:the|this) (?:provided |given |entire |whole )?(?:image|picture|photo|photograph|scene)"
_LEAD = (
    r"(?:(?:after|upon|on|based on) (?:a |my |the )?(?:careful |close |thorough |detailed )?"
    rf"(?:analysis|examination|inspection|review|look)(?: (?:of|at) {_PICTURE})?, )?"
)
_NOT_ANY = (
    r"(?:(?:there (?:are|is|were|appear to be|seem to be) "
    r"|(?:i|we) (?:(?:can|could) )?(?:see|find|found|detect|detected|observe) "
    rf"|{_PICTURE} (?:has|shows|contains|exhibits) )?no|there aren't any"
    r"|(?:i|we) (?:do not|don't|did not|didn't|cannot|can't|could not|couldn't)"
    r" (?:see|find|detect|observe|identify) any)"
)
_KINDS = r"(?: (?:semantic|visual|visible|apparent|clear|obvious|noticeable|detectable|or|and)){0,6}"
_ABSENT = (
    r"(?: (?:is|are|was|were|have been|could be|can be))?"
    rf"(?: (?:found|detected|observed|identified|present|visible|noted|seen))?(?: (?:in|within) {_PICTURE})?"
)
_DENIAL = re.compile(
    rf"{_LEAD}(?:(?:there (?:are|is) )?none|nothing (?:found|detected)|{_NOT_ANY}{_KINDS} anomal(?:y|ies)){_ABSENT}"
)
_SOUND = r"(?:realistic|natural|plausible|consistent|coherent|authentic|genuine)"
_PRAISE = re.compile(
    rf"{_PICTURE} (?:looks|appears|seems|is)"
    r"(?: (?:to be|completely|entirely|fully|very|quite|semantically|physically)){0,2}"
    rf" {_SOUND}(?: and {_SOUND})?"
)


def says_no_anomalies(text: str) -> bool:
    """Whether a prose reply says, of the whole image and without a reservation, that nothing is wrong."""
    try:
        answer = without_thinking(text).strip(" \t\r\n*_`#>\"'-.")
    except ParseError:
        return False
    if len(answer) > 600:
        return False
    plain = re.sub(r"[*_`#>\"]+", "", answer.lower().replace("’", "'"))
    sentences = [" ".join(s.split()) for s in re.split(r"[.!\n]+", plain) if s.strip()]
    denied = [bool(_DENIAL.fullmatch(s)) for s in sentences]
    return any(denied) and all(d or _PRAISE.fullmatch(s) for d, s in zip(denied, sentences, strict=True))
