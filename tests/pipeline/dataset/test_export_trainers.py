"""What a trainer opens: each finds every picture with its captions by its own config file, as it is written.

``webshart`` reads its index itself. The other trainers cannot be installed beside surd, so their readers stand here in
a few lines each, as their documentation and sources describe them.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import tomllib
from pathlib import Path

import pytest
import yaml

from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.export import LAYOUTS, TRAINERS, export
from surd.pipeline.dataset.export.caption_lines import caption_lines, with_trigger, without_named_caption
from surd.pipeline.dataset.export.options import TrainerOptions
from surd.pipeline.dataset.reader import StoredSample, read_manifest, read_scores, read_shard
from surd.pipeline.forget.exports import check_export, export_again
from surd.pipeline.sources import open_source
from surd.schemas import BuildConfig, SurdError
from tests.pipeline.finished_sets import authors_set, files, imported, other_json, restate, rewrite

FOLDERS = tuple(name for name in TRAINERS if name != "webshart")
DRAWING = ("kohya", "onetrainer", "simpletuner", "webshart")
WHOLE = tuple(name for name in TRAINERS if name not in DRAWING)
SHARD = "shards/surd-00000.tar"
NASTY = 'a {red|blue} "fox", \\ é «9»'


@pytest.fixture(scope="module")
def build(tmp_path_factory) -> Path:
    """Twelve samples in three shards, some with several captions and texts that a config or a reader may trip over."""
    root = tmp_path_factory.mktemp("trainers")
    surd = authors_set(root / "SURD")
    path = surd / "train" / "metadata.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number, row in enumerate(rows):
        row["prompt"] = f"{NASTY}\nand, {number}\r\n\u20288k"
        if number % 3:
            captions = [("short", f"Fox {number}."), ("long", f"A fox sits in a wood, number {number}.")]
            row["captions_json"] = json.dumps([{"name": name, "text": text} for name, text in captions])
    path.write_text("\n".join(map(json.dumps, rows)))
    imported(f"authors:{surd}", root / "build", pooling=None)
    return root / "build"


def samples(build: Path) -> list[StoredSample]:
    opened = Build(str(build))
    scores = read_scores(opened)
    return [one for shard in read_manifest(opened).shards for one in read_shard(opened, shard, scores)]


def exported(build: Path, trainer: str, out: Path, **options) -> Path:
    assert export(Build(str(build)), trainer, Build(str(out)), options=TrainerOptions(**options)) == 12
    return out


Found = dict[str, tuple[bytes, set[str]]]
"""Key -> the picture's bytes, and every caption that the trainer may show with it."""


def pictures(folder: str) -> list[Path]:
    return sorted(path for path in Path(folder).iterdir() if path.suffix in (".png", ".jpg", ".jpeg", ".webp"))


def by_kohya(out: Path) -> Found:
    """config_util.py, DreamBoothDataset.read_caption and process_caption of sd-scripts."""
    config = tomllib.loads((out / "dataset.toml").read_text())
    assert config["datasets"][0]["resolution"] and config["datasets"][0]["enable_bucket"]
    (subset,) = config["datasets"][0]["subsets"]
    found = {}
    for path in pictures(subset["image_dir"]):
        lines = path.with_suffix(subset["caption_extension"]).read_text("utf-8").splitlines()
        assert lines
        if not subset.get("enable_wildcard", False):
            found[path.stem] = path.read_bytes(), {lines[0].strip()}
            continue
        drawn = set()
        for line in lines:
            line = line.strip().replace("{{", "⦅").replace("}}", "⦆")
            line = re.sub(r"\{([^}]+)\}", lambda match: random.choice(match[1].split("|")), line)
            drawn.add(line.replace("⦅", "{").replace("⦆", "}"))
        found[path.stem] = path.read_bytes(), drawn
    return found


def by_musubi(out: Path) -> Found:
    """ImageDirectoryDatasource of musubi-tuner: only pictures with a caption file, all of which is one caption."""
    config = tomllib.loads((out / "dataset.toml").read_text())
    (dataset,) = config["datasets"]
    assert dataset["cache_directory"] != dataset["image_directory"] and len(config["general"]["resolution"]) == 2
    suffix = config["general"]["caption_extension"]
    return {
        path.stem: (path.read_bytes(), {path.with_suffix(suffix).read_text("utf-8").strip()})
        for path in pictures(dataset["image_directory"])
        if path.with_suffix(suffix).exists()
    }


