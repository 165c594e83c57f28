"""The facts of the texts of a partition, each text read once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from surd.pipeline.facts.fact import Fact
from surd.pipeline.facts.parse import Sentence, extract
from surd.pipeline.models.chat import ChatModel
from surd.pipeline.models.counting import OnDone, uncounted
from surd.pipeline.sentences.lexicon import Lexicon
from surd.schemas.config import FactsConfig


class SentenceReader:
    """Reads texts as facts, as ``facts.*`` says, in the names of a lexicon; an LLM is asked about no text twice.

    ``texts``: those of the partition, whose words in small letters are no names. ``only_lexicon``: facts that the
    lexicon does not have are left out. ``begin(texts)``: called before so many are read, gives the OnDone that is told
    of the LLM's answers.
    """

    def __init__(
        self,
        texts: Sequence[str],
        settings: FactsConfig,
        lexicon: Lexicon,
        llm: ChatModel | None,
        only_lexicon: bool,
        begin: Callable[[int], OnDone] = lambda texts: uncounted,
    ) -> None:
        self._settings, self._lexicon, self._llm, self._only_lexicon = settings, lexicon, llm, only_lexicon
        self._begin = begin
        self._known = {word for text in texts for word in text.split()[1:] if word.islower()}
        self._sentences: dict[str, Sentence] = {}

    def __call__(self, texts: Sequence[str]) -> list[Sentence]:
        """The facts of each text."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._sentences]
        lowered = [self._without_capital(text) for text in missing]
        read = extract(lowered, self._settings, self._llm, self._begin(len(lowered)))
        for text, sentence in zip(missing, read, strict=True):
            facts = tuple(self._named(fact) for fact in sentence.facts if self._counts(text, fact))
            self._sentences[text] = dataclasses.replace(sentence, text=text, facts=facts)
        return [self._sentences[text] for text in texts]

    def _without_capital(self, text: str) -> str:
        """A text that begins with a small letter where its first word occurs so elsewhere: parsers take "Umbrellas" for
        a name."""
        first = text.split(" ", 1)[0].rstrip(".,;:!?")
        return text[:1].lower() + text[1:] if first.lower() in self._known else text

    def _named(self, fact: Fact) -> Fact:
        """A style by the lexicon's own name, so that "blurry" and "out of focus" are one."""
        name = self._lexicon.name(fact.value) if fact.kind == "style" else None
        return dataclasses.replace(fact, value=name) if name else fact

    def _counts(self, text: str, fact: Fact) -> bool:
        return not self._only_lexicon or bool(self._lexicon.facts(text[fact.start : fact.end]))
