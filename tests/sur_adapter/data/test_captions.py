"""Which text stands for a sample: by name, by length or drawn, the same for any workers, ranks and resumed runs."""

from __future__ import annotations

import shutil
import tarfile
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sur_adapter.data.captions import CaptionCounts, draw_caption
from sur_adapter.data.sample_order import SampleOrder
from sur_adapter.data.shard_dataset import ShardDataset
from surd.schemas.errors import SurdError
from surd.schemas.manifest import ShardManifest
from surd.schemas.records import Caption
from tests.sur_adapter.captioned import add_captions, two_of_three
from tests.sur_adapter.conftest import write_tar

CAPTIONS = (("medium", "a red cat sits"), ("short", "a cat"), ("long", "a red cat sits on a blue mat"))


def drawn(choice: str, captions: Any = CAPTIONS, simple: str = "one red cat", **where: Any) -> str:
    return draw_caption(choice, simple, captions, **({"key": "k", "seed": 0, "epoch": 0} | where))


def texts(data: ShardDataset, **how: Any) -> list[tuple[str, str]]:
    """Key and text of every sample of an epoch, or of how many."""
    count = how.pop("count", None)
    loader = data.loader(**({"batch_size": 4, "image_size": 8, "seed": 0, "epochs": 1} | how))
    return [
        (key, text)
        for batch in islice(loader, count)
        for key, text in zip(batch.keys, batch.captions or batch.simple, strict=True)
    ]


def test_a_name_gives_the_first_caption_of_that_name_and_else_the_simple_prompt():
    assert drawn("medium") == "a red cat sits"
    assert drawn("short", (*CAPTIONS, ("short", "cat"))) == "a cat"
    assert drawn("other") == drawn("simple") == drawn("medium", ()) == "one red cat"


def test_short_and_long_without_such_a_name_are_the_texts_with_fewest_and_most_words():
    others = (("caption", "a red cat sits"), ("rewrite", "cat"))
    assert (drawn("short", others), drawn("long", others)) == ("cat", "a red cat sits")
    assert drawn("short", (("caption", "one red cat too"),)) == "one red cat"
    assert drawn("long", ()) == "one red cat"


def test_mixed_draws_every_text_alike_by_seed_epoch_and_key_alone():
    draws = Counter(drawn("mixed", key=str(key), epoch=epoch) for key in range(100) for epoch in range(20))
    assert set(draws) == {"one red cat", *(text for _, text in CAPTIONS)}
    assert all(abs(count - 500) < 5 * (2000 * 0.25 * 0.75) ** 0.5 for count in draws.values())
    assert drawn("mixed", epoch=3) == drawn("mixed", epoch=3)
    assert len({drawn("mixed", seed=seed) for seed in range(20)}) > 1
    assert len({drawn("mixed", epoch=epoch) for epoch in range(20)}) > 1
    assert drawn("mixed", (("caption", "one red cat"),)) == "one red cat"


def test_counts_say_how_many_have_the_caption_and_how_many_give_their_simple_prompt():
    samples = [("one", ()), ("a cat", CAPTIONS), ("two", (("caption", "two dogs"),))]

    def counted(choice: str) -> tuple[int, int, int]:
        counts = CaptionCounts.of(choice, samples)
        return counts.samples, counts.served, counts.simple

    assert counted("short") == (3, 2, 3)  # "a cat" is its own short caption, and "two" is shorter than "two dogs"
    assert counted("long") == (3, 2, 1)
    assert counted("mixed") == (3, 2, 3)
    assert counted("medium") == (3, 1, 2)


def test_every_sample_of_an_epoch_knows_its_epoch():
    for world in (1, 2, 3):
        for rank in range(world):
            order = SampleOrder([5, 7, 4], seed=1, rank=rank, world=world, shuffle=3)
            first, second = order.lengths(1)[rank], order.lengths(2)[rank]
            assert [epoch for epoch, _ in order.by_epoch(0, second)] == [0] * first + [1] * (second - first)
            assert [location for _, location in order.by_epoch(2, 9)] == order.locations(2, 9)


