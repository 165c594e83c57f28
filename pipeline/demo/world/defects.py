"""Planted defects of the demo world: which one a record has, and what a build must do with it."""

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

#: `reject`: the row is rejected. `once`: of a record and its copies exactly one is kept. `clean`: a kept row holds
#: nothing of the payload. `truth`: rejected, or the kept sample's simple prompt is true to the picture. `keep`: kept.
Must = Literal["reject", "once", "clean", "truth", "keep"]


@dataclass(frozen=True, kw_only=True)
class DefectKind:
    """The required outcome of a record with this defect. `reasons` are the values of schemas.Reason that count as
    caught (empty: any); figures are per `group`; `needs` is the attribute that the scene must have."""

    group: str
    must: Must
    reasons: tuple[str, ...] = ()
    needs: Attribute | None = None


_BROKEN = ("not_an_image", "broken_image")
_MISMATCH = ("mismatch", "below_threshold")
_SAME_PICTURE = ("duplicate_bytes", "duplicate_image", "duplicate_semantic", "duplicate_prompt")

#: Every kind of defect and its required outcome.
KINDS: dict[str, DefectKind] = {
    "prompt_of_another_image": DefectKind(group="prompt of another image", must="reject", reasons=_MISMATCH),
    "wrong_subject": DefectKind(group="one wrong fact", must="truth", needs="subject"),
    "wrong_count": DefectKind(group="one wrong fact", must="truth", needs="count"),
    "wrong_colour": DefectKind(group="one wrong fact", must="truth", needs="colour"),
    "wrong_action": DefectKind(group="one wrong fact", must="truth", needs="action"),
    "wrong_relation": DefectKind(group="one wrong fact", must="truth", needs="relation"),
    "truncated_prompt": DefectKind(group="cut or huge prompts", must="truth"),
    "huge_prompt": DefectKind(group="cut or huge prompts", must="truth"),
    "tag_only": DefectKind(group="unusable prompts", must="reject", reasons=("no_subject", "empty_prompt", *_MISMATCH)),
    "gibberish": DefectKind(
        group="unusable prompts",
        must="reject",
        reasons=("gibberish", "no_subject", "empty_prompt", "foreign_language", *_MISMATCH),
    ),
    "foreign_language": DefectKind(group="unusable prompts", must="reject", reasons=("foreign_language", *_MISMATCH)),
    "unresolved_wildcards": DefectKind(
        group="unusable prompts", must="reject", reasons=("unresolved_template", *_MISMATCH)
    ),
    "missing_metadata": DefectKind(group="unusable prompts", must="reject", reasons=("no_prompt",)),
    "exact_duplicate": DefectKind(group="exact duplicates", must="once", reasons=_SAME_PICTURE),
    "near_duplicate_resized": DefectKind(group="near duplicates", must="once", reasons=_SAME_PICTURE),
    "near_duplicate_recompressed": DefectKind(group="near duplicates", must="once", reasons=_SAME_PICTURE),
    "near_duplicate_cropped": DefectKind(group="near duplicates", must="once", reasons=_SAME_PICTURE),
    "duplicate_prompt": DefectKind(group="duplicate prompts", must="once", reasons=_SAME_PICTURE),
    "nsfw_words": DefectKind(group="not work-safe", must="reject", reasons=("nsfw",)),
    "nsfw_level": DefectKind(group="not work-safe", must="reject", reasons=("nsfw",)),
    "corrupt_file": DefectKind(group="broken files", must="reject", reasons=_BROKEN),
    "truncated_file": DefectKind(group="broken files", must="reject", reasons=_BROKEN),
    "mislabelled_file": DefectKind(group="broken files", must="reject", reasons=_BROKEN),
    "error_page": DefectKind(group="broken files", must="reject", reasons=_BROKEN),
    "wrong_extension": DefectKind(group="sound after all", must="keep"),
    "prompt_injection": DefectKind(group="payloads", must="clean"),
    "script_tag": DefectKind(group="payloads", must="clean"),
}
#: Records per block; each block has its share of defects, at random places.
_BLOCK = 40
#: No gallery shows scenes this far from a record's own.
_ELSEWHERE = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Defect:
    """One planted defect. `shown` is what the picture shows; `prompt` None keeps the record's own prompt (a copy's is
    its original's); `stated` is the prompt's scene where it is another; `original` is the index of the record that
    this one copies; `payload` are words that a kept row must not contain."""

    kind: str
    shown: Scene
    prompt: str | None = None
    stated: Scene | None = None
    original: int | None = None
    payload: tuple[str, ...] = ()


def plan(seed: int, index: int, share: float) -> Defect | None:
    """The defect of record `index` when a `share` of world `seed` has one, the kinds evenly mixed; None for a sound
    record. The same at every call. A copy needs an earlier sound record; without one the record stays sound."""
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
    """The kind of a record's defect. Defects are numbered through the world; every run of as many numbers as there
    are kinds holds each kind once."""
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
    """The things shown, without number and colours."""
    return {shown.action} if shown.action else {shown.subject, shown.other} - {None}
