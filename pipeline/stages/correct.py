"""Stage correct: the simple prompt of each pair, chosen among captions, rewrites and fusions, its facts checked."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from PIL import Image

from surd.pipeline.batching import prefetch
from surd.pipeline.build.folder import Build
from surd.pipeline.build.rows import StageRows
from surd.pipeline.facts.alternatives import Alternatives
from surd.pipeline.facts.people import people_of
from surd.pipeline.facts.similarity import text_vectors
from surd.pipeline.facts.stated_values import StatedValues
from surd.pipeline.model_cache.models import CachedModels, dump_json
from surd.pipeline.model_cache.outputs import OutputCache, picture_item, text_hash
from surd.pipeline.models import Models
from surd.pipeline.models.clip import FloatArray
from surd.pipeline.net.urls import redact_secrets
from surd.pipeline.sentences.correction import FactCorrection, is_caption
from surd.pipeline.sentences.fact_check import PictureTexts
from surd.pipeline.sentences.fusion import fusions
from surd.pipeline.sentences.lexicon import Lexicon, read_lexicon
from surd.pipeline.sentences.other_values import OtherValues
from surd.pipeline.sentences.paraphrase import read_paraphrase_rules
from surd.pipeline.sentences.revision import Revision
from surd.pipeline.sentences.sentence_reader import SentenceReader
from surd.pipeline.sentences.witnesses import Answers, Asked, ClipWitness, Witness, YesNoWitness
from surd.schemas import BuildConfig, Captioned, Cleaned, Corrected, Pair, Reason, Rewritten, Scored
from surd.schemas.config import CorrectConfig
from surd.schemas.records import Caption
from surd.schemas.shard_format.captions import dump_captions
from surd.schemas.shard_format.pixels import to_rgb

#: A count glued to what it counts: "2yellow hearts", but not "8bit".
_GLUED = re.compile(r"\b(\d{1,2})(?!bit|th\b|nd\b|rd\b|st\b)([a-z]{3})")
_WINDOW = 8  # whole pictures decoded ahead of a witness
_VQA = 1  # version of the kept answers: raise it when the model gives another to the same question about a picture


@dataclass
class Candidates:
    """The candidate sentences of one pair. ``methods``: sentence -> its origin, a caption's with the name of its
    template (caption:short); ``vectors``: sentence -> its CLIP embedding; ``scene``: what the complex prompt says."""

    image: FloatArray
    complex_vector: FloatArray
    clip_complex: float
    methods: dict[str, str]
    scene: str
    vectors: dict[str, FloatArray] = field(default_factory=dict)

    def score(self, sentence: str) -> float:
        return float(self.image @ self.vectors[sentence])

    def ranked(self) -> list[str]:
        """The candidates, nearest to the image first, ties by spelling."""
        return sorted(self.methods, key=lambda sentence: (-self.score(sentence), sentence))

    def best(self) -> str:
        """The nearest caption, or where there is none the nearest sentence."""
        ranked = self.ranked()
        return next((sentence for sentence in ranked if is_caption(self.methods[sentence])), ranked[0])


def correct(build: Build, part: int, config: BuildConfig, models: Models) -> list[Corrected]:
    """One partition's simple prompts.

    Rule ``facts``: all candidates and the complex prompt are read as facts, and the witnesses (``correct.witnesses``)
    are asked which are true of the picture. What they mean is measured on facts of other pictures of the partition. The
    caption with most true facts, and the best other sentence, are then revised: facts that lose are exchanged or left
    out, until no more than ``correct.false_fact_rate`` of all are false, and what the witnesses are sure of is added.
    A pair is rejected when its complex prompt fits the image better by more than ``correct.tolerance``, unless the
    witnesses hold all facts of the sentence for true: then it only says less.
    Rule ``paper`` (arXiv 2305.05189): the candidate nearest to the image as it is, kept when it fits the image at least
    as well as the complex prompt. With ``correct.vary``, the kept sentences are then paraphrased.
    """
    scored = build.read_rows("score", part, Scored)
    with OutputCache(build.root, part, [row.key for row in scored]) as cache:
        return _correct(build, part, config, models, cache, scored)


def _correct(
    build: Build, part: int, config: BuildConfig, uncached: Models, cache: OutputCache, scored: list[Scored]
) -> list[Corrected]:
    settings = config.correct
    corrected = StageRows(Corrected, scored).rows
    candidates_of = _read_candidates(build, part, scored)
    nonempty = {at: candidates for at, candidates in candidates_of.items() if candidates.methods}
    models = _KeptModels(uncached, cache, nonempty.values())
    _embed(models, settings, list(nonempty.values()))
    lexicon = read_lexicon(settings.lexicon)
    if settings.rule == "facts" and settings.fuse:
        _fuse(models, settings, list(nonempty.values()), lexicon)
    revised = _revise(build, part, config, models, nonempty, lexicon) if settings.rule == "facts" else {}
    for at, candidates in candidates_of.items():
        if at in revised:
            row = _revised_row(corrected[at], candidates, revised[at], models)
            corrected[at] = _decide(row, settings, holds=revised[at][0].holds)
        elif at in nonempty:
            row = corrected[at].model_copy(update=_columns(candidates, candidates.ranked()[0]) | {"repairs": []})
            corrected[at] = _decide(row, settings, holds=False)
        else:
            row = corrected[at].model_copy(update={"clip_complex": candidates.clip_complex, "decision": "reject"})
            corrected[at] = row.reject("correct", Reason.NO_CANDIDATE)
    if settings.rule == "facts" and settings.vary:
        _paraphrase(models, settings, corrected, nonempty, lexicon)
    return corrected


class _KeptModels(CachedModels):
    """The stage's models, with what the build has of their outputs.

    Not by key: a record has some 30 texts, and as many questions as it has facts.
    """

    def __init__(self, models: Models, cache: OutputCache, pairs: Iterable[Candidates]) -> None:
        super().__init__(models, cache, "correct", about=self._about_message, by_key=False)
        self._texts = [text for pair in pairs for text in (*pair.methods, pair.scene) if text]

    def recall(self, pairs: Sequence[Pair]) -> Callable[[list[Asked], Callable[[list[Asked]], Answers]], Answers]:
        """How the VQA model's answers about pictures, numbered as ``pairs``, are looked up."""
        space = self._cache.space("correct-vqa", version=_VQA, by_key=False, vqa=self._models.revision("vqa"))

        def recall(asked: list[Asked], ask: Callable[[list[Asked]], Answers]) -> Answers:
            items = [picture_item(pairs[place], text) for place, text in asked]
            answers = space.outputs(items, lambda at: map(dump_json, ask([asked[place] for place in at])))
            return map(json.loads, answers)

        return recall

    def _about_message(self, message: str) -> Iterable[str]:
        return (text_hash(text) for text in self._texts if text in message)


