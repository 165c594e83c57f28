"""The table of ComfyUI nodes (``core_nodes.yaml``, ``custom_nodes.yaml``): what each node class does with text.

A rule says how the value of one output slot comes about. The kinds of rules are the fields of ``Rule`` down to
``unrecorded``; the fields behind it refine them. A name with ``{}`` stands for all inputs that have a number there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr, model_validator

FILES = tuple(Path(__file__).with_name(name) for name in ("core_nodes.yaml", "custom_nodes.yaml"))
KINDS = (
    "passes", "encodes", "combines", "joins", "chooses", "first_of", "merges", "replaces", "computes", "keeps",
    "composes", "wipes", "unrecorded",
)  # fmt: skip
#: Functions of ``computed.py``, by the names under which the table asks for them.
Computed = Literal["average", "case", "extract", "mix", "regex", "string_function", "substring", "trim", "wildcards"]
Choice = StrictBool | StrictInt | StrictStr
Names = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rule(_Strict):
    """How one output, or one part of a bundle, is made; exactly one of the fields down to ``unrecorded`` is set."""

    passes: str | None = Field(default=None, description="The input that leaves unchanged.")
    encodes: Names | None = Field(default=None, description="Texts that one text encoder reads, each once.")
    combines: Names | None = Field(default=None, description="Conditionings of which all take effect.")
    joins: Names | None = Field(default=None, description="Texts that become one text.")
    chooses: str | dict[Choice, str] | None = Field(
        default=None, description="By the value of ``by``: which input leaves ('else': for all other values)."
    )
    first_of: Names | None = Field(default=None, description="The first input that has a value.")
    merges: Names | None = Field(default=None, description="Bundles, of which a later one overrides an earlier.")
    replaces: str | None = Field(default=None, description="A text in which ``pairs`` of inputs are replaced.")
    computes: Computed | None = Field(default=None, description="A function of the inputs ``of``.")
    keeps: Names | None = Field(default=None, description="Shows the text of input ``of``, and stores it in these.")
    composes: Names | None = Field(default=None, description="Pictures that are all parts of a new one.")
    wipes: bool = Field(default=False, description="Whatever came in, no text is left.")
    unrecorded: bool = Field(default=False, description="Makes text of its own, which the file does not record.")

    by: str | None = None
    default: Choice | None = Field(default=None, description="What ``by`` is if a graph does not say.")
    lenient: bool = Field(default=False, description="A choice that is not connected gives the other one.")
    of: Names = ()
    separator: str = ""
    drop_empty: bool = False
    strip: bool = False
    unescape: bool = Field(default=False, description="A separator backslash-n means a line break.")
    count: str | None = Field(default=None, description="The input that says how many inputs are used.")
    pairs: tuple[tuple[str, str], ...] = ()
    when: tuple[str, tuple[str, ...]] | None = Field(
        default=None, description="Passes only if this input has one of these values; otherwise it is unrecorded."
    )

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Self:
        kinds = [kind for kind in KINDS if getattr(self, kind)]
        if len(kinds) != 1:
            raise ValueError(f"a rule is of one kind, not of {kinds or 'none'}")
        if self.chooses and not self.by:
            raise ValueError("a rule that chooses says by which input")
        return self

    @property
    def kind(self) -> str:
        return next(kind for kind in KINDS if getattr(self, kind))


def _rule(value: Any) -> Any:
    return {"passes": value} if isinstance(value, str) else value


InputOrRule = Annotated[Rule, BeforeValidator(_rule)]


def _fields(value: Any) -> Any:
    return {name: name for name in value} if isinstance(value, list) else value


def _slots(value: Any) -> Any:
    return value if isinstance(value, dict) and all(isinstance(slot, int) for slot in value) else {0: value}


class Entry(_Strict):
    """What one node class does.

    A node that handles several things at once (a pipe, a context, a guider, both sides of a conditioning) has a
    ``bundle`` of named parts, and ``slots`` names the part that each output slot hands out, ``self`` being the whole.
    """

    out: Annotated[dict[int, InputOrRule], BeforeValidator(_slots)] = Field(default_factory=dict)
    bundle: Annotated[dict[str, InputOrRule], BeforeValidator(_fields)] = Field(default_factory=dict)
    over: InputOrRule | None = Field(default=None, description="The bundle that has the parts not given here.")
    slots: tuple[str | None, ...] = ()
    samples: Names | None = Field(default=None, description="It is a sampler; where it gets a picture from.")
    pictures: Names | None = Field(default=None, description="The inputs with pictures, if names do not tell.")
    saves: bool | None = Field(default=None, description="It writes image files; by default if its name says so.")
    widgets: tuple[str, ...] | None = Field(default=None, description="Names of the widgets, in the editor's order.")


class NodeGroup(Entry):
    """Node classes that do the same."""

    nodes: tuple[str, ...]


@cache
def node_table() -> dict[str, Entry]:
    """Node class -> what it does."""
    table: dict[str, Entry] = {}
    for file in FILES:
        for group in read_groups(file):
            table |= dict.fromkeys(group.nodes, group)
    return table


def read_groups(file: Path) -> list[NodeGroup]:
    """The groups of one file. Raises ValueError if one is not well formed."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # 20 ms instead of 250
    return [NodeGroup.model_validate(group) for group in yaml.load(file.read_text(encoding="utf-8"), Loader=loader)]


@cache
def _matcher(pattern: str) -> re.Pattern[str]:
    before, _, after = pattern.partition("{}")
    return re.compile(re.escape(before) + r"(\d{1,4})" + re.escape(after))


def numbered(pattern: str, names: Iterable[str]) -> list[str]:
    """Those of the names that the pattern stands for, by their numbers."""
    matcher = _matcher(pattern)
    found = [(int(match[1]), name) for name in names if (match := matcher.fullmatch(name))]
    return [name for _, name in sorted(found)]
