"""musubi-tuner: a dataset config in TOML, for ``--dataset_config``.

https://github.com/kohya-ss/musubi-tuner/blob/main/docs/dataset_config.md
"""

from __future__ import annotations

import tomli_w

from surd.pipeline.dataset.export.trainer_folder import Trainer, TrainerFolder


def _files(folder: TrainerFolder) -> dict[str, str]:
    general = {
        "resolution": [folder.resolution, folder.resolution],
        "caption_extension": ".txt",
        "enable_bucket": True,
    }
    dataset = {"image_directory": folder.images, "cache_directory": folder.cache, "num_repeats": 1}
    return {"dataset.toml": tomli_w.dumps({"general": general, "datasets": [dataset]})}


TRAINER = Trainer(name="musubi", draws=False, files=_files)