def _read_candidates(build: Build, part: int, scored: list[Scored]) -> dict[int, Candidates]:
    """Row of the partition -> candidates, for the kept rows."""
    captioned = build.read_rows("caption", part, Captioned)
    rewritten = build.read_rows("rewrite", part, Rewritten)
    cleaned = build.read_rows("clean", part, Cleaned)
    return {
        at: Candidates(
            np.asarray(row.image_embedding, np.float32),
            np.asarray(row.complex_embedding, np.float32),
            row.clip_complex or 0.0,
            _methods(captioned[at], rewritten[at].rewrites),
            _scene(cleaned[at]),
        )
        for at, row in enumerate(scored)
        if row.kept
    }


def _methods(captioned: Captioned, rewrites: list[str] | None) -> dict[str, str]:
    """Sentence -> method; the same sentence counts once, as a caption."""
    texts = captioned.captions or []
    names = captioned.caption_names or ["caption"] * len(texts)
    captions: dict[str, str] = {}
    for text, name in zip(texts, names, strict=True):
        captions.setdefault(_sentence(text), "caption" if name == "caption" else f"caption:{name}")
    return captions | {text: "rewrite" for text in rewrites or () if text not in captions}


def _scene(cleaned: Cleaned) -> str:
    """The complex prompt without praise and provenance, which say nothing that a picture could show."""
    praise = set(cleaned.qualities or ())
    scene = ", ".join(keyword for keyword in cleaned.keywords or () if keyword not in praise) or cleaned.complex or ""
    return _GLUED.sub(r"\1 \2", scene)


