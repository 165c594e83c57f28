"""kohya sd-scripts: a dataset config in TOML, for ``--dataset_config``.

https://github.com/kohya-ss/sd-scripts/blob/main/docs/config_README-en.md
"""

from __future__ import annotations

import tomli_w

from surd.pipeline.dataset.export.trainer_folder import Trainer, TrainerFolder


def _files(folder: TrainerFolder) -> dict[str, str]:
    subset = {"image_dir": folder.images, "caption_extension": ".txt", "num_repeats": 1}
    if folder.several:  # without it only the first line is read
        subset |= {"enable_wildcard": True}
    dataset = {
        "resolution": folder.resolution,
        "enable_bucket": True,
        "subsets": [subset],
    }
    return {"dataset.toml": tomli_w.dumps({"datasets": [dataset]})}


def _escape(line: str) -> str:
    """Where a line is drawn, ``{a|b}`` is a choice, and doubled braces are braces."""
    return line.replace("{", "{{").replace("}", "}}")


TRAINER = Trainer(name="kohya", draws=True, files=_files, escape=_escape)
