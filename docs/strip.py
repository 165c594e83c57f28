"""Draws the README's picture from a finished `make demo`: `python docs/strip.py data/demo docs/strip.png`."""

import sys
import textwrap
from pathlib import Path

import webdataset as wds
from PIL import Image, ImageDraw, ImageFont

COUNT, SIDE, GAP, LINES = 6, 160, 16, 4
HEADER = 32  # of the grid, above its first row


def strip(build: Path) -> Image.Image:
    """The first samples of the build's first shard with their simple prompts, above the sheet of `sur-eval`."""
    shard = next((build / "shards").glob("*.tar"))
    samples = list(wds.WebDataset(str(shard), shardshuffle=False).decode("pilrgb").slice(COUNT))
    grid = Image.open(build / "grid.png").convert("RGB")
    font = ImageFont.load_default(13)
    width = COUNT * (SIDE + GAP) + GAP
    top = SIDE + LINES * 17 + 3 * GAP
    upper = (grid.height + HEADER) // 2
    halves = [grid.crop((0, 0, grid.width, upper)), grid.crop((0, upper, grid.width, grid.height))]
    scale = width / 2 / grid.width
    halves = [half.resize((width // 2, round(half.height * scale)), Image.Resampling.LANCZOS) for half in halves]
    sheet = Image.new("RGB", (width, top + halves[0].height), "white")
    draw = ImageDraw.Draw(sheet)
    for place, sample in enumerate(samples):
        picture = next(sample[ext] for ext in ("png", "jpg", "webp") if ext in sample)
        x = GAP + place * (SIDE + GAP)
        sheet.paste(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, GAP))
        lines = textwrap.wrap(sample["simple.txt"], 24)[:LINES]
        draw.multiline_text((x, SIDE + 2 * GAP), "\n".join(lines), fill="black", font=font)
    sheet.paste(halves[0], (0, top))
    sheet.paste(halves[1], (width // 2, top + halves[0].height - halves[1].height))
    return sheet


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    strip(source).save(target, optimize=True)