def _sentence(text: str) -> str:
    text = text[0].upper() + text[1:]
    return text if text[-1] in ".!?" else f"{text}."


def _embed(models: Models, settings: CorrectConfig, pairs: list[Candidates]) -> None:
    """Embeds the candidates that have no vector yet."""
    texts = [text for pair in pairs for text in pair.methods if text not in pair.vectors]
    if texts:
        vectors = iter(models.clip.embed_distinct(texts, settings.batch_size))
        for pair in pairs:
            pair.vectors |= {text: next(vectors) for text in pair.methods if text not in pair.vectors}


def _fuse(models: Models, settings: CorrectConfig, pairs: list[Candidates], lexicon: Lexicon) -> None:
    """Adds the LLM's fusion of the best caption and another candidate that states a group of facts it leaves out."""
    requests = []
    for pair in pairs:
        best = pair.best()
        groups = {fact.group for fact in lexicon.facts(best)}
        others = [text for text in pair.methods if {fact.group for fact in lexicon.facts(text)} - groups]
        if others:
            requests.append((pair, best, max(others, key=lambda text: (pair.score(text), text))))
    for (pair, _, _), fusion in zip(requests, fusions(models.llm, [(a, b) for _, a, b in requests]), strict=True):
        if fusion:
            pair.methods.setdefault(fusion, "fusion")
    _embed(models, settings, [pair for pair, _, _ in requests])


def _revise(
    build: Build, part: int, config: BuildConfig, models: _KeptModels, pairs: dict[int, Candidates], lexicon: Lexicon
) -> dict[int, list[Revision]]:
    """Row -> its revised sentences, the best first; their embeddings are added to the candidates."""
    texts = [PictureTexts(number, pair.methods, pair.scene) for number, pair in enumerate(pairs.values())]
    llm = models.llm if config.facts.extractor == "llm" else None
    everything = [text for one in texts for text in (*one.candidates, one.scene)]
    build.progress.expect(*_longest_passes(config))
    begin = partial(build.progress.begin, name="facts")
    read = SentenceReader(everything, config.facts, lexicon, llm, config.correct.only_lexicon, begin)
    sentences = read(everything)
    images = np.stack([pair.image for pair in pairs.values()]) if pairs else np.zeros((0, 0), np.float32)
    prompts = np.stack([pair.complex_vector for pair in pairs.values()]) if pairs else images
    targets = images + config.correct.prompt_weight * prompts
    groups = [group.values for group in lexicon.groups.values()]
    alternatives = Alternatives(StatedValues().add(sentences), text_vectors(config.facts.similarity), groups)
    alternatives.prepare(fact for sentence in sentences for fact in sentence.facts)
    others = OtherValues(alternatives, models, config.correct, targets)
    witnesses = _witnesses(build, part, config, models, pairs, targets)
    correction = FactCorrection(
        config.correct,
        witnesses,
        read,
        others,
        lambda sentences: people_of(sentences, config.facts.parser),
    )
    revised = dict(zip(pairs, correction.revise(texts), strict=True))
    for at, revisions in revised.items():
        for one in revisions:
            pairs[at].methods.setdefault(one.text, pairs[at].methods[one.before])
    _embed(models, config.correct, list(pairs.values()))
    return revised


def _witnesses(
    build: Build, part: int, config: BuildConfig, models: _KeptModels, pairs: dict[int, Candidates], targets: FloatArray
) -> list[Witness]:
    """Those of ``correct.witnesses``, in its order; pictures are numbered as ``pairs`` are. ``targets``: what CLIP
    compares sentences with, [pictures, width]."""
    rows = list(pairs)

    def pictures(places: Sequence[int]) -> Iterator[Image.Image]:
        return prefetch(to_rgb, build.images(part, [fetched[rows[place]] for place in places]), _WINDOW)

    witnesses: list[Witness] = []
    fetched = build.read_rows("fetch", part, Pair) if set(config.correct.witnesses) - {"clip"} else []
    for name in dict.fromkeys(config.correct.witnesses):
        begin = partial(build.progress.begin, name=name)
        if name == "clip":
            witnesses.append(ClipWitness(models, config.correct, targets, begin))
        elif name == "vqa":
            recall = models.recall([fetched[row] for row in rows])
            witnesses.append(
                YesNoWitness(name, lambda *asked: models.vqa.probabilities(*asked), pictures, recall, begin)
            )
        else:
            witnesses.append(YesNoWitness(name, models.vlm.probabilities, pictures, begin=begin))
    return witnesses


