"""Vocabulary for reading sentences of the demo world: words and the fact values they mean."""

from __future__ import annotations

from surd.pipeline.demo.world.prompts import ACTION_TAGS, NUMBERS, RELATION_WORDS, STYLE_PHRASES, STYLE_TAGS
from surd.pipeline.demo.world.scenes import BACKGROUNDS, SUBJECTS, TINTABLE, TINTS

PERSON = "person"
#: More than one, without a number.
MANY = "many"

#: Nouns that mean a subject, in the singular and plural, beyond the demo's own words.
_SYNONYMS: dict[str, str] = {
    "cat": "kitten, kittens, kitty, kitties",
    "dog": "puppy, puppies, doggy",
    "fish": "fishes",
    "turtle": "tortoise, tortoises",
    "bee": "honeybee, honeybees, bumblebee, bumblebees",
    "octopus": "octopi",
    "bicycle": "bike, bikes",
    "sailboat": "sailing boat, sailing boats, boat, boats",
    "clock": "alarm clock, alarm clocks",
    "mushroom": "toadstool, toadstools",
    "cactus": "cactuses",
    "pumpkin": "jack o lantern, jack o lanterns",
    "burger": "hamburger, hamburgers, cheeseburger, cheeseburgers",
    "cap": "baseball cap, baseball caps, hat, hats",
    "car": "automobile, automobiles",
    "rocket": "rocket ship, rocket ships, spaceship, spaceships",
    "umbrella": "parasol, parasols",
}
_PEOPLE = ("people", "persons", "men", "women", "boys", "girls", "children", "kids", "figures", "humans", "individuals")
_LONE = ("person", "someone", "somebody", "man", "woman", "boy", "girl", "child", "figure", "human", "individual")
#: Those of the demo's words for an action that name the person doing it.
_DOERS = (
    *("jogger", "runner", "dancer", "swimmer", "cyclist", "surfer", "weightlifter", "rower", "juggler", "jockey"),
    *("golfer", "climber", "skier", "snowboarder", "fencer", "handball player", "sleeper"),
)
_DOER_OF = {
    "jogger": "running", "runner": "running", "weightlifter": "lifting weights", "sleeper": "sleeping",
}  # fmt: skip
_MORE_ACTIONS: dict[str, str] = {
    "running": "runs, jogs, jog",
    "dancing": "dances",
    "swimming": "swims",
    "cycling": "riding a bicycle, riding a bike, rides a bicycle, rides a bike, on a bicycle, riding bicycles, "
    "riding bikes, biking, bicycling, cycles",
    "surfing": "surfs, riding a wave, on a surfboard",
    "lifting weights": "lifts weights, lifting a barbell, lifting barbells, weight lifting",
    "doing a cartwheel": "doing cartwheels, does a cartwheel, cartwheels, cartwheeling, performing a cartwheel",
    "meditating": "meditates, in the lotus position",
    "rowing": "rowing a boat, rowing boats, rows a boat, rowboat",
    "juggling": "juggles, juggling a ball",
    "riding a horse": "rides a horse, riding horses, on a horse, horseback riding, on horseback, horse ride",
    "playing golf": "plays golf, golfing",
    "climbing": "climbs, rock climber",
    "skiing": "skis",
    "snowboarding": "snowboards, on a snowboard",
    "fencing": "sword fighting",
    "taking a bath": "takes a bath, bathes, in a bathtub, in the bath, taking baths",
    "sleeping": "sleeps, asleep, in bed, lying in a bed, sleeping in bed, sleeping in a bed",
    "playing handball": "plays handball, throwing a handball",
    "other action": "walking, jumping, flying, boxing, cooking, reading, singing, skating, fishing, kayaking, "
    "playing tennis, playing football, playing soccer, playing basketball, playing guitar",
}
#: Colours in the sprites of things without a tint: naming one of them is not a mistake.
OWN_COLOURS: dict[str, str] = {
    "cat": "orange, yellow, brown, tan",
    "dog": "brown, orange, tan",
    "fish": "blue, grey",
    "turtle": "green",
    "owl": "brown",
    "elephant": "grey, blue",
    "frog": "green",
    "bee": "yellow, black, orange",
    "octopus": "red, orange, pink, purple",
    "penguin": "black, white, blue",
    "snail": "brown, orange, yellow, green",
    "crab": "red, orange",
    "apple": "red",
    "banana": "yellow",
    "strawberry": "red",
    "lemon": "yellow",
    "pineapple": "yellow, orange, green, brown",
    "watermelon": "green, red, pink",
    "grape": "purple",
    "bus": "yellow, orange, white, blue, red",
    "rocket": "red, white, grey",
    "bicycle": "red, blue, grey, green",
    "sailboat": "white, brown, blue, red",
    "tractor": "green, red, yellow",
    "guitar": "brown, orange, red, tan",
    "key": "yellow, gold, golden",
    "clock": "red, white, blue",
    "crown": "yellow, gold, golden",
    "mushroom": "red, brown",
    "cactus": "green",
    "sunflower": "yellow, orange, brown",
    "pumpkin": "orange",
    "snowman": "white, blue",
    "burger": "brown, orange, yellow, tan",
}
_STRANGE = (
    "pink brown grey gray tan gold golden silver cyan turquoise teal magenta violet beige navy maroon crimson scarlet"
)
COLOURS = (*dict.fromkeys((*TINTS, *BACKGROUNDS)), *_STRANGE.split(), "lavender", "indigo")
#: Shades that pass for a colour of the demo.
SHADES = {
    "gray": "grey", "golden": "gold", "violet": "purple", "lavender": "purple", "crimson": "red", "scarlet": "red",
    "maroon": "red", "navy": "blue",
}  # fmt: skip

