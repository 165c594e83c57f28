"""Pictures that carry their prompt, as a web UI leaves them."""

from pathlib import Path

from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "pink", "gray")


def draw_pictures(folder: Path, count: int) -> Path:
    """``count`` different PNGs, each with the prompt that a web UI would have put in."""
    folder.mkdir(parents=True)
    for number in range(count):
        image = Image.new("RGB", (64, 64), COLOURS[number % len(COLOURS)])
        ImageDraw.Draw(image).rectangle((8 * (number % 5), 8, 40 + 3 * number, 20 + 5 * number), fill="white")
        info = PngInfo()
        prompt = f"a white box on a {COLOURS[number % len(COLOURS)]} table, masterpiece, (best quality:1.2)"
        info.add_text("parameters", f"{prompt}\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, Seed: {number}")
        image.save(folder / f"picture-{number}.png", pnginfo=info)
    return folder
