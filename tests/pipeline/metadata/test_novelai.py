"""From NovelAI's fourth model on, the captions of the characters belong to the prompt, wherever they are stored."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from surd.pipeline.metadata.reader import read_metadata
from tests.fuzz import FUZZED
from tests.pipeline.image_bytes import USER_COMMENT, png, stealth, tool_chunk, with_exif


def captions(base: str, *characters: str) -> dict:
    return {"caption": {"base_caption": base, "char_captions": [{"char_caption": text} for text in characters]}}


COMMENT = {
    "prompt": "2animals, snow,",
    "sampler": "k_euler",
    "steps": 28,
    "uc": "blurry",
    "v4_prompt": captions("2animals, snow,", "red fox, 1.2::sleeping::", "", "black crow"),
    "v4_negative_prompt": captions("blurry", "", "hat"),
}
PROMPT, NEGATIVE = "2animals, snow, red fox, 1.2::sleeping::, black crow", "blurry, hat"


def texts(comment: object, **more: str) -> dict[str, str]:
    return {"Description": "2animals, snow,", "Software": "NovelAI", "Comment": json.dumps(comment), **more}


def file(comment: object, **more: str) -> bytes:
    return png(*(tool_chunk(*pair) for pair in texts(comment, **more).items()))


@pytest.mark.parametrize(
    "data",
    [
        file(COMMENT, Source="NovelAI Diffusion V4 37442FCA"),
        file(COMMENT),
        file({key: value for key, value in COMMENT.items() if key not in ("prompt", "sampler")}),
        with_exif("WEBP", USER_COMMENT, b"ASCII\0\0\0" + json.dumps(texts(COMMENT)).encode()),
        stealth(json.dumps(texts(COMMENT)).encode()),
    ],
    ids=["chunks", "without a source", "captions alone", "EXIF", "pixels"],
)
def test_the_captions_of_characters_are_read(data):
    with Image.open(io.BytesIO(data)) as picture:
        found = read_metadata(data, picture)
    assert (found.tool, found.prompt, found.negative_prompt) == ("NovelAI", PROMPT, NEGATIVE)


@pytest.mark.parametrize("odd", [None, 3, "text", [], {}, {"caption": None}, {"caption": {"char_captions": "x"}}])
def test_of_odd_captions_the_plain_prompt_is_left(odd):
    found = read_metadata(file(COMMENT | {"v4_prompt": odd, "v4_negative_prompt": odd}, Source="NovelAI 37442FCA"))
    assert (found.prompt.rstrip(","), found.negative_prompt) == ("2animals, snow", "blurry")


values = st.recursive(
    st.none() | st.integers() | st.sampled_from(["a fox", "\ud800", "\x1b[1m"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["caption", "base_caption", "char_captions", "char_caption"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@pytest.mark.fuzz
@FUZZED
@given(values, values)
def test_no_captions_make_it_raise(positive, negative):
    read_metadata(file({"v4_prompt": positive, "v4_negative_prompt": negative, "prompt": "a", "sampler": "k"}))
