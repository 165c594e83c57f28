"""Sources and filters of other packages: found by entry point, used by name, and known by version."""

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from surd.flows.build_request import request_build
from surd.pipeline.build.folder import Build
from surd.pipeline.build.scratch import temporary
from surd.pipeline.decisions import append
from surd.pipeline.models import Models
from surd.pipeline.runner.fingerprint import basis_of
from surd.pipeline.runner.run_unit import run_unit
from surd.pipeline.selection.choose import choose
from surd.pipeline.selection.compare import diff
from surd.pipeline.stages import BY_NAME
from surd.schemas import BuildConfig, Decision, Pair, Reason, SourceRecord, SurdError, load_config
from surd.schemas.config import SelectConfig
from tests.packages import install
from tests.pipeline.score_table import unit, write_end, write_part

DOCS = Path(__file__).parents[2] / "docs/api.md"
PLAIN = {"false_match_rate_complex": None}


def documented(first_line: str) -> str:
    """The block of docs/api.md that has a line."""
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    (block,) = [block for block in blocks if first_line in block]
    return block


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Installs packages for one test; each has a module name of its own, which is forgotten afterwards."""
    modules = []

    def add(code, group, name, attribute, *, version="1", module="some_package", where="site"):
        root = install(tmp_path / where, code, group, name, attribute, version=version, module=module)
        modules.append(module)
        monkeypatch.syspath_prepend(str(root))
        return root

    yield add
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture
def scored(tmp_path) -> Build:
    """Twelve scored pairs in two partitions."""
    rng = np.random.default_rng(0)
    images = unit(rng.standard_normal((12, 8)))
    texts = unit(images + 0.1 * (np.arange(12) % 2)[:, None])  # every other one fits exactly
    build, keys = Build(str(tmp_path / "scored")), [f"{at:016x}" for at in range(12)]
    prompts = [f"thing {at}, {'monochrome' if at % 4 == 0 else 'colour'}" for at in range(12)]
    for part in (0, 1):
        here = slice(6 * part, 6 * part + 6)
        write_part(build, part, keys[here], images[here], texts[here], prompts=prompts[here], lost=keys[:1])
    write_end(build, 2, 12)
    return build


def verdicts(build, **settings):
    with temporary("test") as tables:
        rows = [*choose(build, SelectConfig(**(PLAIN | settings)), "clip", tables).rows()]
    return {row.key: (row.reason, row.detail) for of_part in rows for row in of_part}


def rule_of(build, **settings):
    with temporary("test") as tables:
        return choose(build, SelectConfig(**(PLAIN | settings)), "clip", tables).rule


BY_PROMPT = "def no_mono(row):\n    return 'monochrome by its prompt' if 'monochrome' in row['complex'] else None\n"


def test_a_filter_rejects_the_rows_that_it_gives_a_reason_for(installed, scored):
    installed(BY_PROMPT, "surd.filters", "no_mono", "no_mono")
    found = verdicts(scored, filters=["no_mono"])
    of_filter = {key for key, (reason, _) in found.items() if reason is Reason.FILTERED}
    assert of_filter == {f"{4:016x}", f"{8:016x}"}  # number 0 was rejected before
    assert {found[key][1] for key in of_filter} == {"monochrome by its prompt"}
    assert found[f"{0:016x}"][0] is Reason.MISMATCH
    before = verdicts(scored)
    assert {key: one for key, one in found.items() if key not in of_filter} == {
        key: one for key, one in before.items() if key not in of_filter
    }


@pytest.mark.parametrize("max_similarity", [None, 0.95])
def test_a_filter_is_asked_once_of_each_record(installed, scored, max_similarity):
    counts = "asked = []\ndef every(row):\n    asked.append(row['key'])\n    return 'odd' if len(asked) % 2 else None\n"
    installed(counts, "surd.filters", "every", "every")
    with temporary("test") as tables:
        chosen = choose(scored, SelectConfig(**PLAIN, filters=["every"], max_similarity=max_similarity), "clip", tables)
        first, second = ([row for rows in chosen.rows() for row in rows] for _ in range(2))
    asked = sys.modules["some_package"].asked
    assert first == second and sorted(asked) == sorted({*asked}) and len(asked) == 11  # one was rejected before


def test_thresholds_come_before_a_filter_and_a_person_after_both(installed, scored):
    installed("def all_of_it(row):\n    return ''\n", "surd.filters", "all", "all_of_it")
    strict = verdicts(scored, filters=["all"], min_clip_simple=0.999)
    assert {reason for reason, _ in strict.values()} == {Reason.MISMATCH, Reason.BELOW_THRESHOLD, Reason.FILTERED}
    append(scored, Decision(key=f"{3:016x}", verdict="approve"))
    found = verdicts(scored, filters=["all"])
    assert found[f"{3:016x}"][0] is None and "all" in found[f"{3:016x}"][1]
    assert sum(reason is None for reason, _ in found.values()) == 1
    assert found[f"{5:016x}"] == (Reason.FILTERED, "all")


def test_the_rule_names_the_filters_and_is_what_it_was_without_any(installed, scored):
    installed(BY_PROMPT, "surd.filters", "no_mono", "no_mono", version="2.5")
    rule = rule_of(scored, filters=["no_mono"])
    assert rule.settings["filters"] == ["no_mono"]
    assert any("no_mono of some_package 2.5" in note for note in rule.notes)
    assert "filters" not in rule_of(scored).settings


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("def bad(row):\n    return row['no such column']\n", "KeyError"),
        ("def bad(row):\n    return False\n", "not None or a text"),
        ("import no_such_module\n", "ModuleNotFoundError"),
        ("bad = 3\n", "not a function"),
    ],
)
def test_a_filter_that_fails_is_one_sentence(installed, scored, code, why):
    installed(code, "surd.filters", "bad", "bad")
    with pytest.raises(SurdError, match=why) as caught:
        verdicts(scored, filters=["bad"])
    assert "some_package 1" in str(caught.value) and "\n" not in str(caught.value)


def test_a_filter_that_is_not_installed_is_told_before_the_build_begins(installed, tmp_path):
    installed(BY_PROMPT, "surd.filters", "no_mono", "no_mono")
    with pytest.raises(SurdError, match="did you mean 'no_mono'"):
        request_build(out=str(tmp_path / "b"), profile=None, parameters={"select.filters": ["no_mon"]})
    request = request_build(out=str(tmp_path / "b"), profile=None, parameters={"select.filters": ["no_mono"]})
    assert request.config.select.filters == ["no_mono"]


def test_two_packages_with_one_name_are_told_apart_by_nobody(installed, scored):
    installed(BY_PROMPT, "surd.filters", "no_mono", "no_mono")
    installed(BY_PROMPT, "surd.filters", "no_mono", "no_mono", module="other_package", where="second")
    with pytest.raises(SurdError, match="uninstall all but one"):
        verdicts(scored, filters=["no_mono"])


def test_a_new_version_of_the_package_selects_again_and_nothing_else(installed):
    models = Models(BuildConfig().models)

    def basis(stage: str, **select):
        return basis_of(BY_NAME[stage], load_config({}, {"select": select}), models)

    plain = basis("select")
    first = installed(BY_PROMPT, "surd.filters", "no_mono", "no_mono", version="1")
    assert basis("select") == plain, "installing changes nothing by itself"
    old = basis("select", filters=["no_mono"])
    sys.path.remove(str(first))
    installed(BY_PROMPT, "surd.filters", "no_mono", "no_mono", version="2", where="newer")
    new = basis("select", filters=["no_mono"])
    assert old != new and old != plain
    assert basis("correct", filters=["no_mono"]) == basis("correct")


def test_a_selection_by_a_filter_that_is_gone_can_still_be_compared(installed, scored, tmp_path, monkeypatch):
    root = installed(BY_PROMPT, "surd.filters", "no_mono", "no_mono")
    for name, settings in (("all", {}), ("some", {"filters": ["no_mono"]})):
        with temporary("test") as tables:
            chosen = choose(scored, SelectConfig(**PLAIN, **settings), "clip", tables)
            shutil.copy(chosen.file(), tmp_path / f"{name}.parquet")
    sys.path.remove(str(root))
    compared = diff(str(tmp_path / "all.parquet"), str(tmp_path / "some.parquet"))
    assert [change.reason for change in compared.went] == ["unknown", "unknown"]


def test_the_filter_of_the_documentation_works(installed, scored):
    code = documented("def no_monochrome")
    assert len(code.splitlines()) <= 10
    installed(code, "surd.filters", "no_monochrome", "no_monochrome")
    assert Reason.FILTERED not in {reason for reason, _ in verdicts(scored, filters=["no_monochrome"]).values()}
    scope: dict = {}
    exec(code, scope)
    assert scope["no_monochrome"]({"width": 32, "keywords": None}) == "32 pixels wide"
    assert scope["no_monochrome"]({"width": 512, "keywords": ["monochrome"]}) == "monochrome by its prompt"
    assert scope["no_monochrome"]({"width": 512, "keywords": ["cat"]}) is None


def test_the_source_of_the_documentation_is_collected(installed, tmp_path):
    code = documented("class Cats")
    assert len([line for line in code.splitlines() if line]) <= 11
    installed(code, "surd.sources", "cats", "Cats")
    config = load_config({}, {"source": "cats:1200", "partition_size": 1000})
    outcome = run_unit(BY_NAME["collect"], 0, str(tmp_path / "build"), config)
    assert (outcome.rows, outcome.marker.parts) == (1200, 2)
    rows = Build(str(tmp_path / "build")).read_rows("collect", 1, SourceRecord)
    assert (rows[0].source, rows[0].prompt) == ("cats:1200", "a cat, number 1000")
    assert run_unit(BY_NAME["collect"], 0, str(tmp_path / "build"), config).skipped


def test_pictures_of_a_source_on_this_machine_are_fetched(installed, tmp_path):
    Image.new("RGB", (48, 40), "red").save(tmp_path / "a.png")
    code = documented("class Cats").replace("return url", "from pathlib import Path; return Path(url)")
    code = code.replace('f"https://example.org/{at}.png"', f"{str(tmp_path / 'a.png')!r}")
    installed(code, "surd.sources", "cats", "Cats")
    config = load_config({}, {"source": "cats:1"})
    for stage in ("collect", "fetch"):
        run_unit(BY_NAME[stage], 0, str(tmp_path / "build"), config)
    (pair,) = Build(str(tmp_path / "build")).read_rows("fetch", 0, Pair)
    assert (pair.kept, pair.width, pair.prompt) == (True, 48, "a cat, number 0")


def test_an_unknown_kind_and_a_source_that_cannot_be_imported_are_one_sentence(installed, tmp_path):
    installed("raise ValueError('broken')\n", "surd.sources", "broken", "Broken")
    for source, why in (("broken:1", "broken"), ("catz:1", "config field 'source'")):
        with pytest.raises(SurdError, match=why):
            run_unit(BY_NAME["collect"], 0, str(tmp_path / "build"), load_config({}, {"source": source}))
