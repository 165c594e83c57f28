"""Captioning and asking through a vision server, killed at random moments and started again: is anything asked twice?

``python -m tests.bench.vision_kill URL CACHE SIZE``: captions SIZE pictures and asks two questions about each.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from surd.pipeline.models.caption_model import CaptionPrompt
from surd.pipeline.models.openai_answers import KEY_VARIABLE
from surd.pipeline.models.vision_server import VisionServer
from surd.schemas.config import ServerConfig
from surd.schemas.model_ref import ServerRef
from tests.bench.chat_server import chat_server

CONCURRENCY = 16
_PROMPT = CaptionPrompt(name="short", text="Describe the picture in one sentence.")
_QUESTIONS = ("Is there a dog?", "Is the ball red?")
_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class Killed:
    """``questions``: different ones. ``asked``: requests. ``again``: requests of a question that came before.

    ``twice``: those among them that the client had an answer to. It asks the next question over a connection when the
    answer before is kept, so these are the questions that were not the last of a connection. Lives are told apart by
    the API key.
    ``answered``: those of ``again`` whose answer the server had already sent, at most ``age`` seconds before the kill.
    """

    kills: int
    questions: int
    asked: int
    again: int
    twice: int
    answered: int
    age: float


def killed(folder: Path, kills: int, size: int, seed: int, delay: float) -> Killed:
    """Runs the program to its end in ``kills`` + 1 lives, each but the last killed at a random moment of its work."""
    chance = random.Random(seed)
    with chat_server(folder, delay) as (url, log):
        command = [sys.executable, "-m", __spec__.name, url, str(folder / "answers.sqlite"), str(size)]
        each, ends = size * (1 + len(_QUESTIONS)) // (kills + 1), []
        for life in range(kills + 1):
            known = _asked(log)
            with subprocess.Popen(command, env={**os.environ, KEY_VARIABLE: str(life)}) as program:
                if life < kills:
                    _wait(program, log, known + chance.randint(1, each))
                    time.sleep(chance.uniform(0, 2 * delay))
                    program.kill()
                    ends.append(time.monotonic())
            if life == kills and program.returncode:
                raise RuntimeError(f"the last life ended with {program.returncode}")
        return _summary(log.read_text().splitlines(), ends)


def _asked(log: Path) -> int:
    return log.read_text().count("asked") if log.exists() else 0


def _wait(program: subprocess.Popen[bytes], log: Path, count: int) -> None:
    until = time.monotonic() + _SECONDS
    while _asked(log) < count and program.poll() is None:
        if time.monotonic() > until:
            program.kill()
            raise RuntimeError(f"no more than {_asked(log)} questions came in {_SECONDS} s")
        time.sleep(0.005)


def _summary(lines: list[str], ends: list[float]) -> Killed:
    """``ends``: when each life but the last was killed."""
    asked: dict[tuple[int, str], list[str]] = {}  # life, connection -> its questions in order
    lives: dict[str, list[int]] = {}  # question -> the lives that asked it
    sent: dict[tuple[str, int], float] = {}
    for line in lines:
        what, name, life, port, at = line.split()
        if what == "answered":
            sent[name, int(life)] = float(at)
            continue
        asked.setdefault((int(life), port), []).append(name)
        lives.setdefault(name, []).append(int(life))
    kept = {(name, life) for (life, _), names in asked.items() for name in names[:-1]}
    again = [(name, life) for name, of_one in lives.items() for life in of_one[:-1]]
    before = [ends[life] - sent[name, life] for name, life in again if (name, life) in sent]
    ages = [age for age in before if age > 0]
    return Killed(
        kills=len(ends),
        questions=len(lives),
        asked=sum(map(len, lives.values())),
        again=len(again),
        twice=sum(one in kept for one in again),
        answered=len(ages),
        age=max(ages, default=0.0),
    )


def _picture(number: int) -> Image.Image:
    return Image.frombytes("RGB", (48, 48), random.Random(number).randbytes(48 * 48 * 3))


def main(url: str, cache: str, size: int) -> None:
    server = VisionServer(
        ServerRef(url=f"{url}/v1", model="m"), ServerConfig(concurrency=CONCURRENCY, cache=cache), "captioner"
    )
    images = [_picture(number) for number in range(size)]
    captions = server.caption(images, k=1, num_beams=1, max_new_tokens=40, seed=0, prompts=[[_PROMPT]] * size)
    found = server.probabilities(images, [_QUESTIONS] * size)
    assert all(of_one[0].text for of_one in captions) and all(p is not None for of_one in found for p in of_one)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
