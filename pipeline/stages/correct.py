"""Stage correct: the simple prompt of each pair, chosen and repaired among captions, rewrites and fusions by CLIP."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np

from surd.pipeline.build.folder import Build
from surd.pipeline.build.rows import StageRows
from surd.pipeline.models import Models
from surd.pipeline.models.clip import FloatArray
from surd.pipeline.sentences.fact_check import CheckedSentence, FactChecker, decision_margin
from surd.pipeline.sentences.fusion import fusions
from surd.pipeline.sentences.lexicon import Lexicon, read_lexicon
from surd.pipeline.sentences.paraphrase import read_paraphrase_rules
from surd.schemas import BuildConfig, Captioned, Corrected, Reason, Rewritten, Scored
from surd.schemas.config import CorrectConfig


@dataclass
class Candidates:
    """The candidate sentences of one pair; ``methods``: sentence -> its origin, ``vectors``: -> its CLIP embedding."""

    image: FloatArray
    complex_vector: FloatArray
    clip_complex: float
    methods: dict[str, str]
    vectors: dict[str, FloatArray] = field(default_factory=dict)

    def score(self, sentence: str) -> float:
        return float(self.image @ self.vectors[sentence])

    def ranked(self) -> list[str]:
        """The candidates, nearest to the image first, ties by spelling."""
        return sorted(self.methods, key=lambda sentence: (-self.score(sentence), sentence))

    def best(self, margin: float) -> str:
        """The caption nearest to the image; another candidate only if it is nearer by more than ``margin``, because
        only captions are made from the picture."""
        first, *others = self.finalists()
        return others[0] if others and self.score(others[0]) > self.score(first) + margin else first

    def finalists(self) -> list[str]:
        """The nearest caption and, where it is nearer still, the nearest other candidate."""
        ranked = self.ranked()
        caption = next((sentence for sentence in ranked if self.methods[sentence] == "caption"), ranked[0])
        return [caption] if caption == ranked[0] else [caption, ranked[0]]


def correct(build: Build, part: int, config: BuildConfig, models: Models) -> list[Corrected]:
    """One partition's simple prompts.

    Rule ``facts``: the caption nearest to the image, and a rewrite or fusion that is nearer still, are taken apart into
    the facts they assert; each is swapped for its likeliest alternatives, and one that CLIP surely prefers repairs the
    sentence. Of the two the caption stays unless CLIP is sure; ``correct.evidence`` says what sure means. A pair is
    rejected when its complex prompt fits the image better than the outcome by more than ``correct.tolerance``. Rule
    ``paper`` (arXiv 2305.05189): the nearest candidate as it is, kept when it fits the image at least as well as the
    complex prompt. With ``correct.vary``, the kept sentences are then paraphrased.
    """
    settings = config.correct
    scored = build.read_rows("score", part, Scored)
    corrected = StageRows(Corrected, scored).rows
    candidates_of = _read_candidates(build, part, scored)
    nonempty = {at: candidates for at, candidates in candidates_of.items() if candidates.methods}
    _embed(models, settings, list(nonempty.values()))
    lexicon = read_lexicon(settings.lexicon)
    margin = decision_margin(settings, models) if settings.rule == "facts" else 0.0
    if settings.rule == "facts" and settings.fuse:
        _fuse(models, settings, list(nonempty.values()), lexicon, margin)
    checker = FactChecker(models, settings, lexicon)
    claims = [
        (sentence, candidates.image, candidates.complex_vector)
        for candidates in nonempty.values()
        for sentence in candidates.finalists()
    ]
    checked = iter(checker.check(claims))
    for at, candidates in candidates_of.items():
        if at in nonempty:
            outcomes = [(sentence, next(checked)) for sentence in candidates.finalists()]
            corrected[at] = _decide(_best_checked(corrected[at], candidates, outcomes, margin), settings)
        else:
            row = corrected[at].model_copy(update={"clip_complex": candidates.clip_complex, "decision": "reject"})
            corrected[at] = row.reject("correct", Reason.NO_CANDIDATE)
    if settings.rule == "facts" and settings.vary:
        _paraphrase(models, settings, corrected, nonempty, lexicon, margin)
    return corrected


def _read_candidates(build: Build, part: int, scored: list[Scored]) -> dict[int, Candidates]:
    """Row of the partition -> candidates, for the kept rows."""
    captioned = build.read_rows("caption", part, Captioned)
    rewritten = build.read_rows("rewrite", part, Rewritten)
    return {
        at: Candidates(
            np.asarray(row.image_embedding, np.float32),
            np.asarray(row.complex_embedding, np.float32),
            row.clip_complex or 0.0,
            _methods(captioned[at].captions, rewritten[at].rewrites),
        )
        for at, row in enumerate(scored)
        if row.kept
    }


def _methods(captions: list[str] | None, rewrites: list[str] | None) -> dict[str, str]:
    """Sentence -> method; the same sentence counts once, as a caption."""
    rewritten = dict.fromkeys(rewrites or (), "rewrite")
    return rewritten | {_sentence(text): "caption" for text in captions or ()}


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


def _fuse(
    models: Models, settings: CorrectConfig, pairs: list[Candidates], lexicon: Lexicon, margin: float
) -> None:  # fmt: skip
    """Adds the LLM's fusion of the best caption and another candidate that states a group of facts it leaves out."""
    requests = []
    for pair in pairs:
        best = pair.best(margin)
        groups = {fact.group for fact in lexicon.facts(best)}
        others = [text for text in pair.methods if {fact.group for fact in lexicon.facts(text)} - groups]
        if others:
            requests.append((pair, best, max(others, key=lambda text: (pair.score(text), text))))
    for (pair, _, _), fusion in zip(requests, fusions(models.llm, [(a, b) for _, a, b in requests]), strict=True):
        if fusion:
            pair.methods.setdefault(fusion, "fusion")
    _embed(models, settings, [pair for pair, _, _ in requests])


