"""Sentences about scenes: as many people would word them, for training, and in tiers of ever other words for testing.

Structures stand in ``wordings.yaml``, apart for training and for each tier; words are drawn apart in ``words.py``.
"""

from __future__ import annotations

import random
from typing import Literal

from surd.pipeline.demo.world.phrases import MORE_GROUNDS, Phrases
from surd.pipeline.demo.world.prompts import narrative
from surd.pipeline.demo.world.scenes import Scene
from surd.pipeline.demo.world.words import lexicon, wordings

Tier = Literal["a", "b", "c", "d", "e"]


#: Tier -> what it tests; of tier a, the plain sentences of ``prompts.py``, nothing is made here.
TIERS: dict[Tier, str] = {
    "a": "plain sentences, some of whose structures and words trainings know",
    "b": "sentences in structures that no training sentence has, in the words of keyword prompts",
    "c": "plain sentences whose every fact is stated by a word that is in no training sentence and no keyword prompt",
    "d": "descriptions of 60 to 120 words, the facts scattered among others, in the words of keyword prompts",
    "e": "other registers: telegram, riddle, police report, in the words of keyword prompts",
}
LONG = (60, 120)


def people_sentence(scene: Scene, rng: random.Random) -> str:
    """A sentence, or a short text, that states every fact of a scene as some person might, for training: none of the
    words that tier c tests, none of the structures of tiers b, d and e.

    A third are the plain sentences of ``prompts.py``, and in the others half of the words are the world's own, on
    average: a rare word is learnt beside words that are known, and the plain ones are not unlearnt.
    """
    chance = rng.random()
    if chance < 0.33:
        return narrative(scene, rng)
    phrases = Phrases(scene, lexicon("training"), rng, own=rng.choice((0.2, 0.5, 0.8)), grounds=MORE_GROUNDS)
    if chance < 0.43:
        return _rambling(phrases, rng)
    return _sentence(phrases, "plain" if chance < 0.55 else "training", rng)


def tier_sentence(tier: Tier, scene: Scene, rng: random.Random) -> str:
    """A sentence or text of tier b, c, d or e that states every fact of a scene.

    A text of tier d is longer than what the text encoder reads: its 77 tokens end after 30 to 56 words (median 47), as
    it splits ordinary words into pieces. Two thirds of these texts are made with all facts in their first 60 words;
    the encoder is shown every fact by 60 % of them, some fact by 31 %, and none by 9 % (600 texts of world 5000).
    """
    if tier == "c":
        return _sentence(Phrases(scene, lexicon("test"), rng), "plain", rng)
    phrases = Phrases(scene, lexicon("known"), rng)
    match tier:
        case "b":
            return _sentence(phrases, "b", rng)
        case "d":
            return _description(phrases, rng)
        case "e":
            return _riddle(phrases, rng) if rng.random() < 0.2 else _sentence(phrases, "e", rng)
    raise ValueError(f"tier is {tier!r}: only b, c, d and e are made here")


def _sentence(phrases: Phrases, use: str, rng: random.Random) -> str:
    """One structure of `use`; a quarter of those for this kind of scene alone, where there are such."""
    own, general = wordings()[use].get(phrases.scene.kind), wordings()[use]["any"]
    return phrases.fill(rng.choice(own if own and rng.random() < 0.25 else general))


def _facts(phrases: Phrases, use: str, rng: random.Random) -> list[str]:
    """Structures that state what is shown, the background and the style, in any order."""
    facts = [rng.choice(wordings()[use]["what"]), rng.choice(wordings()[use]["ground"])]
    if phrases.scene.style != "none":
        facts.append(rng.choice(wordings()[use]["style"]))
    rng.shuffle(facts)
    return facts


def _rambling(phrases: Phrases, rng: random.Random) -> str:
    """Facts scattered among one to six sentences that state none."""
    sentences = _facts(phrases, "long", rng)
    sentences += rng.sample(wordings()["long"]["pads"], rng.randint(1, 6))
    rng.shuffle(sentences)
    return " ".join(phrases.fill(sentence) for sentence in sentences)


def _description(phrases: Phrases, rng: random.Random) -> str:
    """As many sentences that state no fact as make LONG words of it; two thirds of the texts begin with the facts, with
    at most one such sentence before or among them, and the others state their last fact near the end."""
    facts = [phrases.fill(fact) for fact in _facts(phrases, "d", rng)]
    pads = rng.sample(wordings()["d"]["pads"], len(wordings()["d"]["pads"]))
    length, wanted, few = len(" ".join(facts).split()), rng.randint(LONG[0], LONG[1] - 20), 0
    while length < wanted:
        length += len(pads[few].split())
        few += 1
    between = pads[:few]
    if rng.random() < 0.67:
        if between and len(facts) < 3:
            facts.insert(rng.randrange(len(facts) + 1), between.pop())
        return " ".join(facts + between)
    last = facts.pop()
    front = facts + between
    rng.shuffle(front)
    return " ".join([*front, last])


def _riddle(phrases: Phrases, rng: random.Random) -> str:
    scene = phrases.scene
    texts = rng.choice(wordings()["riddle"]["tinted" if scene.tint else scene.kind])
    return phrases.fill(texts)