def by_onetrainer(out: Path) -> Found:
    """TrainConfig and ConceptConfig of OneTrainer, CollectPaths, LoadMultipleTexts and SelectRandomText of mgds."""
    config = json.loads((out / "config.json").read_text())
    (concept,) = json.loads(Path(config["concept_file_name"]).read_text())
    assert concept["enabled"] and concept["type"] == "STANDARD" and concept["text"]["prompt_source"] == "sample"
    found = {}
    for path in pictures(concept["path"]):
        assert not path.stem.endswith(("-masklabel", "-condlabel"))
        lines = [line.strip() for line in path.with_suffix(".txt").read_text("utf-8").splitlines()]
        found[path.stem] = path.read_bytes(), {line for line in lines if line}
    assert concept["text_variations"] == max(len(lines) for _, lines in found.values())
    return found


def by_ai_toolkit(out: Path) -> Found:
    """get_config and CaptionProcessingDTOMixin of ai-toolkit: the whole file is one caption."""
    text = (out / "config.yaml").read_text()
    assert "${" not in text and "[name]" not in text
    config = yaml.safe_load(text)
    assert config["job"] == "extension" and config["config"]["name"]
    (process,) = config["config"]["process"]
    (dataset,) = process["datasets"]
    return {
        path.stem: (path.read_bytes(), {path.with_suffix("." + dataset["caption_ext"]).read_text("utf-8")})
        for path in pictures(dataset["folder_path"])
    }


def by_simpletuner(out: Path) -> Found:
    """prepare_instance_prompt_from_textfile of SimpleTuner: a file with line ends is a list of captions."""
    images, texts = json.loads((out / "multidatabackend.json").read_text())
    assert texts["dataset_type"] == "text_embeds" and texts["default"] and texts["id"] != images["id"]
    assert images["caption_strategy"] == "textfile" and images["type"] == "local"
    found = {}
    for path in pictures(images["instance_data_dir"]):
        text = path.with_suffix(".txt").read_bytes().decode()
        found[path.stem] = path.read_bytes(), {line for line in text.split("\n") if line}
    return found


def by_webshart(out: Path) -> Found:
    """The library itself, given what the SimpleTuner config beside the index names."""
    webshart = pytest.importorskip("webshart")
    backend = json.loads((out / "multidatabackend.json").read_text())[0]
    assert backend["type"] == backend["caption_strategy"] == backend["metadata_backend"] == "webshart"
    dataset = webshart.discover_dataset(backend["source"], metadata=backend["metadata"])
    loader = webshart.TarDataLoader(dataset)
    found = {}
    for shard in range(dataset.num_shards):
        for at in range(dataset.get_shard_sample_count(shard)):
            entry = loader.load_sample(shard, at)
            captions = [entry.captions] if isinstance(entry.captions, str) else entry.captions
            found[entry.path.partition(".")[0]] = bytes(entry.data), set(captions)
    return found


READERS = {
    "kohya": by_kohya,
    "onetrainer": by_onetrainer,
    "ai-toolkit": by_ai_toolkit,
    "simpletuner": by_simpletuner,
    "musubi": by_musubi,
    "webshart": by_webshart,
}


def one_line(text: str) -> str:
    return re.sub("[\n\r\u2028]+", " ", text)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_each_trainer_finds_every_picture_with_its_caption_and_the_trigger(build, tmp_path, trainer):
    found = READERS[trainer](exported(build, trainer, tmp_path / "my set", trigger="sks"))
    expected = {one.sample.key: (one.image, {f"sks, {one.sample.simple}"}) for one in samples(build)}
    assert found == expected and len(found) == 12


@pytest.mark.parametrize("trainer", DRAWING)
def test_a_trainer_that_draws_a_line_may_show_each_of_several_captions(build, tmp_path, trainer):
    both = READERS[trainer](exported(build, trainer, tmp_path / "both", caption="both"))
    every = READERS[trainer](exported(build, trainer, tmp_path / "mixed", caption="mixed"))
    for one in samples(build):
        assert both[one.sample.key][1] == {one.sample.simple, one_line(one.sample.complex)}
        assert every[one.sample.key][1] == {one.sample.simple, *(caption.text for caption in one.captions)}


def test_braces_are_doubled_only_where_kohya_reads_them_as_a_choice(tmp_path):
    """Also where no picture happens to have a second caption."""
    root = authors_set(tmp_path / "SURD", 3)
    path = root / "train" / "metadata.jsonl"
    rows = [json.loads(line) | {"text": NASTY, "prompt": NASTY} for line in path.read_text().splitlines()]
    path.write_text("\n".join(map(json.dumps, rows)))
    imported(f"authors:{root}", tmp_path / "build", pooling=None)
    for caption, written in (("both", NASTY.replace("{", "{{").replace("}", "}}")), ("complex", NASTY)):
        out = tmp_path / caption
        export(Build(str(tmp_path / "build")), "kohya", Build(str(out)), options=TrainerOptions(caption=caption))
        assert {path.read_text() for path in (out / "images").glob("*.txt")} == {written}
        assert all(captions == {NASTY} for _, captions in by_kohya(out).values())


