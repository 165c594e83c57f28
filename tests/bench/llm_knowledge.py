"""What an LLM's states say of words that nobody trained on: `python -m tests.bench.llm_knowledge`.

The most that an adapter which reads these states could gain. For each kind of fact a ridge regression is fitted from
the states of training sentences, their mean over tokens, and asked for that fact of the sentences of each tier. Layer 0
are the embeddings of subwords, before the LLM has read anything. Prints a table in Markdown: percent right.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from sur_adapter.llm import shared_llm
from surd.flows.request import resolve_config
from surd.pipeline.demo.world.fact_space import labels
from surd.pipeline.demo.world.scenes import scene
from surd.pipeline.demo.world.wordings import Tier, people_sentence, tier_sentence
from surd.pretrained.hidden_states import HiddenStates, LayerPooling

TIERS: tuple[Tier, ...] = ("b", "c")
FACTS = ("subject", "count", "tint", "action", "background", "style")
#: Of the worlds that no adapter is trained on; the training sentences are those of ``training_set``.
TRAIN_SEED, TEST_SEED = 7000, 5100
RIDGE = 0.1


class Sentences(NamedTuple):
    """Texts and, of each, its facts by kind."""

    texts: list[str]
    facts: list[dict[str, str]]


def sentences(seed: int, count: int, tier: Tier | None = None) -> Sentences:
    """The first ``count`` sentences of a world: of a tier, or as for training."""
    made = Sentences([], [])
    for index in range(count):
        one, rng = scene(seed, index), random.Random(f"people:{seed}:{index}")
        made.texts.append(tier_sentence(tier, one, rng) if tier else people_sentence(one, rng))
        made.facts.append({kind: str(value) for kind, value in labels(one).items()})
    return made


def mean_states(llm: HiddenStates, texts: Sequence[str], layers: Sequence[int | None]) -> dict[int | None, Tensor]:
    """Layer (None: the normalised mean over all) -> states [texts, width], each the mean over the text's tokens."""
    wanted: list[LayerPooling] = [(layer, "all-layers" if layer is None else "mean") for layer in layers]
    rows: dict[int | None, list[Tensor]] = {layer: [torch.empty(0)] * len(texts) for layer in layers}
    for number, states in llm.read(texts, wanted, None):
        for layer, pooling in wanted:
            state = states[layer, pooling].float()
            rows[layer][number] = state.mean(dim=0) if state.ndim == 2 else state
    return {layer: torch.stack(found) for layer, found in rows.items()}


def share_right(
    train_NW: Tensor, facts: Sequence[Mapping[str, str]], test_MW: Tensor, asked: Sequence[Mapping[str, str]], kind: str
) -> float:
    """The share of ``asked`` whose fact of a kind the ridge regression on ``train_NW`` names."""
    values = sorted({one[kind] for one in facts if kind in one})
    known = [row for row, one in enumerate(facts) if kind in one]
    std, mean = torch.std_mean(train_NW, dim=0)
    x_NW, y_NV = (train_NW[known] - mean) / (std + 1e-5), torch.zeros(len(known), len(values))
    for row, number in enumerate(known):
        y_NV[row, values.index(facts[number][kind])] = 1
    share_V = y_NV.mean(dim=0)
    penalty = RIDGE * len(known) * torch.eye(x_NW.shape[1])
    weights_WV = torch.linalg.solve(x_NW.T @ x_NW + penalty, x_NW.T @ (y_NV - share_V))
    tested = [row for row, one in enumerate(asked) if one.get(kind) in values]
    named = (((test_MW[tested] - mean) / (std + 1e-5)) @ weights_WV + share_V).argmax(dim=1).tolist()
    right = [values[value] == asked[row][kind] for value, row in zip(named, tested, strict=True)]
    return sum(right) / len(right)


def table(llm: HiddenStates, count: int, tested: int) -> str:
    """Rows of layers, columns of tiers and facts."""
    layers = [*dict.fromkeys([0, llm.depth // 4, llm.depth // 2, 3 * llm.depth // 4, llm.depth]), None]
    train = sentences(TRAIN_SEED, count)
    tests = {tier: sentences(TEST_SEED, tested, tier) for tier in TIERS}
    trained = mean_states(llm, train.texts, layers)
    states = {tier: mean_states(llm, made.texts, layers) for tier, made in tests.items()}
    columns = [(tier, kind) for kind in FACTS for tier in TIERS]
    lines = [
        "| layer | " + " | ".join(f"{kind}, {tier}" for tier, kind in columns) + " |",
        "| --- |" + " --- |" * len(columns),
    ]
    for layer in layers:
        shares = [
            share_right(trained[layer], train.facts, states[tier][layer], tests[tier].facts, kind)
            for tier, kind in columns
        ]
        name = "mean over all" if layer is None else str(layer)
        lines.append(f"| {name} | " + " | ".join(f"{100 * share:.0f}" for share in shares) + " |")
    return "\n".join(lines)


def main() -> None:
    """Read the command line, print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.llm_knowledge", description=__doc__)
    parser.add_argument("--llm", help="hub id, folder or GGUF file (default: the demo's)")
    parser.add_argument("--count", type=int, default=3000, help="training sentences")
    parser.add_argument("--tested", type=int, default=400, help="sentences of each tier")
    args = parser.parse_args()
    model, tokenizer = shared_llm(args.llm or str(resolve_config("demo").models.llm))
    print(table(HiddenStates(model, tokenizer, "cpu"), args.count, args.tested))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main()
