"""ostris' ai-toolkit: ``config.yaml``, a whole training job, for ``python run.py``.

The job trains a LoRA of SDXL; the model is what a user changes. https://github.com/ostris/ai-toolkit (config/examples)
"""

from __future__ import annotations

import yaml

from surd.pipeline.dataset.export.trainer_folder import Trainer, TrainerFolder
from surd.schemas import SurdError

_REPLACED = ("${", "[name]")  # what it replaces in the text of its config, with no way to write it otherwise


def _files(folder: TrainerFolder) -> dict[str, str]:
    if found := next((text for text in _REPLACED if text in folder.images), None):
        raise SurdError(
            f"the folder's path is {folder.root!r}: ai-toolkit replaces {found!r} in it; give another --out"
        )
    side = folder.resolution
    prompts = [prompt for prompt in folder.prompts if not any(text in prompt for text in _REPLACED)]
    process = {
        "type": "sd_trainer",
        "training_folder": "output",
        "device": "cuda:0",
        "network": {"type": "lora", "linear": 16, "linear_alpha": 16},
        "save": {"dtype": "float16", "save_every": 250, "max_step_saves_to_keep": 4},
        "datasets": [
            {
                "folder_path": folder.images,
                "caption_ext": "txt",
                "caption_dropout_rate": 0.05,
                "shuffle_tokens": False,
                "cache_latents_to_disk": True,
                "resolution": [side],
            }
        ],
        "train": {
            "batch_size": 1,
            "steps": 2000,
            "gradient_accumulation_steps": 1,
            "train_unet": True,
            "train_text_encoder": False,
            "gradient_checkpointing": True,
            "noise_scheduler": "ddpm",
            "optimizer": "adamw8bit",
            "lr": 0.0001,
            "dtype": "bf16",
        },
        "model": {"name_or_path": "stabilityai/stable-diffusion-xl-base-1.0", "arch": "sdxl"},
        "sample": {
            "sampler": "ddpm",
            "sample_every": 250,
            "width": side,
            "height": side,
            "prompts": prompts,
            "neg": "",
            "seed": 42,
            "walk_seed": True,
            "guidance_scale": 7,
            "sample_steps": 20,
        },
    }
    job = {"job": "extension", "config": {"name": folder.name, "process": [process]}}
    return {"config.yaml": yaml.safe_dump(job, sort_keys=False, allow_unicode=True, width=1000)}


TRAINER = Trainer(name="ai-toolkit", draws=False, files=_files)
