"""Training of the demo CLIP: a small CLIP that open_clip loads like any other."""

import itertools
import json
import logging
import math
import random
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics  # plain English that every Python ships
from typing import Any

import open_clip
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from surd.pipeline.demo.training import checkpoint
from surd.pipeline.demo.training.checkpoint import MODELS
from surd.pipeline.demo.world import fact_space
from surd.pipeline.demo.world.dataset import (
    HELD_OUT_SEED,
    TRAIN_SEED,
    any_prompt,
    normalised,
    pair,
    pixels,
    training_text,
)
from surd.pipeline.demo.world.scenes import ATTRIBUTES, Attribute, scene

log = logging.getLogger(__name__)
FOLDER = MODELS / "clip"
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
VOCABULARY, BATCH, RATE = 3000, 192, 1e-3
CALIBRATION_SEED = 1500
NAMES: tuple[Attribute, ...] = ("subject", "count", "colour", "action", "relation", "style")
MODEL_CFG: dict[str, Any] = {
    "embed_dim": 192,
    "vision_cfg": {"image_size": 64, "patch_size": 8, "width": 192, "layers": 6, "head_width": 64, "no_ln_pre": True},
    "text_cfg": {
        "context_length": 77, "vocab_size": VOCABULARY, "width": 192, "heads": 3, "layers": 4,
        "hf_tokenizer_name": "local", "tokenizer_kwargs": {},
    },
}  # fmt: skip


def corpus(count: int = 40_000) -> Iterator[str]:
    """Texts of the demo world and some general English, so that other prompts are split into words too."""
    rng = random.Random(0)
    for index in range(count):
        yield any_prompt(scene(TRAIN_SEED, index), rng).lower()
    for text in topics.values():
        yield from text.lower().splitlines()


