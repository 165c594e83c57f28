"""Nothing scraped becomes markup, a script or a request, in whichever field it comes."""

from __future__ import annotations

from pathlib import Path

import pytest

from surd.pipeline.build.folder import Build
from surd.schemas import (
    BuildRecord,
    Captioned,
    Cleaned,
    ColumnManifest,
    Corrected,
    Decoded,
    Deduped,
    Pair,
    Rewritten,
    Row,
    Selected,
    ShardInfo,
    ShardManifest,
    SourceRecord,
)
from tests.pipeline.report.chromium import program, tab
from tests.pipeline.report.report_builds import Page, key_of, make_page, write_build

PAYLOADS = [
    "</script><script>pwned=1</script>",
    "<img src=x onerror=pwned=1>",
    "<svg onload=pwned=1>",
    '"><script>pwned=1</script>',
    "' onmouseover='pwned=1' x='",
    '" autofocus onfocus=pwned=1 x="',
    "javascript:pwned=1",
    "<!--<script>pwned=1//-->",
    "]]><script>pwned=1</script>",
    "</title><script>pwned=1</script>",
    "</style><script>pwned=1</script>",
    "</textarea><script>pwned=1</script>",
    "</pre><script>pwned=1</script>",
    "</summary></details><script>pwned=1</script>",
    "<iframe srcdoc='<script>parent.pwned=1</script>'>",
    "<iframe src=javascript:parent.pwned=1>",
    "<object data=javascript:pwned=1>",
    "<embed src=javascript:pwned=1>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'>",
    "<link rel=stylesheet href=http://127.0.0.1:9/>",
    "<style>@import 'http://127.0.0.1:9/'</style>",
    "<img src=http://127.0.0.1:9/a>",
    "<video src=http://127.0.0.1:9/ autoplay>",
    "<audio src=http://127.0.0.1:9/ autoplay>",
    "<form action=javascript:pwned=1><button>",
    "<details open ontoggle=pwned=1>",
    "<marquee onstart=pwned=1>",
    "<body onload=pwned=1>",
    "<input autofocus onfocus=pwned=1>",
    "<math><mtext><script>pwned=1</script>",
    "<svg><animate onbegin=pwned=1 attributeName=x dur=1s>",
    "<svg><use href='data:image/svg+xml,<svg onload=pwned=1>'>",
    "{{7*7}}{% raw %}",
    "${pwned=1}",
    "`${pwned=1}`",
    "\u2028pwned=1\u2029",
    "\\u003cscript>pwned=1</script>",
    "&lt;script&gt;pwned=1&lt;/script&gt;",
    "&#60;script>pwned=1",
    "data:text/html,<script>pwned=1</script>",
    "vbscript:pwned=1",
    "\x00<script>pwned=1</script>",
    "\u202e<script>pwned=1</script>",
]
_KEEP = {"key", "status", "reason", "rejected_by"}


def filled(row: Row, payload: str) -> Row:
    """The row with the payload in every field that is text, alone or in lists."""
    values: dict[str, object] = {}
    for name, field in type(row).model_fields.items():
        kind = str(field.annotation)
        if name in _KEEP or (name == "ext" and not isinstance(row, SourceRecord)):
            continue
        if kind in ("<class 'str'>", "str | None") and name not in ("sha256", "phash", "cluster"):
            values[name] = payload
        elif kind in ("list[str]", "list[str] | None"):
            values[name] = [payload, f"{payload}: {payload} -> {payload}"]
    return row.model_copy(update=values)