def _longest_passes(config: BuildConfig) -> list[str]:
    """What a partition's time goes into: models that are asked about each fact or text; else CLIP's texts."""
    asked = [name for name in config.correct.witnesses if name != "clip"]
    return [*(["facts"] if config.facts.extractor == "llm" else []), *asked] or ["clip"]


def _paraphrase(
    models: Models, settings: CorrectConfig, rows: list[Corrected], candidates_of: dict[int, Candidates],
    lexicon: Lexicon,
) -> None:  # fmt: skip
    """Paraphrases the simple prompts of kept rows, each with its key as the seed, unless CLIP is sure that the sentence
    before fits the picture better."""
    rules = read_paraphrase_rules(settings.wordings)
    margin = math.log(settings.evidence / (1 - settings.evidence)) / models.clip.logit_scale
    paraphrases = {
        at: rules.paraphrase(row.simple, lexicon, random.Random(row.key))
        for at, row in enumerate(rows)
        if row.kept and row.simple and at in candidates_of
    }
    for at, sentence in paraphrases.items():
        candidates_of[at].methods.setdefault(sentence, str(rows[at].method))
    _embed(models, settings, [candidates_of[at] for at in paraphrases])
    for at, sentence in paraphrases.items():
        row, candidates = rows[at], candidates_of[at]
        if sentence != row.simple and candidates.score(sentence) >= candidates.score(str(row.simple)) - margin:
            rows[at] = row.model_copy(update={"worded_from": row.simple} | _columns(candidates, sentence))


def _revised_row(
    row: Corrected, candidates: Candidates, revisions: list[Revision], models: Models
) -> Corrected:  # fmt: skip
    """The row with the best of its revised sentences, and all captions that have a name of their own."""
    best = revisions[0]
    columns = {
        "before": best.before if best.repairs else None,
        "repairs": best.repairs,
        "facts_checked": best.checked,
        "captions": _captions(candidates, revisions, models),
    }
    return row.model_copy(update=columns | _columns(candidates, best.text))


def _captions(candidates: Candidates, revisions: list[Revision], models: Models) -> str | None:
    """The revised sentences as a JSON list of Caption; None where the captioner gave no captions of several names."""
    named = [one for one in revisions if ":" in candidates.methods[one.before]]
    if not named:
        return None
    captions = [
        Caption(
            name=candidates.methods[one.before].partition(":")[2] or candidates.methods[one.before],
            text=one.text,
            score=candidates.score(one.text),
            model=redact_secrets(models.config.captioner if one in named else models.config.llm),
            dropped=one.repairs,
        )
        for one in revisions
    ]
    return dump_captions(captions)


def _columns(candidates: Candidates, simple: str) -> dict[str, object]:
    ranked = candidates.ranked()
    text_scores = {sentence: float(candidates.complex_vector @ candidates.vectors[sentence]) for sentence in ranked}
    return {
        "simple": simple,
        "method": candidates.methods[simple].partition(":")[0],
        "clip_simple": candidates.score(simple),
        "clip_complex": candidates.clip_complex,
        "text_simple": text_scores[simple],
        "simple_embedding": candidates.vectors[simple].tolist(),
        "candidates": ranked,
        "candidate_scores": [candidates.score(sentence) for sentence in ranked],
        "candidate_text_scores": list(text_scores.values()),
    }


def _decide(row: Corrected, settings: CorrectConfig, holds: bool) -> Corrected:
    """The verdict on a row. ``holds``: witnesses hold all that the sentence states for true; then that it states less
    than the prompt does not count against it."""
    assert row.clip_simple is not None and row.clip_complex is not None
    tolerance = settings.tolerance if settings.rule == "facts" else 0.0
    if not holds and row.clip_simple < row.clip_complex - tolerance:
        row = row.model_copy(update={"decision": "reject"})
        return row.reject("correct", Reason.MISMATCH, f"simple {row.clip_simple:.3f}, complex {row.clip_complex:.3f}")
    return row.model_copy(update={"decision": "repair" if row.repairs else "keep"})
