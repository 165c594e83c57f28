"""Stage clean: web prompts cleaned and classified (keywords, weights, language), unusable ones rejected."""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import cache

import ftfy
from ftfy.badness import is_bad

from surd.pipeline.build.folder import Build
from surd.pipeline.model_cache.captioner import CachedCaptioner
from surd.pipeline.model_cache.outputs import OutputCache
from surd.pipeline.models import Models
from surd.pipeline.models.clip_tokenizer import ClipTokenizer, clip_tokenizer, clip_words
from surd.pipeline.prompts.dialects import dialect_of
from surd.pipeline.prompts.gibberish import is_gibberish
from surd.pipeline.prompts.grammar import Prompt, parse_prompt
from surd.pipeline.prompts.injection import find_injection
from surd.pipeline.prompts.language import detect_language
from surd.pipeline.prompts.text import MAX_PROMPT, without_preamble
from surd.pipeline.prompts.words import Split, prompt_words
from surd.pipeline.sentences.caption_questions import CaptionQuestions
from surd.pipeline.sentences.caption_templates import Context
from surd.schemas import BuildConfig, Cleaned, Decoded, Pair, Reason, SourceRecord
from surd.schemas.config import CleanConfig

_WORD = re.compile(r"[^\W\d_](?:\.?[^\W\d_])+|[\u3040-\u9fff\uac00-\ud7af]")
_LONGEST_WORD = 60  # letters at the end of a prompt that are looked at
_DETAIL = 400  # letters of a detail that leave room for what was not read
_LAST_WORD = re.compile(r"[a-z]{2,}\Z", re.IGNORECASE)
# The levels that galleries give to pictures that are safe for work, as words, numbers and booleans.
_SAFE_LEVELS = {"", "none", "false", "safe", "pg", "g", "0", "1", "unlikely"}  # unlikely: LAION's word
_UNSAFE_WORDS = re.compile(
    r"\b(?:nsfw|nude|nudity|naked|topless|porn\w*|hentai|sex|sexual|erotic|uncensored|nipples?|genitals?|gore)\b",
    re.IGNORECASE,
)


def clean(build: Build, part: int, config: BuildConfig, models: Models) -> list[Cleaned]:
    """One partition's prompts, cleaned. Rejects those that are missing, unsafe, hostile or describe no picture."""
    records = build.read_rows("collect", part, SourceRecord)
    pairs = build.read_rows("fetch", part, Pair)
    decodings = build.read_rows("decode", part, Decoded)
    tokenizer = clip_tokenizer(models.config.clip)
    rows = [Cleaned(**decoding.verdict()) for decoding in decodings]
    if config.prompts.caption_missing:
        _caption_missing(build, part, config, models, rows, pairs)
    return [
        _clean_row(row, record, pair, config.clean, tokenizer)
        for row, record, pair in build.progress.counted(zip(rows, records, pairs, strict=True), len(rows))
    ]


def _caption_missing(
    build: Build, part: int, config: BuildConfig, models: Models, rows: list[Cleaned], pairs: list[Pair]
) -> None:
    """Give pictures without a prompt the captioner's surest caption for one, and say so in their rows.

    The caption stage asks the same of these pictures again and finds the answers kept.
    """
    lacking = [at for at, row in enumerate(rows) if row.kept and not _has_prompt(pairs[at])]
    if not lacking:
        return
    with OutputCache(build.root, part, [row.key for row in rows]) as cache:
        captioner = CachedCaptioner(models, config.caption, cache)
        questions = CaptionQuestions(config.caption, *captioner.kind())
        prompts, unasked = questions.of(Context())
        answers = captioner.answers(build, part, [pairs[at] for at in lacking], [prompts] * len(lacking))
    for at, of_picture in zip(lacking, answers, strict=True):
        captions, reasons = questions.usable_captions(of_picture)
        if not captions:
            why = "; ".join(dict.fromkeys([*unasked, *reasons]))
            detail = f"no prompt is known, and the captioner gave no usable caption ({why or 'no answer'})"
            rows[at] = rows[at].model_copy(update={"detail": detail[:_DETAIL]})
            continue
        text, _ = next(iter(captions))
        pairs[at] = pairs[at].model_copy(update={"prompt": text})
        note = "no prompt is known: the captioner's caption stands for it"
        rows[at] = rows[at].model_copy(update={"prompt_origin": "captioner", "detail": note})


