"""Runs the viewer: a socket on 127.0.0.1, a secret path, the records read in a thread while the server starts."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from surd.pipeline.build.open import open_build, recorded_config
from surd.pipeline.view.loading import Loading
from surd.schemas import SurdError

HOST = "127.0.0.1"


def serve(root: str, beside: str | None, port: int, ready: Callable[[str], None]) -> None:
    """Serve a build until the process is interrupted; ``ready`` is told the page's address once it answers.

    ``beside`` is another build to compare with; port 0 takes a free one. Raises SurdError.
    """
    with viewer(root, beside, port) as (address, run, _):
        ready(address)
        run()


@contextmanager
def viewer(
    root: str, beside: str | None = None, port: int = 0
) -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
    """A page's address, what serves it until it is stopped, and what stops it. Raises SurdError."""
    build, record = open_build(root)
    config = recorded_config(build, record)
    other = open_build(beside)[0] if beside else None
    loading = Loading(build, config.safety.max_image, other)
    # After the thread that reads has begun: loading these takes as long as half of it.
    import uvicorn

    from surd.pipeline.view.app import View, make_app

    with _listen(port) as listener:
        port, token = listener.getsockname()[1], secrets.token_urlsafe(18)
        view = View(build, record, config, loading, beside)
        app = make_app(view, token, {f"{HOST}:{port}", f"localhost:{port}"})
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, lifespan="off")
        )

        def stop() -> None:
            server.should_exit = True

        try:
            _ = loading.records  # what is wrong with the build is said here, not in the browser
            yield f"http://{HOST}:{port}/{token}/", lambda: server.run(sockets=[listener]), stop
        finally:
            view.map.close()
            loading.close()


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        raise SurdError(f"port is {port} and cannot be used ({error.strerror}); give another, or none") from None
    listener.listen(64)
    return listener