@pytest.mark.parametrize("image", [True, False])
def test_a_simple_run_reads_no_captions_and_gives_the_batches_it_always_gave(build: Any, image: bool) -> None:
    before = list(ShardDataset(build.pattern, image=image).loader(batch_size=4, image_size=8, seed=0, epochs=1))
    add_captions(build, two_of_three)
    after = list(ShardDataset(build.pattern, image=image).loader(batch_size=4, image_size=8, seed=0, epochs=1))
    assert [(batch.keys, batch.simple, batch.captions) for batch in after] == [
        (batch.keys, batch.simple, None) for batch in before
    ]
    state = ShardDataset(build.pattern, image=image).loader(batch_size=4, seed=0).state_dict()
    assert set(state) == {"samples", "seed", "world", "shuffle", "data"}


@pytest.mark.parametrize("choice", ["short", "long", "mixed"])
def test_the_index_and_the_shards_give_the_same_captions(build: Any, choice: str) -> None:
    add_captions(build, two_of_three)
    from_index, from_shards = (ShardDataset(build.pattern, image=image, caption=choice) for image in (False, True))
    assert texts(from_index) == texts(from_shards)
    counts = from_index.caption_counts
    assert counts is not None and (counts.samples, counts.served) == (12, 8)
    for batch in from_index.loader(batch_size=12, seed=0, epochs=1):
        assert batch.captions is not None
        for simple, text in zip(batch.simple, batch.captions, strict=True):
            assert text in {simple, simple.split()[0], f"{simple} {simple} sits"}


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_draws_do_not_depend_on_workers_ranks_or_where_a_run_was_resumed(build: Any, workers: int) -> None:
    add_captions(build, two_of_three)
    data = ShardDataset(build.pattern, image=False, caption="mixed", shuffle=5)
    whole = texts(data, epochs=3)
    assert len(whole) == 36
    assert texts(data, epochs=3, workers=workers, batch_size=5) == whole
    epochs = [dict(whole[start : start + 12]) for start in (0, 12, 24)]
    assert epochs[0] != epochs[1] != epochs[2], "another draw every epoch"
    for epoch in range(1, 4):
        ranks = [texts(data, epochs=epoch, rank=rank, world=2, workers=workers) for rank in range(2)]
        assert Counter(ranks[0] + ranks[1]) == Counter(whole[: 12 * epoch])
    loader = data.loader(batch_size=4, seed=0, workers=workers)
    first = next(iter(loader))
    again = data.loader(batch_size=3, seed=0)
    again.load_state_dict(loader.state_dict())
    rest = [pair for batch in islice(again, 8) for pair in zip(batch.keys, batch.captions or [], strict=True)]
    assert [*zip(first.keys, first.captions or [], strict=True), *rest] == whole[:28]


def test_a_state_of_another_choice_is_refused(build: Any) -> None:
    add_captions(build, two_of_three)
    loaders = {
        choice: ShardDataset(build.pattern, image=False, caption=choice).loader(batch_size=4, seed=0)
        for choice in ("simple", "mixed")
    }
    with pytest.raises(SurdError, match="the state's caption is None, this run's 'mixed'"):
        loaders["mixed"].load_state_dict(loaders["simple"].state_dict())
    with pytest.raises(SurdError, match="the state's caption is 'mixed', this run's None"):
        loaders["simple"].load_state_dict(loaders["mixed"].state_dict())


def test_an_index_in_one_piece_and_a_part_of_the_shards_are_counted_as_they_are(build: Any) -> None:
    add_captions(build, two_of_three)
    index = build.root / "shards/index.parquet"
    expected = texts(ShardDataset(build.pattern, image=False, caption="short"))
    pq.write_table(pq.read_table(index), index)
    data = ShardDataset(build.pattern, image=False, caption="short")
    assert texts(data) == expected
    part = ShardDataset(build.pattern.replace("{00000..00001}", "00001"), image=False, caption="short")
    assert part.caption_counts is not None and (part.caption_counts.samples, part.caption_counts.served) == (6, 4)


