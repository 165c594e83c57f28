"""Planted defects: each is what its name says, at the rate asked for, the same at every call, and never by default."""

import io
import json
import random
import re
import urllib.request
from collections import Counter

import imagehash
import pytest
from PIL import Image

from surd.pipeline.demo.server import serve_gallery
from surd.pipeline.demo.world.defect_prompts import HUGE, UNSAFE
from surd.pipeline.demo.world.defects import KINDS, plan
from surd.pipeline.demo.world.files import demo_file, identity, write_truth
from surd.pipeline.demo.world.prompts import FILLER, QUALITY, truth
from surd.pipeline.demo.world.scenes import ATTRIBUTES, scene
from surd.pipeline.demo.world.translations import LANGUAGES, translatable, translated
from surd.pipeline.metadata.reader import read_metadata
from surd.schemas import Reason

SEED, COUNT, SHARE = 11, 500, 0.5
BROKEN = [name for name, kind in KINDS.items() if kind.group == "broken files"]
COPIES = [name for name, kind in KINDS.items() if kind.must == "once"]
WRONG = [name for name, kind in KINDS.items() if kind.group == "one wrong fact"]


@pytest.fixture(scope="module")
def planted():
    """Kind -> [(index, its defect, its file)] of a world with defects."""
    found = {name: [] for name in KINDS}
    for index in range(COUNT):
        if defect := plan(SEED, index, SHARE):
            found[defect.kind].append((index, defect, demo_file(SEED, index, SHARE)))
    return found


