"""What a session asks for each of some classes."""

from __future__ import annotations

from collections.abc import Mapping

from .data.words import noun
from .errors import PromptError
from .export.raster import MOST_CLASSES
from .values import BOX, SEG

_MOST_NAMED = 20


def class_prompts(classes: object) -> dict[str, str]:
    """What is asked for each class, by name: "every ship", or the prompt that a mapping gives.

    Raises:
        PromptError: there are no classes or too many, one stands there twice, or a name or a prompt
            is empty or no text; names all problems at once.
    """
    if isinstance(classes, Mapping):
        pairs = list(classes.items())
    elif isinstance(classes, list | tuple):
        pairs = [(name, None) for name in classes]
    else:
        raise PromptError(
            f"classes {classes!r}: expected a list of names, as in ['ship', 'airplane'], or a "
            "mapping of names to prompts"
        )
    problems = [] if pairs else ["there is none; name one at least"]
    if len(pairs) > MOST_CLASSES:
        problems.append(f"there are {len(pairs)}, and a map of 8 bits holds {MOST_CLASSES}")
    asked: dict[str, str] = {}
    for place, (name, prompt) in enumerate(pairs):
        problem = _problem(name, prompt, isinstance(classes, Mapping))
        if not problem:
            name, question = name.strip(), prompt or noun(name).every
            problem = _repeated(name, question, asked)
            asked.setdefault(name, question)
        if problem:
            problems.append(f"number {place + 1}, {name!r}, {problem}")
    if problems:
        more = len(problems) - _MOST_NAMED
        named = problems[:_MOST_NAMED] + [f"and {more} more"] * (more > 0)
        raise PromptError(f"these classes cannot be asked for: {'; '.join(named)}")
    return asked


def _problem(name: object, prompt: object, prompted: bool) -> str:
    """Why a class cannot be asked for, nothing where it can."""
    if not isinstance(name, str):
        return f"is no text but of type {type(name).__name__}"
    if not any(letter.isalnum() for letter in name):
        return "is empty" if not name.strip() else "has no letters"
    if not name.strip().isprintable():
        return "has characters that cannot be shown"
    if prompted and not isinstance(prompt, str):
        return f"has {prompt!r} as its prompt, which is no text"
    if isinstance(prompt, str) and not prompt.strip():
        return "has an empty prompt"
    markers = [marker for marker in (SEG, BOX) if marker in f"{name} {prompt or ''}"]
    return f"contains {markers[0]}, which only the model may write" if markers else ""


def _repeated(name: str, question: str, asked: Mapping[str, str]) -> str:
    """Why nothing would be left for a class beside those before it."""
    if name in asked:
        return "stands there twice"
    same = [other for other, known in asked.items() if known.casefold() == question.casefold()]
    return f"asks what {same[0]!r} asks, {question!r}" if same else ""
