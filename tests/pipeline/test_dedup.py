"""dedup finds every pair of hashes within the radius, and keeps the best picture of a cluster."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.dedup import HammingIndex, _find_twins
from schemas import Pair

HASHES = st.integers(0, 2**64 - 1)


@given(HASHES, st.sets(st.integers(0, 63), max_size=8), st.integers(0, 8), st.lists(HASHES, max_size=20))
def test_the_index_finds_exactly_what_lies_within_the_radius(value, flipped, radius, others):
    index = HammingIndex(radius)
    other = value ^ sum(1 << bit for bit in flipped)
    for number, entry in enumerate([other, *others]):
        index.add(entry, f"{number:03d}")
    distances = sorted(((value ^ entry).bit_count(), f"{number:03d}") for number, entry in enumerate([other, *others]))
    expected = distances[0] if distances[0][0] <= radius else None
    assert index.nearest(value) == expected


def pair(number, phash, *, sha256=None, width=64, size=100):
    return Pair(
        key=f"{number:016x}", sha256=sha256 or f"{number}", phash=f"{phash:016x}", width=width, height=64, size=size
    )


def test_the_largest_picture_of_a_cluster_stays():
    twins = _find_twins([pair(1, 0b0), pair(2, 0b1, width=128), pair(3, 0b11), pair(4, 2**40 - 1)], radius=2)
    assert twins == {f"{1:016x}": (f"{2:016x}", 1), f"{3:016x}": (f"{2:016x}", 1)}


def test_the_same_bytes_are_told_apart_from_the_same_look():
    twins = _find_twins([pair(1, 0, sha256="a"), pair(2, 0, sha256="a"), pair(3, 0, sha256="b")], radius=0)
    assert twins == {f"{2:016x}": (f"{1:016x}", None), f"{3:016x}": (f"{1:016x}", 0)}


def test_without_a_radius_only_bytes_count():
    assert _find_twins([pair(1, 0), pair(2, 0)], radius=-1) == {}
