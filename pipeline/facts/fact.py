"""A fact that a text states about a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["entity", "attribute", "count", "relation", "action", "text", "style"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One proposition, as DSG (arXiv 2310.18235) divides a description.

    ``of``: the thing spoken of, a noun phrase without article. ``value``: what is said of it ("" for an entity): a
    number word, an adjective, a preposition, a verb, quoted words, a style. ``to``: the second thing of a relation or
    action. A style is ``of`` the first thing shown. ``start`` to ``end``: the characters that state the value (of an
    entity: its noun, compounds included), which is what another value would replace; ``of_start`` to ``of_end``: the
    noun of ``of``. Both are -1 where the text has no such place. ``plural``: whether the noun of ``of`` is plural.
    ``aspect``: what an attribute is about (colour, material, size, state, texture, shape ...), "part" or "whole" of an
    entity.
    """

    kind: Kind
    of: str
    value: str = ""
    to: str | None = None
    start: int = -1
    end: int = -1
    of_start: int = -1
    of_end: int = -1
    plural: bool = False
    aspect: str = ""
    negated: bool = False
