"""Sentences about scenes: as many people would word them, for training, and in tiers of ever other words for testing.

Structures stand in ``wordings.yaml``, apart for training and for each tier; words are drawn apart in ``words.py``.
"""

from __future__ import annotations

import random
from typing import Literal

from surd.pipeline.demo.world.phrases import MORE_GROUNDS, Phrases
from surd.pipeline.demo.world.scenes import Scene
from surd.pipeline.demo.world.words import lexicon, wordings

Tier = Literal["a", "b", "c", "d", "e"]


def structures(use: str, scene: Scene) -> list[str]:
    """The structures of one use that suit a scene."""
    return [*wordings()[use].get("any", ()), *wordings()[use].get(scene.kind, ())]


def people_sentence(scene: Scene, rng: random.Random) -> str:
    """A sentence, or a short text, that states every fact of a scene as some person might, for training: none of the
    words that tier c tests, none of the structures of tiers b, d and e."""
    phrases = Phrases(scene, lexicon("training"), rng, own=0.25, grounds=MORE_GROUNDS)
    chance = rng.random()
    if chance < 0.12:
        return _long(phrases, rng, "long", (1, 6))
    use = "plain" if chance < 0.2 else "training"
    own, general = wordings()[use].get(scene.kind, ()), wordings()[use]["any"]
    pool = own if own and rng.random() < 0.25 else general
    return phrases.fill(rng.choice(pool))


def _long(phrases: Phrases, rng: random.Random, use: str, pads: tuple[int, int]) -> str:
    """Facts scattered among sentences that state none."""
    parts = wordings()[use]
    facts = [rng.choice(parts["what"]), rng.choice(parts["ground"])]
    if phrases.scene.style != "none":
        facts.append(rng.choice(parts["style"]))
    rng.shuffle(facts)
    sentences = facts + rng.sample(parts["pads"], rng.randint(*pads))
    order = sorted(range(len(sentences)), key=lambda at: (rng.random(), at))
    return " ".join(phrases.fill(sentences[at]) for at in order)
