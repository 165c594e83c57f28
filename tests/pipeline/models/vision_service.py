"""A small server that speaks the protocol of vision chat completions: it counts, and errs as it is told to."""

from __future__ import annotations

import base64
import io
import json
import math
from typing import Any

from PIL import Image


def question(request: Any) -> str:
    """The text that a request asks."""
    return next(part["text"] for part in parts(request) if part["type"] == "text")


def picture(request: Any) -> Image.Image:
    """The picture of a request, decoded."""
    return Image.open(io.BytesIO(picture_bytes(request)))


def picture_bytes(request: Any) -> bytes:
    url = next(part["image_url"]["url"] for part in parts(request) if part["type"] == "image_url")
    kind, _, data = url.partition(";base64,")
    assert kind in ("data:image/jpeg", "data:image/png", "data:image/webp")
    return base64.b64decode(data, validate=True)


def parts(request: Any) -> list[dict[str, Any]]:
    return json.loads(request.body)["messages"][-1]["content"]


def completion(text: Any, finish_reason: str = "stop", logprobs: Any = None, **message: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish_reason}
    return json.dumps({"object": "chat.completion", "choices": [choice | {"logprobs": logprobs}]}).encode()


def logprobs(*positions: dict[str, float]) -> dict[str, Any]:
    """Logprobs of positions, each a dict of token -> probability; the first token of each was taken."""
    listed = [
        [{"token": token, "logprob": math.log(share), "bytes": None} for token, share in position.items()]
        for position in positions
    ]
    return {"content": [{**top[0], "top_logprobs": sorted(top, key=lambda one: -one["logprob"])} for top in listed]}


def stored(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The file of a picture."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
