"""The sprite atlas from the Noto Color Emoji font:
`python -m surd.pipeline.demo.training.build_atlas FONT.ttf LICENCE`.
"""

import json
import shutil
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageFont

from surd.pipeline.demo.world.scenes import ACTIONS, SUBJECTS, TINTABLE, TINTS

SPRITE = 72
COLUMNS = 12
OUTLINE = 2
HUES = {"red": 0, "yellow": 36, "green": 84, "blue": 152, "purple": 200}  # PIL counts hue 0..255
ATLAS = Path(__file__).parents[1] / "atlas"


def glyph(font: ImageFont.FreeTypeFont, emoji: str) -> Image.Image:
    """One emoji, cropped and fitted into a sprite with a thin white outline, so that it stands out on a background of
    its own colour."""
    canvas = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(canvas).text((10, 10), emoji, font=font, embedded_color=True)
    drawn = canvas.crop(canvas.getbbox())
    room = SPRITE - 2 * OUTLINE
    scale = room / max(drawn.size)
    drawn = drawn.resize(
        (max(1, round(drawn.width * scale)), max(1, round(drawn.height * scale))), Image.Resampling.LANCZOS
    )
    sprite = Image.new("RGBA", (SPRITE, SPRITE))
    sprite.paste(drawn, ((SPRITE - drawn.width) // 2, (SPRITE - drawn.height) // 2))
    halo = sprite.getchannel("A").filter(ImageFilter.MaxFilter(2 * OUTLINE + 1))
    outlined = Image.new("RGBA", sprite.size, (255, 255, 255, 0))
    outlined.putalpha(halo)
    return Image.alpha_composite(outlined, sprite)


def tinted(sprite: Image.Image, tint: str) -> Image.Image:
    """The sprite with every saturated pixel set to the hue of `tint`; greys, white and black stay."""
    _, saturation, value = sprite.convert("RGB").convert("HSV").split()
    colourful = saturation.point(lambda s: 255 if s > 70 else 0)
    brighter = value.point(lambda v: min(255, v * 5 // 4)) if tint == "yellow" else value
    rgb = Image.merge("HSV", (Image.new("L", sprite.size, HUES[tint]), saturation, brighter)).convert("RGB")
    recoloured = Image.composite(rgb, sprite.convert("RGB"), colourful)
    recoloured.putalpha(sprite.getchannel("A"))
    return recoloured


def build(font_path: Path, licence: Path) -> None:
    """Write atlas.png, atlas.json (name -> left, top, right, bottom) and the font's licence beside them."""
    font = ImageFont.truetype(str(font_path), 109)
    sprites = {name: glyph(font, emoji) for name, (_, emoji) in SUBJECTS.items()}
    for name, (_, emoji) in TINTABLE.items():
        sprites |= {f"{tint} {name}": tinted(glyph(font, emoji), tint) for tint in TINTS}
    sprites |= {name: glyph(font, emoji) for name, emoji in ACTIONS.items()}
    atlas = Image.new("RGBA", (COLUMNS * SPRITE, -(-len(sprites) // COLUMNS) * SPRITE))
    boxes = {}
    for place, (name, sprite) in enumerate(sprites.items()):
        left, top = place % COLUMNS * SPRITE, place // COLUMNS * SPRITE
        atlas.paste(sprite, (left, top))
        boxes[name] = [left, top, left + SPRITE, top + SPRITE]
    ATLAS.mkdir(exist_ok=True)
    atlas.save(ATLAS / "atlas.png", optimize=True)
    (ATLAS / "atlas.json").write_text(json.dumps({"font": "Noto Color Emoji", "sprites": boxes}, indent=1) + "\n")
    shutil.copyfile(licence, ATLAS / "OFL.txt")


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2]))
