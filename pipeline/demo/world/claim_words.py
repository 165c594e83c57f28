"""Words for the facts of the demo world beyond its own: those of captions, keyword prompts and rewritings."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from surd.pipeline.demo.world.prompts import ACTION_TAGS, RELATION_WORDS, STYLE_PHRASES, STYLE_TAGS
from surd.pipeline.demo.world.scenes import ACTIONS, RELATIONS, STYLES, SUBJECTS, TINTABLE


class Noun(NamedTuple):
    """A noun in both numbers."""

    singular: str
    plural: str


#: A value and what stands behind it: (value, second thing or None).
Form = tuple[str, str | None]

_MORE_NOUNS: dict[str, tuple[Noun, ...]] = {
    "cat": (Noun("kitten", "kittens"),), "dog": (Noun("puppy", "puppies"),), "turtle": (Noun("tortoise", "tortoises"),),
    "bee": (Noun("honeybee", "honeybees"),), "bicycle": (Noun("bike", "bikes"),),
    "sailboat": (Noun("boat", "boats"), Noun("sailing boat", "sailing boats")),
    "clock": (Noun("alarm clock", "alarm clocks"),), "burger": (Noun("hamburger", "hamburgers"),),
    "cap": (Noun("baseball cap", "baseball caps"), Noun("hat", "hats")), "car": (Noun("automobile", "automobiles"),),
    "rocket": (Noun("rocket ship", "rocket ships"),), "umbrella": (Noun("parasol", "parasols"),),
}  # fmt: skip
_PEOPLE = (
    Noun("person", "people"), Noun("person", "people"), Noun("someone", "people"), Noun("person", "persons"),
    Noun("human", "humans"), Noun("figure", "figures"),
)  # fmt: skip


@lru_cache(maxsize=128)
def forms_of(name: str) -> tuple[Noun, ...]:
    """The nouns for a subject or "person"; its own stands there three times, so that it is drawn more often."""
    if name == "person":
        return _PEOPLE
    own = Noun(name, (SUBJECTS | TINTABLE)[name][0])
    more = _MORE_NOUNS.get(name, ())
    return (*(own,) * (4 if more else 1), *more)


#: Nouns for what an action is done with or who does it -> the actions, and things, that show it.
SHOWN_BY: tuple[tuple[Noun, frozenset[str]], ...] = tuple(
    (Noun(*nouns.split("/")) if "/" in nouns else Noun(nouns, nouns), frozenset(keys.split(", ")))
    for nouns, keys in {
        "horse/horses": "riding a horse", "bicycle/bicycles": "cycling, bicycle", "bike/bikes": "cycling, bicycle",
        "boat/boats": "rowing, sailboat", "rowing boat/rowing boats": "rowing", "surfboard/surfboards": "surfing",
        "wave/waves": "surfing", "weight/weights": "lifting weights", "barbell/barbells": "lifting weights",
        "bath/baths": "taking a bath", "bathtub/bathtubs": "taking a bath", "bed/beds": "sleeping",
        "sword/swords": "fencing", "ski/skis": "skiing", "snowboard/snowboards": "snowboarding",
        "golf": "playing golf", "golf club/golf clubs": "playing golf", "handball": "playing handball",
        "cartwheel/cartwheels": "doing a cartwheel", "handstand/handstands": "doing a cartwheel",
        "lotus position": "meditating", "meditation": "meditating", "jogger/joggers": "running",
        "runner/runners": "running", "dancer/dancers": "dancing", "swimmer/swimmers": "swimming",
        "cyclist/cyclists": "cycling", "surfer/surfers": "surfing", "weightlifter/weightlifters": "lifting weights",
        "rower/rowers": "rowing", "juggler/jugglers": "juggling", "jockey/jockeys": "riding a horse",
        "golfer/golfers": "playing golf", "climber/climbers": "climbing", "skier/skiers": "skiing",
        "snowboarder/snowboarders": "snowboarding", "fencer/fencers": "fencing",
        "handball player/handball players": "playing handball", "ball/balls": "juggling, playing handball",
    }.items()
)  # fmt: skip

_ANIMALS = "cat dog fish turtle owl elephant frog bee octopus penguin snail crab butterfly"
_FRUIT = "apple banana strawberry lemon pineapple watermelon grape"
#: Nouns for a whole kind of things -> its members.
GENERIC: tuple[tuple[Noun, frozenset[str]], ...] = (
    (Noun("animal", "animals"), frozenset(_ANIMALS.split())), (Noun("fruit", "fruits"), frozenset(_FRUIT.split())),
    (Noun("bird", "birds"), frozenset(("owl", "penguin"))), (Noun("flower", "flowers"), frozenset(("sunflower",))),
    (Noun("vehicle", "vehicles"), frozenset(("bus", "car", "tractor", "bicycle"))),
    (Noun("object", "objects"), frozenset((*SUBJECTS, *TINTABLE))),
    (Noun("thing", "things"), frozenset((*SUBJECTS, *TINTABLE))),
    *((noun, frozenset(("person",))) for noun in dict.fromkeys(_PEOPLE)),
)  # fmt: skip
#: Of a person drawn this small nobody can say it; of other pictures they are not true.
UNCERTAIN = ("man", "woman", "boy", "girl", "child", "baby", "human figure", "men", "women", "children")

_OTHER_THINGS = (
    "cow sheep pig rabbit bunny eagle duck shark whale dolphin snake spider lion tiger bear wolf fox deer "
    "monkey giraffe zebra dragon unicorn robot cherry peach carrot rose tulip tree pizza cake cup mug "
    "bottle truck train motorcycle airplane plane helicopter ship piano violin lamp chair table house "
    "castle tower bridge mountain river beach sea street city forest sky sun moon cloud grass snow fire "
    "lantern phone computer window door wall kitchen plate knife spoon sandwich donut orange broccoli "
    "cathedral statue flag kite skateboard frisbee bench"
)
#: Things that no scene shows.
ABSENT = tuple(_OTHER_THINGS.split())
NUMBER_FORMS: dict[int, tuple[str, ...]] = {
    1: ("one", "one", "1", "a single", "a", "single"), 2: ("two", "2", "two", "a pair of", "a couple of"),
    3: ("three", "3", "three"), 4: ("four", "4", "four"), 5: ("five", "5", "five"), 6: ("six", "6", "six"),
}  # fmt: skip
COLOUR_FORMS: dict[str, tuple[str, ...]] = {
    "purple": ("violet",), "grey": ("gray",), "gold": ("golden",), "turquoise": ("teal",), "red": ("bright red",),
    "blue": ("bright blue",), "green": ("bright green",), "yellow": ("bright yellow",), "black": ("dark", "black"),
}  # fmt: skip
#: Colours that no background and no tint has.
OTHER_COLOURS = ("pink", "brown", "grey", "gold", "silver", "turquoise")
#: The colours of things that have no tint, where there is no doubt of them.
OWN_COLOURS: dict[str, tuple[str, ...]] = {
    "turtle": ("green",), "owl": ("brown",), "frog": ("green",), "apple": ("red",), "banana": ("yellow",),
    "strawberry": ("red",), "lemon": ("yellow",), "grape": ("purple",), "cactus": ("green",), "pumpkin": ("orange",),
    "sunflower": ("yellow",), "snowman": ("white",), "key": ("yellow", "gold"), "crown": ("yellow", "gold"),
}  # fmt: skip
#: Adjectives that leave open whether a claim is true.
NEUTRAL = ("small", "big", "little", "cute", "lone", "single", "large", "simple", "bright")

RELATION_FORMS: dict[str, tuple[str, ...]] = {
    relation: (*(relation,) * 8, *RELATION_WORDS[relation], *more)
    for relation, more in zip(
        RELATIONS,
        (
            ("on the left side of", "to the left side of"), ("on the right side of", "to the right side of"),
            ("directly above", "atop"), ("underneath", "directly below"),
        ),
        strict=True,
    )
}  # fmt: skip
#: Relations that no scene has.
OTHER_RELATIONS = ("behind", "inside", "inside of", "holding", "eating", "riding", "wearing", "between")

_MORE_ACTIONS: dict[str, tuple[Form, ...]] = {
    "cycling": (("riding", "bicycle"), ("riding", "bike"), ("riding a bicycle", None), ("on", "bicycle")),
    "riding a horse": (("riding", "horse"), ("on", "horse"), ("horse riding", None)),
    "lifting weights": (("lifting", "weights"), ("weightlifting", None), ("lifting", "barbell")),
    "doing a cartwheel": (("doing", "cartwheel"), ("doing a handstand", None), ("doing", "handstand")),
    "rowing": (("rowing", "boat"), ("rowing a boat", None)), "juggling": (("juggling", "balls"),),
    "playing golf": (("playing", "golf"), ("golfing", None)), "climbing": (("rock climbing", None),),
    "fencing": (("fencing with", "sword"), ("fencing", None)), "swimming": (("swimming in", "water"),),
    "taking a bath": (("taking", "bath"), ("bathing", None), ("in", "bathtub"), ("taking", "baths")),
    "sleeping": (("lying in", "bed"), ("lying in bed", None), ("asleep", None), ("asleep in", "bed")),
    "playing handball": (("playing", "handball"), ("throwing", "handball")), "running": (("jogging", None),),
    "meditating": (("in", "lotus position"),), "surfing": (("riding", "wave"), ("on", "surfboard")),
    "snowboarding": (("on", "snowboard"),),
}  # fmt: skip
ACTION_FORMS: dict[str, tuple[Form, ...]] = {
    action: (*((action, None),) * 5, *_MORE_ACTIONS.get(action, ()), *((tag, None) for tag in ACTION_TAGS[action]))
    for action in ACTIONS
}

#: Style -> what texts say of a picture in it, beyond whole phrases: nouns (plural ones end in "*"), adjectives,
#: "preposition or verb > noun", and "adjective @ noun" for a part of the style itself.
_STYLE_WORDS: dict[str, str] = {
    "none": "",
    "sketch": "pencil sketch | sketch | pencil drawing | drawing | pencil | hand drawn sketch; sketched; "
    "drawn as > pencil sketch | in > pencil | sketched in > pencil | as > pencil drawing | drawn in > pencil | "
    "sketched by > hand",
    "sepia": "old sepia photograph | sepia photograph | sepia tones* | sepia | old photograph | faded sepia tones*; "
    "sepia | sepia toned; in > sepia tones | in > faded sepia tones | printed in > sepia | in > sepia | "
    "as > old sepia photograph | as > sepia photograph; old @ photograph | faded @ tones | old @ sepia photograph | "
    "faded @ sepia tones | sepia @ tones | sepia @ photograph",
    "neon": "neon | neon lights* | neon sign | glowing neon sign | neon glow | neon outline; glowing | "
    "glowing in neon; glowing in > neon | glowing > neon | drawn in > neon lights | in > neon | "
    "as > glowing neon sign | as > neon sign | drawn in > neon; glowing @ neon sign | glowing @ neon | glowing @ sign",
    "pixel art": "pixel art | art | big pixels* | pixels* | retro pixel art; pixelated; in > pixel art | "
    "drawn as > pixel art | made of > big pixels | made of > pixels | made > pixels; big @ pixels | pixel @ art",
    "blur": "blurred picture | blur | soft blur; blurred | blurry | soft | out of focus | blurred and soft; "
    "out of > focus | in > blurred picture; blurred @ picture | blurry @ picture",
    "comic": "comic book | comic | comic book style | dots* | halftone comic | halftone | comic style; comic; "
    "in > comic book style | drawn like > comic book | printed as > comic | with > dots | printed with > dots | "
    "in > comic style | printed as > comic with dots",
    "scanlines": "scanlines* | old television | television | dark scanlines* | crt scanlines*; striped; "
    "on > old television | on > television | seen through > scanlines | striped by > dark scanlines | with > scanlines "
    "| through > scanlines | striped by > scanlines; old @ television | dark @ scanlines",
}


def _claims(style: str) -> tuple[tuple[str, Form], ...]:
    """(how it is said, words) for every way to claim a style, whole phrases for half of them."""
    phrases = [*(phrase for phrase in STYLE_PHRASES[style] if phrase), *STYLE_TAGS[style]]
    whole: list[tuple[str, Form]] = [("style", (phrase, None)) for phrase in phrases]
    whole += [("style", (style, None))] * 2 if style != "none" else []
    whole += [("attribute", (phrase, None)) for phrase in STYLE_PHRASES[style] if phrase]
    parts: list[tuple[str, Form]] = []
    for place, section in enumerate(_STYLE_WORDS[style].split(";")):
        for words in filter(None, (part.strip() for part in section.split("|"))):
            if ">" in words:
                value, to = words.split(" > ")
                parts.append(("relation", (value, to)))
            elif "@" in words:
                value, of = words.split(" @ ")
                parts.append(("of", (value, of)))
            elif place == 0:
                parts.append(("entity", (words.rstrip("*"), "plural" if words.endswith("*") else None)))
                parts.append(("style", (words.rstrip("*"), None)))
            else:
                parts.append(("attribute", (words, None)))
    return (*whole, *parts)


STYLE_CLAIMS: dict[str, tuple[tuple[str, Form], ...]] = {style: _claims(style) for style in STYLES}
