"""OneTrainer: ``concepts.json``, and a ``config.json`` that names it, for ``--config-path`` beside a preset.

https://github.com/Nerogar/OneTrainer (modules/util/config/ConceptConfig.py)
"""

from __future__ import annotations

import json

from surd.pipeline.dataset.export.trainer_folder import Trainer, TrainerFolder

_VERSION = 2  # of a concept: an older one is migrated, and would lose its balancing


def _files(folder: TrainerFolder) -> dict[str, str]:
    concept = {
        "__version": _VERSION,
        "name": folder.name,
        "path": folder.images,
        "seed": 0,
        "enabled": True,
        "type": "STANDARD",
        "include_subdirectories": False,
        "image_variations": 1,
        # Text states are cached, each time of one line drawn: so many draws as there are lines
        "text_variations": folder.lines,
        "balancing": 1.0,
        "balancing_strategy": "REPEATS",
        "loss_weight": 1.0,
        "image": {"__version": 0, "enable_crop_jitter": True},
        "text": {"__version": 0, "prompt_source": "sample", "prompt_path": ""},
    }
    config = {"concept_file_name": folder.below("concepts.json"), "resolution": str(folder.resolution)}
    return {"concepts.json": _json([concept]), "config.json": _json(config)}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=4) + "\n"


TRAINER = Trainer(name="onetrainer", draws=True, files=_files)
