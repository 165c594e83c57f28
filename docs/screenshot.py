"""Takes the README's picture of `surd view`: `python -m docs.screenshot data/demo docs/view.png`. Needs Chromium."""

from __future__ import annotations

import base64
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.pipeline.report.chromium import tab

SIZE = 1280, 800
#: What is on the picture: kept and rejected records, the first of them open.
SHOWN = "#/records"
SETTLED = 3.0  # seconds until all pictures in sight are there


def main(build: str, out: str) -> None:
    """Serve the build, open the records and the first of them, and write the picture."""
    command = [sys.executable, "-m", "surd.flows.cli.main", "view", build, "--no-open"]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,
        tempfile.TemporaryDirectory() as profile,
        tab(Path(profile)) as page,
    ):
        assert server.stdout
        address = server.stdout.readline().rsplit(": ", 1)[1].strip()
        width, height = SIZE
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        page.open(address)
        page.run(f"location.hash = {SHOWN!r}")
        time.sleep(SETTLED)
        for key in ("ArrowRight", "Enter"):
            page.press(key)
        time.sleep(SETTLED)
        Path(out).write_bytes(base64.b64decode(page.call("Page.captureScreenshot", format="png")["data"]))
        server.terminate()


if __name__ == "__main__":
    main(*sys.argv[1:])
