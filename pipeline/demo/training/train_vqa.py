"""Training of the demo's VQA model: a small BLIP that answers yes/no questions about one fact of a scene."""

import copy
import json
import logging
import math
import random
from collections import defaultdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import BertWordPieceTokenizer
from transformers import BertTokenizer, BlipConfig, BlipForQuestionAnswering, BlipImageProcessor, BlipProcessor

from surd.pipeline.demo.training import checkpoint, train_captioner, train_clip
from surd.pipeline.demo.training.checkpoint import MODELS
from surd.pipeline.demo.training.train_captioner import SPECIAL
from surd.pipeline.demo.training.train_clip import MEAN, STD
from surd.pipeline.demo.training.train_eye import SCENES
from surd.pipeline.demo.world.claim_words import ABSENT
from surd.pipeline.demo.world.claims import GROUPS, Claim, Group, claim, claim_of
from surd.pipeline.demo.world.dataset import (
    HELD_OUT_SEED,
    TRAIN_SEED,
    batches,
    normalised,
    pictures,
    pixels,
    unrelated_words,
)
from surd.pipeline.demo.world.scenes import scene
from surd.pipeline.facts.questions import question
from surd.pretrained.precision import computes_bfloat16

log = logging.getLogger(__name__)
FOLDER = MODELS / "vqa"
#: Pictures a step, and questions about each: the vision tower, which is not trained, then costs a sixth of a step.
BATCH, QUESTIONS = 24, 12
RATE, LONGEST = 1e-3, 64
ANSWERS = ("no", "yes")


@lru_cache(maxsize=1)
def absent_nouns() -> tuple[str, ...]:
    """Words for what no scene shows, half of them things."""
    return (*ABSENT * (len(unrelated_words()) // len(ABSENT) + 1), *unrelated_words())


def write_vocabulary(folder: Path) -> None:
    """WordPiece over questions about the demo world and general English; other words fall back to characters."""
    rng = random.Random(0)
    texts = [question(claim(scene(TRAIN_SEED, index), rng).fact) for index in range(40_000)]
    pieces = BertWordPieceTokenizer(lowercase=True)
    pieces.train_from_iterator(
        [*texts, *[" ".join(ANSWERS)] * 100, *unrelated_words(), *ABSENT],
        vocab_size=2000, min_frequency=1, special_tokens=SPECIAL, show_progress=False,
    )  # fmt: skip
    pieces.save_model(str(folder))


def processor(vocabulary: Path) -> Any:
    """The BLIP processor: 64x64 pixels with CLIP's colour statistics, and the tokenizer."""
    images = BlipImageProcessor(size={"height": 64, "width": 64}, image_mean=list(MEAN), image_std=list(STD))
    tokenizer = BertTokenizer(
        vocab=str(vocabulary / "vocab.txt"), do_lower_case=True, bos_token="[DEC]", model_max_length=LONGEST,
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip
    return BlipProcessor(images, tokenizer)


def build(words: int) -> Any:
    """The untrained BlipForQuestionAnswering; its vision tower has the shape of the embedded CLIP's."""
    torch.manual_seed(0)
    eye = train_clip.MODEL_CFG["vision_cfg"]
    config = BlipConfig(
        vision_config=train_captioner.vision_config(),
        text_config={
            "vocab_size": words, "hidden_size": eye["width"], "encoder_hidden_size": eye["width"],
            "intermediate_size": 384, "num_hidden_layers": 3, "num_attention_heads": 3,
            "max_position_embeddings": LONGEST, "projection_dim": 192, "bos_token_id": SPECIAL.index("[DEC]"),
            "eos_token_id": SPECIAL.index("[SEP]"), "sep_token_id": SPECIAL.index("[SEP]"), "pad_token_id": 0,
            "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        },
        projection_dim=192,
    )  # fmt: skip
    return BlipForQuestionAnswering(config)


def load_vision_tower(model: Any) -> None:
    """Load the vision tower of the embedded captioner, which it shares with the CLIP."""
    saved = load_file(train_captioner.FOLDER / "model.safetensors")
    tower = {n.removeprefix("vision_model."): v.float() for n, v in saved.items() if n.startswith("vision_model.")}
    model.vision_model.load_state_dict(tower)


def train(work: Path, steps: int, stop: float) -> None:
    """Train to `steps` steps or `stop` seconds, whichever comes first, from the last checkpoint if there is one. Only
    the two text towers are trained: the vision tower already encodes every fact."""
    vocabulary = work / "vqa-vocabulary"
    if not vocabulary.exists():
        vocabulary.mkdir(parents=True)
        write_vocabulary(vocabulary)
    prepare = processor(vocabulary)
    model = build(len(prepare.tokenizer))
    model.vision_model.requires_grad_(False)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], RATE, betas=(0.9, 0.98))
    path = work / "vqa.safetensors"
    first, extra = checkpoint.resume(path, model, optimizer)
    load_vision_tower(model)
    clock = checkpoint.TrainingClock(float(extra.get("seconds", 0)))
    table = pictures(work, TRAIN_SEED, SCENES)
    # Weights and states of 16 bits, with 32 bits for the optimizer: a fifth faster than casting at each operation.
    quick = copy.deepcopy(model).bfloat16() if computes_bfloat16("cpu") else model
    order = _order()
    for step, rows in batches(TRAIN_SEED + 5, len(order), BATCH, first):
        indices = sorted(order[rows])
        done = max(step / steps, clock.seconds / stop)
        if done >= 1:
            break
        for group in optimizer.param_groups:
            falling = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))
            group["lr"] = RATE * min(1, (step + 1) / 200) * falling
        rng = random.Random(f"questions:{TRAIN_SEED}:{step}")
        shown = [scene(TRAIN_SEED, index) for index in indices]
        claims = [[claim(one, rng, absent_nouns()) for _ in range(QUESTIONS)] for one in shown]
        if quick is not model:
            quick.load_state_dict(model.state_dict())
        loss = _loss(quick, prepare, table[indices], claims)
        optimizer.zero_grad()
        loss.backward()
        if quick is not model:
            for weight, used in zip(model.parameters(), quick.parameters(), strict=True):
                weight.grad, used.grad = None if used.grad is None else used.grad.float(), None
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            log.info("step %d, loss %.3f, %.0f s", step, loss.item(), clock.seconds)
        if step % 250 == 249:
            checkpoint.save(path, step + 1, model, optimizer, seconds=torch.tensor(clock.seconds))
            right = accuracy(model, prepare, 60)
            log.info("right after %d: %s", step + 1, right)
            export(model, prepare, card(step + 1, clock.seconds, right, 60))
    checkpoint.save(path, step, model, optimizer, seconds=torch.tensor(clock.seconds))
    right = accuracy(model, prepare, 600)
    log.info("right at the end, %d steps: %s", step, right)
    export(model, prepare, card(step, clock.seconds, right, 600))


