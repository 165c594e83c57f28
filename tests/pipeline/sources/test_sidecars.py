"""Captions in text files beside pictures are their prompts, whatever else lies there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from surd.pipeline.sources import open_source
from surd.pipeline.sources.sidecars import MAX_BYTES
from surd.schemas import BuildConfig, SourceRecord
from tests.pipeline.finished_sets import picture


def folder(root: Path, **captions: bytes) -> Path:
    """A picture ``a.png`` and the files beside it; ``_`` is a dot."""
    root.mkdir(exist_ok=True)
    (root / "a.png").write_bytes(picture(1))
    for name, data in captions.items():
        (root / name.replace("_", ".")).write_bytes(data)
    return root


def records(root: Path) -> list[SourceRecord]:
    with open_source(BuildConfig(source=f"folder:{root}")) as source:
        return source.page(None).records


@pytest.mark.parametrize("name", ["a_txt", "a_caption", "a_png_txt"])
def test_the_text_beside_a_picture_is_its_prompt_and_no_record(tmp_path, name):
    (record,) = records(folder(tmp_path / "d", **{name: "a red fox in the snow é\n".encode()}))
    assert (record.source_id, record.prompt, record.detail) == ("a.png", "a red fox in the snow é", None)


def test_infotext_gives_the_negative_prompt_and_the_parameters_too(tmp_path):
    text = (
        b"a green boat,\nBREAK on a lake\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1"
    )
    (record,) = records(folder(tmp_path / "d", a_txt=text))
    assert (record.prompt, record.negative_prompt) == ("a green boat,\nBREAK on a lake", "blurry")
    assert '"Sampler":"Euler a"' in record.params
    (record,) = records(folder(tmp_path / "d", a_txt=b"Steps: 20, Sampler: Euler a, Seed: 1, CFG scale: 7"))
    assert record.prompt is None and record.detail == "a sidecar a.txt lies beside it and has parameters and no prompt"


def test_of_several_lines_the_first_is_the_prompt_and_the_row_says_so(tmp_path):
    (record,) = records(folder(tmp_path / "d", a_txt=b"\n  a fox  \r\na red fox\n"))
    assert (record.prompt, record.detail) == ("a fox", "of the 2 lines of a.txt the first is the prompt")


def test_what_pairs_jsonl_says_comes_before_the_file_beside(tmp_path):
    root = folder(tmp_path / "d", a_txt=b"from the file", b_txt=b"a crow")
    (root / "b.png").write_bytes(picture(2))
    (root / "pairs.jsonl").write_text('{"image": "a.png", "prompt": "listed"}\n{"image": "b.png", "licence": "CC0"}')
    assert [(record.prompt, record.licence) for record in records(root)] == [("listed", None), ("a crow", "CC0")]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("\ufeffa fox".encode(), "a fox"),
        ("a fox".encode("utf-16"), "a fox"),
        (b"a \x1b[31mred\x1b[0m fox\x07", "a red fox"),
    ],
)
def test_texts_are_decoded_and_without_what_a_terminal_obeys(tmp_path, data, expected):
    assert records(folder(tmp_path / "d", a_txt=data))[0].prompt == expected


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xff\xfe\xfd", "is not read (it is not UTF-8)"),
        (b"caf\xe9", "is not read (it is not UTF-8)"),
        (b"x" * (MAX_BYTES + 1), "is not read (it has more than 1,048,576 bytes)"),
        (b" \n", "is empty"),
    ],
)
def test_what_cannot_be_a_caption_is_said_and_the_picture_stays(tmp_path, data, why):
    (record,) = records(folder(tmp_path / "d", a_txt=data))
    assert record.kept and record.prompt is None and record.detail == f"a sidecar a.txt lies beside it and {why}"


def test_a_caption_file_leads_nowhere_else_and_a_pipe_is_not_opened(tmp_path):
    (tmp_path / "secret").write_text("outside")
    root = folder(tmp_path / "d")
    (root / "a.txt").symlink_to(tmp_path / "secret")
    assert records(root)[0].detail == "a sidecar a.txt lies beside it and is not read (the path leaves the folder)"
    (root / "a.txt").unlink()
    os.mkfifo(root / "a.txt")
    assert records(root)[0].detail == "a sidecar a.txt lies beside it and is not read (it is not a plain file)"


def test_a_build_sees_that_a_caption_has_changed(tmp_path):
    def fingerprint() -> str:
        with open_source(BuildConfig(source=f"folder:{tmp_path / 'd'}")) as source:
            return source.fingerprint()

    folder(tmp_path / "d")
    without = fingerprint()
    folder(tmp_path / "d", a_txt=b"a fox")
    with_caption = fingerprint()
    folder(tmp_path / "d", a_txt=b"a red fox")
    assert len({without, with_caption, fingerprint()}) == 3
