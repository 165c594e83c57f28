"""The command ``surd facts``: what texts state, as a table or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from surd.schemas.console import PlainConsole
from surd.schemas.errors import SurdError, one_line
from surd.schemas.printable import json_line, printable

if TYPE_CHECKING:
    from surd.pipeline.facts.fact import Fact
    from surd.pipeline.facts.parse import Sentence

_BATCH = 2000


def facts(
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT...", help="Sentences or keyword prompts.")] = None,
    file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="One text a line, or JSON lines with a field `text`; - reads standard input."
        ),
    ] = None,
    param: Annotated[
        list[str],
        typer.Option(metavar="FIELD=VALUE", help="A config field: facts.extractor=llm, facts.parser=... Repeatable."),
    ] = [],  # noqa: B006 - typer reads the default and never changes it
    profile: Annotated[str, typer.Option(help="demo, small, paper, or a path to a YAML file.")] = "demo",
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON lines instead of tables; always so with --file.")
    ] = False,
) -> None:
    """Show the facts that texts state: things, attributes, counts, relations, actions, text in the picture, style.

    Any English sentence, caption, fragment or keyword prompt. With --file or --json each text gives one line of JSON:
    `{"text": ..., "facts": [{"kind", "of", "value", "to", "negated", "aspect", "start", "end"}]}`. What a text says is
    absent has "no" before `of`, or "not" before `value`, besides `negated`; `start` and `end` are the characters that
    state it.

    **Examples**

    - `surd facts "two brown dogs on a red sofa" "1girl, white dress, holding, 3apples, 8k"`

    - Many at once: `surd facts --file captions.txt > facts.jsonl`

    - Ask the LLM instead of the parser: `surd facts "a cat" --param facts.extractor=llm`
    """
    if bool(texts) == bool(file):
        raise SurdError("TEXT is missing; give texts, or a file of them with --file" if not texts else
                        "--file and TEXT are both given; leave one of them out")  # fmt: skip
    from surd.flows.request import parse_params, resolve_config
    from surd.pipeline.facts.parse import extract
    from surd.pipeline.models import Models

    config = resolve_config(profile, parse_params(param))
    llm = Models(config.models).llm if config.facts.extractor == "llm" else None
    console = PlainConsole()
    for batch in _batches(_lines(file) if file else iter(texts or ())):
        for sentence in extract(batch, config.facts, llm):
            if file or as_json:
                print(json_line(facts_to_json(sentence)))
            else:
                _print_facts(console, sentence)


def facts_to_json(sentence: Sentence) -> dict[str, Any]:
    """A text and its facts as one document. A negated fact says so in its words too, for readers of these alone."""
    document: dict[str, Any] = {"text": sentence.text, "facts": [_to_json(fact) for fact in sentence.facts]}
    if sentence.cut:
        document["cut"] = True
    if sentence.why:
        document["why"] = sentence.why
    return document


def _to_json(fact: Fact) -> dict[str, Any]:
    of, value = _words(fact)
    return {
        "kind": fact.kind, "of": of, "value": value, "to": fact.to, "negated": fact.negated, "aspect": fact.aspect,
        "start": fact.start, "end": fact.end,
    }  # fmt: skip


def _words(fact: Fact) -> tuple[str, str]:
    if not fact.negated or fact.value == "without":
        return fact.of, fact.value
    return (f"no {fact.of}", "") if fact.kind == "entity" else (fact.of, f"not {fact.value}")


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _lines(file: str) -> Iterator[str]:
    """The texts of a file, empty lines left out. Raises SurdError if it cannot be read, or JSON in it has no text."""
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        lines = content.decode("utf-8-sig").split("\n")
    except OSError as error:
        raise SurdError(f"--file is {file!r}: it cannot be read ({error.strerror}); give a text file") from None
    except UnicodeDecodeError as error:
        raise SurdError(f"--file is {file!r}: it is not UTF-8 ({one_line(error)}); convert it") from None
    for number, line in enumerate(lines, 1):
        line = line.strip("\r")
        if not line.strip():
            continue
        yield _text_of(line, file, number) if line.lstrip().startswith("{") else line


def _text_of(line: str, file: str, number: int) -> str:
    """The field ``text`` of a line of JSON; a line that only begins like JSON ("{cat|dog}") is a text itself."""
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return line
    text = document.get("text") if isinstance(document, dict) else None
    if not isinstance(text, str):
        raise SurdError(f'--file is {file!r}: line {number} has no field "text" that is a string; add it')
    return text


def _print_facts(console: PlainConsole, sentence: Sentence) -> None:
    console.print(Text(printable(sentence.text), style="bold"))
    table = Table("kind", "of", "value", "to", box=None, pad_edge=False)
    for fact in sentence.facts:
        of, value = _words(fact)
        table.add_row(fact.kind, *(Text(printable(cell)) for cell in (of, value, fact.to or "")))
    if sentence.facts:
        console.print(table)
    else:
        console.print("states no fact that was found", highlight=False)
    if sentence.cut:
        console.print("cut: what lies beyond facts.max_chars characters was not read", highlight=False)
    if sentence.why:
        console.print(Text(f"read by the parser: {printable(sentence.why)}"))
    console.print()
