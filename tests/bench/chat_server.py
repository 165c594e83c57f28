"""A local server that speaks the protocol of chat completions, in a process of its own: it waits, answers and notes.

``python -m tests.bench.chat_server PORT_FILE LOG DELAY``: what was asked is a line in LOG as it comes (``asked``) and
when its answer is handed to the system (``answered``): SHA-256 of the body, API key, port of the client, time.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aiohttp import web

_MOST_BYTES = 1 << 24


def answer(name: str) -> bytes:
    """A completion that depends on the request alone: a caption that begins with yes or no, with logprobs."""
    yes = random.Random(name).random()
    top = [{"token": "Yes", "logprob": -yes, "bytes": None}, {"token": "No", "logprob": -1 - yes, "bytes": None}]
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": f"Yes, a picture called {name[:12]} on a table."},
        "logprobs": {"content": [{**top[0], "top_logprobs": top}]},
    }
    usage = {"prompt_tokens": 600, "completion_tokens": 12, "total_tokens": 612}
    return json.dumps({"id": name, "object": "chat.completion", "choices": [choice], "usage": usage}).encode()


class _Chat:
    def __init__(self, log: Path, delay: float) -> None:
        self._log, self._delay = log.open("a", buffering=1), delay

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        with suppress(ConnectionResetError):  # the client was killed
            name = hashlib.sha256(await request.read()).hexdigest()
            port = request.transport.get_extra_info("peername")[1] if request.transport else 0
            what = f"{name} {request.headers.get('Authorization', 'Bearer -').split()[-1]} {port}"
            self._note(f"asked {what}")
            await asyncio.sleep(self._delay)
            body = answer(name)
            response.content_length = len(body)
            await response.prepare(request)
            await response.write(body)
            await response.write_eof()
            self._note(f"answered {what}")
        return response

    def _note(self, what: str) -> None:
        self._log.write(f"{what} {time.monotonic():.6f}\n")


async def _serve(port_file: Path, log: Path, delay: float) -> None:
    app = web.Application(client_max_size=_MOST_BYTES)
    app.router.add_post("/v1/chat/completions", _Chat(log, delay))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port_file.write_text(str(runner.addresses[0][1]))
    await asyncio.Event().wait()


@contextmanager
def chat_server(folder: Path, delay: float) -> Iterator[tuple[str, Path]]:
    """Starts the server; yields its address and its log."""
    port_file, log = folder / "port", folder / "requests.log"
    port_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.bench.chat_server", str(port_file), str(log), str(delay)]
    with subprocess.Popen(command) as server:
        try:
            while not (port_file.exists() and port_file.read_text()):
                if server.poll() is not None:
                    raise RuntimeError("the chat server ended")
                time.sleep(0.02)
            yield f"http://127.0.0.1:{port_file.read_text()}", log
        finally:
            server.terminate()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])))