NUMBER: dict[str, int | str] = {word: value for value, word in enumerate(NUMBERS)} | {
    "a": 1, "an": 1, "single": 1, "lone": 1, "solitary": 1, "solo": 1, "pair": 2, "couple": 2, "both": 2, "duo": 2,
    "trio": 3, "triplet": 3, "quartet": 4, "quintet": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "dozen": 12, "several": MANY, "many": MANY, "some": MANY, "few": MANY, "multiple": MANY,
    "various": MANY, "numerous": MANY, "group": MANY, "bunch": MANY, "lot": MANY, "lots": MANY, "set": MANY,
    "hundred": MANY, "hundreds": MANY, "flock": MANY, "collection": MANY, "pile": MANY, "without": 0, "not": 0,
}  # fmt: skip
#: Used as in "a pair of cats".
COLLECTIVE = (
    "pair", "couple", "duo", "trio", "triplet", "quartet", "quintet", "group", "bunch", "lot", "lots", "set", "dozen",
    "flock", "collection", "pile", "hundreds",
)  # fmt: skip
BACKGROUND_NOUNS = ("background", "backdrop", "backgrounds", "backdrops")

#: Phrase -> relation.
RELATION = {phrase: name for name, phrases in RELATION_WORDS.items() for phrase in phrases} | {
    "on the left side of": "left of", "to the left side of": "left of", "on the right side of": "right of",
    "to the right side of": "right of", "underneath": "below", "atop": "above", "on top": "above",
    "sitting on": "above",
    "higher than": "above", "lower than": "below",
}  # fmt: skip

_STYLE_WORDS: dict[str, tuple[str, ...]] = {
    "sketch": ("sketch", "sketched", "sketches", "pencil", "graphite", "pencil sketch style"),
    "sepia": ("sepia", "sepia toned"),
    "neon": ("neon",),
    "pixel art": ("pixel", "pixels", "pixelated", "8bit", "16bit", "8 bit", "16 bit"),
    "blur": ("blur", "blurry", "blurred", "out of focus", "unfocused"),
    "comic": ("comic", "comics", "comic book", "halftone", "pop art", "cartoon dots"),
    "scanlines": ("scanlines", "scanline", "scan lines", "crt", "vhs", "old television", "retro tv"),
}
STYLE: dict[str, str] = {
    phrase.replace("-", " ").replace(",", ""): style
    for style, phrases in _STYLE_WORDS.items()
    for phrase in (*phrases, *STYLE_TAGS[style], *STYLE_PHRASES[style])
}
ACTION: dict[str, str] = {
    phrase: action
    for action in (*ACTION_TAGS, "other action")
    for phrase in (*ACTION_TAGS.get(action, ()), action, *_MORE_ACTIONS[action].split(", "))
}
#: Nouns for someone doing something -> (the action, whether several).
DOER: dict[str, tuple[str, bool]] = {
    doer + ending: (_DOER_OF.get(doer) or ACTION[doer], bool(ending)) for doer in _DOERS for ending in ("", "s")
}

#: Noun -> (subject, False for one, True for several, None for either).
NOUN: dict[str, tuple[str, bool | None]] = {}
for _one, (_several, _) in (SUBJECTS | TINTABLE).items():
    NOUN[_several], NOUN[_one] = (_one, True), (_one, False if _several != _one else None)
    for _word in filter(None, _SYNONYMS.get(_one, "").split(", ")):
        NOUN[_word] = (_one, _word.endswith(("s", "pi")) and _word != "octopus")
NOUN |= dict.fromkeys(_PEOPLE, (PERSON, True)) | dict.fromkeys(_LONE, (PERSON, False))
NOUN |= {noun: (PERSON, several) for noun, (_, several) in DOER.items()}
#: Nouns that count but do not name.
THINGS = ("objects", "items", "things")
