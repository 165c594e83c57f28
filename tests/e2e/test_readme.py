"""Every command of the README and its guides, as it stands there, typed by a stranger into a fresh copy."""

import json
import re
import shlex
import shutil
import subprocess
import time
from contextlib import ExitStack

import httpx
import pytest

from surd.pipeline.demo.world.files import write_folder
from tests.e2e.conftest import CHECKOUT, alive, running

# `make demo` at a size for a test. `make test` is what runs this.
SMALL_DEMO = "surd demo --out data/demo --steps 2 --param demo.count=12 --param partition_size=6"
PAGES = ["README.md", *(f"docs/{name}.md" for name in ("sources", "curation", "models", "training"))]
SERVERS = {
    "python -m surd.pipeline.demo.server --port 8765": "http://127.0.0.1:8765/api/v1/images",
    "prefect server start": "http://127.0.0.1:4200/api/health",
    "prefect worker start --pool surd": None,
    "surd view data/mine": None,
}


def commands() -> list[str]:
    """Command lines of the sh blocks, and those in running text that start a server, in order; each once."""
    text = "\n".join((CHECKOUT / page).read_text(encoding="utf-8") for page in PAGES)
    lines = re.findall(r"^```sh\n(.*?)^```|`(python -m surd[^`]+ --port [^`]+)`", text, re.MULTILINE | re.DOTALL)
    typed = (line.split("  #")[0].strip() for block, inline in lines for line in (block or inline).splitlines())
    return list(dict.fromkeys(typed))


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The files git would clone, without history, in a folder of their own."""
    root = tmp_path_factory.mktemp("clone") / "surd"
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (CHECKOUT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(CHECKOUT / name, root / name)
    write_folder(root / "photos", 6, seed=7)
    return root


@pytest.fixture(scope="module")
def demo(clone, environment):
    """Runs ``make demo``, small; gives the lines that it prints."""

    def run():
        process = subprocess.Popen(
            SMALL_DEMO.split(), env=environment, cwd=clone, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        stdout, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors
        assert not alive(process.pid), "a daemon was left behind"
        return stdout.splitlines()

    return run


def test_the_demo_ends_with_its_figures_and_the_second_time_redoes_no_stage(demo, clone):
    out, lines = clone / "data/demo", demo()
    figures = json.loads(lines[-1])
    assert figures == json.loads((out / "summary.json").read_text())
    assert figures["collected"] == 12 == figures["kept"] + sum(figures["rejected"].values())
    assert figures["train"]["steps"] == 2 and figures["train"]["loss_first"] > 0
    assert lines[-3:-1] == [f"report: {out / 'report.html'}", f"grid: {out / 'grid.png'}"]
    assert (out / "report.html").exists() and (out / "grid.png").exists()
    effect = figures["effect"]
    assert lines[-4].startswith(f"right by the judge: base {effect['base']}%, adapter {effect['adapter']}%, ")

    shards = {path: path.read_bytes() for path in (out / "shards").iterdir()}
    again = demo()
    assert any(line.startswith("nothing to do: all") for line in again)
    assert json.loads(again[-1]) == figures
    assert {path: path.read_bytes() for path in (out / "shards").iterdir()} == shards


def test_every_command_of_the_readme_works_as_it_stands(demo, clone, environment, tmp_path):
    listed = commands()
    assert {"make demo", "make test", *SERVERS} <= set(listed), "a page lost a command this test knows"
    env = environment | {
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "BROWSER": "true",
    }
    # What is served in the text is needed by the block above it, so servers of the text start first.
    listed.sort(key=lambda line: line.startswith("python -m"), reverse=True)
    with ExitStack() as servers:
        for number, line in enumerate(listed):
            if line in ("make test", "source .venv/bin/activate"):
                continue
            if line == "make demo":
                if not (clone / "data/demo/grid.png").exists():  # by the test above
                    demo()
                continue
            if line in SERVERS:
                log = tmp_path / f"{number}.log"
                servers.enter_context(running(*shlex.split(line), log=log, env=env, cwd=clone))
                _wait_for(SERVERS[line], log)
                continue
            ran = subprocess.run(
                ["bash", "-c", line],
                cwd=clone,
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=900,
            )
            assert ran.returncode == 0, f"{line}\n{ran.stdout}\n{ran.stderr}"
            assert "Traceback" not in ran.stderr, line
    made = ("data/mine/report.html", "data/gallery/shards/manifest.json", "data/adapter/config.json", "apples.png")
    assert [name for name in made if not (clone / name).exists()] == []


def _wait_for(url, log):
    """Until a server answers; nothing here waits for a worker or the viewer."""
    deadline = time.monotonic() + 120
    while url:
        try:
            if httpx.get(url).is_success:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
