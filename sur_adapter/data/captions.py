"""Which text stands for a sample in a batch: its simple prompt, a caption of a name, or one drawn at random."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from surd.schemas.errors import SurdError
from surd.schemas.shard_format.captions import LONG, MIXED, SHORT, SIMPLE, NamedTexts, named_caption

__all__ = ["ANY", "LONG", "MIXED", "SHORT", "SIMPLE", "CaptionCounts", "NamedTexts", "draw_caption"]

ANY = (MIXED, SHORT, LONG)  # those that any caption serves


def draw_caption(choice: str, simple: str, captions: NamedTexts, *, key: str, seed: int, epoch: int) -> str:
    """The text that stands for a sample in an epoch; its simple prompt where no caption is called ``choice``.

    ``mixed`` draws from the distinct texts by (seed, epoch, key) alone: workers, ranks and a resumed run draw the same.
    """
    if choice == SIMPLE or not captions:
        return simple
    if choice == MIXED:
        texts = list(dict.fromkeys([simple, *(text for _, text in captions)]))
        draw = hashlib.blake2b(f"{seed} {epoch} {key}".encode(), digest_size=8).digest()
        return texts[int.from_bytes(draw, "big") % len(texts)]
    return named_caption(choice, simple, captions)


@dataclass(kw_only=True)
class CaptionCounts:
    """What a choice finds in a dataset: ``served`` samples have such a caption, and ``simple`` may give their simple
    prompt all the same, because they have none or it is the same text. ``names`` counts the captions of each name."""

    choice: str
    samples: int = 0
    served: int = 0
    simple: int = 0
    names: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, choice: str, samples: Iterable[tuple[str, NamedTexts]]) -> CaptionCounts:
        """Of the simple prompt and the captions of each sample."""
        counts = cls(choice=choice)
        for simple, captions in samples:
            names = {name for name, _ in captions}
            counts.names.update(names)
            counts.samples += 1
            counts.served += bool(captions) if choice in ANY else choice in names
            drawn = simple if choice == MIXED else draw_caption(choice, simple, captions, key="", seed=0, epoch=0)
            counts.simple += drawn == simple
        return counts

    def check(self, where: str) -> None:
        """Raise SurdError if no sample has such a caption."""
        if self.served:
            return
        present = ", ".join(name[:40] for name in sorted(self.names)[:20])
        problem = f"has captions of other names ({present})" if present else "has no sample with several captions"
        remedy = f"name one of those, or {MIXED}" if present else f"leave the flag out, or give {SIMPLE}"
        raise SurdError(f"--caption: {self.choice!r}, but {where} {problem}; {remedy}")