@pytest.mark.parametrize("trainer", WHOLE)
def test_a_trainer_that_takes_a_whole_file_for_one_caption_gets_no_several_lines(build, tmp_path, trainer):
    with pytest.raises(SurdError, match=f"--caption is 'both': {trainer} takes all lines of a caption file for one"):
        export(Build(str(build)), trainer, Build(str(tmp_path / "out")), options=TrainerOptions(caption="both"))
    assert not (tmp_path / "out").exists()
    found = READERS[trainer](exported(build, trainer, tmp_path / "out", caption="complex"))
    assert all(found[one.sample.key][1] == {one_line(one.sample.complex)} for one in samples(build))


def test_a_named_caption_is_taken_where_a_sample_has_it_and_said_where_none_has(build, tmp_path):
    found = by_musubi(exported(build, "musubi", tmp_path / "out", caption="long"))
    for one in samples(build):
        longest = next((caption.text for caption in one.captions if caption.name == "long"), one.sample.simple)
        assert found[one.sample.key][1] == {longest}
    opened = Build(str(build))
    assert without_named_caption(opened, TrainerOptions(caption="long")) == 4
    assert without_named_caption(opened, TrainerOptions(caption="mixed")) == 0
    with pytest.raises(SurdError, match="--caption is 'tags', but captions are called long, short; give one"):
        without_named_caption(opened, TrainerOptions(caption="tags"))


def test_a_trigger_stands_once_before_a_caption_and_only_as_a_whole_word():
    assert with_trigger("a fox", "sks") == "sks, a fox"
    assert with_trigger("a sks fox", "sks") == "a sks fox"
    assert with_trigger("asks a fox", "sks") == "sks, asks a fox"
    assert with_trigger("a fox", None) == "a fox"


def test_no_line_of_a_caption_file_is_empty_or_twice(build):
    one = samples(build)[0]
    blank = StoredSample(one.sample.model_copy(update={"complex": " \n ", "simple": "a fox"}), {}, b"")
    assert caption_lines(blank, TrainerOptions(caption="complex")) == ["a fox"]
    same = StoredSample(one.sample.model_copy(update={"complex": "a fox\n", "simple": "a fox"}), {}, b"")
    assert caption_lines(same, TrainerOptions(caption="both")) == ["a fox"]
    empty = StoredSample(one.sample.model_copy(update={"complex": "\n", "simple": " "}), {}, b"")
    with pytest.raises(SurdError, match="the sample has no text"):
        caption_lines(empty, TrainerOptions())


@pytest.mark.parametrize("trainer", FOLDERS)
def test_the_config_of_a_folder_with_an_odd_path_still_leads_to_it(build, tmp_path, trainer):
    out = tmp_path / 'an "odd" \\n [path] é {x}\t#'
    assert len(READERS[trainer](exported(build, trainer, out))) == 12


def test_a_path_that_ai_toolkit_would_change_is_refused(build, tmp_path):
    for name in ("${HOME}", "[name]"):
        with pytest.raises(SurdError, match="ai-toolkit replaces"):
            exported(build, "ai-toolkit", tmp_path / name)
        assert not (tmp_path / name).exists()


def test_a_trainer_elsewhere_is_told_where_it_finds_the_folder(build, tmp_path):
    out = exported(build, "kohya", tmp_path / "out", root="/data/foxes", resolution=512)
    config = tomllib.loads((out / "dataset.toml").read_text())
    assert config["datasets"][0]["resolution"] == 512
    assert config["datasets"][0]["subsets"][0]["image_dir"] == "/data/foxes/images"


@pytest.mark.parametrize("trainer", TRAINERS)
def test_the_same_dataset_gives_the_same_bytes_and_is_replaced_with_the_trainers_cache(build, tmp_path, trainer):
    out = exported(build, trainer, tmp_path / "out")
    before = files(out)
    (out / "cache").mkdir()
    (out / "cache" / "latents.npz").write_bytes(b"of pictures that are gone")
    with pytest.raises(SurdError, match="to replace an export, give --overwrite"):
        exported(build, trainer, out)
    export(Build(str(build)), trainer, Build(str(out)), overwrite=True)
    assert files(out) == before
    (out / "mine.txt").write_text("mine")
    with pytest.raises(SurdError, match="holds more than an export"):
        export(Build(str(build)), "parquet", Build(str(out)), overwrite=True)


def test_a_folder_of_pictures_that_no_export_wrote_is_not_replaced(build, tmp_path):
    (tmp_path / "out" / "images").mkdir(parents=True)
    (tmp_path / "out" / "images" / "mine.png").write_bytes(b"mine")
    for record in (None, b"{}"):
        if record:
            (tmp_path / "out" / "export.json").write_bytes(record)
        with pytest.raises(SurdError, match="holds more than an export"):
            export(Build(str(build)), "kohya", Build(str(tmp_path / "out")), overwrite=True)
    assert (tmp_path / "out" / "images" / "mine.png").exists()


