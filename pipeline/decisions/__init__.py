"""What persons decided about records: ``decisions.jsonl`` beside the build, which every later run obeys."""

from surd.pipeline.decisions.log import append, read

__all__ = ["append", "read"]
