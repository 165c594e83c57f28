"""The search box's language, as a condition in SQL.

``word``, ``"a phrase"``, ``-word``; ``author:ada``, ``reason:="nsfw"`` (exactly so), ``reason:nsfw|mismatch``;
``score.simple:0.2..0.3``, ``width:>512``; ``licence:none``, ``licence:any``. All terms must hold. What a person typed
reaches the database as parameters only.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from surd.pipeline.view.fields import Field, fields_of, is_field
from surd.schemas import SurdError

MAX_QUERY, MAX_TERMS = 2000, 50
_TERM = re.compile(
    r"""(?P<no>-)?(?:(?P<field>[A-Za-z_][\w.]*):)?(?P<exact>=)?(?:"(?P<quoted>(?:[^"\\]|\\.)*)(?:"|\Z)|(?P<bare>[^\s]+))"""
)
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
_RANGE = re.compile(rf"(?P<low>{_NUMBER})?\.\.(?P<high>{_NUMBER})?", re.IGNORECASE)
_COMPARED = re.compile(rf"(?P<sign>>=|<=|>|<|=)?(?P<number>{_NUMBER})", re.IGNORECASE)
_YES = {"yes": True, "true": True, "no": False, "false": False}


@dataclass
class Condition:
    """SQL over the table ``record``, with its parameters."""

    sql: str = "true"
    parameters: list[Any] = field(default_factory=list)

    @property
    def all(self) -> bool:
        """Whether every record meets it."""
        return self.sql == "true"


@dataclass(frozen=True)
class Term:
    """One term of a query."""

    value: str
    field: str | None = None
    negated: bool = False
    exact: bool = False
    quoted: bool = False


def parse_query(text: str) -> list[Term]:
    """The terms of a query. Raises SurdError where it is too long, or names a field that does not exist."""
    if len(text) > MAX_QUERY:
        raise SurdError(f"the search has {len(text):,} characters, more than {MAX_QUERY:,}; use fewer words")
    terms = []
    for found in _TERM.finditer(text):
        name, quoted = found["field"], found["quoted"]
        value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else found["bare"]
        if name and not is_field(name) and value.startswith("//"):  # an address that was pasted
            name, value = None, f"{name}:{value}"
        if not name and quoted is None and value.endswith(":") and is_field(value[:-1]):
            continue  # its value is still being typed
        if name:
            fields_of(name)
        if value or found["exact"]:
            terms.append(Term(value, name, bool(found["no"]), bool(found["exact"] and name), quoted is not None))
    if len(terms) > MAX_TERMS:
        raise SurdError(f"the search has {len(terms)} terms, more than {MAX_TERMS}; use fewer words")
    return terms


def condition(text: str, relation: Callable[[str], str]) -> Condition:
    """The condition of a query. ``relation`` gives the SQL that reads a stage's rows, ``decision`` or ``beside``.

    Raises SurdError.
    """
    whole = Condition()
    pieces = []
    for term in parse_query(text):
        if term.field is None:
            sql, parameters = "contains(search_text, lower(?))", [term.value]
        else:
            sql, parameters = _of_fields(term, relation)
        pieces.append(f"NOT coalesce({sql}, false)" if term.negated else f"({sql})")
        whole.parameters += parameters
    if pieces:
        whole.sql = " AND ".join(pieces)
    return whole


def _of_fields(term: Term, relation: Callable[[str], str]) -> tuple[str, list[Any]]:
    pieces: list[str] = []
    parameters: list[Any] = []
    for one in fields_of(term.field or ""):
        sql, values = _of_field(one, term)
        if one.relation != "record":
            rows = f"SELECT key FROM {relation(one.relation)} WHERE"
            # None: also of records that the relation does not have.
            sql = f"key NOT IN ({rows} {_present(one)})" if _is_none(term) else f"key IN ({rows} {sql})"
        pieces.append(sql)
        parameters += values
    return (" AND " if _is_none(term) else " OR ").join(pieces), parameters


def _is_none(term: Term) -> bool:
    return term.value.lower() == "none" and not term.quoted and not term.exact


def _present(one: Field) -> str:
    if one.kind == "list":
        return f"len({one.expression}) > 0"
    return f"{one.expression} IS NOT NULL" + (f" AND {one.expression} <> ''" if one.kind in ("name", "text") else "")


def _of_field(one: Field, term: Term) -> tuple[str, list[Any]]:
    if _is_none(term):
        return f"NOT coalesce({_present(one)}, false)", []
    if term.value.lower() == "any" and not term.quoted and not term.exact:
        return f"({_present(one)})", []
    values = [term.value] if term.quoted or term.exact else [value for value in term.value.split("|") if value]
    pieces: list[str] = []
    parameters: list[Any] = []
    for value in values:
        sql, more = _of_value(one, value, term)
        pieces.append(sql)
        parameters += more
    return "(" + (" OR ".join(pieces) or "false") + ")", parameters


def _of_value(one: Field, value: str, term: Term) -> tuple[str, list[Any]]:
    if one.kind == "number":
        return _of_number(one.expression, value, term)
    if one.kind == "yes":
        if value.lower() not in _YES:
            raise SurdError(f"{term.field} is {value!r}: not yes or no; write {term.field}:yes")
        return f"{one.expression} = ?", [_YES[value.lower()]]
    if one.kind == "list":
        if term.exact:
            return f"list_contains({one.expression}, ?)", [value]
        return f"contains(lower(array_to_string({one.expression}, chr(10))), lower(?))", [value]
    if term.exact:
        return f"{one.expression} = ?", [value]
    return f"contains(lower({one.expression}), lower(?))", [value]


def _of_number(expression: str, value: str, term: Term) -> tuple[str, list[Any]]:
    if (found := _RANGE.fullmatch(value)) and (found["low"] or found["high"]):
        ends = [(">=", found["low"]), ("<=", found["high"])]
        given = [(sign, float(end)) for sign, end in ends if end]
        return " AND ".join(f"{expression} {sign} ?" for sign, _ in given), [end for _, end in given]
    if found := _COMPARED.fullmatch(value):
        return f"{expression} {found['sign'] or '='} ?", [float(found["number"])]
    raise SurdError(
        f"{term.field} is {value!r}: not a number or a range; write {term.field}:0.2..0.3 or {term.field}:>0.2"
    )
