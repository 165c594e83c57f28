"""A build's model outputs are found by content, whole or not at all, by any thread or process, and are forgotten."""

import logging
import threading

import pyarrow.parquet as pq
import pytest

from surd.pipeline.model_cache import outputs as output_cache
from surd.pipeline.model_cache.outputs import (
    FOLDER,
    OutputCache,
    bytes_kept,
    forget,
    item,
    size_notes,
    text_hash,
    text_item,
)

RECORDS = [f"{number:016x}" for number in range(8)]


@pytest.fixture(autouse=True)
def new_process():
    """Each test begins as a process does: without an index."""
    output_cache._index.cache_clear()


def ask(root, texts, unit=0, records=RECORDS[:4], kind="upper", by_key=True, **settings):
    """The texts in capitals, by a "model" that says what it was asked."""
    asked = []

    def compute(places):
        asked.extend(texts[place] for place in places)
        return (texts[place].upper().encode() for place in places)

    with OutputCache(str(root), unit, records) as cache:
        space = cache.space(kind, version=1, by_key=by_key, **settings)
        values = space.outputs([text_item(text) for text in texts], compute)
    assert [value.decode() for value in values] == [text.upper() for text in texts]
    return asked


def segments(root):
    return sorted((root / FOLDER).rglob("*.parquet"))


def test_what_was_asked_before_is_not_asked_again_and_equal_questions_are_asked_once(tmp_path):
    assert ask(tmp_path, ["a", "b", "a"]) == ["a", "b"]
    assert ask(tmp_path, ["b", "c", "a"]) == ["c"]
    output_cache._index.cache_clear()
    assert ask(tmp_path, ["c", "b", "a", "d"]) == ["d"]
    assert ask(tmp_path, []) == []


def test_other_settings_and_other_kinds_are_other_questions(tmp_path):
    assert ask(tmp_path, ["a"], model="x") == ["a"]
    assert ask(tmp_path, ["a"], model="y") == ["a"]
    assert ask(tmp_path, ["a"], model="x", kind="other") == ["a"]
    assert ask(tmp_path, ["a"], model="x") == []


@pytest.mark.parametrize("restarted", [True, False])
def test_an_output_is_found_in_whichever_partition_it_was_made(tmp_path, restarted):
    ask(tmp_path, ["a", "b"], unit=0)
    ask(tmp_path, ["c"], unit=1)
    if restarted:
        output_cache._index.cache_clear()
    assert ask(tmp_path, ["d", "c", "b"], unit=2) == ["d"]
    assert ask(tmp_path, ["d", "c", "b"], unit=7) == []


def test_outputs_of_many_a_record_are_found_where_the_record_was(tmp_path):
    ask(tmp_path, ["a", "b"], unit=0, records=RECORDS[:4], by_key=False)
    output_cache._index.cache_clear()
    assert ask(tmp_path, ["a"], unit=1, records=RECORDS[4:], by_key=False) == ["a"], "none of its records was there"
    assert ask(tmp_path, ["a", "b"], unit=2, records=RECORDS[3:5], by_key=False) == [], "one of them was"
    assert ask(tmp_path, ["b"], unit=0, records=RECORDS[6:], by_key=False) == [], "its own are always found"


def test_what_an_error_interrupts_is_kept_as_far_as_it_came(tmp_path):
    def compute(places):
        yield b"A"
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"), OutputCache(str(tmp_path), 0, RECORDS) as cache:
        cache.space("upper", version=1).outputs([text_item("a"), text_item("b")], compute)
    assert ask(tmp_path, ["a", "b"]) == ["b"]


def test_a_unit_that_works_for_long_keeps_what_it_has_meanwhile(tmp_path, monkeypatch):
    monkeypatch.setattr(output_cache, "SECONDS", -1.0)
    with OutputCache(str(tmp_path), 0, RECORDS) as cache:
        space = cache.space("upper", version=1)
        space.write(text_item("a"), b"A")
        assert len(segments(tmp_path)) == 1


