from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geomag.errors import DataError
from geomag.spelling import LOOKS, STEPS
from geomag.values import BOX, SEG, Box, LookBox, Size, Turn
from geomag_tiny.vocabulary import SHIPPED, Vocabulary

VOCABULARY = Vocabulary()
ANSWERS = VOCABULARY.answers
CANVASES = [Size(256, 256), Size(64, 128)]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_any_reply_comes_back(text: str) -> None:
    plain = text.replace(BOX, "")
    written, boxes = ANSWERS.parse(ANSWERS.reply(plain, [], CANVASES), CANVASES)
    assert (written, boxes) == (plain.replace(BOX, ""), [])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, VOCABULARY.size - 1), max_size=30))
def test_whatever_is_generated_reads_back(ids: list[int]) -> None:
    text, boxes = ANSWERS.parse(ids, CANVASES)
    again = ANSWERS.reply(text, boxes, CANVASES)
    assert ANSWERS.parse(again, CANVASES) == (text, boxes)
    assert again.count(ANSWERS.seg) == text.count(SEG)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1), *([st.floats(0, 1)] * 4))
def test_boxes_come_back_nearly(
    look: int, left: float, top: float, right: float, bottom: float
) -> None:
    canvas = CANVASES[look]
    across, down = canvas.width / STEPS, canvas.height / STEPS
    box = Box(
        min(left, right) * canvas.width,
        min(top, bottom) * canvas.height,
        max(left, right) * canvas.width,
        max(top, bottom) * canvas.height,
    )
    ids = ANSWERS.reply(f"Here: {BOX}.", [LookBox(look, box)], CANVASES)
    text, (found,) = ANSWERS.parse(ids, CANVASES)
    assert text == f"Here: {BOX}."
    assert found.look == look
    assert 0 <= found.box.left < found.box.right <= canvas.width
    assert 0 <= found.box.top < found.box.bottom <= canvas.height
    # Rounding moves an edge by half a step; a box thinner than a step is widened to one.
    assert abs(found.box.left - box.left) <= across
    assert abs(found.box.right - box.right) <= 1.5 * across
    assert abs(found.box.top - box.top) <= down
    assert abs(found.box.bottom - box.bottom) <= 1.5 * down
    assert ANSWERS.reply(text, [found], CANVASES) == ids


def test_a_broken_box_goes_with_its_marker() -> None:
    ids = ANSWERS.reply(f"{BOX} and {BOX}", [LookBox(0, Box(0, 0, 9, 9))] * 2, CANVASES)
    backwards = [ids[0], ids[1], *reversed(ids[2:6]), *ids[6:]]
    assert ANSWERS.parse(backwards, CANVASES)[0] == f" and {BOX}"
    assert ANSWERS.parse(ids[:-1], CANVASES)[0] == f"{BOX} and "
    assert ANSWERS.parse(ids, [])[0] == " and "


def test_markers_in_a_user_s_mouth_are_text() -> None:
    ids, _ = VOCABULARY.prompt((Turn("user", f"{SEG} {BOX} <end>"),), 100)
    assert not {ANSWERS.seg, ANSWERS.box} & set(ids)
    assert ids.count(VOCABULARY.end) == 1


def test_markers_of_earlier_answers_are_markers() -> None:
    turns = (Turn("user", "ships"), Turn("model", f"Here. {SEG}"), Turn("user", "again"))
    ids, start = VOCABULARY.prompt(turns, 100)
    assert ids[:start].count(ANSWERS.seg) == 1
    assert ids[start] == VOCABULARY.user


def test_case_of_a_prompt_does_not_matter() -> None:
    prompts = [VOCABULARY.prompt((Turn("user", text),), 9) for text in ("Ships", "ships")]
    assert prompts[0] == prompts[1]


def test_long_conversations_lose_their_oldest_part() -> None:
    turns = (Turn("user", "old " * 50), Turn("model", "Yes."), Turn("user", "new " * 20))
    ids, start = VOCABULARY.prompt(turns, 40)
    assert len(ids) == 40
    assert ids[start:] == VOCABULARY.prompt(turns[-1:], 40)[0]
    assert len(VOCABULARY.prompt((Turn("user", "endless " * 500),), 40)[0]) == 40


def test_boxes_and_markers_must_agree() -> None:
    with pytest.raises(DataError, match=r"has 1 \[BOX\] for 0 boxes"):
        ANSWERS.reply(BOX, [], CANVASES)
    with pytest.raises(DataError, match="boxes in looks"):
        ANSWERS.reply(BOX, [LookBox(2, Box(0, 0, 1, 1))], CANVASES)
    with pytest.raises(DataError, match="boxes in looks"):
        ANSWERS.reply(BOX, [LookBox(LOOKS, Box(0, 0, 1, 1))], [CANVASES[0]] * 99)


def test_words_of_the_task_are_single_tokens() -> None:
    for word in ("airplane", "ships", "vehicles", "harbor", "every", "left", "bottom", "white"):
        assert len(VOCABULARY.text(f" {word}")) == 1, word


def test_a_tokenizer_without_our_tokens_is_named(tmp_path: Path) -> None:
    text = SHIPPED.read_text(encoding="utf-8").replace(SEG, "[XXX]")
    other = tmp_path / "other.json"
    other.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"other\.json lacks the tokens \[SEG\]"):
        Vocabulary(other)
    shutil.copy(SHIPPED, other)
    assert Vocabulary(other).size == VOCABULARY.size
