"""One node of the ComfyUI editor: its sockets, and its widgets' values under their names."""

from __future__ import annotations

import re
from typing import Any

from surd.pipeline.metadata.comfyui.table import Entry, node_table

# A comment that is never closed matches to the end, so that a text full of them is searched once.
_COMMENT = re.compile(r"//[^\n]*|/\*(?:[^*]|\*(?!/))*(?:\*/)?")
_CONTROL = "control_after_generate"
_CONTROLS = ("fixed", "increment", "decrement", "randomize")


def sockets_of(node: dict[str, Any]) -> list[dict[str, Any]]:
    """Its inputs that have a name, which may be empty."""
    sockets = node.get("inputs")
    return [one for one in sockets if isinstance(one, dict) and "name" in one] if isinstance(sockets, list) else []


def widgets_of(node: dict[str, Any]) -> dict[str, Any]:
    """The widgets' values by name, as the file or the table names them; none if neither does."""
    values = node.get("widgets_values")
    if isinstance(values, dict):
        return {name: value for name, value in values.items() if isinstance(name, str)}
    if not isinstance(values, list):
        return {}
    entry = node_table().get(str(node.get("type", "")))
    listed = (entry.widgets if entry else None) or ()
    if entry is not None and _keeps(entry):
        values = _flat(values)
    named = [str(socket["name"]) for socket in sockets_of(node) if socket.get("widget")]
    if set(named) != set(listed[: len(values)]):  # the order of inputs may be that in which they became inputs
        for candidates in (values, _without_controls(named, values)):
            if len(candidates) == len(named):
                return dict(zip(named, candidates, strict=True))
    return {name: value for name, value in zip(listed, values, strict=False) if name != _CONTROL}


def api_inputs(node: dict[str, Any]) -> dict[str, Any]:
    """The widgets' values as the editor sends them: without the comments in texts that an encoder reads."""
    widgets = widgets_of(node)
    entry = node_table().get(str(node.get("type", "")))
    rules = [*entry.out.values(), *entry.bundle.values()] if entry else []
    texts = {name for rule in rules for name in rule.encodes or ()}
    if node.get("type") == "PrimitiveNode":  # it stands for the widget of another node
        texts.add("value")
    return {
        name: without_comments(value) if name in texts and isinstance(value, str) else value
        for name, value in widgets.items()
    }


def has_unnamed(node: dict[str, Any]) -> bool:
    """Whether its widgets have values, and none of them a name."""
    values = node.get("widgets_values")
    return isinstance(values, list) and bool(values) and not widgets_of(node)


def kept_text(kind: str, inputs: dict[str, Any]) -> str | None:
    """The text that a node which shows text has kept."""
    entry = node_table().get(kind)
    name = entry.widgets[-1] if entry and _keeps(entry) and entry.widgets else None
    text = inputs.get(name) if name else None
    return text if isinstance(text, str) and text.strip() else None


def without_comments(text: str) -> str:
    """A text without ``// ...`` and ``/* ... */``, which the editor takes out, and without the gaps they leave."""
    parts: list[str] = []
    start = 0
    for comment in _COMMENT.finditer(text):
        if text.startswith("/*", comment.start()) and text.find("*/", comment.start() + 2) < 0:
            break  # it is never closed
        parts.append(text[start : comment.start()])
        start = comment.end()
    parts.append(text[start:])
    for index, part in enumerate(parts[1:], 1):
        if part.lstrip()[:1] in ("", ",", ".", ";"):  # no gap before a comma, or at the end
            parts[index - 1], parts[index] = parts[index - 1].rstrip(), part.lstrip()
    return "".join(parts)


def _keeps(entry: Entry) -> bool:
    return any(rule.keeps for rule in entry.out.values())


def _flat(values: list[Any]) -> list[Any]:
    """The one text among values that may be lists of it; none if there are several."""
    flat = [inner for value in values for inner in (value if isinstance(value, list) else [value])]
    texts = list(dict.fromkeys(text for text in flat if isinstance(text, str) and text.strip()))
    return texts if len(texts) == 1 else []


def _without_controls(names: list[str], values: list[Any]) -> list[Any]:
    """The values without those of the menus behind seeds, which have no name."""
    left = list(values)
    for index, name in enumerate(names):
        if "seed" in name and left[index + 1 : index + 2] and left[index + 1] in _CONTROLS:
            del left[index + 1]
    return left
