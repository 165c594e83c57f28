"""``{key}.captions.json``: the several captions of a sample, the best first.

A JSON list of Caption. A sample that has none beside its simple prompt has no such member.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from surd.schemas.printable import printable
from surd.schemas.records import Caption

CAPTIONS = "captions.json"
#: Bounds of one sample: ten captions of 2,000 words have 120 kB. A trainer parses a member for every sample it reads,
#: and the worst 256 KiB of faults (as many unknown fields) take 0.1 s and 50 MB.
MAX_CAPTIONS, MAX_BYTES = 64, 1 << 18
MAX_NAME = 100  # characters
#: Choices of a caption that are more than its name: the simple prompt; all texts, or one of them at random; where no
#: caption is called so, the text with the fewest or the most words.
SIMPLE, MIXED, SHORT, LONG = "simple", "mixed", "short", "long"
NamedTexts = tuple[tuple[str, str], ...]
"""Name and text of each caption of a sample, the best first."""
_LIST = TypeAdapter(Annotated[list[Caption], Field(max_length=MAX_CAPTIONS, fail_fast=True)])
#: ASCII's control characters, which terminals obey, but for tabs and line ends, which belong to prose. Those of Latin-1
#: may stay, as in prompts: they come of wrongly decoded text, which can be repaired by them.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def named_caption(choice: str, simple: str, captions: NamedTexts) -> str:
    """The first caption called ``choice``; the simple prompt where there is none."""
    named = next((text for name, text in captions if name == choice), None)
    if named is not None:
        return named
    if choice in (SHORT, LONG) and captions:
        texts = [simple, *(text for _, text in captions)]
        return (min if choice == SHORT else max)(texts, key=lambda text: len(text.split()))
    return simple


def dump_captions(captions: Sequence[Caption]) -> str:
    """The one JSON text of a list of captions, as pack writes it. Raises ValueError where it breaks a bound."""
    rows = [caption.model_dump() for caption in captions]
    text = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
    try:
        check_captions(captions, len(text.encode()))
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair, which is not text") from None
    return text


def parse_captions(data: bytes) -> list[Caption]:
    """The captions of a member, or of the JSON text in a row. Raises ValueError, one sentence, where it is not valid.

    Its size is checked before it is parsed, and pydantic stops at the first faulty caption.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"it has {len(data):,} bytes; the captions of a sample may have {MAX_BYTES:,}")
    try:
        captions = _LIST.validate_json(data, strict=True)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = printable(".".join(map(str, first["loc"])))[:100]
        raise ValueError(f"it is not a list of Caption: {field + ': ' if field else ''}{first['msg'][:200]}") from None
    check_captions(captions, len(data))
    return captions


def check_captions(captions: Sequence[Caption], size: int) -> None:
    """Raise ValueError unless captions of ``size`` bytes are what a sample may have."""
    if size > MAX_BYTES:
        raise ValueError(f"it has {size:,} bytes; the captions of a sample may have {MAX_BYTES:,}")
    if len(captions) > MAX_CAPTIONS:
        raise ValueError(f"it lists {len(captions):,} captions; a sample may have {MAX_CAPTIONS}")
    for number, caption in enumerate(captions):
        if problem := _problem(caption):
            raise ValueError(f"{number}.{problem}")


def _problem(caption: Caption) -> str | None:
    """The first field of a caption that breaks a rule, and how; None if none does."""
    texts = {"name": [caption.name], "text": [caption.text], "model": [caption.model or ""], "dropped": caption.dropped}
    for field, values in texts.items():
        if any(_CONTROL.search(value) for value in values):
            return f"{field}: it holds a control character"
    if len(caption.name) > MAX_NAME or not caption.name.strip() or len(caption.name.splitlines()) > 1:
        return f"name: it is not one line of 1 to {MAX_NAME} characters"
    if not caption.text.strip():
        return "text: it is empty"
    if caption.score is not None and not math.isfinite(caption.score):
        return "score: it is not a finite number"
    return None