@pytest.fixture(scope="module")
def hostile_build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A build whose records, one a payload, have it in every text field of every stage, and its documents too."""
    build = write_build(tmp_path_factory.mktemp("hostile") / "<b onclick=pwned=1>'\"&", len(PAYLOADS), len(PAYLOADS))
    models = (SourceRecord, Pair, Decoded, Cleaned, Deduped, Captioned, Rewritten, Corrected, Selected)
    stages = ("collect", "fetch", "decode", "clean", "dedup", "caption", "rewrite", "correct", "select")
    for stage, model in zip(stages, models, strict=True):
        rows = [filled(row, PAYLOADS[at]) for at, row in enumerate(build.read_rows(stage, 0, model))]
        build.write_rows(stage, 0, model, rows)
    everything = " ".join(PAYLOADS)
    info = ShardInfo(name=everything, count=3, bytes=1, sha256=everything)
    build.write_json("shards/manifest.json", ShardManifest(count=3, diffusion=everything, shards=[info]))
    column = ColumnManifest(
        column=everything, kind="llm", model=everything, revision=everything, width=8, dtype="float16", text="simple",
        layer=1, pooling="mean", count=3, shards=[info],
    )  # fmt: skip
    build.write_json("columns/x/manifest.json", column)
    versions, config = {everything: everything}, {"source": everything, everything: everything}
    build.write_json("build.json", BuildRecord(config=config, versions=versions, models=versions))
    make_page(build)
    return build


def test_no_field_becomes_an_element_an_attribute_or_a_script(hostile_build: Build, tmp_path: Path) -> None:
    html = hostile_build.read_bytes("report.html").decode()
    page, plain = Page(html), Page(make_page(write_build(tmp_path / "plain", len(PAYLOADS), len(PAYLOADS))))
    assert [attrs.get("type") for attrs in page.all("script")] == ["application/json", None]
    for tag, attrs in page.elements:
        assert not [name for name in attrs if name.startswith("on") or name == "style"], (tag, attrs)
    assert {tag for tag, _ in page.elements} <= {*(tag for tag, _ in plain.elements), "del", "ins", "ol", "li"}
    links = [attrs["href"] or "" for attrs in page.all("a")]
    assert all(link.startswith("#") for link in links)
    for entry in page.data["entries"]:
        assert not {*entry} & {"page", "image"}, "only web addresses become links"
    assert page.data["entries"][0]["author"] == PAYLOADS[0] and len(page.data["entries"]) == len(PAYLOADS)


def test_chromium_runs_none_of_44_payloads_and_asks_for_nothing(hostile_build: Build, tmp_path: Path) -> None:
    if not program():
        pytest.skip("no Chromium on this machine; the page was checked by parsing only")
    assert len(PAYLOADS) == 44
    path = hostile_build.local_path("report.html")
    assert path is not None
    with tab(tmp_path / "profile") as chromium:
        chromium.open(path.as_uri())
        for index in range(len(PAYLOADS)):
            chromium.run(f"location.hash = 'show=all&key={key_of(index)}'")
            assert chromium.run("document.querySelector('#sheet').open"), PAYLOADS[index]
        assert chromium.run("typeof pwned") == "undefined" and chromium.dialogs == []
        outward = [url for url in chromium.requests if not url.startswith("data:image/webp;")]
        assert [url.split("#")[0] for url in outward] == [path.as_uri()]


def test_arrow_keys_step_through_the_records_and_keep_the_focus_in_the_dialog(tmp_path: Path) -> None:
    if not program():
        pytest.skip("no Chromium on this machine")
    make_page(write_build(tmp_path / "b", 12))
    focus = "document.activeElement.getAttribute('aria-label') ?? document.activeElement.tagName"
    with tab(tmp_path / "profile") as chromium:
        chromium.open(f"{(tmp_path / 'b' / 'report.html').as_uri()}#show=all&key={key_of(1)}")
        chromium.run("document.querySelector('[data-step=\"1\"]').focus()")
        chromium.press("ArrowRight")
        assert key_of(2) in chromium.run("location.hash") and chromium.run(focus) == "Next"
        chromium.press("ArrowLeft")
        assert key_of(1) in chromium.run("location.hash") and chromium.run(focus) == "Next"
        for _ in range(11):
            chromium.press("ArrowRight")
        assert key_of(11) in chromium.run("location.hash") and chromium.run(focus) == "Close", "there is no next one"
        chromium.press("ArrowLeft")
        assert key_of(10) in chromium.run("location.hash") and chromium.run(focus) == "Close"
