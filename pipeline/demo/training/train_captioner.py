"""Training of the demo captioner: a small BLIP that transformers loads like any other."""

import json
import logging
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import BertWordPieceTokenizer
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
)

from surd.pipeline.demo.training import checkpoint, train_clip
from surd.pipeline.demo.training.checkpoint import MODELS
from surd.pipeline.demo.training.train_clip import MEAN, STD
from surd.pipeline.demo.training.train_eye import SCENES
from surd.pipeline.demo.world.dataset import HELD_OUT_SEED, TRAIN_SEED, batches, normalised, pictures, pixels
from surd.pipeline.demo.world.prompts import (
    NUMBERS,
    OPPOSITE,
    RELATION_WORDS,
    STYLE_PHRASES,
    FirstChoice,
    narrative,
    plural,
)
from surd.pipeline.demo.world.scenes import Scene, scene

log = logging.getLogger(__name__)
FOLDER = MODELS / "captioner"
BATCH, RATE, LONGEST = 128, 1e-3, 40
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]"]


def write_vocabulary(folder: Path) -> None:
    """WordPiece over the sentences of the demo world; other words fall back to characters."""
    rng = random.Random(0)
    sentences = [narrative(scene(TRAIN_SEED, index), rng) for index in range(20_000)]
    pieces = BertWordPieceTokenizer(lowercase=True)
    pieces.train_from_iterator(sentences, vocab_size=600, min_frequency=1, special_tokens=SPECIAL, show_progress=False)
    pieces.save_model(str(folder))