def test_an_export_that_is_stopped_leaves_nothing_or_the_earlier_one(build, tmp_path):
    def stopped(count):
        raise KeyboardInterrupt

    out = Build(str(tmp_path / "out"))
    with pytest.raises(KeyboardInterrupt):
        export(Build(str(build)), "kohya", out, stopped)
    assert not list(tmp_path.iterdir())
    before = files(exported(build, "simpletuner", tmp_path / "out"))
    with pytest.raises(KeyboardInterrupt):
        export(Build(str(build)), "kohya", out, stopped, overwrite=True)
    assert files(tmp_path / "out") == before and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_key_that_is_no_key_becomes_no_file_name(build, tmp_path):
    shutil.copytree(build, tmp_path / "build")

    def renamed(members):
        members = other_json(key="..\\x")(members)
        for info, _ in members[:4]:
            info.name = "..\\x." + info.name.partition(".")[2]
        return members

    rewrite(tmp_path / "build" / SHARD, renamed)
    restate(tmp_path / "build" / "shards")
    for trainer in ("kohya", "webshart"):
        with pytest.raises(SurdError, match=r"leads out of the folder|not 16 hex digits|is incomplete"):
            export(Build(str(tmp_path / "build")), trainer, Build(str(tmp_path / "out")))
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layout", [*LAYOUTS, "kohya", "webshart"])
def test_a_sample_that_must_not_leave_is_in_no_export(build, tmp_path, layout):
    gone = samples(build)[3].sample
    count = export(Build(str(build)), layout, Build(str(tmp_path / "out")), keeps=lambda one: one.key != gone.key)
    assert count == 11
    assert all(gone.key.encode() not in name.encode() + data for name, data in files(tmp_path / "out").items())


@pytest.mark.parametrize("trainer", ["kohya", "webshart"])
def test_a_removal_makes_an_export_again_as_it_was_chosen(build, tmp_path, trainer):
    out = exported(build, trainer, tmp_path / "out", caption="both", trigger="sks")
    made = check_export(Build(str(build)), str(out))
    assert made.layout == trainer and made.options.caption == "both"
    before = files(out)
    export_again(Build(str(build)), made)
    assert files(out) == before
    key = samples(build)[0].sample.key
    if trainer == "kohya":
        (out / "images" / "mine.png").write_bytes(b"mine")
    else:
        index = out / "surd-00000.json"
        index.write_text(index.read_text().replace(key, "0" * 16))
    with pytest.raises(SurdError, match=r"that '.*' does not know"):
        check_export(Build(str(build)), str(out))


@pytest.mark.parametrize("trainer", FOLDERS)
def test_an_export_is_a_source_of_pictures_with_their_prompts(build, tmp_path, trainer):
    out = exported(build, trainer, tmp_path / "out", caption="complex")
    with open_source(BuildConfig(source=f"folder:{out / 'images'}")) as source:
        records = source.page(None).records
        for record in records:
            source.location(record.url).read_bytes()
    expected = {one.file_name: one_line(one.sample.complex) for one in samples(build)}
    assert {record.source_id: record.prompt for record in records} == expected
    assert all(record.kept and record.detail is None for record in records)


def test_an_index_copies_no_picture(build, tmp_path):
    out = exported(build, "webshart", tmp_path / "out")
    tar = (build / SHARD).read_bytes()
    index = json.loads((out / "surd-00000.json").read_text())
    assert (index["filesize"], index["hash"]) == (len(tar), hashlib.sha256(tar).hexdigest())
    for entry in index["files"].values():
        data = tar[entry["offset"] :][: entry["length"]]
        assert hashlib.sha256(data).hexdigest() == entry["sha256"] and (entry["width"], entry["height"]) == (32, 24)
    assert sum(len(data) for data in files(out).values()) < len(tar) / 2


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"trigger": "a\nb"}, r"--trigger is 'a\\nb': give one line of printable text"),
        ({"resolution": 3}, "--resolution is 3: .*greater than or equal to 64"),
        ({"root": " "}, "--root is ' ': give one line"),
    ],
)
def test_a_flag_that_is_not_valid_is_told(given, sentence):
    with pytest.raises(SurdError, match=sentence):
        TrainerOptions.given(**given)


def test_the_flags_of_captions_are_not_for_layouts_that_hold_every_text(build, tmp_path):
    with pytest.raises(SurdError, match=r"--to is 'parquet', .*flags of captions are of kohya"):
        export(Build(str(build)), "parquet", Build(str(tmp_path / "out")), options=TrainerOptions())
