"""correct: turns captions and rewrites into the one simple prompt that CLIP trusts most, or rejects the pair."""

from __future__ import annotations

import numpy as np

from pipeline.build import Build
from pipeline.models import Models
from pipeline.score import embed_distinct
from schemas import Captioned, Corrected, Reason, Rewritten, Scored
from schemas.config import CorrectConfig


def correct(build: Build, part: int, settings: CorrectConfig, models: Models) -> list[Corrected]:
    """One partition's simple prompts.

    The candidate with the highest cosine to the image wins. The pair is rejected when that falls short of the
    complex prompt's own cosine by more than ``settings.tolerance``: the paper keeps a pair when its simple prompt
    fits the image at least as well as its complex prompt does, which is a tolerance of 0.
    """
    scored = build.read_rows("score", part, Scored)
    captioned = build.read_rows("caption", part, Captioned)
    rewritten = build.read_rows("rewrite", part, Rewritten)
    corrected = [Corrected(**row.verdict()) for row in scored]
    candidates = {
        at: _candidates(captioned[at].captions, rewritten[at].rewrites) for at, row in enumerate(scored) if row.kept
    }
    texts = [text for of_row in candidates.values() for text in of_row]
    vectors = iter(embed_distinct(models.clip, texts, settings.batch_size)) if texts else iter(())
    for at, of_row in candidates.items():
        image = np.asarray(scored[at].image_embedding, np.float32)
        scores = {text: float(image @ next(vectors)) for text in of_row}
        corrected[at] = _decide(corrected[at], of_row, scores, scored[at].clip_complex or 0.0, settings)
    return corrected


def _candidates(captions: list[str] | None, rewrites: list[str] | None) -> dict[str, str]:
    """Sentence -> method; the same sentence counts once, as a caption."""
    rewritten = dict.fromkeys(rewrites or (), "rewrite")
    return rewritten | {text[0].upper() + text[1:]: "caption" for text in captions or ()}


def _decide(
    row: Corrected, methods: dict[str, str], scores: dict[str, float], clip_complex: float, settings: CorrectConfig
) -> Corrected:
    if not scores:
        return row.model_copy(update={"clip_complex": clip_complex}).reject("correct", Reason.NO_CANDIDATE)
    ranked = sorted(scores, key=lambda text: (-scores[text], text))
    best = ranked[0]
    row = row.model_copy(
        update={
            "simple": best,
            "method": methods[best],
            "clip_simple": scores[best],
            "clip_complex": clip_complex,
            "candidates": ranked,
            "candidate_scores": [scores[text] for text in ranked],
        }
    )
    if scores[best] < clip_complex - settings.tolerance:
        return row.reject("correct", Reason.MISMATCH, f"simple {scores[best]:.3f}, complex {clip_complex:.3f}")
    return row