def test_a_choice_that_no_sample_has_is_refused_with_what_there_is(build: Any) -> None:
    with pytest.raises(SurdError, match=r"index\.parquet: is missing, and only it lists the captions .* --repair"):
        ShardDataset(build.pattern, caption="mixed")
    add_captions(build, two_of_three)
    with pytest.raises(SurdError, match=r"--caption: 'shrot', but .*index\.parquet has captions .* \(long, short\)"):
        ShardDataset(build.pattern, caption="shrot")
    add_captions(build, lambda number, simple: [])
    with pytest.raises(SurdError, match=r"--caption: 'long', but .*has no sample with several captions; leave"):
        ShardDataset(build.pattern, caption="long")
    index = build.root / "shards/index.parquet"
    pq.write_table(pq.read_table(index).drop_columns(["captions"]), index)
    with pytest.raises(SurdError, match="has no sample with several captions"):
        ShardDataset(build.pattern, caption="mixed")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ([[{"name": None, "text": "a"}]], "a caption has no name or no text"),
        ([[{"name": "a", "text": 3}]], "a caption has no name or no text"),
        ([[{"name": "a", "text": "b"}] * 65], "a sample has more than 64 captions"),
        ([[{"name": "a"}]], "they are not lists of name and text"),
        (["a text"], "they are not lists of name and text"),
        ([[["a"]]], "they are not lists of name and text"),
        ([{"name": "a", "text": "b"}], "its captions cannot be read"),
    ],
)
def test_an_index_with_other_things_in_its_captions_is_refused_in_a_sentence(
    build: Any, values: list[Any], problem: str
) -> None:
    add_captions(build, two_of_three)
    index = build.root / "shards/index.parquet"
    table = pq.read_table(index).drop_columns(["captions"])
    pq.write_table(table.append_column("captions", pa.array(values * 12)), index)
    with pytest.raises(SurdError, match=problem) as refusal:
        ShardDataset(build.pattern, image=False, caption="mixed")
    assert "\n" not in str(refusal.value) and str(index) in str(refusal.value)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"[", "it is not a list of Caption"),
        (b"[" * 100_000, "recursion limit exceeded"),
        (b'[{"name":"a","text":"\xff"}]', "invalid unicode"),
        (b" " * 300_000, "it has 300,000 bytes"),
        (b'[{"name":"a","text":"\\u0007"}]', "0.text: it holds a control character"),
    ],
)
def test_hostile_captions_in_a_shard_are_refused_by_their_member(build: Any, data: bytes, problem: str) -> None:
    add_captions(build, two_of_three)
    key = build.keys(0)[1]
    spoil(build, 0, f"{key}.captions.json", data)
    with pytest.raises(SurdError, match=rf"00000\.tar: member {key}\.captions\.json: .*{problem}.*; pack it again"):
        texts(ShardDataset(build.pattern, caption="mixed"))
    assert len(texts(ShardDataset(build.pattern))) == 12, "a simple run does not read them"


def spoil(build: Any, shard: int, name: str, data: bytes) -> None:
    """Other bytes for a member, to which the manifest agrees."""
    path: Path = build.root / f"shards/surd-{shard:05d}.tar"
    with tarfile.open(path) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    info = write_tar(path, members | {name: data}, build.count)
    file = build.root / "shards/manifest.json"
    manifest = ShardManifest.model_validate_json(file.read_bytes())
    shards = [info if one.name == info.name else one for one in manifest.shards]
    file.write_text(manifest.model_copy(update={"shards": shards}).model_dump_json())


def test_captions_of_remote_shards_are_the_same(build: Any, tmp_path: Path) -> None:
    add_captions(build, two_of_three)
    memory = fsspec.filesystem("memory")
    memory.put(str(build.root), "/captioned", recursive=True)
    pattern = build.pattern.replace(str(build.root), "memory://captioned")
    for image in (False, True):
        remote = ShardDataset(pattern, image=image, caption="mixed", cache=tmp_path / "cache")
        assert texts(remote) == texts(ShardDataset(build.pattern, image=image, caption="mixed"))
    memory.rm("/captioned", recursive=True)
    shutil.rmtree(tmp_path / "cache")


def test_a_list_of_captions_that_holds_the_simple_prompt_draws_it_no_more_often(build: Any) -> None:
    add_captions(build, lambda number, simple: [Caption(name="simple", text=simple), Caption(name="short", text="cat")])
    data = ShardDataset(build.pattern, image=False, caption="mixed")
    draws = [text for _, text in texts(data, epochs=100)]
    assert abs(draws.count("cat") / len(draws) - 0.5) < 0.06
