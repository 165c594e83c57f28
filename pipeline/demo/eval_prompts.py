"""Evaluation prompts from scenes never trained on: `python -m surd.pipeline.demo.eval_prompts --out FILE`.

Each line holds the sentence (`prompt`), the keyword prompt of the same scene (`complex`), its facts, the category it
was chosen for, and the scene's true picture, drawn into a folder named like `FILE` without its suffix. `--tier` chooses
how the sentence is worded (see `tier_sentence`); scenes, keyword prompts and pictures are the same in every tier.
"""

import argparse
import json
import random
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from surd.pipeline.demo.world.fact_space import labels
from surd.pipeline.demo.world.prompts import complex_prompt, narrative
from surd.pipeline.demo.world.render import render
from surd.pipeline.demo.world.scenes import Scene, scene
from surd.pipeline.demo.world.wordings import TIERS, Tier, tier_sentence

#: No training, held-out set or benchmark uses this world.
SEED = 5000
SIZE = 64
#: What a scene must show to be chosen for a category. One thing alone does not test counting.
CATEGORIES: dict[str, Callable[[Scene], bool]] = {
    "action": lambda one: one.action is not None,
    "colour": lambda one: one.tint is not None,
    "counting": lambda one: one.kind == "count" and one.count > 1,
    "relation": lambda one: one.relation is not None,
    "subject": lambda one: one.kind == "count" and one.tint is None,
    "style": lambda one: one.style != "none",
}


def choose(seed: int, each: int) -> Iterator[tuple[str, int, Scene]]:
    """(category, index, scene): the first scenes of world `seed` that give every category `each` scenes, none twice."""
    left = dict.fromkeys(CATEGORIES, each)
    for index in count():
        if not any(left.values()):
            return
        one = scene(seed, index)
        fitting = [category for category, suits in CATEGORIES.items() if left[category] and suits(one)]
        if fitting:
            category = max(fitting, key=lambda name: left[name])
            left[category] -= 1
            yield category, index, one


def write(out: Path, seed: int = SEED, each: int = 40, tier: Tier = "a") -> int:
    """Write the prompt file and its pictures; returns the number of prompts. Lines name their tier, but for tier a."""
    pictures = out.with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    chosen = sorted(choose(seed, each), key=lambda row: (list(CATEGORIES).index(row[0]), row[1]))
    lines = []
    for category, index, one in chosen:
        rng = random.Random(f"eval:{seed}:{index}")
        picture = pictures / f"{index:05d}.png"
        render(one, SIZE).save(picture)
        plain = narrative(one, rng)
        lines.append({
            "prompt": plain if tier == "a" else tier_sentence(tier, one, random.Random(f"eval:{tier}:{seed}:{index}")),
            "category": category,
            "facts": {group: str(value) for group, value in labels(one).items()},
            "complex": complex_prompt(one, rng, markup=False),
            "image": f"{pictures.name}/{picture.name}",
            **({} if tier == "a" else {"tier": tier}),
        })  # fmt: skip
    out.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return len(lines)


def main() -> None:
    """Read the command line and write the file."""
    parser = argparse.ArgumentParser(prog="python -m surd.pipeline.demo.eval_prompts", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; pictures go into a folder beside it")
    parser.add_argument("--seed", type=int, default=SEED, help=f"world to draw scenes from (default {SEED})")
    parser.add_argument("--each", type=int, default=40, help="prompts per category (default 40)")
    tiers = "; ".join(f"{tier}: {what}" for tier, what in TIERS.items())
    parser.add_argument("--tier", choices=TIERS, default="a", help=f"default a. {tiers}")
    args = parser.parse_args()
    print(f"{write(args.out, args.seed, args.each, args.tier)} prompts in {args.out}")


if __name__ == "__main__":
    main()
