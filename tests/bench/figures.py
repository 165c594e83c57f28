"""Figures beside their goals, and those of curation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from rich.console import Console

from surd.pipeline.demo.world.defects import KINDS
from tests.bench.judge import Record, Score
from tests.bench.truthfulness import Repairs, Rule, Tally

#: Group of defects -> (name of its figure, the lowest share to be handled).
GROUP_GOALS: dict[str, tuple[str, float]] = {
    "broken files": ("broken_files_recall", 0.98),
    "exact duplicates": ("exact_duplicates_recall", 0.98),
    "near duplicates": ("near_duplicates_recall", 0.98),
    "duplicate prompts": ("duplicate_prompts_recall", 0.98),
    "unusable prompts": ("unusable_prompts_recall", 0.98),
    "not work-safe": ("not_work_safe_recall", 0.98),
    "payloads": ("payloads_removed", 0.98),
    "prompt of another image": ("other_image_recall", 0.97),
}
TWO_WAY = {"subject": 0.97, "count": 0.93, "colour": 0.97, "action": 0.97, "relation": 0.97, "style": 0.97}


@dataclass(frozen=True)
class Figure:
    """A measured figure. One that could not be measured (None) misses its goal."""

    name: str
    value: float | None
    relation: str
    bound: float

    @property
    def goal(self) -> str:
        return f"{self.relation} {self.bound:g}"

    @property
    def met(self) -> bool:
        if self.value is None:
            return False
        return {
            ">=": self.value >= self.bound, "<=": self.value <= self.bound, "<": self.value < self.bound,
        }[self.relation]  # fmt: skip

    def document(self) -> dict[str, Any]:
        value = None if self.value is None else round(self.value, 4)
        return {"value": value, "goal": self.goal, "met": self.met}


def figures_of(
    *, kinds: dict[str, Score], wrongly_rejected: list[Record], merged: int, sound: int, before: dict[str, Tally],
    after: dict[str, Tally], repairs: Repairs, rules: list[Rule], wrong_facts: dict[str, tuple[int, int]],
) -> list[Figure]:  # fmt: skip
    """The figures of one run. Without any repairs none can break a fact, so their goal is met."""
    figures = [
        Figure(name, _share(score for kind, score in kinds.items() if KINDS[kind].group == group), ">=", least)
        for group, (name, least) in GROUP_GOALS.items()
    ]
    for group, name in (("one wrong fact", "wrong_fact_kept_true"), ("cut or huge prompts", "cut_or_huge_kept_true")):
        samples = [pair for kind, pair in wrong_facts.items() if KINDS[kind].group == group]
        kept, true = sum(kept for kept, _ in samples), sum(true for _, true in samples)
        figures.append(Figure(name, true / kept if kept else None, ">=", 0.90))
    earlier, now, now_stated = before["all"].precision, after["all"].precision, after["all"].recall
    figures += [
        Figure("sound_wrongly_rejected", len(wrongly_rejected) / sound if sound else None, "<=", 0.01),
        Figure("fact_precision", now, ">=", 0.97),
        Figure("true_facts_stated", now_stated, ">=", 0.85),
        Figure("fact_precision_rise", None if earlier is None or now is None else now - earlier, ">=", 0.0),
        Figure("repairs_that_broke_a_fact", repairs.broke / repairs.made if repairs.made else 0.0, "<=", 0.01),
    ]
    ours, *others = rules
    for other in others:
        name = other.name.replace(" ", "_").lower()
        figures += [
            _beats(f"false_facts_against_{name}", ours.false_facts, other.false_facts),
            _beats(f"good_pairs_lost_against_{name}", float(ours.good_lost), float(other.good_lost)),
        ]
    return figures


def _share(scores: Any) -> float | None:
    scores = list(scores)
    planted = sum(score.planted for score in scores)
    return sum(score.handled for score in scores) / planted if planted else None


def _beats(name: str, ours: float | None, theirs: float | None) -> Figure:
    """The goal is less than the other rule's, or zero if that is zero."""
    return Figure(name, ours, "<" if theirs else "<=", theirs or 0.0)


def model_figures(seed: int, console: Console, each: int = 1000, captions: int = 500) -> list[Figure]:
    """The embedded CLIP's two-way choice and the captioner's share of captions with all facts, on world ``seed``."""
    import open_clip
    from transformers import BlipForConditionalGeneration, BlipProcessor

    from surd.pipeline.demo.training import train_captioner, train_clip

    folder = f"local-dir:{train_clip.FOLDER}"
    clip, _, _ = open_clip.create_model_and_transforms(folder)
    with patch.object(train_clip, "HELD_OUT_SEED", seed):
        shares = train_clip.two_way_choice(clip, open_clip.get_tokenizer(folder), each)
    console.print(f"two-way choice {shares}", highlight=False)
    processor = BlipProcessor.from_pretrained(train_captioner.FOLDER)
    captioner = BlipForConditionalGeneration.from_pretrained(train_captioner.FOLDER)
    with patch.object(train_captioner, "HELD_OUT_SEED", seed):
        right = train_captioner.all_facts_right(captioner, processor, captions)
    console.print(f"captions with all facts right {right:.3f}", highlight=False)
    figures = [Figure(f"two_way_{name}", shares[name], ">=", least) for name, least in TWO_WAY.items()]
    return [*figures, Figure("captions_with_all_facts", right, ">=", 0.90)]
