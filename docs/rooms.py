"""Draws docs/rooms.svg, the rooms and one record's way through them: `python -m docs.rooms`.

Which room stands on which row follows from the ladder of imports in tests/test_rooms.py, so the picture cannot differ
from what the test allows: a room may import rooms of lower rows only.
"""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams |= {"svg.hashsalt": "surd", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}
from matplotlib import pyplot  # noqa: E402 - after the backend is chosen
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.patches import FancyBboxPatch  # noqa: E402

from surd.pipeline.stages import STAGES  # noqa: E402
from tests.test_rooms import ADAPTER, LEAVES, PIPELINE  # noqa: E402

PICTURE = Path(__file__).with_name("rooms.svg")
ROW, PAGE = 0.53, (11.0, 9.4)
COLOURS = {
    "flows": "#e8eef7",
    "pipeline": "#eef5ea",
    "sur_adapter": "#f8efe4",
    "schemas": "#f1ecf6",
    "stage": "#ffffff",
}


def rows(ladder: dict[str, set[str]]) -> list[list[str]]:
    """Rooms by the length of the longest chain of imports below them, lowest first."""
    height: dict[str, int] = {}
    while len(height) < len(ladder):
        ready = [name for name, below in ladder.items() if name not in height and below <= height.keys()]
        height |= {name: 1 + max((height[one] for one in ladder[name]), default=-1) for name in ready}
    return [[name for name in ladder if height[name] == level] for level in range(max(height.values()) + 1)]


def box(
    axes: Axes, left: float, bottom: float, width: float, height: float, text: str, colour: str, **font: Any
) -> None:
    shape = FancyBboxPatch(
        (left, bottom), width, height, boxstyle="round,pad=0,rounding_size=0.06", fc=colour, ec="#8a8f98", lw=0.8
    )
    axes.add_patch(shape)
    axes.text(left + width / 2, bottom + height / 2, text, ha="center", va="center", **font)


def frame(axes: Axes, left: float, bottom: float, width: float, height: float, title: str, colour: str) -> None:
    box(axes, left, bottom, width, height, "", colour)
    axes.text(left + 0.12, bottom + height - 0.2, title, weight="bold", va="center")


def column(
    axes: Axes, ladder: dict[str, set[str]], left: float, bottom: float, width: float, names: dict[str, str]
) -> float:
    """The rooms of a ladder, row above row; returns where the highest row ends."""
    for level, rooms in enumerate(rows(ladder)):
        each = (width - 0.1 * (len(rooms) - 1)) / len(rooms)
        for number, room in enumerate(rooms):
            at = left + number * (each + 0.1), bottom + level * ROW
            box(axes, *at, each, ROW - 0.12, names.get(room, room), COLOURS["stage"], size=8.5)
    return bottom + (level + 1) * ROW


def draw() -> None:
    figure = pyplot.figure(figsize=PAGE)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, PAGE[0]), ylim=(0, PAGE[1]))
    axes.axis("off")
    frame(
        axes,
        0.2,
        8.2,
        10.6,
        1.0,
        "flows/: Prefect and the command line. One record's way, from left to right:",
        COLOURS["flows"],
    )
    width = 10.3 / len(STAGES)
    for number, stage in enumerate(STAGES):
        box(axes, 0.35 + number * width, 8.32, width - 0.12, 0.42, stage.name, COLOURS["stage"], size=8.5)
        if number:
            axes.annotate(
                "",
                (0.35 + number * width, 8.53),
                (0.23 + number * width, 8.53),
                arrowprops={"arrowstyle": "->", "lw": 0.8},
            )
    rooms = {name: below - LEAVES for name, below in PIPELINE.items() if name not in LEAVES}
    frame(axes, 0.2, 2.75, 7.3, 5.2, "pipeline/: a room imports only rooms below it", COLOURS["pipeline"])
    column(
        axes,
        rooms,
        0.4,
        2.9,
        6.9,
        {
            "stages": "stages/: one file a stage, in the order above",
            "runner": "runner: skip, run, mark, repair one unit",
        },
    )
    frame(axes, 7.7, 2.75, 3.1, 5.2, "sur_adapter/: the same rule", COLOURS["sur_adapter"])
    column(axes, ADAPTER, 7.9, 2.9, 2.7, {"": "adapter, pipelines, base model"})
    axes.text(
        9.25,
        6.95,
        "reads a dataset only by its shards:\nnever imports pipeline/",
        ha="center",
        va="center",
        size=8.5,
        style="italic",
    )
    shared = {
        "pretrained/: models that both read": (
            1.4, COLOURS["sur_adapter"],
            ("weights, GGUF, hidden states", "base models and their text states", "VQA, quality"),
        ),
        "schemas/: imports nothing of ours": (
            0.2, COLOURS["schemas"],
            ("records, reasons, manifests", "config/: what a build is asked to do", "shard_format/: tar, npy, pixels"),
        ),
    }  # fmt: skip
    for title, (bottom, colour, texts) in shared.items():
        frame(axes, 0.2, bottom, 10.6, 1.1, title, colour)
        for number, text in enumerate(texts):
            box(axes, 0.4 + number * 3.45, bottom + 0.12, 3.3, 0.5, text, COLOURS["stage"], size=8.5)
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    draw()
