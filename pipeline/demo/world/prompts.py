"""Text of a scene: a keyword prompt as written on the web, a plain sentence, and the facts."""

import random
from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from surd.pipeline.demo.world.scenes import SUBJECTS, TINTABLE, Scene

#: Parts that a text may leave out: what is shown (with action or relation), how many, tint, background, style.
CLAUSES = ("what", "count", "tint", "background", "style")
NUMBERS = ("no", "one", "two", "three", "four", "five")
QUALITY = (
    "masterpiece", "best quality", "ultra detailed", "highly detailed", "8k", "4k", "highres", "absurdres", "hdr",
    "sharp focus", "award winning", "trending on artstation", "professional", "intricate details", "high resolution",
    "extremely detailed", "amazing quality", "newest", "very aesthetic", "uhd", "perfect composition",
)  # fmt: skip
FILLER = (
    "cute", "studio lighting", "soft shadows", "cinematic lighting", "octane render", "unreal engine", "centered",
    "volumetric lighting", "vibrant", "concept art", "digital art", "illustration", "clean design", "dramatic light",
    "minimalist", "by famous artist", "dof", "depth of field", "sticker", "emoji", "vector", "clip art", "artstation",
)  # fmt: skip
LORAS = ("add_detail", "emojiStyle_v2", "moreArt_XL", "epi_noiseoffset", "sticker_lora", "cuteIcons", "flatDesign")
STYLE_TAGS: dict[str, tuple[str, ...]] = {
    "none": ("flat color", "plain style", "simple shading", "clean lines"),
    "sketch": ("pencil sketch", "sketch", "hand drawn sketch", "pencil drawing", "graphite sketch"),
    "sepia": ("sepia", "sepia photo", "old sepia photograph", "vintage sepia", "sepia tone"),
    "neon": ("neon glow", "neon lights", "glowing neon", "neon outline", "neon style"),
    "pixel art": ("pixel art", "8bit pixel art", "pixelated", "retro pixel art", "16-bit pixels"),
    "blur": ("blurry", "out of focus", "soft blur", "blur", "blurred"),
    "comic": ("comic book style", "comic", "halftone comic", "pop art comic", "comic style, halftone"),
    "scanlines": ("scanlines", "crt scanlines", "retro tv scanlines", "vhs scanlines", "old television, scanlines"),
}
STYLE_PHRASES: dict[str, tuple[str, ...]] = {
    "none": ("",),
    "sketch": ("drawn as a pencil sketch", "as a pencil drawing", "sketched by hand in pencil"),
    "sepia": ("as an old sepia photograph", "in faded sepia tones", "printed in sepia"),
    "neon": ("glowing in neon", "drawn in neon lights", "as a glowing neon sign"),
    "pixel art": ("in pixel art", "drawn as pixel art", "made of big pixels"),
    "blur": ("out of focus", "in a blurred picture", "blurred and soft"),
    "comic": ("in comic book style", "drawn like a comic book", "printed as a comic with dots"),
    "scanlines": ("on an old television with scanlines", "seen through scanlines", "striped by dark scanlines"),
}
ACTION_TAGS: dict[str, tuple[str, ...]] = {
    "running": ("running", "run", "jogging"), "dancing": ("dancing", "dance", "dancer"),
    "swimming": ("swimming", "swim", "swimmer"), "cycling": ("cycling", "riding bicycle", "cyclist"),
    "surfing": ("surfing", "surfer", "surfboard"), "lifting weights": ("weightlifting", "lifting weights", "barbell"),
    "doing a cartwheel": ("cartwheel", "doing a cartwheel", "handstand"),
    "meditating": ("meditating", "meditation", "lotus position"), "rowing": ("rowing", "rowing boat", "rower"),
    "juggling": ("juggling", "juggler", "juggling balls"),
    "riding a horse": ("horse riding", "riding a horse", "jockey"),
    "playing golf": ("playing golf", "golf", "golfer"), "climbing": ("climbing", "rock climbing", "climber"),
    "skiing": ("skiing", "ski", "skier"), "snowboarding": ("snowboarding", "snowboard", "snowboarder"),
    "fencing": ("fencing", "fencer", "fencing with a sword"), "taking a bath": ("taking a bath", "bathing", "bathtub"),
    "sleeping": ("sleeping", "asleep in bed", "lying in bed"),
    "playing handball": ("playing handball", "handball", "handball player"),
}  # fmt: skip
RELATION_WORDS: dict[str, tuple[str, ...]] = {
    "left of": ("left of", "to the left of", "on the left of"),
    "right of": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over", "on top of"), "below": ("below", "under", "beneath"),
}  # fmt: skip
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
NEGATIVES = (
    "worst quality, low quality, lowres", "(worst quality:1.4), bad anatomy, extra fingers", "easynegative, watermark",
    "text, signature, username, jpeg artifacts", "ugly, deformed, bad hands, cropped", "",
)  # fmt: skip


