"""How each task is asked for; the first phrasing of a task is the one that tests use.

Fields: `{every}` "every ship", `{many}` "ships", `{one}` "ship", `{a}` "a ship", `{form}` "ship" or
"ships" and `{are}` "is" or "are" as the number asks, `{phrase}` a referring expression, `{place}`
"top left". Replies have one phrasing each: a refusal must be recognisable, and the words of a reply
are not what is to be learned.
"""

from __future__ import annotations

SEGMENT = (
    "{every}",
    "all {many}",
    "segment the {many}",
    "Segment {every}.",
    "Show me the {many}.",
    "Mark all {many} in the scene.",
    "{many}",
    "{one}",
    "Please outline the {many}.",
    "Find {every} and mask it.",
    "Can you segment the {many}?",
    "Where are all the {many}? Segment them.",
    "I need a mask of {every}.",
    "Highlight any {one}.",
)
REFER = (
    "{phrase}",
    "Segment {phrase}.",
    "Show me {phrase}.",
    "Please mask {phrase}.",
    "Find {phrase}.",
    "Where is {phrase}? Segment it.",
    "Can you segment {phrase}?",
)
PRESENCE = (
    "Is there {a}?",
    "Are there any {many}?",
    "Is there {a} in the scene?",
    "Can you see {a}?",
    "Does the scene show any {many}?",
    "Do you see {many} here?",
)
COUNT = (
    "How many {many} are there?",
    "Count the {many}.",
    "What is the number of {many}?",
    "How many {many} can you see?",
    "How many {many} are in the scene?",
)
GROUND = (
    "Where {are} the {form}? Give a box.",
    "Box the {form}.",
    "Give the box of the {form}.",
    "Locate the {form} with a box.",
    "Put a box around the {form}.",
)
GROUND_PHRASE = (
    "Where is {phrase}? Give a box.",
    "Box {phrase}.",
    "Give the box of {phrase}.",
    "Locate {phrase} with a box.",
    "Put a box around {phrase}.",
)
REGION = (
    "What is at the {place}?",
    "Which objects are at the {place}?",
    "Describe the {place} of the scene.",
    "What do you see at the {place}?",
)
CAPTION = (
    "Describe the scene.",
    "Describe the scene in one sentence.",
    "What does the scene show?",
    "Caption this image.",
    "Give a short description.",
    "Summarise what you see.",
)
CLASSIFICATION = (
    "Which kinds of objects are in the scene?",
    "What kinds of objects are there?",
    "Name the kinds of objects you see.",
    "Classify what is in the scene.",
    "List the kinds of objects.",
)
CONVERSATION = (
    "Describe the scene and segment what you name.",
    "Describe the scene with masks.",
    "What is in the scene? Answer with masks.",
    "Segment everything you can name.",
    "Name the objects and mask them.",
)
FOLLOW_UP = (
    "Segment them.",
    "Show me.",
    "Where? Segment them.",
    "Mask them, please.",
    "Now segment the {many}.",
)
