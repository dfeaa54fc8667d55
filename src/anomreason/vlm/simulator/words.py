"""The simulator's small talk: what makes its replies as long and as chatty as a real model's. Data only.

random.choice(LOOKS).format(object="the left hand")
"""

import re

PERSON = re.compile(
    r"\b(person|people|man|men|woman|women|boy|girl|child|children|kid|baby|lady|guy|player|worker|crowd|face|hand)s?\b",
    re.IGNORECASE,
)

OPENINGS = (
    "Let me look closely at {object}, part by part, and compare what I see with what I know about such things.",
    "I will go through {object} from the outside in: outline first, then the parts, then how they are put together.",
    "Looking at {object}, I first take in the whole and then return to the places where details tend to go wrong.",
)

FILLER = (
    "The outline of {object} is clear against what lies behind it, and it stays in one piece wherever I can follow it.",
    "Light falls on it from the same side as on everything around it, and the shadows lie where I would expect them.",
    "The colours are even, without patches that would belong to another material or to something standing behind it.",
    "Its size agrees with the things next to it, once the distance to the camera and the lens are taken into account.",
    "The surface shows the wear and the fine texture that one knows from photographs of comparable things.",
    "Where it is partly hidden, the visible pieces line up, and nothing seems to be doubled or to be cut off.",
    "I counted the parts that can be counted and looked at each joint, since that is where mistakes usually show.",
    "Edges are sharp where the focus lies and become softer behind it, as they do with an ordinary camera.",
    "The way it rests on the ground is believable; weight and support seem to be in the right places.",
    "Fine details such as seams, hair, letters or buttons deserve a second look, so I went over those once more.",
    "Compared with typical examples, {object} has the proportions one would expect of it in daily life.",
)

CLOSING = (
    "Apart from what I listed above, {object} looks as it should. I would keep these points for the next step, and "
    "I am fairly sure of them, since they remain visible when one looks at the details again."
)
CLEAN = (
    "All in all I see nothing about {object} that could not be so in the real world, and I would not report "
    "anything here. If a later step disagrees, it should point at the exact place."
)
BEFORE_FINDING = (
    "Something here does not fit, and I write it down exactly as I see it:",
    "This part cannot be right. In full:",
    "One thing stands out when I look at the details:",
)

REVIEW_OPENING = (
    "I go through the candidates one by one, ask whether the statement is clear, whether it is about something that "
    "can be seen, whether the reason given holds in the real world, and whether another candidate says the same."
)
REVIEW_CLOSING = (
    "Where two candidates carry the same name they describe one thing and should be merged; the others stand on "
    "their own. I would pass all of them on with the scores that follow from these remarks."
)
VIEWS = (
    "the observation is concrete and the reasoning follows from common knowledge, so I would keep it as it stands.",
    "stated clearly and tied to one place; nothing in the other candidates speaks against it, hence I keep it.",
    "the reason given is sound, the wording could be shorter, but the point itself deserves to be kept.",
)

TRUE = "It is plainly visible and cannot be so."
PLAUSIBLE = "It is described concretely and the reason given holds."
ABSENT = "Looking again, the picture does not show this."

LOOKS = (
    "I see {object} with a clear outline; I followed its edges, counted its parts and compared their sizes and joints.",
    "{object} stands out well from its surroundings; I went over its shape, its material, its parts and its shadow.",
    "Going over {object} from top to bottom I looked at structure, surface, contact with its surroundings and light.",
)

INVENTIONS = (
    {
        "name": "Shadow in the wrong direction",
        "phenomenon": "The shadow of {object} falls towards the light instead of away from it.",
        "reasoning": "A shadow lies on the side that is turned away from the source of light.",
    },
    {
        "name": "Edge melts into the background",
        "phenomenon": "Along one side {object} has no edge and flows into what lies behind it.",
        "reasoning": "Solid things end somewhere; their outline does not dissolve into other things.",
    },
    {
        "name": "Repeated pattern",
        "phenomenon": "A part of {object} is repeated next to itself in exactly the same form.",
        "reasoning": "Grown and used things differ in detail; exact copies do not lie side by side.",
    },
    {
        "name": "Impossible reflection",
        "phenomenon": "What is reflected near {object} does not agree with its pose.",
        "reasoning": "A mirror image follows from the position of the thing and cannot show another pose.",
    },
)

CHATTER = (
    "Sure, here is what I found when I looked at it carefully.",
    "I have gone through everything step by step. My answer follows.",
    "Thank you for the picture. This is the result in the form that was asked for.",
)
NONSENSE = (
    "There is a lot going on here and it would be hard to put all of it into the form that was asked for, but on the "
    "whole the picture is pleasant to look at, and a few of its details may be worth a second look at some point."
)
REFUSAL = "I'm sorry, but I can't help with that."