def truth(scene: Scene) -> dict[str, object]:
    """Every fact of the scene by name; without `layout`, which is not a fact."""
    facts = asdict(scene)
    del facts["layout"]
    return facts


def plural(subject: str, count: int) -> str:
    """The noun for `count` of them: "apple" and 3 give "apples"."""
    return subject if count == 1 else (SUBJECTS | TINTABLE)[subject][0]


def complex_prompt(
    scene: Scene, rng: random.Random, markup: bool = True, clauses: Collection[str] = CLAUSES
) -> str:  # fmt: skip
    """A prompt as written on the web: tags in loose order, the facts of `clauses` (all by default) among quality tags
    and filler. `markup` adds attention weights `(tag:1.2)`, `((tag))`, LoRA tags and underscores."""
    quality = rng.sample(QUALITY, rng.randint(0, 4))
    facts = _subject_tags(scene, rng, clauses) if "what" in clauses else []
    if "background" in clauses:
        facts.append(_background_tag(scene, rng))
    if "style" in clauses and (scene.style != "none" or rng.random() < 0.3):
        facts.append(rng.choice(STYLE_TAGS[scene.style]))
    filler = rng.sample(FILLER, rng.randint(0, 3))
    if markup:
        quality, facts, filler = ([_marked(tag, rng) for tag in tags] for tags in (quality, facts, filler))
    order = rng.random()
    if order < 0.45:
        tags = quality + facts + filler
    elif order < 0.75:
        tags = facts + rng.sample(quality + filler, len(quality) + len(filler))
    else:
        tags = quality + facts + filler
        rng.shuffle(tags)
    if markup and rng.random() < 0.5:
        tags.insert(rng.randint(0, len(tags)), f"<lora:{rng.choice(LORAS)}:{rng.choice((0.4, 0.6, 0.8, 1))}>")
    return rng.choice((", ", ", ", ", ", ",", " , ") if markup else (", ",)).join(tags)


def _subject_tags(scene: Scene, rng: random.Random, clauses: Collection[str]) -> list[str]:
    if scene.relation:
        first, second, relation = scene.subject, str(scene.other), scene.relation
        if rng.random() < 0.3:
            first, second, relation = second, first, OPPOSITE[relation]
        phrase = f"{first} {rng.choice(RELATION_WORDS[relation])} {second}"
        return [phrase] if rng.random() < 0.6 else [phrase, rng.choice(("two objects", f"{first}, {second}"))]
    if scene.action:
        people = "person" if scene.count == 1 else "people"
        if "count" not in clauses:
            who = rng.choice((people, "someone" if scene.count == 1 else "people"))
            return [who, rng.choice(ACTION_TAGS[scene.action])]
        who = rng.choice((f"{scene.count}{people}", f"{scene.count} {people}", f"{scene.count} {people}"))
        tags = [who, rng.choice(ACTION_TAGS[scene.action])]
        return [*tags, "solo"] if scene.count == 1 and rng.random() < 0.3 else tags
    thing = _thing(scene, clauses)
    if "count" not in clauses:
        return [thing]
    tags = [
        rng.choice((f"{scene.count} {thing}", f"{scene.count} {thing}", f"{scene.count}{thing}"))
        if rng.random() < 0.8 or scene.tint
        else f"{thing} x{scene.count}"
    ]
    return [*tags, "no humans"] if rng.random() < 0.3 else tags