def write_tokenizer(folder: Path) -> None:
    """A byte-level BPE in CLIP's format; the end token gets the highest id, because open_clip pools where ids peak."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    blank: Any = CLIPTokenizer().backend_tokenizer
    tokenizer.normalizer, tokenizer.pre_tokenizer = blank.normalizer, blank.pre_tokenizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    room = VOCABULARY - len(alphabet) - 2  # every byte also needs its end-of-word form
    trainer = trainers.BpeTrainer(vocab_size=room, initial_alphabet=alphabet, end_of_word_suffix="</w>")
    tokenizer.train_from_iterator(corpus(), trainer)
    trained = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(merge) for merge in trained["merges"]]
    tokens = list(dict.fromkeys([*alphabet, *(a + "</w>" for a in alphabet), *("".join(merge) for merge in merges)]))
    tokens += [f"<|unused{n}|>" for n in range(VOCABULARY - 2 - len(tokens))] + ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: place for place, token in enumerate(tokens)}
    finished: Any = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)  # type: ignore[arg-type]
    finished.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))


def write_config(folder: Path) -> None:
    preprocess = {"size": 64, "mode": "RGB", "mean": MEAN, "std": STD, "interpolation": "bicubic"}
    config = {"model_cfg": MODEL_CFG, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")


def export(model: Any, tokenizer_from: Path, card: str) -> None:
    """Write the whole folder anew: weights in fp16, config, tokenizer, model card."""

    def write(folder: Path) -> None:
        for file in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"):
            (folder / file).write_bytes((tokenizer_from / file).read_bytes())
        write_config(folder)
        save_file(checkpoint.to_fp16(model.state_dict()), folder / "open_clip_model.safetensors")
        (folder / "README.md").write_text(card)

    checkpoint.export(FOLDER, write)


def tokenise(tokenizer: open_clip.tokenizer.HFTokenizer, texts: list[str]) -> torch.Tensor:
    """int64 [N, longest]: cut to the longest text, which does not change the output of a causal tower."""
    ids = tokenizer(texts)
    longest = int((ids == VOCABULARY - 1).int().argmax(dim=1).max()) + 1
    return ids[:, :longest]


def encode_text(model: Any, ids_BL: torch.Tensor) -> torch.Tensor:
    """Normalised text features [B, 192] for texts cut short of the context length."""
    x = model.token_embedding(ids_BL) + model.positional_embedding[: ids_BL.shape[1]]
    x = model.transformer(x, attn_mask=model.attn_mask[: ids_BL.shape[1], : ids_BL.shape[1]])
    x = model.ln_final(x)[torch.arange(len(ids_BL)), ids_BL.argmax(dim=-1)] @ model.text_projection
    return torch.nn.functional.normalize(x, dim=-1)


@torch.inference_mode()
def cosine_margins(
    model: Any, tokenizer: open_clip.tokenizer.HFTokenizer, seed: int, attribute: Attribute, each: int
) -> torch.Tensor:
    """[each] cosines of pictures of world `seed` with their own text, minus those with the text of the same scene
    with one attribute changed."""
    model.eval()
    indices = (i for i in range(10**9) if attribute in ATTRIBUTES[scene(seed, i).kind])
    pairs = [pair(seed, next(indices), attribute) for _ in range(each)]
    shown, changed = [a for a, _, _ in pairs], [b for _, b, _ in pairs]
    images = model.encode_image(normalised(pixels(shown), MEAN, STD), normalize=True)
    right, wrong = (
        encode_text(model, tokenise(tokenizer, [any_prompt(one, random.Random(i)) for i, one in enumerate(scenes)]))
        for scenes in (shown, changed)
    )
    model.train()
    return (images * right).sum(1) - (images * wrong).sum(1)


def two_way_choice(
    model: Any, tokenizer: open_clip.tokenizer.HFTokenizer, each: int, seed: int = HELD_OUT_SEED
) -> dict[str, float]:
    """Attribute -> share of held-out pictures nearer to their own text than to that of the scene with the attribute
    changed; `each` pictures per attribute."""
    return {
        name: round(float((cosine_margins(model, tokenizer, seed, name, each) > 0).float().mean()), 3) for name in NAMES
    }


def calibrate(model: Any, tokenizer: open_clip.tokenizer.HFTokenizer) -> None:
    """Set the temperature at which the confidence of two-way choices matches their accuracy, on a world of its own."""
    margins = torch.cat([cosine_margins(model, tokenizer, CALIBRATION_SEED, name, 300) for name in NAMES])
    scales = torch.logspace(0, 2, 200)  # 100 at most, as CLIP's own training has it
    nll = torch.nn.functional.softplus(-scales[:, None] * margins).mean(dim=1)
    with torch.no_grad():
        model.logit_scale.fill_(scales[nll.argmin()].log())


def build(eye: Path) -> Any:
    """The CLIP with an untrained text tower and, if it exists, the trained vision tower."""
    torch.manual_seed(0)
    model: Any = open_clip.model.CLIP(**MODEL_CFG)
    if eye.exists():
        tower = {n.removeprefix("model.eye."): v for n, v in load_file(eye).items() if n.startswith("model.eye.")}
        model.visual.load_state_dict(tower)
    return model


def train(work: Path, steps: int, stop: float) -> None:
    """Train the text tower to `steps` steps or `stop` seconds, whichever comes first, from the last checkpoint if
    there is one, and join it to the vision tower of `train_eye`. They share no batch, but the targets: `fact_space`."""
    work.mkdir(parents=True, exist_ok=True)
    tokens = work / "tokenizer"
    if not (tokens / "merges.txt").exists():
        tokens.mkdir(exist_ok=True)
        write_tokenizer(tokens)
        write_config(tokens)
    eye = work / "eye.safetensors"
    model = build(eye)
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tokens}")
    text_tower = torch.nn.ParameterDict(
        {name.replace(".", "/"): p for name, p in model.named_parameters() if not name.startswith(("visual.", "logit"))}
    )
    decayed = [p for p in text_tower.values() if p.ndim >= 2]
    others = [p for p in text_tower.values() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98))
    first, extra = checkpoint.resume(work / "clip.safetensors", text_tower, optimizer)
    clock = checkpoint.TrainingClock(float(extra.get("seconds", 0)))
    for step in itertools.count(first):
        # The schedule follows the budget of which more is used up.
        done = max(step / steps, clock.seconds / stop)
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 150) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        rng = random.Random(f"lesson:{step}")
        texts, subjects, stated = zip(
            *(training_text(scene(TRAIN_SEED, rng.randrange(10**9)), rng) for _ in range(BATCH)), strict=True
        )
        with checkpoint.fast_computing():
            embeddings = encode_text(model, tokenise(tokenizer, list(texts)))
        loss = fact_space.loss(embeddings, list(subjects), list(stated))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(text_tower.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            log.info("step %d, loss %.3f, %.0f s", step, loss.item(), clock.seconds)
        if step % 250 == 249:
            seconds = torch.tensor(clock.seconds)
            checkpoint.save(work / "clip.safetensors", step + 1, text_tower, optimizer, seconds=seconds)
    checkpoint.save(work / "clip.safetensors", step, text_tower, optimizer, seconds=torch.tensor(clock.seconds))
    calibrate(model, tokenizer)
    shares = two_way_choice(model, tokenizer, 1000)
    log.info("two-way choice at the end, %d steps: %s", step, shares)
    export(model, tokens, card(step, clock.seconds, shares, eye))


def card(steps: int, seconds: float, shares: dict[str, float], eye: Path) -> str:
    """The model card, from what was measured."""
    eye_steps, eye_minutes = checkpoint.progress(eye)
    parameters = sum(p.numel() for p in open_clip.model.CLIP(**MODEL_CFG).parameters()) / 1e6
    rows = "".join(f"| {name} | {share:.3f} |\n" for name, share in shares.items())
    return f"""# A small CLIP of the demo world
{parameters:.1f}M parameters, 64x64 pixels, fp16. Knows emoji scenes and nothing else; no use on photographs.

    model, _, preprocess = open_clip.create_model_and_transforms("local-dir:<this folder>")
    tokenizer = open_clip.get_tokenizer("local-dir:<this folder>")

- **Train it**: `python -m surd.pipeline.demo.train eye`, then `python -m surd.pipeline.demo.train clip`.
- **Data**: scenes of the demo world (seed {TRAIN_SEED}). The vision tower saw 150,000 pictures, the text tower a
  freshly written keyword prompt or sentence a time, some with facts left out, strange words put in, or no sense at all.
- **Training**: both towers aim at one space that has a direction for every fact (`fact_space.py`); they never share a
  batch. Vision: {eye_steps:,} steps of 128 in {eye_minutes:.0f} minutes. Text: {steps:,} steps of {BATCH} in
  {seconds / 60:.0f} minutes. Each on one CPU core (bf16).
- **Licence**: Apache-2.0; the pictures come from Noto Color Emoji (OFL-1.1).

Two-way choice on held-out scenes (seed {HELD_OUT_SEED}): the picture's own words against those of the scene with one
attribute changed, chance is 0.5.

| attribute | right |
|---|---|
{rows}"""
