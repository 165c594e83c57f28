"""Rendering of a scene: the same pixels on every machine, by PIL's integer operations only."""

import random

from PIL import Image, ImageChops, ImageFilter, ImageOps

from surd.pipeline.demo.world.scenes import BACKGROUNDS, Scene
from surd.pipeline.demo.world.sprites import sprite

CANVAS = 128
#: Formations of n things: the side of each thing, and their centres in 128ths.
FORMATIONS: dict[int, tuple[int, list[list[tuple[int, int]]]]] = {
    1: (72, [[(64, 64)]]),
    2: (54, [[(34, 64), (94, 64)], [(64, 34), (64, 94)], [(35, 36), (93, 92)], [(93, 36), (35, 92)]]),
    3: (40, [[(24, 64), (64, 64), (104, 64)], [(64, 34), (32, 92), (96, 92)], [(32, 36), (96, 36), (64, 94)]]),
    4: (42, [[(34, 34), (94, 34), (34, 94), (94, 94)], [(64, 26), (26, 64), (102, 64), (64, 102)]]),
    5: (38, [[(26, 26), (102, 26), (64, 64), (26, 102), (102, 102)],
             [(24, 38), (64, 38), (104, 38), (42, 90), (86, 90)],
             [(42, 38), (86, 38), (24, 90), (64, 90), (104, 90)]]),
}  # fmt: skip
SCATTER = [(x, y) for y in (24, 64, 104) for x in (24, 64, 104)]
PAIRS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}


def places(scene: Scene, rng: random.Random) -> list[tuple[str, int, int, int]]:
    """What is placed where: (sprite, side, centre x, centre y), never touching."""
    if scene.kind == "relation":
        side, gap, drift = rng.randint(46, 54), 31, rng.randint(-14, 14)
        dx, dy = PAIRS[str(scene.relation)]
        across, along = (drift, rng.randint(-3, 3)) if dx == 0 else (rng.randint(-3, 3), drift)
        x, y = 64 + across, 64 + along
        return [
            (scene.subject, side, x + gap * dx, y + gap * dy),
            (str(scene.other), side, x - gap * dx, y - gap * dy),
        ]
    name = scene.action or (f"{scene.tint} {scene.subject}" if scene.tint else scene.subject)
    if scene.count > 2 and rng.random() < 0.4:
        side, centres, drift = 36, rng.sample(SCATTER, scene.count), 2
    else:
        side, formations = FORMATIONS[scene.count]
        side, centres, drift = side - rng.randint(0, side // 8), rng.choice(formations), 18 if scene.count == 1 else 2
    return [(name, side, x + rng.randint(-drift, drift), y + rng.randint(-drift, drift)) for x, y in centres]


def render(scene: Scene, size: int = CANVAS) -> Image.Image:
    """The RGB picture of `scene`, size x size pixels (drawn at 128, then resized bicubically)."""
    rng = random.Random(scene.layout)
    paper = Image.new("RGB", (CANVAS, CANVAS), BACKGROUNDS[scene.background])
    mask = Image.new("L", paper.size)
    drawn = paper.copy()
    for name, side, x, y in places(scene, rng):
        picture, corner = sprite(name, side), (x - side // 2, y - side // 2)
        drawn.paste(picture, corner, picture)
        mask.paste(picture.getchannel("A"), corner, picture)
    styled = _styled(drawn, paper, mask, scene.style)
    return styled if size == CANVAS else styled.resize((size, size), Image.Resampling.BICUBIC)


def _styled(drawn: Image.Image, paper: Image.Image, mask: Image.Image, style: str) -> Image.Image:
    """The picture in its style; the background's colour stays recognisable in every style, so that it stays a fact."""
    match style:
        case "none":
            return drawn
        case "sketch":  # pencil strokes, faintly coloured in, on coloured paper
            grey = drawn.convert("L")
            strokes = ImageOps.invert(grey.filter(ImageFilter.FIND_EDGES)).point(lambda v: v // 2 if v < 215 else 255)
            crayon = Image.blend(Image.blend(grey.convert("RGB"), drawn, 0.5), _WHITE, 0.5)
            return Image.composite(ImageChops.multiply(crayon, strokes.convert("RGB")), paper, mask)
        case "sepia":  # a faded brown print with a pale frame
            brown = ImageOps.colorize(drawn.convert("L"), (52, 32, 14), (246, 226, 184))
            faded = Image.blend(drawn, brown, 0.6)
            return ImageOps.expand(faded.crop((4, 4, 124, 124)), 4, (236, 220, 186))
        case "neon":  # outlines glowing in the thing's own colours over a darkened background
            edges = drawn.convert("L").filter(ImageFilter.FIND_EDGES).point(lambda v: min(255, v * 3))
            bright = drawn.point(lambda v: min(255, v * 5 // 4))
            tubes = Image.composite(bright, _BLACK, ImageChops.multiply(edges, mask))
            glow = tubes.filter(ImageFilter.BoxBlur(5)).point(lambda v: min(255, v * 3 // 2))
            return ImageChops.lighter(ImageChops.add(Image.blend(paper, _BLACK, 0.66), glow), tubes)
        case "pixel art":
            small = drawn.resize((26, 26), Image.Resampling.BOX)
            return ImageOps.posterize(small.resize(drawn.size, Image.Resampling.NEAREST), 3)
        case "blur":
            return drawn.filter(ImageFilter.BoxBlur(3)).filter(ImageFilter.BoxBlur(2))
        case "comic":  # thick ink and printing dots
            ink = ImageChops.subtract(mask.filter(ImageFilter.MaxFilter(7)), mask)
            dots = Image.composite(Image.blend(paper, _BLACK, 0.35), drawn, ImageChops.subtract(_DOTS, mask))
            return Image.composite(_BLACK, dots, ink)
        case "scanlines":
            return Image.composite(Image.blend(drawn, _BLACK, 0.75), drawn, _SCANLINES)
    raise ValueError(f"style is {style!r}: not one of scenes.STYLES")


def _tiled(tile: list[list[int]]) -> Image.Image:
    rows, columns = len(tile), len(tile[0])
    pattern = bytes(tile[y % rows][x % columns] for y in range(CANVAS) for x in range(CANVAS))
    return Image.frombytes("L", (CANVAS, CANVAS), pattern)


_SCANLINES = _tiled([[0]] * 5 + [[255]] * 3)
_DOTS = _tiled([[255 if (x - 4) ** 2 + (y - 4) ** 2 <= 8 else 0 for x in range(10)] for y in range(10)])
_BLACK = Image.new("RGB", (CANVAS, CANVAS), (0, 0, 0))
_WHITE = Image.new("RGB", (CANVAS, CANVAS), (255, 255, 255))