def _background_tag(scene: Scene, rng: random.Random) -> str:
    colour = scene.background
    return rng.choice((
        f"{colour} background", f"{colour} background", f"simple background, {colour} background",
        f"solid {colour} background", f"{colour} backdrop", f"plain {colour} background", f"on {colour}",
    ))  # fmt: skip


def _marked(tag: str, rng: random.Random) -> str:
    chance = rng.random()
    if chance < 0.15:
        return f"({tag}:{rng.choice((1.1, 1.2, 1.3, 1.4))})"
    if chance < 0.22:
        return f"(({tag}))" if chance < 0.19 else f"[{tag}]"
    return tag.replace(" ", "_") if chance > 0.95 else tag


def negative_prompt(rng: random.Random) -> str:
    """A usual negative prompt, sometimes empty."""
    return rng.choice(NEGATIVES)


class FirstChoice(random.Random):
    """Always the first choice, so that each scene has one sentence: the plainest."""

    def choice(self, seq: Any) -> Any:
        return seq[0]

    def random(self) -> float:
        return 1.0


def narrative(scene: Scene, rng: random.Random, clauses: Collection[str] = CLAUSES) -> str:
    """One plain English sentence stating the facts of `clauses` (all by default), such as "Three red balloons on a blue
    background, drawn as a pencil sketch."."""
    what = _phrase(scene, rng, clauses) if "what" in clauses else rng.choice(("something", "a scene", "a picture"))
    ground = rng.choice(("{} background", "plain {} background", "{} backdrop")).format(scene.background)
    ground = _a(ground)
    verb = "are" if scene.count > 1 and "what" in clauses else "is"
    style = rng.choice(STYLE_PHRASES[scene.style])
    templates = (
        "{what} on {ground}", "{what} in front of {ground}", "A picture of {what} on {ground}",
        "There {verb} {what} on {ground}", "{what} against {ground}", "An image showing {what} on {ground}",
    ) if "background" in clauses else (
        "{what}", "A picture of {what}", "There {verb} {what}", "An image showing {what}",
    )  # fmt: skip
    sentence = rng.choice(templates).format(what=what, ground=ground, verb=verb)
    if style and "style" in clauses:
        sentence += f", {style}"
    return f"{sentence[0].upper()}{sentence[1:]}."


def _phrase(scene: Scene, rng: random.Random, clauses: Collection[str]) -> str:
    if scene.relation:
        first, second, relation = scene.subject, str(scene.other), scene.relation
        if rng.random() < 0.2:
            first, second, relation = second, first, OPPOSITE[relation]
        return f"{_a(first)} {rng.choice(RELATION_WORDS[relation])} {_a(second)}"
    if scene.action:
        lone = rng.choice(("a person", "one person", "someone"))
        many = f"{NUMBERS[scene.count]} people" if "count" in clauses else "people"
        return f"{lone if scene.count == 1 else many} {scene.action}"
    thing = _thing(scene, clauses)
    if scene.count == 1:
        return rng.choice((_a(thing), f"one {thing}", f"a single {thing}"))
    return f"{NUMBERS[scene.count]} {thing}" if "count" in clauses else thing


def _thing(scene: Scene, clauses: Collection[str]) -> str:
    things = plural(scene.subject, scene.count)
    return f"{scene.tint} {things}" if scene.tint and "tint" in clauses else things


def _a(thing: str) -> str:
    return f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}"
