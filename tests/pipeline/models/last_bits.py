"""A program: sha256 of what models give for items together, alone, and in another order, as JSON.

python -m tests.pipeline.models.last_bits THREADS
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image

from surd.pipeline.models import Models
from surd.pipeline.runner.process_setup import set_up_process
from surd.schemas import load_config
from tests.pipeline.models.tiny_models import TEXT, WORDS, save_tokenizer

_LAYERS = [(1, "tokens"), (None, "all-layers"), (2, "mean"), (2, "last")]


def main(threads: int) -> None:
    set_up_process()
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        save_wide_llm(Path(folder))
        values = {"models.llm": folder, "models.device": "cpu", "models.dtype": "float32"}
        models = Models(load_config({}, values).models)
        random = np.random.default_rng(0)
        pictures = [Image.fromarray(random.integers(0, 255, (96, 96, 3), np.uint8)) for _ in range(9)]
        lengths = [1, 2, 3, 9, 10, 17, 30, 33, 47]
        texts = [" ".join(random.choice(WORDS[5:], length)) for length in lengths]
        digests = {
            "clip images": digest_of(models.clip.embed_images, pictures),
            "clip texts": digest_of(models.clip.embed_texts, texts),
            "captions": digest_of(lambda batch: models.captioner.caption(batch, 2, 3, 12, 0), pictures[:4]),
            "replies": digest_of(lambda batch: replies(models, batch), texts),
            "states": digest_of(lambda batch: states(models, batch), texts),
        }
    print(json.dumps(digests))


def save_wide_llm(folder: Path) -> None:
    """Wide enough for MKL to choose among ways of adding up: in products of 16 columns it has one."""
    torch.manual_seed(0)
    wide = {"hidden_size": 512, "intermediate_size": 1536, "num_attention_heads": 8, "max_position_embeddings": 256}
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**TEXT | wide)).save_pretrained(folder)
    save_tokenizer(folder)


def replies(models: Models, texts: list[str]) -> list[object]:
    """Each text's answer, and the logits of every token of it."""
    llm, steps, logits_of, generate = models.llm, [], {}, models.llm._generate

    def watched(prefix, rest, *how):
        steps.clear()
        tokens = generate(prefix, rest, *how)
        for at, (row, new) in enumerate(zip(rest, tokens, strict=True)):
            ends = [step for step, token in enumerate(new) if token in llm._ends]
            own = steps[: ends[0] + 1] if ends else steps  # behind its end a row only waits for the others
            logits_of[row] = b"".join(step[at].numpy().tobytes() for step in own)
        return tokens

    hook = llm._model.lm_head.register_forward_hook(lambda module, args, out: steps.append(out[:, -1].clone()))
    llm._generate = watched
    chats = [[{"role": "user", "content": text}] for text in texts]
    answers = llm.replies(chats, 5, temperature=1.0, seed=1)
    hook.remove()
    llm._generate = generate
    return [[answer.text, logits_of[llm._tokens(chat)]] for answer, chat in zip(answers, chats, strict=True)]


def states(models: Models, texts: list[str]) -> list[object]:
    """The hidden states of each text."""
    read = dict(models.embed_llm.hidden_states.read(texts, _LAYERS, None))
    return [[read[at][layer].numpy() for layer in _LAYERS] for at in range(len(texts))]


def digest_of(compute, items) -> dict[str, list[str]]:
    """sha256 of each item's result, computed together, in reverse, and alone."""
    backwards = list(compute(items[::-1]))[::-1]
    alone = [next(iter(compute([item]))) for item in items]
    ways = {"together": list(compute(items)), "backwards": backwards, "alone": alone}
    return {way: [digest(result) for result in results] for way, results in ways.items()}


def digest(result: object) -> str:
    if isinstance(result, list):
        return hashlib.sha256("".join(map(digest, result)).encode()).hexdigest()
    return hashlib.sha256(result.tobytes() if isinstance(result, np.ndarray) else repr(result).encode()).hexdigest()


if __name__ == "__main__":
    main(int(sys.argv[1]))