def test_many_segments_of_a_unit_become_one_that_holds_the_same(tmp_path):
    for text in "abcde":
        assert ask(tmp_path, [text], records=[RECORDS[ord(text) - ord("a")]], by_key=False) == [text]
    (segment,) = segments(tmp_path)
    assert pq.read_metadata(segment).num_rows == 5
    output_cache._index.cache_clear()
    assert ask(tmp_path, [*"edcba"], unit=3, records=RECORDS[:1], by_key=False) == [], "its records are all still known"


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "another table"])
def test_a_damaged_segment_is_said_dropped_and_computed_again(tmp_path, caplog, damage):
    texts = [f"a text of some length, number {number}" for number in range(50)]
    ask(tmp_path, texts)
    (segment,) = segments(tmp_path)
    data = bytearray(segment.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "flipped":
        data[len(data) // 3] ^= 0xFF
    elif damage == "emptied":
        data.clear()
    segment.write_bytes(data)
    if damage == "another table":
        pq.write_table(pq.read_table(segment).select(["key"]), segment)
    output_cache._index.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert ask(tmp_path, texts, unit=1) == texts, "as a neighbour"
        assert ask(tmp_path, texts[:1], unit=0) == []
    assert "is damaged" in caplog.text and str(segment) in caplog.text and "computed again" in caplog.text
    assert not segment.exists() and len(segments(tmp_path)) == 1


def test_segments_that_vanish_are_computed_again(tmp_path):
    ask(tmp_path, ["a"], unit=0)
    ask(tmp_path, ["b"], unit=1)
    for segment in segments(tmp_path):
        segment.unlink()
    assert ask(tmp_path, ["a", "b"], unit=0) == ["a", "b"]


def test_threads_may_work_on_units_at_once(tmp_path):
    errors = []

    def work(unit):
        try:
            for round_ in range(4):
                ask(tmp_path, [f"{unit} {number}" for number in range(20 * round_, 20 * round_ + 30)], unit=unit)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(unit,)) for unit in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    everything = [f"{unit} {number}" for unit in range(6) for number in range(90)]
    assert ask(tmp_path, everything, unit=9) == []


def test_only_the_latest_settings_of_a_kind_stay(tmp_path):
    for model in "wxyz":
        ask(tmp_path, ["a"], model=model)
    ask(tmp_path, ["a"], kind="other")
    assert len({segment.parent for segment in segments(tmp_path)}) == 4
    assert ask(tmp_path, ["a"], model="x") == [] and ask(tmp_path, ["a"], model="w") == ["a"]


def test_what_is_about_a_forgotten_picture_or_text_is_in_no_file_any_more(tmp_path):
    picture = text_hash("bytes of a picture")
    with OutputCache(str(tmp_path), 0, RECORDS) as cache:
        space = cache.space("caption", version=1)
        space.write(item(picture, "What is it?", about=[picture]), b"a cat of Jane Doe")
        space.write(item(text_hash("other"), about=[text_hash("other")]), b"a dog")
    ask(tmp_path, ["a prompt", "another"], unit=1)
    ask(tmp_path, ["a third"], unit=2)
    untouched = segments(tmp_path)[-1]
    before = bytes_kept(str(tmp_path))
    forget(str(tmp_path), [picture, text_hash("a prompt")])
    about = [one for segment in segments(tmp_path) for one in pq.read_table(segment)["about"].to_pylist()]
    assert sorted(about) == sorted([bytes.fromhex(text_hash(text))] for text in ("other", "another", "a third"))
    assert 0 < bytes_kept(str(tmp_path)) < before and untouched.exists()
    assert ask(tmp_path, ["a prompt", "another", "a third"], unit=1) == ["a prompt"]


def test_a_build_without_outputs_has_nothing_to_forget(tmp_path):
    forget(str(tmp_path), [text_hash("a")])
    assert bytes_kept(str(tmp_path)) == 0 and list(tmp_path.iterdir()) == []


def test_much_room_is_worth_a_note(tmp_path, monkeypatch):
    ask(tmp_path, ["a"])
    assert size_notes(str(tmp_path)) == []
    monkeypatch.setattr(output_cache, "LARGE", 100)
    (note,) = size_notes(str(tmp_path))
    assert note.startswith("model-cache/ holds 0.0 GB of model outputs for later runs; remove it")


def test_it_works_on_an_object_store_as_on_a_disk():
    root = "memory://cache-test/build"
    ask(root, ["a", "b"], unit=0)
    output_cache._index.cache_clear()
    assert ask(root, ["a", "c"], unit=1) == ["c"]
    forget(root, [text_hash("a")])
    assert ask(root, ["a", "b", "c"], unit=1) == ["a"]
    assert bytes_kept(root) > 0


def test_looking_up_costs_one_listing_and_the_own_segment_however_many_others_there_are(tmp_path, monkeypatch):
    from surd.pipeline.build.folder import Build

    def requests(units):
        root = tmp_path / str(units)
        for unit in range(units):
            ask(root, [f"{unit}"], unit=unit, records=[f"{unit:016x}"])
        output_cache._index.cache_clear()
        seen = []
        for name in ("read_bytes", "listdir", "open"):
            method = getattr(Build, name)
            monkeypatch.setattr(
                Build, name, lambda self, *args, method=method, name=name: seen.append(name) or method(self, *args)
            )
        assert ask(root, ["1"], unit=1, records=[f"{1:016x}"]) == []
        monkeypatch.undo()
        return seen

    assert requests(3) == requests(30) == ["listdir", "read_bytes"]
