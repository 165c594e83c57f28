"""``surd decide`` and ``surd review``: what persons think of records, kept beside the build for every later run."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from surd.flows.cli.options import BuildFolder
from surd.schemas.console import PlainConsole
from surd.schemas.errors import SurdError, one_line
from surd.schemas.printable import json_line, printable

if TYPE_CHECKING:
    from surd.pipeline.build.folder import Build
    from surd.pipeline.decisions.review import Review, Shown
    from surd.schemas import Decision

_SHOWN = 20
_KEY = re.compile(r"[0-9a-f]{16}")
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def decide(
    build: BuildFolder,
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY]...", help="Keys of records, 16 hex digits.")
    ] = None,
    approve: Annotated[bool, typer.Option("--approve", help="Keep them, whatever their scores.")] = False,
    reject: Annotated[
        str | None, typer.Option(metavar="REASON", help="Leave them out; the reason in your words.")
    ] = None,
    edit: Annotated[str | None, typer.Option(metavar="SENTENCE", help="The simple prompt of one record.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Of its duplicates, keep this one.")] = False,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Take back all that was decided about them.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Show what is decided.")] = False,
    as_json: Json = False,
) -> None:
    """Approve, reject or edit records by hand, or choose which of its duplicates stays; the next `surd build` obeys.

    Decisions lie in `decisions.jsonl` beside the build and are never removed by a run, not by `--overwrite` either.
    They go by key: one on a record that the build does not have yet holds as soon as a later crawl brings it. Approve,
    edit and keep of one record add up; reject and withdraw end what was decided before. An approved record stays
    rejected where it is unsafe, damaged or removed by `surd forget`.

    **Examples**

    - Leave one out: `surd decide data/web 0123456789abcdef --reject "a watermark over the face"`

    - Another sentence: `surd decide data/web 0123456789abcdef --edit "A red fox sleeps in the snow."`

    - The other twin: `surd decide data/web 0123456789abcdef --keep`

    - What is decided: `surd decide data/web --list`
    """
    from surd.pipeline.build.folder import Build
    from surd.pipeline.decisions.effect import caveats
    from surd.pipeline.decisions.log import append

    opened = Build(build)
    if not any(opened.exists(name) for name in ("build.json", "shards/index.parquet", "collect")):
        raise SurdError(f"build is {build!r} and holds no build.json; give the folder that `surd build --out` made")
    given = {
        "approve": True if approve else None,
        "reject": reject,
        "edit": edit,
        "keep": True if keep else None,
        "withdraw": True if withdraw else None,
    }
    verdicts = [name for name, value in given.items() if value is not None]
    if list_:
        if keys or verdicts:
            raise SurdError("--list takes only BUILD; remove the keys and other options")
        _list(opened, as_json=as_json)
        return
    decisions = _decisions(keys or [], verdicts, reject=reject, edit=edit)
    _check_not_forgotten(opened, decisions)
    notes = dict(caveats(opened, decisions))
    append(opened, *decisions)
    if as_json:
        print(json_line({"build": build, "decisions": [_document(one) for one in decisions], "notes": notes}))
        return
    console = PlainConsole()
    for note in notes.values():
        console.print(printable(f"note: {note}"), highlight=False, soft_wrap=True, markup=False)
    line = f"{verdicts[0]}: {len(decisions):,} record(s); the next surd build --out {build} obeys"
    console.print(printable(line), highlight=False, soft_wrap=True, markup=False)


def _decisions(keys: Sequence[str], verdicts: Sequence[str], *, reject: str | None, edit: str | None) -> list[Decision]:
    """What a command line decides. Raises SurdError where it is not clear."""
    from pydantic import ValidationError

    from surd.schemas import Decision
    from surd.schemas.decision import DecisionVerdict

    if len(verdicts) != 1:
        which = f"{' and '.join(f'--{name}' for name in verdicts)} are given" if verdicts else "no decision is given"
        raise SurdError(f"{which}; give one of --approve, --reject REASON, --edit SENTENCE, --keep, --withdraw, --list")
    if not keys:
        raise SurdError("KEY is missing; give keys of 16 hex digits, as surd inspect and the report show them")
    if wrong := [key for key in keys if not _KEY.fullmatch(key)]:
        raise SurdError(
            f"KEY is {wrong[0]!r}: it is not a whole key; give its 16 hex digits, as surd inspect shows them"
        )
    if len(keys) > 1 and edit is not None:
        raise SurdError(f"--edit is given with {len(keys)} keys; a sentence belongs to one record: give one KEY")
    for name, text in (("reject", reject), ("edit", edit)):
        if text is not None and not text.strip():
            raise SurdError(f"--{name} is empty; give it in your words")
    try:
        verdict = DecisionVerdict(verdicts[0])
        return [Decision(key=key, verdict=verdict, reason=reject, simple=edit) for key in dict.fromkeys(keys)]
    except ValidationError as error:
        first = error.errors()[0]
        raise SurdError(f"--{verdicts[0]} is not valid: {one_line(ValueError(first['msg']))}; change it") from None


def _check_not_forgotten(build: Build, decisions: Sequence[Decision]) -> None:
    from surd.pipeline.acquisition.tombstones import Tombstones

    if gone := {one.key for one in decisions} & Tombstones.read(build).keys:
        raise SurdError(
            f"{min(gone)} was removed by surd forget, for good: nothing can be decided about it; leave it out"
        )


def _list(build: Build, *, as_json: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from surd.pipeline.decisions.in_force import in_force
    from surd.pipeline.decisions.log import read_log

    every, holds = read_log(build), in_force(build)
    standing = [one for one in every.decisions if _holds(one, every.decisions, holds)]
    if as_json:
        document = [_document(one) for one in standing]
        print(json_line({"build": build.root, "decisions": document, "invalid_lines": every.invalid}))
        return
    console = PlainConsole()
    table = Table("key", "decision", "words", "when", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for one in standing:
        words = one.simple or one.reason or ""
        table.add_row(one.key, one.verdict.value, Text(printable(words)), f"{one.at:%Y-%m-%d %H:%M}")
    if standing:
        console.print(table)
    lines = f"; {every.invalid:,} line(s) of the file are not valid" if every.invalid else ""
    console.print(f"{len(holds):,} record(s) decided by hand{lines}", highlight=False)


def decisions_about(build: Build, key: str) -> list[dict[str, Any]]:
    """The decisions about one record that the next run obeys, the oldest first."""
    from surd.pipeline.decisions.in_force import combined
    from surd.pipeline.decisions.log import read_log

    every = read_log(build).decisions
    holds = combined(every)
    return [_document(one) for one in every if one.key == key and _holds(one, every, holds)]


def print_decisions(console: PlainConsole, decisions: Sequence[dict[str, Any]]) -> None:
    """What ``decisions_about`` gives, a line each."""
    for one in decisions:
        words = f": {one['simple'] or one['reason']}" if one["simple"] or one["reason"] else ""
        console.print(f"decided by hand: {one['verdict']}{words} ({one['at']})", highlight=False, soft_wrap=True)


def _holds(one: Decision, every: Sequence[Decision], holds: Any) -> bool:
    """Whether a decision is one of those that a run obeys."""
    of_key = holds.get(one.key)
    if of_key is None:
        return False
    return one in (of_key.reject, of_key.approve, of_key.edit) or (
        of_key.keep is not None and one is every[of_key.keep]
    )


def _document(decision: Decision) -> dict[str, Any]:
    return decision.model_dump(mode="json")


def review(
    build: BuildFolder,
    sample: Annotated[int, typer.Option(min=1, help="How many of the kept samples to draw.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the draw; another one draws other samples.")] = 0,
    as_json: Json = False,
) -> None:
    """Judge a random sample of what was kept, one key each, and print precision with its 95% interval.

    The sample is drawn once: the same command goes on where it was stopped (q). A terminal cannot show a picture, so
    its file is laid into a folder for the session, and its path printed. Answers lie in `reviews/` beside the build.
    They may be piped, one a line: `yes y | surd review BUILD --sample 20`.

    **Examples**

    - 200 of them: `surd review data/web --sample 200`

    - 200 others: `surd review data/web --sample 200 --seed 1`
    """
    from surd.pipeline.build.folder import Build
    from surd.pipeline.decisions.review import open_review

    opened = open_review(Build(build), sample, seed)
    console = PlainConsole(stderr=as_json)
    with tempfile.TemporaryDirectory(prefix="surd-review-") as folder:
        _ask(console, opened, Path(folder))
    _print_precision(console, opened, as_json=as_json)


def _ask(console: PlainConsole, opened: Review, folder: Path) -> None:
    """Ask about one sample after another, until all are judged, or the input ends."""
    left = list(opened.left())
    done = len(opened.draw.keys) - len(opened.gone) - len(left)
    for number, shown in enumerate(left, done + 1):
        path = shown.picture(opened.build, folder)
        for line in _question(shown, path, number, done + len(left)):
            console.print(printable(line), highlight=False, soft_wrap=True, markup=False)
        answer = _answer()
        path.unlink()
        if answer is None:
            return
        opened.answer(shown, good=answer)


def _question(shown: Shown, path: Path, number: int, count: int) -> list[str]:
    return [
        f"{number:,} of {count:,}  {shown.key}",
        f"  picture  {path}",
        f"  simple   {shown.simple}",
        f"  complex  {shown.complex[:300]}",
        "  does the simple prompt say what the picture shows? y, n, or q to stop",
    ]


def _answer() -> bool | None:
    """One key of a terminal, or one line of other input. None: to stop here."""
    import click

    while True:
        if sys.stdin.isatty():
            key = click.getchar().lower()
        else:
            line = sys.stdin.readline()
            if not line:
                return None
            key = line.strip().lower()[:1]
        if key in ("y", "n"):
            return key == "y"
        if key in ("q", "\x03", "\x04"):
            return None


def _print_precision(console: PlainConsole, opened: Review, *, as_json: bool) -> None:
    found, left = opened.precision(), len(list(opened.left()))
    if as_json:
        document = {
            "build": opened.build.root,
            "sample": len(opened.draw.keys),
            "seed": opened.draw.seed,
            "population": opened.draw.population,
            "answered": found.answered,
            "yes": found.yes,
            "left": left,
            "gone": len(opened.gone),
            "precision": found.share,
            "interval": found.interval,
            "confidence": 0.95,
            "method": "wilson",
            "bad": opened.bad(),
        }
        print(json_line(document))
        return
    if found.share is None or found.interval is None:
        console.print("nothing was judged yet", highlight=False)
    else:
        low, high = found.interval
        console.print(
            f"precision {found.share:.1%} ({found.yes:,} of {found.answered:,}), 95% interval {low:.1%} to {high:.1%}"
            f" (Wilson), of {opened.draw.population:,} samples",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    if left:
        console.print(f"{left:,} not judged yet: the same command goes on", highlight=False)
    if opened.gone:
        console.print(f"{len(opened.gone):,} drawn ones are not in the build any more", highlight=False)
    if bad := opened.bad():
        keys = " ".join(bad[:_SHOWN]) + (" ..." if len(bad) > _SHOWN else "")
        line = f'to leave the bad ones out: surd decide {opened.build.root} {keys} --reject "bad in review"'
        console.print(printable(line), highlight=False, soft_wrap=True, markup=False)
