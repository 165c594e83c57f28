"""A local nginx with any number of URLs for a hundred pictures."""

from __future__ import annotations

import getpass
import io
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import stamina
from PIL import Image

PICTURES = 100
_CONFIG = """
daemon off; user {user}; pid {folder}/nginx.pid; error_log {folder}/nginx.log; worker_processes 1;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 10000000;
  types {{ image/jpeg jpg; image/png png; }}
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port}; root {folder}/www;
    rewrite ^/([a-z]+)/\\d+-(\\d+)\\.([a-z]+)$ /$1/$2.$3 break;
  }}
}}
"""


def photograph(seed: int, width: int, height: int) -> Image.Image:
    """Noise with the spectrum of photographs: amplitude falls with frequency, colours vary less than brightness."""
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    amplitude = np.maximum(frequency, 1 / max(width, height)) ** -1.2
    layers = [
        np.fft.irfft2(amplitude * np.exp(2j * np.pi * random.random(amplitude.shape)), s=(height, width))
        for _ in range(4)
    ]
    pixels = np.stack([layers[0] + 0.3 * layer for layer in layers[1:]], -1)
    pixels = (pixels - pixels.mean()) / pixels.std() * 50 + 128
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_pictures(folder: Path) -> None:
    """``photos``: nine JPEGs of 1024 x 768 for each PNG of 320 x 240, of about 170 KB; ``small``: of about 1 KB."""
    for name in ("photos", "small"):
        (folder / "www" / name).mkdir(parents=True)
    for number in range(PICTURES):
        path, format_ = folder / "www" / path_of("photos", number)[1:], "PNG" if number % 10 == 9 else "JPEG"
        size = (320, 240) if format_ == "PNG" else (1024, 768)
        buffer = io.BytesIO()
        photograph(number, *size).save(buffer, format_, quality=70)
        stored = f"{number:03}.{'png' if format_ == 'PNG' else 'jpg'}"
        path.with_name(stored).write_bytes(buffer.getvalue())
        photograph(number, 32, 32).save(folder / "www" / "small" / f"{number:03}.jpg", quality=80)


def path_of(kind: str, number: int) -> str:
    """The path of the ``number``-th image of a list."""
    picture = number % PICTURES
    ext = "png" if kind == "photos" and picture % 10 == 9 else "jpg"
    return f"/{kind}/{number}-{picture:03}.{ext}"


@contextmanager
def nginx(folder: Path) -> Iterator[str]:
    """Serve the folder's ``www``; yields the server's address."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
    if program is None:
        raise SystemExit("nginx is missing on this machine; install it with apt install nginx-light")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(user=getpass.getuser(), folder=folder, port=port))
    with subprocess.Popen([program, "-c", str(config)], stderr=subprocess.DEVNULL) as server:
        try:
            for attempt in stamina.retry_context(on=httpx.ConnectError, wait_initial=0.05):
                with attempt:
                    httpx.get(f"http://127.0.0.1:{port}{path_of('small', 0)}", trust_env=False).raise_for_status()
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