def processor(vocabulary: Path) -> Any:
    """The BLIP processor: 64x64 pixels with CLIP's colour statistics, and the tokenizer."""
    images = BlipImageProcessor(size={"height": 64, "width": 64}, image_mean=list(MEAN), image_std=list(STD))
    tokenizer = BertTokenizer(
        vocab=str(vocabulary / "vocab.txt"), do_lower_case=True, bos_token="[DEC]", model_max_length=LONGEST,
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip
    return BlipProcessor(images, tokenizer)


def vision_config() -> dict[str, Any]:
    """BLIP's settings for a vision tower of the shape of the embedded CLIP's."""
    eye = train_clip.MODEL_CFG["vision_cfg"]
    return {
        "hidden_size": eye["width"], "intermediate_size": 4 * eye["width"], "num_hidden_layers": eye["layers"],
        "num_attention_heads": eye["width"] // eye["head_width"], "image_size": 64, "patch_size": 8,
        "hidden_act": "gelu",
    }  # fmt: skip


def build(words: int) -> Any:
    """The untrained BlipForConditionalGeneration; its vision tower has the shape of the embedded CLIP's."""
    torch.manual_seed(0)
    eye = train_clip.MODEL_CFG["vision_cfg"]
    config = BlipConfig(
        vision_config=vision_config(),
        text_config={
            "vocab_size": words, "hidden_size": 192, "encoder_hidden_size": eye["width"], "intermediate_size": 768,
            "num_hidden_layers": 3, "num_attention_heads": 3, "max_position_embeddings": LONGEST,
            "projection_dim": 192, "bos_token_id": SPECIAL.index("[DEC]"), "eos_token_id": SPECIAL.index("[SEP]"),
            "sep_token_id": SPECIAL.index("[SEP]"), "pad_token_id": 0, "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        },
        projection_dim=192,
    )  # fmt: skip
    return BlipForConditionalGeneration(config)


def load_vision_tower(model: Any, eye: Path) -> None:
    """Load the vision tower of `train_eye`, which the embedded CLIP shares, weight for weight."""
    saved = load_file(eye).items()
    source = {name.replace("model.eye.", "visual."): value for name, value in saved if name.startswith("model.eye.")}
    renamed = {
        "embeddings.class_embedding": source["visual.class_embedding"].view(1, 1, -1),
        "embeddings.position_embedding": source["visual.positional_embedding"].unsqueeze(0),
        "embeddings.patch_embedding.weight": source["visual.conv1.weight"],
        "embeddings.patch_embedding.bias": torch.zeros(len(source["visual.conv1.weight"])),
    }
    for kind in ("weight", "bias"):
        renamed[f"post_layernorm.{kind}"] = source[f"visual.ln_post.{kind}"]
        for layer in range(train_clip.MODEL_CFG["vision_cfg"]["layers"]):
            ours, theirs = f"visual.transformer.resblocks.{layer}.", f"encoder.layers.{layer}."
            renamed |= {
                f"{theirs}self_attn.qkv.{kind}": source[f"{ours}attn.in_proj_{kind}"],
                f"{theirs}self_attn.projection.{kind}": source[f"{ours}attn.out_proj.{kind}"],
                f"{theirs}layer_norm1.{kind}": source[f"{ours}ln_1.{kind}"],
                f"{theirs}layer_norm2.{kind}": source[f"{ours}ln_2.{kind}"],
                f"{theirs}mlp.fc1.{kind}": source[f"{ours}mlp.c_fc.{kind}"],
                f"{theirs}mlp.fc2.{kind}": source[f"{ours}mlp.c_proj.{kind}"],
            }
    model.vision_model.load_state_dict({name: value.float() for name, value in renamed.items()})


def train(work: Path, steps: int, stop: float) -> None:
    """Train to `steps` steps or `stop` seconds, whichever comes first, from the last checkpoint if there is one. Only
    the decoder is trained: the vision tower already encodes every fact."""
    vocabulary = work / "vocabulary"
    if not vocabulary.exists():
        vocabulary.mkdir(parents=True)
        write_vocabulary(vocabulary)
    prepare = processor(vocabulary)
    model = build(len(prepare.tokenizer))
    if not FOLDER.exists():
        export(model, prepare, card(0, 0, 0.0), FOLDER)
    load_vision_tower(model, work / "eye.safetensors")

    def finish(step: int, seconds: float, count: int) -> None:
        share = all_facts_right(model, prepare, count)
        log.info("all facts right after %d: %.3f", step, share)
        export(model, prepare, card(step, seconds, share), FOLDER)

    # One wording for each scene, so that only the facts are left to learn.
    fit(model, prepare, work, "captioner", (steps, stop), lambda one, _: narrative(one, FirstChoice()), finish)


def fit(
    model: Any, prepare: Any, work: Path, name: str, budget: tuple[int, float],
    caption: Callable[[Scene, random.Random], str], finish: Callable[[int, float, int], None], rate: float = RATE,
) -> None:  # fmt: skip
    """Train the decoder to the budget (steps, seconds), whichever is used up first, from the last checkpoint of this
    name. `caption`: the sentence for a scene; `finish`: exports the model after some steps and seconds, measured on so
    many scenes."""
    model.vision_model.requires_grad_(False)
    optimizer = torch.optim.AdamW(model.text_decoder.parameters(), rate)
    tower = {key: value.clone() for key, value in model.vision_model.state_dict().items()}
    path, (steps, stop) = work / f"{name}.safetensors", budget
    first, extra = checkpoint.resume(path, model, optimizer)
    model.vision_model.load_state_dict(tower)
    clock = checkpoint.TrainingClock(float(extra.get("seconds", 0)))
    table = pictures(work, TRAIN_SEED, SCENES)
    for step, indices in batches(TRAIN_SEED + 3, SCENES, BATCH, first):
        done = max(step / steps, clock.seconds / stop)
        if done >= 1:
            break
        for group in optimizer.param_groups:
            falling = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))
            group["lr"] = rate * min(1, (step + 1) / 100) * falling
        rng = random.Random(f"captions:{TRAIN_SEED}:{step}")
        texts = [caption(scene(TRAIN_SEED, index), rng) for index in indices]
        loss = _loss(model, prepare, table[indices], texts)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            log.info("step %d, loss %.3f, %.0f s", step, loss.item(), clock.seconds)
        if step % 500 == 499:
            checkpoint.save(path, step + 1, model, optimizer, seconds=torch.tensor(clock.seconds))
            finish(step + 1, clock.seconds, 100)
    checkpoint.save(path, step, model, optimizer, seconds=torch.tensor(clock.seconds))
    finish(step, clock.seconds, 500)


