"""Turns (seed, index, share) into the defect planted in a record of the demo world, and says what must become of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import count as counting
from typing import Literal

from surd.pipeline.demo.world import defect_prompts
from surd.pipeline.demo.world.prompts import complex_prompt
from surd.pipeline.demo.world.scenes import ATTRIBUTES, Attribute, Scene, scene, variant
from surd.pipeline.demo.world.translations import translatable

#: `reject`: the row is rejected. `once`: of a record and its copies exactly one is kept. `clean`: nothing of the
#: payload is left in a kept row. `truth`: rejected, or the simple prompt of the kept sample is true to the picture.
#: `keep`: kept.
Must = Literal["reject", "once", "clean", "truth", "keep"]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What must become of a record with this defect. `reasons` are the values of schemas.Reason that count as caught
    (none given: any); figures are made per `group`; `needs` is the attribute that the scene must have."""

    group: str
    must: Must
    reasons: tuple[str, ...] = ()
    needs: Attribute | None = None


_BROKEN = ("not_an_image", "broken_image")
_MISMATCH = ("mismatch", "below_threshold")
_SAME_PICTURE = ("duplicate_bytes", "duplicate_image", "duplicate_semantic", "duplicate_prompt")

#: Every kind of defect, and what must happen to it.
KINDS: dict[str, Kind] = {
    "prompt_of_another_image": Kind(group="prompt of another image", must="reject", reasons=_MISMATCH),
    "wrong_subject": Kind(group="one wrong fact", must="truth", needs="subject"),
    "wrong_count": Kind(group="one wrong fact", must="truth", needs="count"),
    "wrong_colour": Kind(group="one wrong fact", must="truth", needs="colour"),
    "wrong_action": Kind(group="one wrong fact", must="truth", needs="action"),
    "wrong_relation": Kind(group="one wrong fact", must="truth", needs="relation"),
    "truncated_prompt": Kind(group="cut or huge prompts", must="truth"),
    "huge_prompt": Kind(group="cut or huge prompts", must="truth"),
    "tag_only": Kind(group="unusable prompts", must="reject", reasons=("no_subject", "empty_prompt", *_MISMATCH)),
    "gibberish": Kind(
        group="unusable prompts",
        must="reject",
        reasons=("gibberish", "no_subject", "empty_prompt", "foreign_language", *_MISMATCH),
    ),
    "foreign_language": Kind(group="unusable prompts", must="reject", reasons=("foreign_language", *_MISMATCH)),
    "unresolved_wildcards": Kind(group="unusable prompts", must="reject", reasons=("unresolved_template", *_MISMATCH)),
    "missing_metadata": Kind(group="unusable prompts", must="reject", reasons=("no_prompt",)),
    "exact_duplicate": Kind(group="exact duplicates", must="once", reasons=_SAME_PICTURE),
    "near_duplicate_resized": Kind(group="near duplicates", must="once", reasons=_SAME_PICTURE),
    "near_duplicate_recompressed": Kind(group="near duplicates", must="once", reasons=_SAME_PICTURE),
    "near_duplicate_cropped": Kind(group="near duplicates", must="once", reasons=_SAME_PICTURE),
    "duplicate_prompt": Kind(group="duplicate prompts", must="once", reasons=_SAME_PICTURE),
    "nsfw_words": Kind(group="not work-safe", must="reject", reasons=("nsfw",)),
    "nsfw_level": Kind(group="not work-safe", must="reject", reasons=("nsfw",)),
    "corrupt_file": Kind(group="broken files", must="reject", reasons=_BROKEN),
    "truncated_file": Kind(group="broken files", must="reject", reasons=_BROKEN),
    "mislabelled_file": Kind(group="broken files", must="reject", reasons=_BROKEN),
    "error_page": Kind(group="broken files", must="reject", reasons=_BROKEN),
    "wrong_extension": Kind(group="sound after all", must="keep"),
    "prompt_injection": Kind(group="payloads", must="clean"),
    "script_tag": Kind(group="payloads", must="clean"),
}
#: Records are dealt in blocks of so many; each has its share of defects, at places drawn by lot.
_BLOCK = 40
#: Scenes so far from a record's own are in no gallery.
_ELSEWHERE = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Defect:
    """One planted defect. `shown` is what the picture shows; `prompt` None leaves the record's own prompt (a copy's
    is its original's); `stated` is what the prompt says where that is another scene; `original` is the index of the
    record that this one copies; `payload` are words of which nothing may be left."""

    kind: str
    shown: Scene
    prompt: str | None = None
    stated: Scene | None = None
    original: int | None = None
    payload: tuple[str, ...] = ()