def opened(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def test_without_a_share_nothing_is_planted():
    assert all(plan(SEED, index, 0.0) is None for index in range(200))
    assert [demo_file(SEED, index, 0.0) for index in range(12)] == [demo_file(SEED, index) for index in range(12)]


def test_sound_records_among_defective_ones_are_those_of_the_world_without_defects():
    sound = [index for index in range(60) if plan(SEED, index, SHARE) is None]
    assert [demo_file(SEED, index, SHARE) for index in sound] == [demo_file(SEED, index) for index in sound]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_share_is_kept_and_the_kinds_are_evenly_mixed(share):
    kinds = Counter(defect.kind if (defect := plan(3, index, share)) else None for index in range(1200))
    sound = kinds.pop(None)
    assert abs((1200 - sound) - 1200 * share) <= len(COPIES)
    assert set(kinds) == set(KINDS) and max(kinds.values()) - min(kinds.values()) <= 2


def test_defects_are_the_same_at_every_call(planted):
    before = {index: (defect, file) for rows in planted.values() for index, defect, file in rows if index < 120}
    demo_file.cache_clear()
    assert {index: (plan(SEED, index, SHARE), demo_file(SEED, index, SHARE)) for index in before} == before


def test_reasons_that_count_as_caught_are_reasons():
    assert {reason for kind in KINDS.values() for reason in kind.reasons} <= {reason.value for reason in Reason}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_fact_is_one_fact_that_the_scene_has(planted, kind):
    assert planted[kind]
    for _, defect, file in planted[kind]:
        assert KINDS[kind].needs in ATTRIBUTES[defect.shown.kind]
        shown, stated = truth(defect.shown), truth(defect.stated)
        assert sum(shown[name] != stated[name] for name in shown) == 1 and file.prompt == defect.prompt


def test_the_prompt_of_another_image_has_nothing_in_it_that_is_to_be_seen(planted):
    for _, defect, _ in planted["prompt_of_another_image"]:
        of_both = {defect.stated.subject, defect.stated.other} & {defect.shown.subject, defect.shown.other} - {None}
        assert of_both <= {"person"} and (not of_both or defect.shown.action != defect.stated.action)


def test_an_exact_duplicate_has_its_original_s_bytes_and_another_id(planted):
    for index, defect, file in planted["exact_duplicate"]:
        original = demo_file(SEED, defect.original, SHARE)
        assert defect.original < index and plan(SEED, defect.original, SHARE) is None
        assert file.data == original.data and file.prompt == original.prompt and file.id == identity(SEED, index)


@pytest.mark.parametrize("kind", [kind for kind in COPIES if kind.startswith("near_")])
def test_a_near_duplicate_looks_like_its_original_and_has_other_bytes(planted, kind):
    for _, defect, file in planted[kind]:
        original = demo_file(SEED, defect.original, SHARE)
        picture = opened(file.data)
        assert file.data != original.data and picture.size == (file.width, file.height)
        assert (picture.size != (128, 128)) == (kind != "near_duplicate_recompressed")
        assert imagehash.phash(picture) - imagehash.phash(opened(original.data)) <= 16
    prompts = {file.prompt == demo_file(SEED, defect.original, SHARE).prompt for _, defect, file in planted[kind]}
    assert prompts == {True, False}, "some are worded anew"


def test_a_duplicate_prompt_has_the_same_words_and_facts_and_another_picture(planted):
    for _, defect, file in planted["duplicate_prompt"]:
        original = demo_file(SEED, defect.original, SHARE)
        assert file.prompt == original.prompt and truth(defect.shown) == truth(scene(SEED, defect.original))
        assert opened(file.data).convert("RGB").tobytes() != opened(original.data).convert("RGB").tobytes()


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_no_png_jpeg_or_webp_that_decodes(planted, kind):
    assert planted[kind]
    for _, _, file in planted[kind]:
        try:
            assert opened(file.data).format not in ("PNG", "JPEG", "WEBP")
        except (OSError, SyntaxError, ValueError):
            assert file.data != b""


def test_a_wrong_extension_hides_a_sound_picture(planted):
    for _, _, file in planted["wrong_extension"]:
        assert opened(file.data).format != {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[file.ext]
        assert read_metadata(file.data).prompt == file.prompt


def test_missing_metadata_is_missing_everywhere(planted):
    for _, _, file in planted["missing_metadata"]:
        assert read_metadata(file.data) is None and file.silent


def test_a_truncated_prompt_breaks_off_where_no_word_or_bracket_ends(planted):
    for _, _, file in planted["truncated_prompt"]:
        last = file.prompt.rsplit(", ", 1)[-1]
        assert file.prompt.count(", ") <= 2 and re.fullmatch(r"[\[(]{0,2}.*?[^\s)\]](?::1\.)?", last)


def test_tags_only_praise(planted):
    for _, _, file in planted["tag_only"]:
        assert set(re.sub(r"[()]|:1\.\d", "", file.prompt).split(", ")) <= set(QUALITY)


def test_gibberish_shares_no_word_with_the_demo(planted):
    known = {word for tag in QUALITY + FILLER for word in tag.split()}
    assert all(known.isdisjoint(re.findall(r"\w+", file.prompt.lower())) for _, _, file in planted["gibberish"])


def test_a_foreign_prompt_tells_the_same_scene_in_one_of_six_languages(planted):
    for _, defect, file in planted["foreign_language"]:
        assert translatable(defect.shown) and "background" not in file.prompt
    every = [(language, index) for language in LANGUAGES for index in range(300) if translatable(scene(SEED, index))]
    sentences = {translated(scene(SEED, index), language, random.Random(0)) for language, index in every}
    assert len(sentences) > 100 and not any("{" in sentence for sentence in sentences)


def test_unresolved_wildcards_are_left_in(planted):
    for _, _, file in planted["unresolved_wildcards"]:
        assert re.search(r"__[\w/]+__|\{[^}]+\}", file.prompt)


def test_unsafe_words_or_an_unsafe_level_are_there(planted):
    for _, _, file in planted["nsfw_words"]:
        assert set(file.prompt.split(", ")) & set(UNSAFE) and file.nsfw_level == "None"
    assert {file.nsfw_level for _, _, file in planted["nsfw_level"]} <= {"Mature", "X"}


@pytest.mark.parametrize("kind", ["prompt_injection", "script_tag"])
def test_a_payload_is_in_the_prompt(planted, kind):
    for _, defect, file in planted[kind]:
        words = " ".join(re.findall("[a-z0-9]+", file.prompt.lower()))
        assert defect.payload
        assert all(" ".join(re.findall("[a-z0-9]+", part)) in words for part in defect.payload)


def test_a_huge_prompt_is_huge_in_the_file_too(planted):
    for _, _, file in planted["huge_prompt"]:
        assert len(file.prompt) >= HUGE and read_metadata(file.data).prompt == file.prompt.strip()


def test_the_gallery_serves_them_and_keeps_the_truth_back(planted, tmp_path):
    with serve_gallery(60, SEED, defects=SHARE) as gallery, urllib.request.urlopen(f"{gallery.url}?limit=60") as answer:
        body = answer.read()
        for item in json.loads(body)["items"]:
            index = item["id"] - identity(SEED, 0)
            file = demo_file(SEED, index, SHARE)
            defect = plan(SEED, index, SHARE)
            with urllib.request.urlopen(item["url"]) as image:
                assert image.read() == file.data
                assert not file.content_type or image.headers["Content-Type"] == file.content_type
            assert item["nsfw"] == bool(defect and defect.kind == "nsfw_level")
            assert item["meta"] is None or item["meta"]["prompt"] == file.prompt
    assert not any(name.encode() in body for name in ("defect", *KINDS))
    write_truth(tmp_path / "truth.jsonl", 60, SEED, SHARE)
    rows = [json.loads(line) for line in (tmp_path / "truth.jsonl").read_text().splitlines()]
    for index, row in enumerate(rows):
        defect = plan(SEED, index, SHARE)
        assert row["defect"] == (defect and defect.kind)
        assert {name: row[name] for name in truth(scene(0, 0))} == truth(defect.shown if defect else scene(SEED, index))
        assert (row["original"] is None) == (defect is None or defect.original is None)
