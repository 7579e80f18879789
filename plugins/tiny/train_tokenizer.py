"""Trains the tokenizer that the plugin ships: `python plugins/tiny/train_tokenizer.py`.

Byte-level pair encoding, learned from the prompts and replies that training composes about scenes
of made-up objects, and from a list of words people use about such images. Any other text is still
read, byte by byte. The same phrasings and the same version of `tokenizers` write the same file.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from geomag.data.instructions import compose
from geomag.data.samples import Expression, Kind, LabelledSample, Polygons
from geomag.data.words import noun
from geomag.values import BOX, SEG, Pixels, SceneInfo, Size, View
from geomag_tiny.vocabulary import SHIPPED, SPECIAL

SIZE = 1536
"""Tokens in all, the special ones included."""
SCENES, EXCHANGES = 600, 12
VOCABULARY = Path(__file__).with_name("words.txt")


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else SHIPPED
    tokenizer = trained()
    tokenizer.save(str(target))
    print(f"{target}: {tokenizer.get_vocab_size()} tokens")  # noqa: T201  # stands in main


def trained() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    # Digits apart: a number is read figure by figure, not learned one by one.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE - len(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(Random(0)), trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL])
    return tokenizer


@dataclass(frozen=True)
class _Nowhere:
    """A scene that is talked about and never read."""

    info: SceneInfo

    def read(self, view: View, side: int) -> Pixels:
        raise NotImplementedError


def _texts(random: Random) -> Iterator[str]:
    lists = _lists()
    for word in [*lists["words"], *lists["colours"], *lists["sizes"], *lists["places"]]:
        yield from [f" {word}"] * 12
        yield from [word, word.capitalize()] * 4
    for kind in lists["kinds"]:
        known = noun(kind)
        yield from [f" {known.one}", f" {known.many}", f"every {known.one}"] * 12
        yield from [known.one, known.many, known.many.capitalize()] * 4
    for _ in range(SCENES):
        for exchange in compose(_scene(lists, random), EXCHANGES, random):
            yield from (turn.text for turn in exchange.conversation)
            yield exchange.reply.text.replace(SEG, "").replace(BOX, "")


def _lists() -> dict[str, list[str]]:
    """The sections of `words.txt`: a name in brackets, then entries between commas."""
    sections = VOCABULARY.read_text(encoding="utf-8").strip().split("\n\n")
    pairs = [section.split("\n", maxsplit=1) for section in sections]
    return {name.strip("[]"): " ".join(rest.split()).split(", ") for name, rest in pairs}


def _scene(lists: dict[str, list[str]], random: Random) -> LabelledSample:
    size = Size(600, 800)
    there = random.sample(lists["kinds"], 3)
    labels = tuple(random.choices(there, k=random.randint(1, 12)))
    shapes = []
    for _ in labels:
        x, y, side = random.random() * 740, random.random() * 540, random.uniform(8, 60)
        corners = [[x, y], [x + side, y], [x + side, y + side], [x, y + side]]
        shapes.append(Polygons([np.array(corners)], size))
    expressions = []
    for number, label in enumerate(labels):
        count, colour = random.randint(1, 5), random.choice(lists["colours"])
        extent, place = random.choice(lists["sizes"]), random.choice(lists["places"])
        text = f"{count} {colour} {extent} {noun(label).one} at the {place}"
        expressions.append(Expression(text, (number,)))
    return LabelledSample(
        scene=_Nowhere(SceneInfo(size)),
        shapes=tuple(shapes),
        labels=labels,
        exchanges=(),
        name="",
        kinds=tuple(map(Kind, dict.fromkeys([*there, *random.sample(lists["kinds"], 5)]))),
        expressions=tuple(expressions),
    )


if __name__ == "__main__":
    main()