def _order() -> np.ndarray:
    """The scenes of an epoch: those with a relation, the hardest to learn, three times, which makes them half."""
    kinds = np.array([scene(TRAIN_SEED, index).kind == "relation" for index in range(SCENES)])
    return np.repeat(np.arange(SCENES), np.where(kinds, 3, 1))


def _loss(model: Any, prepare: Any, images: np.ndarray, claims: list[list[Claim]]) -> torch.Tensor:
    """Cross-entropy of the answer and its end."""
    tokens, end = model.config.text_config.bos_token_id, model.config.text_config.sep_token_id
    words = prepare.tokenizer.convert_tokens_to_ids(list(ANSWERS))
    answers = torch.tensor([words[one.true] for row in claims for one in row])
    start = torch.full_like(answers, tokens)
    states, mask = _encoded(model, prepare, images, [[question(one.fact) for one in row] for row in claims])
    given = torch.stack([start, answers], dim=1)
    logits = model.text_decoder(given, encoder_hidden_states=states, encoder_attention_mask=mask).logits
    wanted = torch.stack([answers, torch.full_like(answers, end)], dim=1)
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), wanted.flatten())


def _encoded(
    model: Any, prepare: Any, images: np.ndarray, questions: list[list[str]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The states of all questions [pictures * questions, tokens, 192] and their mask. The questions about a picture
    stand behind one another in a row, each of which attends only to itself: so the row needs the keys and values of
    its picture once, and next to no padding."""
    rows = [prepare.tokenizer(row, truncation=True, max_length=LONGEST).input_ids for row in questions]
    longest = max(sum(map(len, row)) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    places, which = torch.zeros_like(ids), torch.full_like(ids, -1)
    lengths = torch.tensor([[len(one) for one in row] for row in rows])
    for at, row in enumerate(rows):
        flat = [token for one in row for token in one]
        ids[at, : len(flat)] = torch.tensor(flat)
        places[at, : len(flat)] = torch.tensor([place for one in row for place in range(len(one))])
        which[at, : len(flat)] = torch.tensor([number for number, one in enumerate(row) for _ in one])
    apart = (which[:, :, None] != which[:, None, :])[:, None]
    with torch.no_grad():
        patches = model.vision_model(normalised(images, MEAN, STD).to(model.dtype)).last_hidden_state
    states = model.text_encoder(
        ids, attention_mask=patches.new_zeros(apart.shape).masked_fill(apart, -1e4), position_ids=places,
        encoder_hidden_states=patches,
    ).last_hidden_state  # fmt: skip
    starts = lengths.cumsum(1) - lengths
    steps = torch.arange(int(lengths.max()))
    mask = (steps < lengths[:, :, None]).flatten(0, 1)
    take = (starts[:, :, None] + steps).clamp(max=longest - 1)
    picked = states[torch.arange(len(rows))[:, None, None], take].flatten(0, 1)
    return picked, mask.long()


@torch.inference_mode()
def probabilities(model: Any, prepare: Any, images: np.ndarray, questions: list[list[str]]) -> torch.Tensor:
    """P(yes) [pictures, questions] of uint8 pictures [N, 64, 64, 3] and equally many questions about each."""
    states, mask = _encoded(model, prepare, images, questions)
    given = torch.full((len(states), 1), model.config.text_config.bos_token_id)
    logits = model.text_decoder(given, encoder_hidden_states=states, encoder_attention_mask=mask).logits[:, 0]
    no, yes = prepare.tokenizer.convert_tokens_to_ids(list(ANSWERS))
    return logits[:, [no, yes]].softmax(-1)[:, 1].view(len(images), -1)


def accuracy(model: Any, prepare: Any, count: int, seed: int = HELD_OUT_SEED) -> dict[str, float]:
    """Per group of claims, the balanced share of right answers about `count` pictures of each kind that a claim of the
    group can be true of; "calibration": the mean difference of P(yes) and truth in ten bins of P(yes)."""
    model.eval()
    answers: list[tuple[float, bool]] = []
    shares: dict[str, float] = {}
    for group in GROUPS:
        some = _answers(model, prepare, count, seed, group)
        answers += some
        parts = [[(p > 0.5) == true for p, true in some if true is side] for side in (False, True)]
        shares[group] = round(sum(sum(part) / len(part) for part in parts) / 2, 4)
    bins = defaultdict(list)
    for p, true in answers:
        bins[min(9, int(10 * p))].append((p, true))
    off = sum(abs(sum(p for p, _ in some) - sum(true for _, true in some)) for some in bins.values())
    model.train()
    return shares | {"calibration": round(off / len(answers), 4)}


def _answers(model: Any, prepare: Any, count: int, seed: int, group: Group) -> list[tuple[float, bool]]:
    rng = random.Random(f"held out:{seed}:{group}")
    fitting = {"action": ("action",), "relation": ("relation",), "count": ("count", "action")}.get(group)
    shown = (scene(seed, index) for index in range(100 * count))
    wanted = (one for one in shown if (not fitting or one.kind in fitting) and (group != "tint" or one.tint))
    scenes = [one for one, _ in zip(wanted, range(count), strict=False)]
    answers = []
    for at in range(0, count, 50):
        part = scenes[at : at + 50]
        claims = [[claim_of(group, one, rng, absent_nouns()) for _ in range(10)] for one in part]
        texts = [[question(one.fact) for one in row] for row in claims]
        for row, truths in zip(probabilities(model, prepare, pixels(part), texts).tolist(), claims, strict=True):
            answers += [(p, one.true) for p, one in zip(row, truths, strict=True)]
    return answers


def export(model: Any, prepare: Any, text: str) -> None:
    """Write the whole folder anew: fp16 weights that load as fp32, processor, tokenizer, model card."""

    def write(folder: Path) -> None:
        half = build(model.config.text_config.vocab_size)
        half.load_state_dict(model.state_dict())
        half.half().save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        for part in (config, config["text_config"], config["vision_config"]):
            part["dtype"] = "float32"
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        prepare.tokenizer.backend_tokenizer.no_padding()
        prepare.tokenizer.backend_tokenizer.no_truncation()
        prepare.save_pretrained(folder)
        (folder / "README.md").write_text(text)

    checkpoint.export(FOLDER, write)


def card(steps: int, seconds: float, right: dict[str, float], count: int) -> str:
    """The model card, from what was measured."""
    rows = "".join(f"| {name} | {right[name]:.4f} |\n" for name in GROUPS)
    return f"""# A small VQA model of the demo world
A BlipForQuestionAnswering of 64x64 pixels, fp16 on disk. Answers "yes" or "no" to a question about one fact of a scene
of emoji ("Is the background red?", "Are there exactly three cats in the picture?"); no use on photographs.

    processor = BlipProcessor.from_pretrained("<this folder>")
    model = BlipForQuestionAnswering.from_pretrained("<this folder>")

- **Train it**: `python -m surd.pipeline.demo.train vqa`; the vision tower is the embedded captioner's, and frozen.
- **Data**: {min(steps * BATCH, SCENES):,} scenes of the demo world (seed {TRAIN_SEED}), and {QUESTIONS} questions each
  time one is drawn: facts stated as captions, prompts and rewritings state them, about half of them false by one value.
- **Training**: {steps:,} steps of {BATCH} x {QUESTIONS} in {seconds / 60:.0f} minutes on one CPU core (bf16).
- **Licence**: Apache-2.0; the pictures come from Noto Color Emoji (OFL-1.1).

Balanced share of right answers on held-out scenes (seed {HELD_OUT_SEED}), ten questions about each of {count} scenes
that can have such a fact; P(yes) is off the share of true facts by {right["calibration"]:.3f} on average:

| facts | right |
|---|---|
{rows}"""
