"""dedup keeps the best row of the same bytes, the same picture and the same prompt, and nothing else goes."""

from __future__ import annotations

import io
import json
import random
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from PIL import Image

from surd.pipeline.build.folder import Build, part_miniatures
from surd.pipeline.decisions import append
from surd.pipeline.deduplication.near_duplicates import find_near_duplicates
from surd.pipeline.deduplication.placeholders import REPEATS
from surd.pipeline.deduplication.registration import SIDE, miniature, register
from surd.pipeline.demo.world.render import render
from surd.pipeline.demo.world.scenes import ATTRIBUTES, Scene, scene, variant
from surd.pipeline.models import Models
from surd.pipeline.stages.collect import collect
from surd.pipeline.stages.dedup import dedup
from surd.schemas import BuildConfig, Cleaned, Decision, Deduped, Marker, Pair, Reason
from surd.schemas.config import DedupConfig, ModelsConfig
from tests.bench.reduces import Records

PLAIN = Scene("count", "cat", 3, "blue", "none", layout=7)


def encoded(image: Image.Image, format_: str, **options) -> Image.Image:
    out = io.BytesIO()
    image.save(out, format_, **options)
    return Image.open(io.BytesIO(out.getvalue())).convert("RGB")


def cropped(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    """Without these parts of its sides."""
    width, height = image.size
    return image.crop(
        (round(left * width), round(top * height), round(width * (1 - right)), round(height * (1 - bottom)))
    )


COPIES = {
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "twice the size": lambda image: image.resize((image.width * 2, image.height * 2)),
    "a JPEG of quality 50": lambda image: encoded(image, "JPEG", quality=50),
    "a WebP": lambda image: encoded(image, "WEBP", quality=60),
    "cropped on every side": lambda image: cropped(image, 0.05, 0.05, 0.05, 0.05),
    "cropped at one corner": lambda image: cropped(image, 0.06, 0.05, 0, 0),
    "cropped and a JPEG": lambda image: encoded(cropped(image, 0.02, 0.05, 0.04, 0), "JPEG", quality=60),
}


def twins(pictures: list[Image.Image], **settings) -> dict[int, int]:
    """Row -> row that stays; the pictures come best first."""
    minis = np.stack([miniature(picture) for picture in pictures])
    return {row: stays for row, stays, _ in find_near_duplicates(minis, DedupConfig(**settings))}


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_found_among_other_pictures(copy):
    others = [render(scene(5, index)) for index in range(60)]
    assert twins([render(PLAIN), *others, COPIES[copy](render(PLAIN))]) == {61: 0}


def test_copies_are_found_among_more_pictures_than_the_index_compares_exactly():
    pictures, copies = Records(8300).pictures, 100
    numbers = np.concatenate([np.arange(8200), np.arange(0, 8200, 82)[:copies]])
    crops = np.zeros((len(numbers), 4), np.float32)
    crops[-copies:] = np.random.default_rng(0).uniform(0, 0.045, (copies, 4))
    found = {row: stays for row, stays, _ in find_near_duplicates(pictures.miniatures(numbers, crops), DedupConfig())}
    planted = {8200 + at: int(numbers[8200 + at]) for at in range(copies)}
    assert found.items() <= planted.items() and len(found) >= 98


def test_a_picture_with_one_thing_changed_is_no_copy():
    rng = random.Random(4)
    for index in range(12):
        one = scene(6, index)
        others = dict.fromkeys(variant(one, attribute, rng) for attribute in ATTRIBUTES[one.kind])
        assert twins([render(one), *map(render, others)]) == {}, one


@pytest.mark.parametrize("change", [{"background": "green"}, {"subject": "dog"}, {"style": "blur"}, {"count": 4}])
def test_colour_detail_and_sharpness_are_seen_though_the_hash_may_not_see_them(change):
    assert twins([render(PLAIN), render(replace(PLAIN, **change))]) == {}


def test_a_mirrored_picture_is_a_copy_only_on_request():
    pictures = [render(scene(5, 1)), render(scene(5, 1)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    assert twins(pictures) == {}
    assert twins(pictures, flips=True) == {1: 0}


def test_a_crop_beyond_what_the_config_allows_is_another_picture():
    pictures = [render(PLAIN), cropped(render(PLAIN), 0.06, 0.06, 0.06, 0.06)]
    assert twins(pictures) == {1: 0}
    assert twins(pictures, crop=0.01) == {}


def test_every_copy_that_goes_was_compared_with_the_one_that_stays():
    """Small crops of small crops must not chain one picture to a quite different one."""
    whole = render(PLAIN, size=512)
    chain = [cropped(whole, 0.05 * step, 0, 0, 0) for step in range(5)]
    found = twins(chain)
    minis = np.stack([miniature(picture) for picture in chain])
    assert found[1] == 0 and found.get(4) != 0
    for row, stays in found.items():
        assert register(minis[[stays]], minis[[row]]).cropped[0] < 0.09


def test_many_copies_of_one_picture_leave_one():
    rng = random.Random(3)
    copies = [encoded(render(PLAIN), "JPEG", quality=rng.randint(50, 95)) for _ in range(40)]
    assert set(twins([render(PLAIN), *copies]).values()) == {0}
    assert len(twins([render(PLAIN), *copies])) == 40


def test_flat_pictures_are_told_apart_by_their_colour():
    assert twins([Image.new("RGB", (64, 64), colour) for colour in ("red", "#fd0000", "blue")]) == {1: 0}


@dataclass
class Rows:
    """A build of one partition per list of rows: (picture, prompt) with its size in pixels and bytes."""

    build: Build
    parts: list[list[tuple[Pair, Cleaned, np.ndarray]]] = field(default_factory=lambda: [[]])

    def add(
        self, name: int, shade: int = 0, *, keywords: list[str] | None = None, width=64, size=100, sha=None, kept=True
    ) -> str:
        key = f"{name:016x}"
        pair = Pair(key=key, sha256=sha or key, width=width, height=64, size=size)
        cleaned = Cleaned(key=key, keywords=keywords or [f"thing {name}"])
        mini = np.full((SIDE, SIDE, 3), shade, np.uint8)
        self.parts[-1].append((pair, cleaned if kept else cleaned.reject("clean", Reason.NSFW, "no"), mini))
        return key

    def deduped(self, **settings) -> dict[str, Deduped]:
        for part, rows in enumerate(self.parts):
            self.build.write_rows("fetch", part, Pair, [pair for pair, _, _ in rows])
            self.build.write_rows("clean", part, Cleaned, [cleaned for _, cleaned, _ in rows])
            array = io.BytesIO()
            np.save(array, np.stack([mini for _, _, mini in rows]))
            self.build.write_bytes(part_miniatures(part), array.getvalue())
        marker = Marker(stage="collect", part=0, parts=len(self.parts), fingerprint="", outputs={}, rows=0, seconds=0)
        self.build.write_marker(marker)
        found = list(dedup(self.build, BuildConfig(dedup=DedupConfig(**settings)), Models(ModelsConfig())))
        assert [len(part) for part in found] == [len(part) for part in self.parts]
        return {row.key: row for part in found for row in part}


@pytest.fixture
def rows(tmp_path) -> Rows:
    return Rows(Build(str(tmp_path)))


def test_of_one_picture_the_row_with_most_pixels_stays_then_most_bytes_then_the_smallest_key(rows):
    small, tall = rows.add(1, shade=10), rows.add(4, shade=10, width=128)
    rows.parts.append([])
    light, heavy, other = rows.add(5, shade=90), rows.add(6, shade=90, size=101), rows.add(3, shade=200)
    found = rows.deduped()
    assert {key for key, row in found.items() if row.kept} == {tall, heavy, other}
    assert (found[small].reason, found[small].cluster) == (Reason.DUPLICATE_IMAGE, tall)
    assert (found[light].reason, found[light].cluster) == (Reason.DUPLICATE_IMAGE, heavy)
    assert tall in (found[small].detail or "") and "most pixels" in (found[small].detail or "")
    assert found[small].distance == 0 and found[small].difference == 0
    assert found[tall].cluster == tall and found[tall].distance is None


def test_the_same_bytes_are_told_apart_from_the_same_look(rows):
    first, same, alike = rows.add(1, sha="a"), rows.add(2, sha="a"), rows.add(3, sha="b")
    found = rows.deduped()
    assert found[first].kept
    assert (found[same].reason, found[same].cluster) == (Reason.DUPLICATE_BYTES, first)
    assert (found[alike].reason, found[alike].cluster) == (Reason.DUPLICATE_IMAGE, first)


UNLIKE = ["a red fox in the snow", "a black crow on a fence", "two cats", "a green boat on a lake", "a castle at night"]


def add_prompts(rows, prompts, **fields):
    keys = []
    for number, prompt in enumerate(prompts):
        keys.append(rows.add(number + 1, shade=10, sha="same", keywords=[prompt], **fields))
        rows.parts[-1][-1][1].complex = prompt
    return keys


def test_bytes_under_five_unlike_prompts_are_a_placeholder_and_none_stays(rows):
    add_prompts(rows, UNLIKE)
    alone = rows.add(9, shade=200)
    found = rows.deduped()
    assert {row.reason for key, row in found.items() if key != alone} == {Reason.PLACEHOLDER}
    assert found[alone].kept and "a red fox" in next(iter(found.values())).detail


@pytest.mark.parametrize(
    "prompts",
    [
        UNLIKE[:4],
        [*UNLIKE[:4], "a crow, fence and sky"],
        [f"a fox in the snow, {word}" for word in ("oil", "ink", "hills", "trees", "night", "8k")],
        ["masterpiece, best quality, a fox", "best quality, the fox", "a fox, 4k", "one fox", "foxes", "old fox"],
    ],
)
def test_four_prompts_or_prompts_that_share_their_subject_are_copies_of_a_picture(rows, prompts):
    add_prompts(rows, prompts)
    assert sum(row.kept for row in rows.deduped().values()) == 1


def test_one_url_under_many_unlike_captions_is_a_placeholder(tmp_path):
    lines = [f'{{"url": "http://h.example/1.png", "caption": "{prompt}"}}' for prompt in (*UNLIKE, *UNLIKE)]
    lines.append('{"url": "http://h.example/2.png", "caption": "a dog"}')
    (tmp_path / "l.jsonl").write_text("\n".join(lines))
    build, config = Build(str(tmp_path / "build")), BuildConfig(source=f"urls:{tmp_path / 'l.jsonl'}")
    ((first, second),) = collect(build, config, Models(ModelsConfig()))
    assert {*json.loads(build.read_bytes(REPEATS))} == {first.key}
    rows = Rows(build)
    for record in (first, second):
        key = rows.add(int(record.key, 16), shade=10 if record is first else 200)
        rows.parts[-1][-1][1].complex = record.prompt
        assert key == record.key
    found = rows.deduped()
    assert (found[first.key].reason, found[second.key].reason) == (Reason.PLACEHOLDER, None)


def test_without_a_radius_only_bytes_count(rows):
    rows.add(1), rows.add(2), rows.add(3, sha=f"{1:016x}")
    found = rows.deduped(radius=-1)
    assert [row.reason for row in found.values()] == [None, None, Reason.DUPLICATE_BYTES]


def test_a_row_rejected_before_is_nobodys_twin(rows):
    gone, stays = rows.add(1, width=128, kept=False), rows.add(2)
    found = rows.deduped()
    assert found[stays].kept
    assert (found[gone].reason, found[gone].rejected_by, found[gone].cluster) == (Reason.NSFW, "clean", None)


TAGS = ["cat", "red hat", "sitting", "garden", "sunset", "masterpiece", "8k"]


def test_of_pictures_with_one_prompt_the_best_stays(rows):
    poor = rows.add(1, shade=10, keywords=TAGS)
    best = rows.add(2, shade=90, keywords=["  Red_Hat", *[tag.upper() for tag in TAGS if tag != "red hat"]], width=99)
    found = rows.deduped()
    assert found[best].kept and found[best].prompt_cluster == best
    assert (found[poor].reason, found[poor].prompt_cluster) == (Reason.DUPLICATE_PROMPT, best)
    assert found[poor].prompt_similarity == 1.0 and best in (found[poor].detail or "")


@pytest.mark.parametrize(("most", "kept"), [(0, 5), (1, 1), (3, 3)])
def test_the_config_says_how_many_stay_of_one_prompt(rows, most, kept):
    for number in range(5):
        rows.add(number, shade=50 * number, keywords=TAGS)
    assert sum(row.kept for row in rows.deduped(max_per_prompt=most).values()) == kept


@pytest.mark.parametrize(
    "other",
    [[*TAGS[1:], "dog"], TAGS[1:], [*TAGS, "umbrella"]],
    ids=["one keyword changed", "one keyword less", "one keyword more"],
)
def test_short_prompts_that_differ_in_one_fact_both_stay(rows, other):
    rows.add(1, shade=10, keywords=TAGS), rows.add(2, shade=90, keywords=other)
    assert all(row.kept for row in rows.deduped().values())


def test_long_prompts_that_differ_in_one_keyword_of_many_are_almost_the_same(rows):
    many = [f"tag {number}" for number in range(30)]
    first, second = rows.add(1, shade=10, keywords=many), rows.add(2, shade=90, keywords=[*many, "one more"])
    found = rows.deduped()
    assert found[first].kept and found[second].reason is Reason.DUPLICATE_PROMPT
    assert found[second].prompt_similarity == pytest.approx(30 / 31, abs=1e-4)


def test_sentences_are_compared_by_their_runs_of_words(rows):
    sentence = "A small cat with a red hat sits in the garden and looks at the sunset."
    first = rows.add(1, shade=10, keywords=[sentence])
    again = rows.add(2, shade=90, keywords=[sentence.lower().strip(".")])
    other = rows.add(3, shade=170, keywords=[sentence.replace("red", "blue")])
    found = rows.deduped()
    assert [found[key].reason for key in (first, again, other)] == [None, Reason.DUPLICATE_PROMPT, None]


def kept_by_hand(rows, *keys):
    append(rows.build, *(Decision(key=key, verdict="keep") for key in keys))


def test_the_row_that_a_person_keeps_takes_the_place_of_the_one_that_stood_for_its_cluster(rows):
    best, same, alike = rows.add(1, sha="a", width=128), rows.add(2, sha="a", width=128), rows.add(3, sha="b")
    rows.parts.append([])
    chosen, other = rows.add(4, sha="b"), rows.add(5, shade=90)
    before = rows.deduped()
    kept_by_hand(rows, chosen, other)
    found = rows.deduped()
    assert {key for key, row in found.items() if row.kept} == {chosen, other} and before[best].kept
    assert {found[key].cluster for key in (best, same, alike, chosen)} == {chosen}
    reasons = [Reason.DUPLICATE_IMAGE, Reason.DUPLICATE_IMAGE, Reason.DUPLICATE_BYTES]
    assert [found[key].reason for key in (best, same, alike)] == reasons
    assert all(f"{chosen} stays, decided by hand" in found[key].detail for key in (best, same, alike))
    assert found[other] == before[other]


def test_of_two_that_are_kept_by_hand_in_one_cluster_the_later_stays(rows):
    first, second, third = rows.add(1, width=128), rows.add(2), rows.add(3)
    kept_by_hand(rows, third, second)
    assert [key for key, row in rows.deduped().items() if row.kept] == [second]
    kept_by_hand(rows, first)
    assert [key for key, row in rows.deduped().items() if row.kept] == [first]
    kept_by_hand(rows, "f" * 16)
    assert [key for key, row in rows.deduped().items() if row.kept] == [first]


def test_of_one_prompt_the_row_that_a_person_keeps_is_the_first(rows):
    best = rows.add(1, shade=10, keywords=TAGS, width=128)
    chosen = rows.add(2, shade=90, keywords=TAGS)
    kept_by_hand(rows, chosen)
    found = rows.deduped()
    assert (found[chosen].kept, found[best].reason) == (True, Reason.DUPLICATE_PROMPT)


def test_a_row_rejected_before_stands_for_no_cluster_though_it_is_kept_by_hand(rows):
    gone, stays = rows.add(1, kept=False), rows.add(2)
    kept_by_hand(rows, gone)
    found = rows.deduped()
    assert found[stays].kept and found[gone].reason == Reason.NSFW
