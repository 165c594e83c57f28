"""Commands with missing or other flags, in a working folder full of finished work: none of its bytes change."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from surd.flows.cli.main import main
from surd.flows.import_dataset import Import, import_dataset
from surd.flows.listener import SILENT
from surd.pipeline.build.folder import Build
from surd.pipeline.build.lock import LOCK
from surd.pipeline.dataset.export import export
from surd.pipeline.selection.compare import reselect, write_selection

SHARDS = "data/demo/shards/surd-{00000..00000}.tar"


@pytest.fixture(scope="module")
def finished(built, tmp_path_factory) -> Path:
    """A working folder with a build under the default name, an import, exports, a selection, an adapter and results."""
    work = tmp_path_factory.mktemp("finished")
    shutil.copytree(built[0], work / "data" / "demo")
    shutil.copytree(built[0], work / "mine")
    build = Build(str(work / "mine"))
    for layout in ("imagefolder", "img2dataset"):
        export(build, layout, Build(str(work / layout)))
    import_dataset(Import(layout=f"imagefolder:{work}/imagefolder", out=str(work / "taken"), fields={}), SILENT)
    with reselect(str(work / "mine"), {}) as selection:
        write_selection(selection, str(work / "chosen.parquet"))
    for name, document in {
        "adapter/config.json": {"_class_name": "SURAdapter"},
        "adapter/log.json": [],
        "foreign/config.json": {"_class_name": "UNet2DConditionModel"},
        "eval/run.json": {"steps": 20},
        "eval/result.json": {},
        "old-eval/result.json": {},
    }.items():
        Build(str(work)).write_bytes(name, json.dumps(document).encode())
    (work / "grid.png").write_bytes(b"a picture")
    (work / "grid-00.png").write_bytes(b"a picture")
    (work / "photos").mkdir()
    (work / "other.yaml").write_text("demo: {count: 3}\n")
    (work / "dataset").mkdir()
    shutil.copytree(work / "mine" / "shards", work / "dataset" / "shards")
    return work


def files(work: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in work.rglob("*") if path.is_file() and path.name != LOCK}


COMMANDS = [
    "surd build --source folder:photos",
    "surd build --source folder:photos --profile demo",
    "surd build --profile small",
    "surd build --source urls:list.csv --limit 3",
    "surd build --config other.yaml --source demo --out mine",
    "surd build --out mine --source demo",
    "surd build --out mine --source folder:photos",
    "surd build --out mine --source huggingface:photos",
    "surd build --out mine/ --source folder:./photos/../photos",
    "surd build --out mine --profile small",
    "surd build --out mine --profile other.yaml",
    "surd build --out mine --param source=demo",
    "surd build --out taken",
    "surd build --out taken --param select.min_clip_simple=0.2",
    "surd build --out taken --source demo",
    "surd build --out taken --source folder:photos --limit 2",
    "surd build --out dataset",
    "surd build --out dataset --source folder:photos",
    "surd build --out mine --param select.min_clip_simple=1.5",
    "surd build --out mine --param models.clip=no/such/model",
    "surd demo --out mine",
    "surd demo --out taken --steps 3",
    "surd import imagefolder:imagefolder --out mine",
    "surd import imagefolder:imagefolder --out data/demo",
    "surd import img2dataset:img2dataset --out taken",
    "surd import imagefolder:imagefolder --out dataset",
    "surd import imagefolder:photos --out taken",
    "surd export mine --to imagefolder --out imagefolder",
    "surd export mine --to parquet --out imagefolder",
    "surd export mine --to img2dataset --out img2dataset",
    "surd export mine --to img2dataset --out mine",
    "surd export mine --to parquet --out mine --overwrite",
    "surd export mine --to parquet --out . --overwrite",
    "surd select mine --param select.min_clip_simple=0.9 --out chosen.parquet",
    "surd select mine --out mine/selection.parquet",
    "surd select data/demo --param select.max_similarity=0.1 --out chosen.parquet",
    f"sur-train --shards {SHARDS} --out adapter --steps 1",
    f"sur-train --shards {SHARDS} --out adapter --no-resume",
    f"sur-train --shards {SHARDS} --out foreign --steps 1",
    f"sur-train --shards {SHARDS} --out adapter --steps 1 --lr 0.1",
    "sur-generate --adapter adapter --prompt fox --out grid.png",
    "sur-generate --adapter adapter --prompt fox --prompt crow --out grid.png",
    "sur-generate --adapter adapter --prompt fox --compare --out grid.png",
    "sur-generate --adapter adapter --prompt fox --out eval",
    "sur-eval --prompts list.jsonl --adapter adapter --out eval",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_byte_of_finished_work_changes(finished, command, monkeypatch, capsys):
    from sur_adapter.cli import evaluate, generate, train

    program, *arguments = command.split()
    run = {"surd": main, "sur-train": train.main, "sur-generate": generate.main, "sur-eval": evaluate.main}[program]
    monkeypatch.chdir(finished)
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    before = files(finished)
    with pytest.raises(SystemExit) as ended:
        run()
    *notes, error = capsys.readouterr().err.strip().split("\n")
    assert ended.value.code == 2 and error.startswith("error: "), error
    assert all(note.startswith("note: ") for note in notes)
    assert files(finished) == before
