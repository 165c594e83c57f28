"""Every config field that a stage reads is one that it declares, so that its fingerprint knows all that decides it."""

import shutil
import types
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from surd.pipeline.build.folder import Build
from surd.pipeline.facts import closed_classes, llm_extractor, vocabulary
from surd.pipeline.metadata.comfyui import table as node_table
from surd.pipeline.models import Models
from surd.pipeline.prompts import words
from surd.pipeline.runner.plan import units
from surd.pipeline.sentences import caption_templates, lexicon, paraphrase, rewrite_template
from surd.pipeline.sources import open_source
from surd.pipeline.stages import BY_NAME, STAGES
from surd.schemas import BuildConfig
from tests.pipeline.finished_sets import authors_set

PIPELINE = Path(words.__file__).parents[1]


class Recorder:
    """Stands in for a config, or a section of one, and notes the dotted path of every field that is read."""

    def __init__(self, model: BaseModel, read: set[str], path: str = "") -> None:
        self._model, self._read, self._path = model, read, path

    def __getattr__(self, name: str) -> Any:
        kind = type(self._model)
        if name in kind.model_fields:
            value, path = getattr(self._model, name), f"{self._path}{name}"
            if isinstance(value, BaseModel):
                return Recorder(value, self._read, f"{path}.")
            self._read.add(path)
            return value
        if name == "ref":  # of ModelsConfig: the model that fills a role
            return lambda role: self._read.add(f"{self._path}{role}") or self._model.ref(role)
        if name == "model_copy":  # what is put in place of a field is the stage's own
            return lambda update: Recorder(self._model.model_copy(update=update), self._read, self._path)
        if name.startswith("model_"):
            self._read |= {f"{self._path}{field}" for field in kind.model_fields}
            return getattr(self._model, name)
        return types.MethodType(getattr(kind, name), self)


def undeclared(stage: str, read: set[str]) -> set[str]:
    also = BY_NAME[stage].also
    declared = (*BY_NAME[stage].config_fields, *(extra.field for extra in also))
    return {path for path in read if not any(f"{path}.".startswith(f"{field}.") for field in declared)}


def fields_read(stage: str, build: Build, config: BuildConfig) -> set[str]:
    """What a stage reads of the config, and its finish where it has one."""
    read: set[str] = set()
    recorder, models = Recorder(config, read), Models(config.models)
    function = BY_NAME[stage].load()
    collected = build.marker("collect", 0)
    assert collected
    if BY_NAME[stage].scope in ("partition", "shard"):
        for unit in range(units(BY_NAME[stage], build)):
            function(build, unit, recorder, models)
    else:
        list(function(build, recorder, models))
        build.write_marker(collected)  # collect takes it back, and whoever runs the stage writes another
    if BY_NAME[stage].finishes:
        BY_NAME[stage].load_finish()(build, recorder, models)
    return read


@pytest.fixture(scope="module")
def copy(built, tmp_path_factory) -> Build:
    root = tmp_path_factory.mktemp("copy") / "build"
    shutil.copytree(built.root, root)
    shutil.rmtree(root / "columns")  # else the columns are kept, and hardly anything is read
    for marker in (root / "embed").rglob("ledger"):
        shutil.rmtree(marker)
    return Build(str(root))


@pytest.mark.parametrize("stage", [stage.name for stage in STAGES])
def test_a_stage_reads_no_field_that_it_does_not_declare(built, copy, stage):
    read = fields_read(stage, copy, built.config)
    assert read
    assert undeclared(stage, read) == set()


def test_the_recorder_would_notice(built, copy):
    read: set[str] = set()
    recorder: Any = Recorder(built.config, read)
    assert recorder.fetch.max_pixels == built.config.fetch.max_pixels and recorder.models.ref("llm")
    recorder.urls.model_dump()
    assert {"fetch.max_pixels", "models.llm", "urls.url_column"} <= read
    assert undeclared("decode", read) >= {"models.llm", "urls.url_column"}
    assert "fetch.max_pixels" not in undeclared("decode", read)


@pytest.mark.parametrize(
    "kind", ["gallery", "civitai", "lexica", "folder", "urls", "img2dataset", "huggingface", "finished"]
)
def test_fetch_reads_only_its_own_fields_whatever_the_source(kind, tmp_path):
    (tmp_path / "list.csv").write_text("url,prompt\nhttp://127.0.0.1:9/a.png,a cat\n")
    folder = authors_set(tmp_path / "SURD")
    source = {
        "gallery": "gallery:http://127.0.0.1:9/api",
        "civitai": "civitai:images?sort=Newest",
        "lexica": "lexica:cats",
        "urls": f"urls:{tmp_path / 'list.csv'}",
        "finished": f"finished:authors:{folder}",
    }.get(kind, f"{kind}:{folder}")
    read: set[str] = set()
    with open_source(Recorder(BuildConfig(source=source), read)) as opened:  # type: ignore[arg-type]
        for url in ("http://127.0.0.1:9/a.png", "/a.png", "train/a.png"):
            try:
                opened.location(url)
            except (ValueError, OSError):
                continue
    assert undeclared("fetch", read) == set()


def test_the_data_files_of_a_stage_are_those_that_its_modules_read():
    shipped = {f"{entry.rpartition(':')[2]}" for stage in STAGES for entry in stage.data_files}
    read = {*node_table.FILES, words.WORDS_FILE, lexicon.DEFAULT, paraphrase.DEFAULT, rewrite_template.DEFAULT}
    read |= {
        caption_templates.DEFAULT,
        llm_extractor.DEFAULT,
        vocabulary.VOCABULARY_FILE,
        closed_classes.CLOSED_CLASSES_FILE,
    }
    assert {str(path.relative_to(PIPELINE)) for path in read} == shipped
