"""Scenes of the demo world: what picture `index` of world `seed` shows, decided before it is drawn."""

import random
from dataclasses import dataclass, replace
from typing import Literal

SceneKind = Literal["count", "action", "relation"]
Attribute = Literal["subject", "count", "colour", "action", "relation", "style"]

#: Subjects drawn in their own colours, as singular -> (plural, emoji).
SUBJECTS: dict[str, tuple[str, str]] = {
    "cat": ("cats", "🐈"), "dog": ("dogs", "🐕"), "fish": ("fish", "🐟"), "turtle": ("turtles", "🐢"),
    "owl": ("owls", "🦉"), "elephant": ("elephants", "🐘"), "frog": ("frogs", "🐸"), "bee": ("bees", "🐝"),
    "octopus": ("octopuses", "🐙"), "penguin": ("penguins", "🐧"), "snail": ("snails", "🐌"), "crab": ("crabs", "🦀"),
    "apple": ("apples", "🍎"), "banana": ("bananas", "🍌"), "strawberry": ("strawberries", "🍓"),
    "lemon": ("lemons", "🍋"), "pineapple": ("pineapples", "🍍"), "watermelon": ("watermelons", "🍉"),
    "grape": ("grapes", "🍇"), "bus": ("buses", "🚌"), "rocket": ("rockets", "🚀"), "bicycle": ("bicycles", "🚲"),
    "sailboat": ("sailboats", "⛵"), "tractor": ("tractors", "🚜"), "guitar": ("guitars", "🎸"),
    "key": ("keys", "🔑"), "clock": ("clocks", "⏰"), "crown": ("crowns", "👑"), "mushroom": ("mushrooms", "🍄"),
    "cactus": ("cacti", "🌵"), "sunflower": ("sunflowers", "🌻"), "pumpkin": ("pumpkins", "🎃"),
    "snowman": ("snowmen", "⛄"), "burger": ("burgers", "🍔"),
}  # fmt: skip
#: Subjects that exist in every tint.
TINTABLE: dict[str, tuple[str, str]] = {
    "car": ("cars", "🚗"), "balloon": ("balloons", "🎈"), "heart": ("hearts", "❤"), "star": ("stars", "⭐"),
    "umbrella": ("umbrellas", "☂"), "book": ("books", "📕"), "cap": ("caps", "🧢"),
    "butterfly": ("butterflies", "🦋"),
}  # fmt: skip
TINTS = ("red", "yellow", "green", "blue", "purple")
#: What people do, as present participle -> emoji.
ACTIONS: dict[str, str] = {
    "running": "🏃", "dancing": "💃", "swimming": "🏊", "cycling": "🚴", "surfing": "🏄", "lifting weights": "🏋",
    "doing a cartwheel": "🤸", "meditating": "🧘", "rowing": "🚣", "juggling": "🤹", "riding a horse": "🏇",
    "playing golf": "🏌", "climbing": "🧗", "skiing": "⛷", "snowboarding": "🏂", "fencing": "🤺",
    "taking a bath": "🛀", "sleeping": "🛌", "playing handball": "🤾",
}  # fmt: skip
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "red": (205, 58, 54), "orange": (240, 146, 52), "yellow": (246, 220, 92), "green": (88, 168, 92),
    "blue": (72, 128, 214), "purple": (142, 92, 186), "white": (246, 246, 244), "black": (34, 34, 38),
}  # fmt: skip
RELATIONS = ("left of", "right of", "above", "below")
STYLES = ("none", "sketch", "sepia", "neon", "pixel art", "blur", "comic", "scanlines")
#: Which attributes a scene of each kind has.
ATTRIBUTES: dict[SceneKind, tuple[Attribute, ...]] = {
    "count": ("subject", "count", "colour", "style"),
    "action": ("action", "count", "colour", "style"),
    "relation": ("subject", "relation", "colour", "style"),
}


@dataclass(frozen=True)
class Scene:
    """What one picture shows. `action` belongs to action scenes, `relation` and `other` to relation scenes; `tint` is
    None where the subject keeps its own colours; `layout` seeds where things are placed, and nothing else."""

    kind: SceneKind
    subject: str
    count: int
    background: str
    style: str
    layout: int
    tint: str | None = None
    action: str | None = None
    relation: str | None = None
    other: str | None = None


def scene(seed: int, index: int) -> Scene:
    """The scene at `index` of world `seed`, in any order, the same on every machine."""
    rng = random.Random(f"scene:{seed}:{index}")
    kind: SceneKind = rng.choices(("count", "action", "relation"), (50, 25, 25))[0]
    background, layout = rng.choice(list(BACKGROUNDS)), rng.getrandbits(32)
    style = rng.choices(STYLES, (5, 1, 1, 1, 1, 1, 1, 1))[0]
    if kind == "action":
        count = rng.choices((1, 2, 3), (4, 1, 1))[0]
        return Scene(kind, "person", count, background, style, layout, action=rng.choice(list(ACTIONS)))
    if kind == "relation":
        subject, other = rng.sample(list(SUBJECTS), 2)
        return Scene(kind, subject, 1, background, style, layout, relation=rng.choice(RELATIONS), other=other)
    tinted = rng.random() < 0.35
    subject = rng.choice(list(TINTABLE if tinted else SUBJECTS))
    tint = rng.choice(TINTS) if tinted else None
    return Scene(kind, subject, rng.randint(1, 5), background, style, layout, tint=tint)


def variant(scene: Scene, attribute: Attribute, rng: random.Random) -> Scene:
    """`scene` with exactly `attribute` changed ("colour" is the tint or the background). Raises ValueError if scenes of
    this kind do not have it."""
    if attribute not in ATTRIBUTES[scene.kind]:
        raise ValueError(f"attribute is {attribute!r}: a {scene.kind} scene has no {attribute}")

    def other_than(values: object, *taken: object) -> str:
        return rng.choice([value for value in values if value not in taken])  # type: ignore[attr-defined]

    match attribute:
        case "subject":
            return replace(scene, subject=other_than(TINTABLE if scene.tint else SUBJECTS, scene.subject, scene.other))
        case "count":
            counts = (1, 2, 3) if scene.kind == "action" else (1, 2, 3, 4, 5)
            return replace(scene, count=int(other_than(counts, scene.count)))
        case "colour" if scene.tint and rng.random() < 0.5:
            return replace(scene, tint=other_than(TINTS, scene.tint))
        case "colour":
            return replace(scene, background=other_than(BACKGROUNDS, scene.background))
        case "action":
            return replace(scene, action=other_than(ACTIONS, scene.action))
        case "relation":
            return replace(scene, relation=other_than(RELATIONS, scene.relation))
        case "style":
            return replace(scene, style=other_than(STYLES, scene.style))
