"""What a build knows of each record of a partition, joined over its stages: the score table."""

from __future__ import annotations

from typing import Any

from surd.pipeline.build.damage import DamagedFile
from surd.pipeline.build.folder import Build, part_file
from surd.pipeline.build.part_columns import columns_of, read_columns
from surd.schemas import Scored

#: Stage -> its columns of the table. Of one name in two stages the later one counts, where it has a value.
COLUMNS = {
    "collect": ("source", "source_id", "url", "page_url", "author", "licence", "terms", "nsfw_level", "created_at"),
    "fetch": ("prompt", "negative_prompt", "tool", "models", "sha256", "ext", "size", "width", "height"),
    "clean": ("complex", "keywords", "loras", "language", "clip_tokens"),
    "safety": ("nsfw_image", "nsfw_text"),
    "score": ("sharpness", *Scored.only_if_measured),
    "correct": ("simple", "method", "clip_simple", "clip_complex", "text_simple"),
}
_VERDICT = ("key", "status", "reason", "rejected_by", "detail")


def record_rows(build: Build, part: int, verdicts_of: str = "correct") -> list[dict[str, Any]]:
    """A row for each record of a partition, in order: the columns of all stages, with the verdict of one of them.

    A column that the build has not is null. Embeddings are left out. Raises SurdError where a file is damaged.
    """
    rows: list[dict[str, Any]] = read_columns(build, verdicts_of, part, list(_VERDICT)).to_pylist()
    for stage, names in COLUMNS.items():
        present = set(columns_of(build, stage, part)) if build.exists(part_file(stage, part)) else set()
        columns = [name for name in names if name in present]
        values = read_columns(build, stage, part, ["key", *columns]).to_pylist() if columns else []
        if values and [value["key"] for value in values] != [row["key"] for row in rows]:
            raise DamagedFile(build, part_file(stage, part), f"has other records than {part_file(verdicts_of, part)}")
        for row, of_stage in zip(rows, values or [{}] * len(rows), strict=True):
            row |= {name: of_stage.get(name) for name in names}
    return rows
