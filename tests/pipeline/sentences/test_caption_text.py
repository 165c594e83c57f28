"""A captioner's answer becomes its sentences about the picture, or is not used for a reason."""

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surd.pipeline.sentences.caption_text import InvalidCaption, usable_caption
from tests.fuzz import FUZZED

DOG = "A dog sits on a mat."


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        (DOG, DOG),
        ("a dog sits on a mat", "a dog sits on a mat"),
        ("A dog sits on a mat.\n\nIt is red.", "A dog sits on a mat. It is red."),
        ('"A dog sits on a mat."', DOG),
        ("Sure! Here's a short description: A dog sits on a mat.", DOG),
        ("**Caption:** A dog sits on a mat.", DOG),
        ("## The picture\nA dog sits on a mat.", DOG),
        ("A dog sits on a mat. Let me know if you need anything else!", DOG),
        ("A dog sits on a mat. I cannot say which breed it is.", DOG),
        ('{"caption": "A dog sits on a mat."}', DOG),
        ('```json\n{"Description": "A dog sits on a mat."}\n```', DOG),
        ('A sign says "I can\'t go". It is red.', 'A sign says "I can\'t go". It is red.'),
        ("A portrait of Mr. Smith. He sits.", "A portrait of Mr. Smith. He sits."),
        ("A man and a man and a woman stand there.", "A man and a man and a woman stand there."),
        ("The label of the bottle reads: fresh milk.", "The label of the bottle reads: fresh milk."),
    ],
)
def test_an_answer_gives_its_sentences_about_the_picture(answer, caption):
    assert usable_caption(answer, language="en") == caption


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("", "an empty answer"),
        ("!!! ...", "an answer without words"),
        ("I'm sorry, I can't help with that.", "a refusal"),
        ("As an AI language model I see a dog.", "a refusal"),
        ("I can't see any image. Please upload the picture.", "a refusal"),
        ("There is no image attached to the message.", "a refusal"),
        ("Unable to describe it.", "a refusal"),
        ("Let me know what you need.", "it speaks to its reader"),
        ('{"objects": ["dog", "mat"]}', "JSON where a sentence was asked"),
        ('{"caption": "A dog.", "title": "Rex"}', "JSON where a sentence was asked"),
        ('[{"caption": "A dog sits."}]', "JSON where a sentence was asked"),
        ('{"caption": "A dog sits', "JSON where a sentence was asked"),
        ("[" * 5000, "JSON where a sentence was asked"),
        ("<|im_start|>user what is it", "chat markup (<|im_start|>)"),
        ("car<loc_52><loc_332>", "chat markup (<loc_52>)"),
        ("A dog. Assistant: yes", "chat markup (Assistant:)"),
        ("- a dog\n- a mat", "a list, no sentences"),
        ("dog, mat, red, floor", "keywords, no sentence"),
        ("A dog.", "fewer than three words"),
        ("Ein Hund sitzt auf einer roten Matte vor dem Haus.", "in another language (de)"),
        ("一只狗坐在红色的垫子上。", "in another language (zh)"),
        ("a cat and a cat and a cat and a cat", "it repeats itself"),
        ("the the the the dog", "it repeats itself"),
        (" ".join(f"word{number}" for number in range(2000)), "more than 100 words"),
    ],
)
def test_what_is_no_caption_is_not_used_for_a_reason(answer, why):
    with pytest.raises(InvalidCaption) as caught:
        usable_caption(answer, language="en")
    assert str(caught.value) == why


def test_of_an_answer_that_is_too_long_whole_sentences_stay():
    long = " ".join(f"The dog number {number} barks." for number in range(400))  # 2,000 words
    assert usable_caption(long, max_words=12) == "The dog number 0 barks. The dog number 1 barks."


def test_of_an_answer_that_goes_round_what_came_before_stays():
    assert usable_caption(f"{DOG} The mat is red. {DOG} The mat is red.") == f"{DOG} The mat is red."
    assert usable_caption(f"{DOG} It is on the left of the on the left of the on the left of the box.") == DOG


def test_a_cut_answer_ends_with_its_last_whole_sentence():
    assert usable_caption(f"{DOG} The mat is", cut=True) == DOG
    assert usable_caption(DOG, cut=True) == DOG
    with pytest.raises(InvalidCaption, match="broken off at max_new_tokens"):
        usable_caption("A dog sits on", cut=True)


def test_the_language_is_the_one_that_was_asked_for():
    german = "Ein Hund sitzt auf einer roten Matte vor dem Haus."
    assert usable_caption(german, language="de") == german == usable_caption(german)
    assert usable_caption("一只狗坐在垫子上。它很小。", language="zh") == "一只狗坐在垫子上。它很小。"


def test_the_text_of_a_model_that_was_asked_nothing_is_a_caption_in_any_form():
    for text in ("dog", "a, b, c", "a sign that says i can't", "ein hund sitzt auf einer roten matte vor dem haus"):
        assert usable_caption(text, language="en", asked=False) == text
    with pytest.raises(InvalidCaption, match="repeats"):
        usable_caption("a cat cat cat cat cat", asked=False)


@pytest.mark.fuzz
@FUZZED
@given(st.text(), st.booleans(), st.booleans(), st.integers(3, 30))
def test_any_answer_is_one_line_of_words_or_a_reason(answer, cut, asked, most):
    try:
        caption = usable_caption(answer, cut=cut, max_words=most, language="en", asked=asked)
    except InvalidCaption as why:
        assert str(why) and len(str(why)) < 100
    else:
        assert len(caption.splitlines()) == 1 and 0 < len(caption.split()) <= most


@pytest.mark.parametrize(
    "part", [".", ".)", "<", "(", "word ", "a. ", "`", "here is ", "user", '"', "{", "I can", "\n- a", "A."]
)
def test_long_answers_take_time_in_proportion(part):
    started = time.perf_counter()
    with contextlib.suppress(InvalidCaption):
        usable_caption(part * (200_000 // len(part)) + "x", language="en")
    assert time.perf_counter() - started < 3
