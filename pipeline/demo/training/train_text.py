"""Training of the diffusion model's text encoder on keyword prompts alone, never on a plain sentence.

So it stands for the encoders trained on captions from the web: it knows every word of the demo world, but not plain
sentences.
"""

import logging
import math
import random
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from surd.pipeline.demo.training import checkpoint, train_clip
from surd.pipeline.demo.world import fact_space
from surd.pipeline.demo.world.dataset import HELD_OUT_SEED, TRAIN_SEED
from surd.pipeline.demo.world.prompts import CLAUSES, complex_prompt
from surd.pipeline.demo.world.scenes import Scene, scene

log = logging.getLogger(__name__)
BATCH, RATE, WIDTH, TOKENS = 192, 1e-3, 192, 77


def tokenizer() -> Any:
    """The embedded CLIP's."""
    return CLIPTokenizer.from_pretrained(train_clip.FOLDER)


def build() -> Any:
    """The untrained encoder: a CLIP text tower, causal, 4 layers, 192 wide."""
    torch.manual_seed(0)
    last = train_clip.VOCABULARY - 1
    settings: dict[str, Any] = {
        "vocab_size": train_clip.VOCABULARY, "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": 4, "num_attention_heads": 3, "projection_dim": WIDTH, "hidden_act": "gelu",
        "max_position_embeddings": TOKENS, "bos_token_id": last - 1, "eos_token_id": last, "pad_token_id": last,
        "attn_implementation": "eager",
    }  # fmt: skip
    return CLIPTextModel(CLIPTextConfig(**settings))


def encode(encoder: Any, tokenize: Any, texts: list[str], padding: str | bool = "max_length") -> Any:
    """The encoder's output; ``last_hidden_state`` [N, 77, 192] is the UNet's input in StableDiffusionPipeline."""
    return encoder(tokenize(texts, padding=padding, max_length=TOKENS, truncation=True, return_tensors="pt").input_ids)


def training_prompt(one: Scene, rng: random.Random) -> tuple[str, tuple[str, ...]]:
    """A keyword prompt and the clauses it states; a third leaves some out."""
    stated: tuple[str, ...] = CLAUSES
    if rng.random() < 0.35:
        stated = tuple(clause for clause in CLAUSES if rng.random() < 0.7) or CLAUSES
        if one.count == 1:  # "an apple" states the count, even if that was to be left out
            stated = tuple(dict.fromkeys((*stated, "count")))
        if "what" not in stated:
            stated = tuple(clause for clause in stated if clause in ("background", "style"))
    return complex_prompt(one, rng, rng.random() < 0.1, stated), stated


@torch.inference_mode()
def facts_right(encoder: Any, tokenize: Any, count: int) -> dict[str, float]:
    """Per group of facts, the share of held-out keyword prompts whose embedding ranks their own first."""
    encoder.eval()
    scenes = [scene(HELD_OUT_SEED, index) for index in range(count)]
    texts = [complex_prompt(one, random.Random(index), markup=False) for index, one in enumerate(scenes)]
    pooled = torch.cat([encode(encoder, tokenize, texts[at : at + 250]).pooler_output for at in range(0, count, 250)])
    scores = pooled.float() @ fact_space.directions().T
    hits: dict[str, list[bool]] = {}
    for row, one in enumerate(scenes):
        for name, index in fact_space.indices(one).items():
            start = fact_space.STARTS[name]
            best = int(scores[row, start : start + len(fact_space.GROUPS[name].values)].argmax())
            hits.setdefault(name, []).append(best == index)
    encoder.train()
    return {name: round(sum(of) / len(of), 3) for name, of in hits.items()}


def train(work: Path, steps: int, stop: float) -> None:
    """Train to `steps` steps or `stop` seconds, whichever comes first, from the last checkpoint if there is one; the
    result stays under `work` until the diffusion training exports it."""
    encoder, tokenize = build(), tokenizer()
    decayed = [p for p in encoder.parameters() if p.ndim >= 2]
    others = [p for p in encoder.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98))
    path = work / "text.safetensors"
    step, extra = checkpoint.resume(path, encoder, optimizer)
    clock = checkpoint.TrainingClock(float(extra.get("seconds", 0)))
    while (done := max(step / steps, clock.seconds / stop)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        rng = random.Random(f"text:{step}")
        scenes: list[Scene | None] = [scene(TRAIN_SEED, rng.randrange(10**9)) for _ in range(BATCH)]
        texts, stated = zip(*(training_prompt(one, rng) for one in scenes if one), strict=True)
        with checkpoint.fast_computing():
            pooled = encode(encoder, tokenize, list(texts), padding="longest").pooler_output
        loss = fact_space.loss(pooled.float(), scenes, list(stated))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 50 == 0:
            log.info("step %d, facts %.3f, %.0f s", step, loss.item(), clock.seconds)
        if step % 250 == 0:
            checkpoint.save(path, step, encoder, optimizer, seconds=torch.tensor(clock.seconds))
            log.info("facts right after %d: %s", step, facts_right(encoder, tokenize, 500))
    checkpoint.save(path, step, encoder, optimizer, seconds=torch.tensor(clock.seconds))
    log.info("facts right at the end, %d steps: %s", step, facts_right(encoder, tokenize, 2000))
