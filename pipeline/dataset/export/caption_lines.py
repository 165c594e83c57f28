"""Which captions of a sample stand in a trainer's caption file, one a line."""

from __future__ import annotations

import re
from collections import Counter

from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.export.options import TrainerOptions
from surd.pipeline.dataset.reader import StoredSample, read_caption_names
from surd.schemas import SurdError
from surd.schemas.shard_format.captions import LONG, MIXED, SHORT, SIMPLE, named_caption

COMPLEX, BOTH = "complex", "both"
SEVERAL = (BOTH, MIXED)
#: Whatever some reader takes for the end of a line.
_LINE_ENDS = re.compile(r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")


def caption_lines(stored: StoredSample, options: TrainerOptions) -> list[str]:
    """The captions of a sample: one, or several different ones with ``both`` and ``mixed``. No line is empty.

    A sample that has no caption of the name gives its simple prompt. Raises SurdError when it has no text at all.
    """
    sample = stored.sample
    named = tuple((caption.name, caption.text) for caption in stored.captions)
    texts = {
        SIMPLE: [sample.simple],
        COMPLEX: [sample.complex],
        BOTH: [sample.simple, sample.complex],
        MIXED: [sample.simple, *(text for _, text in named)],
    }.get(options.caption) or [named_caption(options.caption, sample.simple, named)]
    for candidates in (texts, [sample.simple], [sample.complex]):
        lines = dict.fromkeys(line for text in candidates if (line := _LINE_ENDS.sub(" ", text).strip()))
        if lines:
            return [with_trigger(line, options.trigger) for line in lines]
    raise SurdError(f"{sample.key}: the sample has no text; remove it with surd forget")


def with_trigger(text: str, trigger: str | None) -> str:
    """The text with the trigger before it, unless it has that as a word of its own."""
    if trigger is None or re.search(rf"(?<!\w){re.escape(trigger)}(?!\w)", text):
        return text
    return f"{trigger}, {text}"


def without_named_caption(build: Build, options: TrainerOptions) -> int:
    """How many samples have no caption of the name that is asked for, and give their simple prompt.

    Raises SurdError when none has one.
    """
    if options.caption in (SIMPLE, COMPLEX, *SEVERAL):
        return 0
    names = read_caption_names(build)
    served = sum(bool(of_one) if options.caption in (SHORT, LONG) else options.caption in of_one for of_one in names)
    if served:
        return len(names) - served
    present = Counter(name for of_one in names for name in of_one)
    known = ", ".join(name[:40] for name in sorted(present)[:20])
    rest = f"captions are called {known}" if known else "no sample has several captions"
    raise SurdError(f"--caption is {options.caption!r}, but {rest}; give one that is there, or simple, complex or both")
