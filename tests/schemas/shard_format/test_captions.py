"""The several captions of a sample: one JSON text for each list, and hostile ones refused in a sentence."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surd.pipeline.untrusted_json import without_controls
from surd.schemas.records import Caption
from surd.schemas.shard_format.captions import MAX_BYTES, MAX_CAPTIONS, dump_captions, parse_captions
from tests.fuzz import FUZZED

TWO = [
    Caption(name="short", text="Zwei Äpfel.", score=0.25, model="tiny", dropped=["count: three (0.1)"]),
    Caption(name="long", text="Two apples\nlie on a table."),
]


def row(**fields: object) -> dict[str, object]:
    return {"name": "short", "text": "a cat"} | fields


def test_what_is_written_is_read_and_has_one_form():
    text = dump_captions(TWO)
    assert text == (
        '[{"name":"short","text":"Zwei Äpfel.","score":0.25,"model":"tiny","dropped":["count: three (0.1)"]},'
        '{"name":"long","text":"Two apples\\nlie on a table.","score":null,"model":null,"dropped":[]}]'
    )
    assert parse_captions(text.encode()) == TWO
    assert parse_captions(json.dumps(json.loads(text), indent=2).encode()) == TWO


def test_every_text_that_scraped_prose_may_be_can_be_stored():
    text = without_controls("".join(map(chr, range(0x3000))))
    assert parse_captions(dump_captions([Caption(name="long", text=text)]).encode())[0].text == text


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "it is not a list of Caption: Invalid JSON"),
        (b"[", "it is not a list of Caption: Invalid JSON"),
        (b"{}", "it is not a list of Caption: Input should be a valid array"),
        (b"[" * 100_000, "it is not a list of Caption: Invalid JSON: recursion limit exceeded"),
        (b'[{"name":"a","text":"\xff"}]', "it is not a list of Caption: Invalid JSON: invalid unicode"),
        (rb'[{"name":"a","text":"\ud800"}]', "it is not a list of Caption: Invalid JSON"),
        (json.dumps([row(unknown=1)]).encode(), "0.unknown: Extra inputs are not permitted"),
        (json.dumps([row(**{"\x1b[31m": 1})]).encode(), "Extra inputs are not permitted"),
        (json.dumps([row(), row(text=None)]).encode(), "1.text: Input should be a valid string"),
        (json.dumps([{"text": "a cat"}]).encode(), "0.name: Field required"),
        (json.dumps([row(score="0.3")]).encode(), "0.score: Input should be a valid number"),
        (json.dumps([row(score=float("nan"))]).encode(), "0.score: it is not a finite number"),
        (b'[{"name":"a","text":"b","score":1e999}]', "0.score: it is not a finite number"),
        (json.dumps([row(text="a \x1b[31mcat")]).encode(), "0.text: it holds a control character"),
        (json.dumps([row(dropped=["a \x1b[31mcat"])]).encode(), "0.dropped: it holds a control character"),
        (json.dumps([row(model="a\0")]).encode(), "0.model: it holds a control character"),
        (json.dumps([row(text=" \n")]).encode(), "0.text: it is empty"),
        (json.dumps([row(name="")]).encode(), "0.name: it is not one line of 1 to 100 characters"),
        (json.dumps([row(name="a\nb")]).encode(), "0.name: it is not one line"),
        (json.dumps([row(name="a" * 101)]).encode(), "0.name: it is not one line"),
        (json.dumps([row()] * (MAX_CAPTIONS + 1)).encode(), "List should have at most 64 items"),
        (b" " * (MAX_BYTES + 1), "it has 262,145 bytes; the captions of a sample may have 262,144"),
        (b"[" + b"{}," * 80_000 + b"{}]", "0.name: Field required"),
        (('[{"name":"a","text":"b","dropped":[' + "1," * 100_000 + "1]}]").encode(), "0.dropped.0: Input should be"),
    ],
)
def test_what_is_not_captions_is_told_in_a_sentence(data, sentence):
    with pytest.raises(ValueError) as told:
        parse_captions(data)
    assert sentence in str(told.value) and "\n" not in str(told.value) and "\x1b" not in str(told.value)
    assert len(str(told.value)) < 400


@pytest.mark.parametrize(
    ("caption", "sentence"),
    [
        ({"text": "\ud800"}, "half of a surrogate pair"),
        ({"text": "x" * MAX_BYTES}, "the captions of a sample may have 262,144"),
        ({"score": float("inf")}, "0.score: it is not a finite number"),
        ({"text": "a\x07"}, "0.text: it holds a control character"),
    ],
)
def test_what_may_not_be_stored_is_not_written(caption, sentence):
    with pytest.raises(ValueError, match=sentence):
        dump_captions([Caption(**{"name": "a", "text": "b"} | caption)])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["name", "text", "score", "model", "dropped", "x"]), inner)
    ),
    max_leaves=20,
)


@pytest.mark.fuzz
@FUZZED
@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_captions_or_a_sentence(data):
    try:
        captions = parse_captions(data)
    except ValueError as error:
        assert type(error) is ValueError and "\n" not in str(error)
    else:
        assert parse_captions(dump_captions(captions).encode()) == captions