def _has_prompt(pair: Pair) -> bool:
    return bool(pair.prompt and pair.prompt.strip())


def _clean_row(
    row: Cleaned, record: SourceRecord, pair: Pair, settings: CleanConfig, tokenizer: ClipTokenizer
) -> Cleaned:
    if not row.kept:
        return row
    if not pair.prompt or not _has_prompt(pair):
        return row.reject("clean", Reason.NO_PROMPT, row.detail)
    level = (record.nsfw_level or "").strip().lower()
    if not settings.allow_nsfw and level not in _SAFE_LEVELS:
        return row.reject("clean", Reason.NSFW, f"the source's level is {level}")
    limit = max(MAX_PROMPT, settings.max_chars)
    text = pair.prompt[:limit]
    text = without_preamble(ftfy.fix_encoding(text) if is_bad(text) else text)
    # The tool and its parameters are of the file: they say nothing of a prompt that the source states in its own words.
    tool, params = (pair.tool, pair.params) if pair.prompt_origin == "file" else (None, None)
    prompt = parse_prompt(text, settings.max_chars, dialect_of(tool, params))
    split = prompt_words().split(prompt.keywords)
    language = detect_language(" , ".join(split.subjects))
    if fault := find_fault(text, prompt, split, language, settings):
        reason, detail = fault
        rest = f" (the first {limit:,} of {len(pair.prompt):,} letters)" if len(pair.prompt) > limit else ""
        return row.reject("clean", reason, detail[:_DETAIL] + rest if rest else detail)
    tokens = tokenizer.count(prompt.text)
    return row.model_copy(
        update={
            "complex": prompt.text,
            "keywords": list(prompt.keywords),
            "weights": list(prompt.weights),
            "loras": [network.name for network in prompt.networks],
            "subjects": split.subjects,
            "styles": split.styles,
            "qualities": split.qualities,
            "language": language,
            "clip_tokens": tokens,
            "truncated": tokens > tokenizer.context,
            "cut": prompt.cut or len(pair.prompt) > limit or ends_mid_word(text, prompt),
        }
    )


def find_fault(
    text: str, prompt: Prompt, split: Split, language: str | None, settings: CleanConfig
) -> tuple[Reason, str] | None:
    """Why a prompt is unusable, with the words that show it, or None. Dangerous content is checked first."""
    names = " ".join(network.name for network in prompt.networks).replace("_", " ")
    if not settings.allow_nsfw and (unsafe := _UNSAFE_WORDS.search(f"{prompt.text} {names}")):
        return Reason.NSFW, f"the prompt says {unsafe.group().lower()}"
    if injection := find_injection(text):
        return Reason.PROMPT_INJECTION, injection
    if prompt.unresolved:
        return Reason.UNRESOLVED_TEMPLATE, ", ".join(prompt.unresolved)
    if len(_WORD.findall(prompt.text)) < settings.min_words:
        return Reason.EMPTY_PROMPT, text.strip()
    subjects = ", ".join(split.subjects)
    if is_gibberish(subjects):
        return Reason.GIBBERISH, subjects
    if language and settings.languages and language not in settings.languages:
        return Reason.FOREIGN_LANGUAGE, f"{language}: {subjects}"
    if not split.subjects:
        return Reason.NO_SUBJECT, prompt.text
    return None


def ends_mid_word(text: str, prompt: Prompt) -> bool:
    """Whether the last word is not in CLIP's vocabulary but the beginning of one that is: ``four sunflo``."""
    match = _LAST_WORD.search(text.rstrip()[-_LONGEST_WORD:])
    if not match or (word := match.group().lower()) in clip_words() or word + "s" in clip_words():
        return False
    if prompt.keywords and prompt_words().classify(prompt.keywords[-1]) != "subject":
        return False
    words = _sorted_words()
    at = bisect_right(words, word)
    return at < len(words) and words[at].startswith(word)


@cache
def _sorted_words() -> list[str]:
    return sorted(clip_words())