def plan(seed: int, index: int, share: float) -> Defect | None:
    """The defect of record `index` when a `share` of world `seed` has one, the kinds evenly mixed; None for a sound
    record. The same at every call. A copy needs an earlier sound record; where there is none the record stays sound."""
    kind = _kind(seed, index, share)
    if kind is None:
        return None
    rng = random.Random(f"defect:{seed}:{index}")
    if KINDS[kind].must == "once":
        return _copy(kind, seed, index, share, rng)
    shown = next(one for one in _scenes(seed, index) if _fits(kind, one))
    if kind.startswith("wrong_") and (attribute := KINDS[kind].needs):
        stated = variant(shown, attribute, rng)
        return Defect(kind=kind, shown=shown, prompt=complex_prompt(stated, rng), stated=stated)
    if kind == "prompt_of_another_image":
        stated = next(one for one in _scenes(seed, index + _ELSEWHERE) if _things(one).isdisjoint(_things(shown)))
        return Defect(kind=kind, shown=shown, prompt=complex_prompt(stated, rng), stated=stated)
    if kind in defect_prompts.WRITERS:
        prompt, payload = defect_prompts.WRITERS[kind](shown, rng)
        return Defect(kind=kind, shown=shown, prompt=prompt, payload=payload)
    return Defect(kind=kind, shown=shown)


def _kind(seed: int, index: int, share: float) -> str | None:
    """Which defect falls to a record. Defects are numbered through the world, and every run of as many numbers as
    there are kinds holds each kind once."""
    place = _places(seed, index // _BLOCK, share).get(index % _BLOCK)
    if place is None:
        return None
    kinds = list(KINDS)
    random.Random(f"kinds:{seed}:{place // len(kinds)}").shuffle(kinds)
    return kinds[place % len(kinds)]


@lru_cache(maxsize=4096)
def _places(seed: int, block: int, share: float) -> dict[int, int]:
    """Place within the block -> number of the defect there."""
    first, last = (int(_BLOCK * at * share + 1e-9) for at in (block, block + 1))
    places = random.Random(f"places:{seed}:{block}").sample(range(_BLOCK), last - first)
    return {place: first + rank for rank, place in enumerate(sorted(places))}


def _copy(kind: str, seed: int, index: int, share: float, rng: random.Random) -> Defect | None:
    sound = [other for other in range(max(0, index - 10 * _BLOCK), index) if _kind(seed, other, share) is None]
    if not sound:
        return None
    original = rng.choice(sound)
    shown = scene(seed, original)
    if kind == "duplicate_prompt":
        return Defect(kind=kind, shown=replace(shown, layout=rng.getrandbits(32)), original=original)
    reworded = kind != "exact_duplicate" and rng.random() < 0.5
    return Defect(kind=kind, shown=shown, prompt=complex_prompt(shown, rng) if reworded else None, original=original)


def _scenes(seed: int, index: int) -> Iterator[Scene]:
    """The record's own scene first, then others of the world that no gallery shows."""
    return (scene(seed, index + _ELSEWHERE * step) for step in counting())


def _fits(kind: str, shown: Scene) -> bool:
    needs: Callable[[Scene], bool] = {"foreign_language": translatable}.get(kind, partial(_has, KINDS[kind].needs))
    return needs(shown)


def _has(attribute: Attribute | None, shown: Scene) -> bool:
    return attribute is None or attribute in ATTRIBUTES[shown.kind]


def _things(shown: Scene) -> set[str | None]:
    """What is to be seen, apart from how many and in what colours."""
    return {shown.action} if shown.action else {shown.subject, shown.other} - {None}