def _paraphrase(
    models: Models, settings: CorrectConfig, rows: list[Corrected], candidates_of: dict[int, Candidates],
    lexicon: Lexicon, margin: float,
) -> None:  # fmt: skip
    """Paraphrases the simple prompts of kept rows, each with its key as the seed, unless CLIP is sure that the sentence
    before fits the picture better."""
    rules = read_paraphrase_rules(settings.wordings)
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


def _best_checked(
    row: Corrected, candidates: Candidates, outcomes: list[tuple[str, CheckedSentence]], margin: float
) -> Corrected:  # fmt: skip
    """The row with the better of its checked finalists; the first, a caption, if CLIP is not sure."""
    (before, outcome), *others = outcomes
    if others and others[0][1].score > outcome.score + margin:
        before, outcome = others[0]
    candidates.methods.setdefault(outcome.sentence, candidates.methods[before])
    candidates.vectors[outcome.sentence] = outcome.vector
    columns = {
        "before": before if outcome.repairs else None,
        "repairs": outcome.repairs,
        "facts_checked": outcome.facts_checked,
    }
    return row.model_copy(update=columns | _columns(candidates, outcome.sentence))


def _columns(candidates: Candidates, simple: str) -> dict[str, object]:
    ranked = candidates.ranked()
    text_scores = {sentence: float(candidates.complex_vector @ candidates.vectors[sentence]) for sentence in ranked}
    return {
        "simple": simple,
        "method": candidates.methods[simple],
        "clip_simple": candidates.score(simple),
        "clip_complex": candidates.clip_complex,
        "text_simple": text_scores[simple],
        "simple_embedding": candidates.vectors[simple].tolist(),
        "candidates": ranked,
        "candidate_scores": [candidates.score(sentence) for sentence in ranked],
        "candidate_text_scores": list(text_scores.values()),
    }


def _decide(row: Corrected, settings: CorrectConfig) -> Corrected:
    assert row.clip_simple is not None and row.clip_complex is not None
    tolerance = settings.tolerance if settings.rule == "facts" else 0.0
    if row.clip_simple < row.clip_complex - tolerance:
        row = row.model_copy(update={"decision": "reject"})
        return row.reject("correct", Reason.MISMATCH, f"simple {row.clip_simple:.3f}, complex {row.clip_complex:.3f}")
    return row.model_copy(update={"decision": "repair" if row.repairs else "keep"})
