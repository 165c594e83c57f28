"""Contact sheets: prompts and their images on one labelled sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

CELL = 192
TEXT_WIDTH = 240
GAP = 8
HEADER = 32
CAPTION = 22
FONT_SIZE = 15
INK, PAPER = "#222222", "#ffffff"


def draw_grid(
    prompts: Sequence[str],
    columns: Mapping[str, Sequence[Image.Image]],
    captions: Mapping[str, Sequence[str]] | None = None,
) -> Image.Image:
    """A row per prompt: the prompt, then its image of each column under the column's name, and under each image its
    caption, if the column has some.

    Images smaller than a cell are enlarged by the largest whole factor that fits, larger ones are shrunk.
    """
    font = ImageFont.load_default(FONT_SIZE)
    width = TEXT_WIDTH + len(columns) * (CELL + GAP) + GAP
    height = CELL + GAP + (CAPTION if captions else 0)
    sheet = Image.new("RGB", (width, HEADER + len(prompts) * height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, (name, images) in enumerate(columns.items()):
        left = TEXT_WIDTH + GAP + column * (CELL + GAP)
        draw.text((left + CELL / 2, HEADER / 2), name, INK, font, anchor="mm")
        for row, image in enumerate(images):
            sheet.paste(_fit(image), (left, HEADER + row * height))
            if captions and name in captions:
                place = (left + CELL / 2, HEADER + row * height + CELL + CAPTION / 2)
                draw.text(place, captions[name][row], INK, font, anchor="mm")
    for row, prompt in enumerate(prompts):
        top = HEADER + row * height
        draw.multiline_text((GAP, top + CELL / 2), _wrap(prompt, font), INK, font, anchor="lm")
    return sheet


def _fit(image: Image.Image) -> Image.Image:
    """The image centred on a square cell; whole factors keep the pixels of a small model's image square."""
    factor = CELL // max(image.size)
    if factor >= 1:
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    else:
        image = image.copy()
        image.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    cell = Image.new("RGB", (CELL, CELL), PAPER)
    cell.paste(image, ((CELL - image.width) // 2, (CELL - image.height) // 2))
    return cell


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Break ``text`` into lines that fit the text column, as many as fit a row; an ellipsis marks a cut."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= TEXT_WIDTH - 2 * GAP or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    limit = CELL // (FONT_SIZE + 5)
    return "\n".join(lines[:limit]) + (" …" if len(lines) > limit else "")
