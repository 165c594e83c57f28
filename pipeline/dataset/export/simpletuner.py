"""SimpleTuner: ``multidatabackend.json``, for ``data_backend_config``, over a folder or over tars with an index.

https://github.com/bghira/SimpleTuner/blob/main/documentation/DATALOADER.md
"""

from __future__ import annotations

import json
from typing import Any

from surd.pipeline.dataset.export.trainer_folder import Trainer, TrainerFolder

BACKENDS = "multidatabackend.json"


def _files(folder: TrainerFolder) -> dict[str, str]:
    where = {
        "type": "local",
        "instance_data_dir": folder.images,
        "caption_strategy": "textfile",
        "metadata_backend": "discovery",
    }
    return {BACKENDS: backends(folder, where)}


def backends(folder: TrainerFolder, where: dict[str, Any]) -> str:
    """The backend of the pictures, which lie ``where``, and the one of the text states, which it cannot do without."""
    images = {
        "id": folder.name,
        "dataset_type": "image",
        **where,
        "resolution": folder.resolution,
        "resolution_type": "pixel_area",
        "crop": False,  # buckets by aspect ratio
        "repeats": 0,
        "cache_dir_vae": f"{folder.cache}/vae/{{model_family}}",
    }
    texts = {
        "id": f"{folder.name}-text",
        "dataset_type": "text_embeds",
        "default": True,
        "type": "local",
        "cache_dir": f"{folder.cache}/text/{{model_family}}",
    }
    return json.dumps([images, texts], ensure_ascii=False, indent=2) + "\n"


TRAINER = Trainer(name="simpletuner", draws=True, files=_files)