def _loss(model: Any, prepare: Any, images: np.ndarray, texts: list[str]) -> torch.Tensor:
    """Cross-entropy of the sentence, token by token, from [DEC] to [SEP] as in BLIP."""
    tokens = prepare.tokenizer(texts, padding=True, return_tensors="pt")
    ids = tokens.input_ids
    ids[:, 0] = model.config.text_config.bos_token_id
    labels = ids.masked_fill(tokens.attention_mask == 0, -100)
    with checkpoint.fast_computing():
        with torch.no_grad():
            patches = model.vision_model(normalised(images, MEAN, STD)).last_hidden_state
        logits = model.text_decoder(ids, tokens.attention_mask, encoder_hidden_states=patches).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())


def states_all(caption: str, shown: Scene) -> bool:
    """Whether a caption states every fact of the scene, in any wording that a narrative may have."""
    text = f" {caption.lower().replace('.', ' ').replace(',', ' ')} "
    facts = [f"{shown.background} background" in text or f"{shown.background} backdrop" in text]
    phrases = [phrase for style in STYLE_PHRASES.values() for phrase in style if phrase]
    stated = [phrase for phrase in phrases if phrase.replace(",", "") in text]
    facts.append(bool(stated) == (shown.style != "none") and all(p in STYLE_PHRASES[shown.style] for p in stated))
    number = "(?:a|an|one|a single)" if shown.count == 1 else NUMBERS[shown.count]
    if shown.relation:
        facts.append(any(
            re.search(f" {first} {phrase} (?:a|an) {second} ", text) is not None
            for first, second, relation in (
                (shown.subject, shown.other, shown.relation), (shown.other, shown.subject, OPPOSITE[shown.relation]),
            )
            for phrase in RELATION_WORDS[relation]
        ))  # fmt: skip
    elif shown.action:
        who = "(?:a person|one person|someone)" if shown.count == 1 else f"{number} people"
        facts.append(re.search(f" {who} {shown.action} ", text) is not None)
    else:
        thing = " ".join(filter(None, (shown.tint, plural(shown.subject, shown.count))))
        facts.append(re.search(f" {number} {thing} ", text) is not None)
    return all(facts)


@torch.inference_mode()
def all_facts_right(model: Any, prepare: Any, count: int) -> float:
    """Share of held-out scenes whose greedy caption states every fact."""
    model.eval()
    scenes = [scene(HELD_OUT_SEED, index) for index in range(count)]
    ids = model.generate(normalised(pixels(scenes), MEAN, STD), max_new_tokens=LONGEST - 2, num_beams=1)
    captions = prepare.batch_decode(ids, skip_special_tokens=True)
    model.train()
    return sum(map(states_all, captions, scenes)) / count


def export(model: Any, prepare: Any, text: str, target: Path) -> None:
    """Write the whole folder `target` anew: fp16 weights that load as fp32, processor, tokenizer, model card."""

    def write(folder: Path) -> None:
        half = build(model.config.text_config.vocab_size)
        half.load_state_dict(model.state_dict())
        half.half().save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        for part in (config, config["text_config"], config["vision_config"]):
            part["dtype"] = "float32"
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        prepare.tokenizer.backend_tokenizer.no_padding()  # only the training pads
        prepare.save_pretrained(folder)
        (folder / "README.md").write_text(text)

    checkpoint.export(target, write)


def card(steps: int, seconds: float, share: float) -> str:
    """The model card, from what was measured."""
    return f"""# A small captioner of the demo world
A BLIP of 64x64 pixels, fp16 on disk. Says one plain sentence about an emoji scene; no use on photographs.

    processor = BlipProcessor.from_pretrained("<this folder>")
    model = BlipForConditionalGeneration.from_pretrained("<this folder>")

- **Train it**: `python -m surd.pipeline.demo.train captioner`, after `eye`, the vision tower it shares with the CLIP.
- **Data**: {SCENES:,} scenes of the demo world (seed {TRAIN_SEED}), each with its plainest
  sentence.
- **Training**: {steps:,} steps of {BATCH} in {seconds / 60:.0f} minutes on one CPU core (bf16), the vision tower
  frozen.
- **Measured**: {share:.1%} of greedy captions of held-out scenes (seed {HELD_OUT_SEED}) state every fact right:
  subject, count, colours, action, relation, style.
- **Licence**: Apache-2.0; the pictures come from Noto Color Emoji (OFL-1.1).
"""
