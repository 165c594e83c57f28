"""Sprites by name, cut from the shipped atlas."""

import json
from functools import lru_cache
from pathlib import Path

from PIL import Image

ATLAS = Path(__file__).parents[1] / "atlas"


@lru_cache(maxsize=1)
def _atlas() -> tuple[Image.Image, dict[str, list[int]]]:
    with Image.open(ATLAS / "atlas.png") as picture:
        return picture.convert("RGBA"), json.loads((ATLAS / "atlas.json").read_text())["sprites"]


@lru_cache(maxsize=4096)
def sprite(name: str, side: int) -> Image.Image:
    """The RGBA sprite `name` ("apple", "red car", "running") at side x side pixels; cached, so do not draw on it."""
    atlas, boxes = _atlas()
    left, top, right, bottom = boxes[name]
    return atlas.crop((left, top, right, bottom)).resize((side, side), Image.Resampling.BICUBIC)


def names() -> list[str]:
    """Every sprite's name, in the order of the atlas."""
    return list(_atlas()[1])
