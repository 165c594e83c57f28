"""The report: what it counts adds up, what it shows is found again, and nothing scraped gets out of its text."""

import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from surd.pipeline.build.folder import Build
from surd.pipeline.report.entries import choose
from surd.pipeline.report.funnel import funnel
from surd.pipeline.stages import STAGES
from surd.schemas import BuildConfig, BuildRecord, ColumnManifest, Corrected, Reason, Scored, Selected
from tests.pipeline.report.report_builds import HOSTILE, LOSSES, Page, key_of, make_page, write_build


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
    steps = funnel((stage.name for stage in STAGES if stage.row), verdicts)
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


def test_the_quality_of_the_samples_is_shown_where_it_was_measured(tmp_path: Path) -> None:
    build = write_build(tmp_path / "b", 9)
    without = make_page(build)
    rows = [Scored(key=row.key) for row in build.read_rows("select", 0, Selected)]
    build.write_rows("score", 0, Scored, rows)
    assert make_page(build) == without and "BRISQUE" not in without
    kept = [row.key for row in build.read_rows("select", 0, Selected) if row.kept]
    measured = {key: 20.0 + place for place, key in enumerate(kept)}
    rows = [row.model_copy(update={"brisque": measured.get(row.key, 99.0)}) for row in rows]
    build.write_rows("score", 0, Scored, rows)
    said = " ".join(Page(make_page(build)).text.split())
    assert f"What are the pictures like? BRISQUE median {20 + (len(kept) - 1) / 2:.1f}" in said, "of the kept ones"
    assert "CLIP-IQA" not in said


def test_a_column_made_from_images_names_neither_a_prompt_nor_a_layer(tmp_path: Path) -> None:
    build = write_build(tmp_path / "b", 4)
    column = ColumnManifest(
        column="latents", kind="latents", model="tiny", revision="r1", width=8, dtype="float16", count=3, shards=[],
    )  # fmt: skip
    build.write_json("columns/latents/manifest.json", column)
    row = next(line for line in make_page(build).splitlines() if ">latents</code>" in line)
    assert "<td>image</td>" in row and "None" not in row


def test_a_column_is_shown_with_its_whole_shape(tmp_path: Path) -> None:
    build = write_build(tmp_path / "b", 4)
    shapes = {"clip-simple": [77, 192], "llm-tokens": [None, 64], "latents": [4, 16, 16]}
    for name, shape in shapes.items():
        column = ColumnManifest(
            column=name, kind="latents", model="tiny", revision="r1", width=shape[-1] or 0, shape=shape,
            dtype="float16", count=3, shards=[],
        )  # fmt: skip
        build.write_json(f"columns/{name}/manifest.json", column)
    html = make_page(build)
    assert all(f"<td>{shape}</td>" in html for shape in ("77 × 192", "tokens × 64", "4 × 16 × 16"))


def test_reasons_stand_in_the_order_of_the_stages(page: Page) -> None:
    chips = [attrs["data-show"] for attrs in page.all("button") if "bad" in (attrs.get("class") or "")]
    assert chips == [reason.value for _, reason in LOSSES]


def test_a_rejected_pair_is_never_praised(tmp_path: Path) -> None:
    build = write_build(tmp_path / "b", 60)
    html = make_page(build)
    rejected = [card for card in html.split('<li class="card')[1:] if card.startswith(" out")]
    assert any('class="gain' in card for card in rejected), "some are rejected for their scores"
    assert not any("better" in card.split("</li>")[0] for card in rejected)
    assert '"best"' in html and ".candidates .chosen > :first-child::after" in html, "the tick is for what was taken"


def test_a_picture_is_never_shown_larger_than_it_is(page: Page, tmp_path: Path) -> None:
    css = (Path(__file__).parents[3] / "pipeline/report/templates/report.css.jinja").read_text()
    assert css.count("object-fit: scale-down") == 2 and "object-fit: contain" not in css
    build = write_build(tmp_path / "b", 4)
    large = {image["src"] for image in Page(make_page(build)).all("img", loading="lazy")}
    assert large == {image["src"] for image in Page(make_page(build, thumbnail=512)).all("img", loading="lazy")}


def test_the_name_of_what_unfolds_begins_with_what_is_seen(page: Page) -> None:
    assert page.all("summary") and not [attrs for attrs in page.all("summary") if "aria-label" in attrs]


def test_every_stage_of_the_funnel_says_what_it_does(page: Page) -> None:
    said = " ".join(page.text.split())
    for stage in ("safety what is not work-safe goes", "score CLIP looks at image and prompt"):
        assert stage.split()[0] in said and stage in re.sub(r" \d+", "", said)


def test_a_build_that_was_not_calibrated_or_corrected_has_neither_section(page: Page) -> None:
    ids = {attrs.get("id") for attrs in page.all("section")}
    assert "funnel" in ids and not ids & {"calibration", "correction"}
    assert not [link for link in page.all("a") if link.get("href") in ("#calibration", "#correction")]


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
