"""Controls of bench-effect: what the adapter is compared with, beside other trainings of itself."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, set_seed

#: Name of the folder of the LLM of random weights, and so of its columns: ``llm-random-l15``.
RANDOM_LLM = "random"


def random_llm(like: Path, folder: Path, seed: int) -> Path:
    """A folder of a causal LM of the architecture, shapes and tokenizer of the one in ``like``, its weights random.

    They are drawn from ``seed`` as transformers draws them for a training from nothing. A folder that is there is kept.
    """
    if (folder / "config.json").is_file():
        return folder
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    set_seed(seed)
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(like))
    model.save_pretrained(partial)
    AutoTokenizer.from_pretrained(like).save_pretrained(partial)
    partial.rename(folder)
    return folder
