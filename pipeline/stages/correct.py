"""correct: turns captions, rewrites and their fusions into one simple prompt whose facts CLIP believes, or rejects."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np

from surd.pipeline.build.folder import Build
from surd.pipeline.build.rows import StageRows
from surd.pipeline.models import Models
from surd.pipeline.models.clip import FloatArray
from surd.pipeline.sentences.fact_check import Checked, FactChecker, surely_better
from surd.pipeline.sentences.fusion import fusions
from surd.pipeline.sentences.lexicon import Lexicon, read_lexicon
from surd.pipeline.sentences.paraphrase import read_wordings
from surd.schemas import BuildConfig, Captioned, Corrected, Reason, Rewritten, Scored
from surd.schemas.config import CorrectConfig


@dataclass
class Draft:
    """The candidates of one pair, and what is known of them; ``vectors`` are their CLIP embeddings."""

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
        """The caption nearest to the image; another candidate only where it is nearer by more than ``margin``, for a
        caption was made from the picture and the others were not."""
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
    complex prompt. With ``correct.vary``, what is kept is then worded another way.
    """
    settings = config.correct
    scored = build.read_rows("score", part, Scored)
    corrected = StageRows(Corrected, scored).rows
    drafts = _drafts(build, part, scored)
    told = {at: draft for at, draft in drafts.items() if draft.methods}
    _embed(models, settings, list(told.values()))
    lexicon = read_lexicon(settings.lexicon)
    margin = surely_better(settings, models) if settings.rule == "facts" else 0.0
    if settings.rule == "facts" and settings.fuse:
        _fuse(models, settings, list(told.values()), lexicon, margin)
    checker = FactChecker(models, settings, lexicon)
    asked = [(draft, sentence) for draft in told.values() for sentence in draft.finalists()]
    checked = iter(checker.check([(sentence, draft.image, draft.complex_vector) for draft, sentence in asked]))
    for at, draft in drafts.items():
        if at in told:
            outcomes = [(sentence, next(checked)) for sentence in draft.finalists()]
            corrected[at] = _decide(_settled(corrected[at], draft, outcomes, margin), settings)
        else:
            row = corrected[at].model_copy(update={"clip_complex": draft.clip_complex, "decision": "reject"})
            corrected[at] = row.reject("correct", Reason.NO_CANDIDATE)
    if settings.rule == "facts" and settings.vary:
        _vary(models, settings, corrected, told, lexicon, margin)
    return corrected


def _drafts(build: Build, part: int, scored: list[Scored]) -> dict[int, Draft]:
    """Place in the partition -> draft, for the rows that are kept."""
    captioned = build.read_rows("caption", part, Captioned)
    rewritten = build.read_rows("rewrite", part, Rewritten)
    return {
        at: Draft(
            np.asarray(row.image_embedding, np.float32),
            np.asarray(row.complex_embedding, np.float32),
            row.clip_complex or 0.0,
            _candidates(captioned[at].captions, rewritten[at].rewrites),
        )
        for at, row in enumerate(scored)
        if row.kept
    }


def _candidates(captions: list[str] | None, rewrites: list[str] | None) -> dict[str, str]:
    """Sentence -> method; the same sentence counts once, as a caption."""
    rewritten = dict.fromkeys(rewrites or (), "rewrite")
    return rewritten | {_sentence(text): "caption" for text in captions or ()}


def _sentence(text: str) -> str:
    text = text[0].upper() + text[1:]
    return text if text[-1] in ".!?" else f"{text}."


def _embed(models: Models, settings: CorrectConfig, drafts: list[Draft]) -> None:
    """Embeds the candidates that have no vector yet."""
    texts = [text for draft in drafts for text in draft.methods if text not in draft.vectors]
    if texts:
        vectors = iter(models.clip.embed_distinct(texts, settings.batch_size))
        for draft in drafts:
            draft.vectors |= {text: next(vectors) for text in draft.methods if text not in draft.vectors}


def _fuse(
    models: Models, settings: CorrectConfig, drafts: list[Draft], lexicon: Lexicon, margin: float
) -> None:  # fmt: skip
    """Adds what the LLM makes of the best caption and another candidate that states a group of facts it leaves out."""
    asked = []
    for draft in drafts:
        best = draft.best(margin)
        known = {fact.group for fact in lexicon.facts(best)}
        others = [text for text in draft.methods if {fact.group for fact in lexicon.facts(text)} - known]
        if others:
            asked.append((draft, best, max(others, key=lambda text: (draft.score(text), text))))
    for (draft, _, _), fused in zip(asked, fusions(models.llm, [(a, b) for _, a, b in asked]), strict=True):
        if fused:
            draft.methods.setdefault(fused, "fusion")
    _embed(models, settings, [draft for draft, _, _ in asked])


def _vary(
    models: Models, settings: CorrectConfig, rows: list[Corrected], drafts: dict[int, Draft], lexicon: Lexicon,
    margin: float,
) -> None:  # fmt: skip
    """Words the simple prompts of kept rows another way, each as its key decides, but where CLIP is sure that the
    picture was told better before."""
    wordings = read_wordings(settings.wordings)
    said = {
        at: wordings.reword(row.simple, lexicon, random.Random(row.key))
        for at, row in enumerate(rows)
        if row.kept and row.simple and at in drafts
    }
    for at, sentence in said.items():
        drafts[at].methods.setdefault(sentence, str(rows[at].method))
    _embed(models, settings, [drafts[at] for at in said])
    for at, sentence in said.items():
        row, draft = rows[at], drafts[at]
        if sentence != row.simple and draft.score(sentence) >= draft.score(str(row.simple)) - margin:
            rows[at] = row.model_copy(update={"worded_from": row.simple} | _columns(draft, sentence))


def _settled(row: Corrected, draft: Draft, outcomes: list[tuple[str, Checked]], margin: float) -> Corrected:
    """The row with the better of its checked finalists; the first, a caption, wherever CLIP is not sure."""
    (before, outcome), *others = outcomes
    if others and others[0][1].score > outcome.score + margin:
        before, outcome = others[0]
    draft.methods.setdefault(outcome.sentence, draft.methods[before])
    draft.vectors[outcome.sentence] = outcome.vector
    found = {
        "before": before if outcome.repairs else None,
        "repairs": outcome.repairs,
        "facts_checked": outcome.facts_checked,
    }
    return row.model_copy(update=found | _columns(draft, outcome.sentence))


def _columns(draft: Draft, simple: str) -> dict[str, object]:
    ranked = draft.ranked()
    text_scores = {sentence: float(draft.complex_vector @ draft.vectors[sentence]) for sentence in ranked}
    return {
        "simple": simple,
        "method": draft.methods[simple],
        "clip_simple": draft.score(simple),
        "clip_complex": draft.clip_complex,
        "text_simple": text_scores[simple],
        "simple_embedding": draft.vectors[simple].tolist(),
        "candidates": ranked,
        "candidate_scores": [draft.score(sentence) for sentence in ranked],
        "candidate_text_scores": list(text_scores.values()),
    }


def _decide(row: Corrected, settings: CorrectConfig) -> Corrected:
    assert row.clip_simple is not None and row.clip_complex is not None
    tolerance = settings.tolerance if settings.rule == "facts" else 0.0
    if row.clip_simple < row.clip_complex - tolerance:
        row = row.model_copy(update={"decision": "reject"})
        return row.reject("correct", Reason.MISMATCH, f"simple {row.clip_simple:.3f}, complex {row.clip_complex:.3f}")
    return row.model_copy(update={"decision": "repair" if row.repairs else "keep"})
