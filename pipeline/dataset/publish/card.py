"""The dataset card of a published dataset: whose pictures it holds, how it was made, and what it does not promise.

Whatever comes from sources is shown as code, so that no licence or host name is read as markup of the page.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from surd.pipeline.dataset.card import card_head, yaml_head
from surd.pipeline.dataset.publish.licence_ids import hub_licences
from surd.pipeline.dataset.publish.provenance import Provenance
from surd.schemas import ColumnManifest
from surd.schemas.printable import printable
from surd.schemas.shard_format.captions import CAPTIONS

_ROWS = 30  # of a table; sources may state thousands of licences
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
          (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"))  # fmt: skip
_PATH = re.compile(r"(^|[:=\s'\"\[,])(?:file://)?/(?:[^/'\"]+/)*([^/'\"]+)/?")
LIMITS = (
    "Licences, terms and authors are what the sources stated of each picture; nobody has checked that they had the"
    " right to. Simple prompts were written and corrected by models, and models judged duplicates, safety and how well"
    " prompt and picture agree: some of each are wrong. Scores compare samples that the same models scored, and no"
    " others. Prompts and pictures carry the biases of the sites and models they come from."
)


@dataclass(frozen=True, kw_only=True)
class Making:
    """How a dataset was made, as its build records it. Texts without secrets and without paths of this machine."""

    command: str | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    thresholds: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    decided: int = 0


def published_card(
    name: str, repo_id: str, provenance: Provenance, making: Making, columns: Mapping[str, ColumnManifest]
) -> bytes:
    """The README.md. ``columns``: those that are published."""
    licences = hub_licences(licence for licence, _ in provenance.licences)
    head = {
        "license": licences[0] if len(licences) == 1 else licences,
        "pretty_name": name,
        "size_categories": [size_category(provenance.count)],
        "tags": ["image", "text", "webdataset", "croissant", "surd"],
        **card_head({*provenance.kinds}, captions=provenance.captions > 0),
    }
    parts = [
        f"# {name}",
        describe(provenance.count),
        _loading(repo_id, provenance, columns),
        _licences(provenance),
        _section("Where the pictures come from", _table("site or source", provenance.sites)),
        _section("Sizes", _sides(provenance)),
        _making(provenance, making),
        _section("Limits", LIMITS),
    ]
    return (yaml_head(head) + "\n" + "\n\n".join(parts) + "\n").encode()


def describe(count: int) -> str:
    """One sentence on what it is."""
    return (
        f"{count:,} pictures, each with the keyword prompt it was generated from or is described by (the complex"
        " prompt) and one plain sentence that says what it shows (the simple prompt), curated by surd."
    )


def size_category(count: int) -> str:
    """The hub's class of a number of samples."""
    return next((name for limit, name in _SIZES if count < limit), "n>1B")


def _loading(repo_id: str, provenance: Provenance, columns: Mapping[str, ColumnManifest]) -> str:
    lines = [
        f'```python\nfrom datasets import load_dataset\n\nsamples = load_dataset("{repo_id}")["train"]\n```',
        "- `shards/surd-NNNNN.tar`: webdataset tars: picture, `simple.txt`, `complex.txt` and `json` of each sample\n"
        "- `shards/index.parquet`: key, place, both prompts and every score of each sample\n"
        "- `croissant.json`: the same for readers of Croissant",
    ]
    if provenance.captions:
        lines[1] += (
            f"\n- `{CAPTIONS}`: of {provenance.captions:,} samples also several captions, the best first, each with its"
            " model, its CLIP score and what was taken out of it"
        )
    for name, column in sorted(columns.items()):
        text = f" of the {column.text} prompt" if column.text else ""
        shape = "in aspect-ratio buckets" if column.buckets else f"width {column.width}"
        what = f"{column.kind}{text} by {_code(without_paths(column.model))}, {column.dtype}, {shape}"
        lines[1] += f"\n- `columns/{name}/`: {what}; a `.npy` a sample, in the order of the shards"
    return _section("Load it", "\n\n".join(lines))


def _licences(provenance: Provenance) -> str:
    rows = provenance.licences.most_common(_ROWS)
    lines = ["| licence | terms | pictures |", "| --- | --- | ---: |"]
    for (licence, terms), count in rows:
        stated = _code(licence) if licence else "*none stated*"
        lines.append(f"| {stated} | {_code(terms) if terms else ''} | {count:,} |")
    if rest := len(provenance.licences) - len(rows):
        others = provenance.count - sum(count for _, count in rows)
        lines.append(f"| *{rest:,} others* | | {others:,} |")
    note = (
        f"As the sources stated them; of {provenance.authors:,} pictures the author is known. Licence, terms, author"
        " and page of each picture are in its `json`: these say what you may do with it, not the dataset as a whole."
    )
    return _section("Licences and terms", "\n".join(lines) + f"\n\n{note}")


def _sides(provenance: Provenance) -> str:
    sides = {f"{side:,} or more": count for side, count in sorted(provenance.sides.items(), reverse=True)}
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in provenance.kinds.most_common())
    return f"{_rows('shorter side, pixels', sides.items())}\n\nBy kind of file: {kinds}."


def _making(provenance: Provenance, making: Making) -> str:
    methods = ", ".join(f"{count:,} {_code(method)}" for method, count in provenance.methods.most_common(10))
    lines = [f"- Simple prompts by origin: {methods}"]
    lines += [f"- {role}: {_code(without_paths(model))}" for role, model in making.models.items()]
    lines += [f"- Kept only with {_code(threshold)}" for threshold in making.thresholds]
    if making.decided:
        lines.append(f"- {making.decided:,} pictures were approved, or their sentence was written, by hand")
    if making.versions:
        lines.append("- Versions: " + ", ".join(f"{name} {version}" for name, version in making.versions.items()))
    if making.command:
        lines.append(f"- Command: {_code(making.command)}")
    if provenance.tools:
        made = ", ".join(f"{count:,} {_code(tool)}" for tool, count in provenance.tools.most_common(10))
        lines.append(f"- Programs that made the pictures, where their files say so: {made}")
    return _section("How it was made", "\n".join(lines))


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}"


def _table(title: str, counts: Counter[str]) -> str:
    rows = [(_code(name), count) for name, count in counts.most_common(_ROWS)]
    if rest := len(counts) - len(rows):
        rows.append((f"*{rest:,} others*", counts.total() - sum(count for _, count in rows)))
    return _rows(title, rows)


def _rows(title: str, rows: Iterable[tuple[str, int]]) -> str:
    lines = [f"| {title} | pictures |", "| --- | ---: |", *(f"| {name} | {count:,} |" for name, count in rows)]
    return "\n".join(lines)


def _code(text: str) -> str:
    """A text from a source as code in one line of Markdown, also inside a table."""
    short = printable(" ".join(text.split()))[:200]
    return "`" + short.replace("`", "'").replace("|", "\\|") + "`"


def without_paths(text: str) -> str:
    """A value of a config with the last part alone of an absolute path in it: a machine's folders say who uses it."""
    return _PATH.sub(lambda match: match[1] + match[2], text)
