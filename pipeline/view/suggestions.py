"""What is worth a look, each a search one click away."""

from __future__ import annotations

from typing import Any

from surd.pipeline.view.queries import Queries

#: (what, why, search, order)
_LOOKS: tuple[tuple[str, str, str, str], ...] = (
    ("Sentences that fit worse than the prompt", "read them and edit or reject", "status:kept gain:<-0.03", "gain"),
    ("Perhaps not work-safe", "kept, but not far below the limit", "status:kept nsfw:>0.4", "nsfw-"),
    ("Kept without a licence", "decide whether they may be in the set", "status:kept licence:none", ""),
    ("Kept under a non-commercial licence", "leave them out of a set for other uses", 'status:kept licence:"NC"', ""),
    ("Small pictures", "a trainer at 512 pixels enlarges them", "status:kept short:<512", "short"),
    ("Very wide", "a square crop loses more than half of them", "status:kept aspect:>2", "aspect-"),
    ("Very tall", "a square crop loses more than half of them", "status:kept aspect:<0.5", "aspect"),
    ("Blurred", "the least sharp of what was kept", "status:kept sharpness:<40", "sharpness"),
    ("Grey", "pictures without colour", "status:kept colourfulness:<4", "colourfulness"),
    ("Blank or flat", "hardly any shades", "status:kept entropy:<3", "entropy"),
    ("Text in the picture", "captions, logos, signs", "status:kept text_area:>0.05", "text_area-"),
    ("Perhaps a watermark", "by LAION's detector", "status:kept watermark:>0.5", "watermark-"),
    ("Least liked", "by LAION's aesthetic score", "status:kept aesthetic:<4.5", "aesthetic"),
    ("Poor by BRISQUE", "noise, blocks or blur", "status:kept brisque:>60", "brisque-"),
    ("Long sentences", "a simple sentence has fewer than 40 words", "status:kept words:>40", "words-"),
    ("Prompts that CLIP reads cut off", "more than 77 tokens", "status:kept tokens:>77", "tokens-"),
    ("Repaired facts", "read the fact, before and after", "status:kept repairs:>0", ""),
    ("Rejected as a copy", "see whether the better twin was kept", "reason:duplicate_image", ""),
    ("Rejected as not fitting", "see whether the rule is too strict", "reason:mismatch", "score.simple-"),
    ("Just under the threshold", "approve those that fit", "reason:below_threshold", "score.simple-"),
    ("Decided by hand", "what you have done", "decision:any", ""),
)  # fmt: skip


def suggestions(queries: Queries) -> list[dict[str, Any]]:
    """Those of the suggestions that find a record, with how many they find."""
    found = [
        {"title": title, "why": why, "query": query, "sort": sort, "count": queries.count(query)}
        for title, why, query, sort in _LOOKS
    ]
    return [one for one in found if one["count"]]
