"""Sentences in other languages about scenes of common things, from small dictionaries."""

from __future__ import annotations

import random
from dataclasses import dataclass

from surd.pipeline.demo.world.scenes import Scene


@dataclass(frozen=True, kw_only=True)
class Language:
    """A language's words for a scene. `things` are (one, several), the former with its article; `templates` take {what}
    and {ground}; `solo` takes {action}."""

    numbers: tuple[str, ...]
    things: dict[str, tuple[str, str]]
    actions: dict[str, str]
    colours: dict[str, str]
    templates: tuple[str, ...]
    solo: str
    several: str


THINGS = ("cat", "dog", "fish", "apple", "banana", "car", "star", "book", "bus", "key", "clock", "bee")
ACTIONS = ("running", "dancing", "swimming", "cycling", "sleeping", "climbing", "skiing", "meditating")
_COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")


def _language(
    numbers: str,
    things: str,
    actions: str,
    colours: str,
    templates: tuple[str, ...],
    solo: str,
    several: str = "{number} {things}",
) -> Language:
    """Words in the order of THINGS, ACTIONS and the colours, separated by ``;``."""
    pairs = [tuple(pair.split("/")) for pair in things.split(";")]
    return Language(
        numbers=tuple(numbers.split(";")),
        things=dict(zip(THINGS, [(one, many) for one, many in pairs], strict=True)),
        actions=dict(zip(ACTIONS, actions.split(";"), strict=True)),
        colours=dict(zip(_COLOURS, colours.split(";"), strict=True)),
        templates=templates,
        solo=solo,
        several=several,
    )


LANGUAGES: dict[str, Language] = {
    "de": _language(
        "zwei;drei;vier;fünf",
        "eine Katze/Katzen;ein Hund/Hunde;ein Fisch/Fische;ein Apfel/Äpfel;eine Banane/Bananen;ein Auto/Autos;"
        "ein Stern/Sterne;ein Buch/Bücher;ein Bus/Busse;ein Schlüssel/Schlüssel;eine Uhr/Uhren;eine Biene/Bienen",
        "rennt;tanzt;schwimmt;mit dem Fahrrad fährt;in einem Bett schläft;auf Felsen klettert;Ski fährt;meditiert",
        "roten;orangefarbenen;gelben;grünen;blauen;violetten;weißen;schwarzen",
        (
            "Auf diesem Bild sieht man {what} vor einem {ground} Hintergrund, mit sehr vielen Einzelheiten",
            "Ein schönes Bild, auf dem {what} vor einem {ground} Hintergrund zu sehen ist, in bester Qualität",
        ),
        "eine Person, die {action}",
    ),
    "fr": _language(
        "deux;trois;quatre;cinq",
        "un chat/chats;un chien/chiens;un poisson/poissons;une pomme/pommes;une banane/bananes;une voiture/voitures;"
        "une étoile/étoiles;un livre/livres;un bus/bus;une clé/clés;une horloge/horloges;une abeille/abeilles",
        "court;danse;nage;fait du vélo;dort dans un lit;grimpe sur un rocher;fait du ski;médite",
        "rouge;orange;jaune;vert;bleu;violet;blanc;noir",
        (
            "Sur cette image on voit {what} devant un fond {ground}, avec beaucoup de détails",
            "Une belle image de {what} sur un fond {ground}, d'une très grande qualité",
        ),
        "une personne qui {action}",
    ),
    "es": _language(
        "dos;tres;cuatro;cinco",
        "un gato/gatos;un perro/perros;un pez/peces;una manzana/manzanas;un plátano/plátanos;un coche/coches;"
        "una estrella/estrellas;un libro/libros;un autobús/autobuses;una llave/llaves;un reloj/relojes;"
        "una abeja/abejas",
        "corre;baila;nada;va en bicicleta;duerme en una cama;escala una roca;hace esquí;medita",
        "rojo;naranja;amarillo;verde;azul;morado;blanco;negro",
        (
            "En esta imagen se puede ver {what} delante de un fondo {ground}, con muchos detalles",
            "Una imagen muy bonita de {what} sobre un fondo {ground}, de la mejor calidad",
        ),
        "una persona que {action}",
    ),
    "ru": _language(
        "две штуки:;три штуки:;четыре штуки:;пять штук:",
        "одна кошка/кошки;одна собака/собаки;одна рыба/рыбы;одно яблоко/яблоки;один банан/бананы;"
        "одна машина/машины;одна звезда/звёзды;одна книга/книги;один автобус/автобусы;один ключ/ключи;"
        "одни часы/часы;одна пчела/пчёлы",
        "бежит;танцует;плавает;едет на велосипеде;спит в кровати;лезет на скалу;катается на лыжах;медитирует",
        "красном;оранжевом;жёлтом;зелёном;синем;фиолетовом;белом;чёрном",
        (
            "На этой картинке можно увидеть, как {what} находится на {ground} фоне, очень подробно",
            "Красивая картинка, на которой {what} на {ground} фоне, в самом лучшем качестве",
        ),
        "человек, который {action}",
    ),
    "ja": _language(
        "二つの;三つの;四つの;五つの",
        "一匹の猫/猫;一匹の犬/犬;一匹の魚/魚;一つのりんご/りんご;一本のバナナ/バナナ;一台の車/車;一つの星/星;一冊の本/本;"
        "一台のバス/バス;一本の鍵/鍵;一つの時計/時計;一匹の蜂/蜂",
        "走っている;踊っている;泳いでいる;自転車に乗っている;ベッドで寝ている;岩を登っている;スキーをしている;瞑想している",
        "赤い;オレンジ色の;黄色い;緑の;青い;紫の;白い;黒い",
        (
            "{ground}背景の前に{what}が描かれている、とても細かい絵です",
            "{ground}背景に{what}がある、最高の品質の美しい絵です",
        ),
        "{action}人",
        "{number}{things}",
    ),
    "zh": _language(
        "两个;三个;四个;五个",
        "一只猫/猫;一只狗/狗;一条鱼/鱼;一个苹果/苹果;一根香蕉/香蕉;一辆汽车/汽车;一颗星星/星星;一本书/书;一辆公共汽车/公共汽车;"
        "一把钥匙/钥匙;一个时钟/时钟;一只蜜蜂/蜜蜂",
        "在跑步;在跳舞;在游泳;在骑自行车;在床上睡觉;在爬山;在滑雪;在冥想",
        "红色;橙色;黄色;绿色;蓝色;紫色;白色;黑色",
        (
            "这是一幅非常精细的画，在{ground}的背景前面有{what}，质量很好",
            "图片里有{what}，背景是{ground}的，画面非常漂亮",
        ),
        "一个人{action}",
        "{number}{things}",
    ),
}


def translatable(shown: Scene) -> bool:
    """Whether the dictionaries have words for a scene."""
    return shown.subject in THINGS if shown.kind == "count" else shown.count == 1 and shown.action in ACTIONS


def translated(shown: Scene, language: str, rng: random.Random) -> str:
    """One sentence on what a translatable scene shows, how many, and the background; not its style and tint."""
    words = LANGUAGES[language]
    if shown.action:
        what = words.solo.format(action=words.actions[shown.action])
    elif shown.count == 1:
        what = words.things[shown.subject][0]
    else:
        what = words.several.format(number=words.numbers[shown.count - 2], things=words.things[shown.subject][1])
    return rng.choice(words.templates).format(what=what, ground=words.colours[shown.background])
