"""A vision-language model behind an OpenAI-compatible server: as captioner, and as witness that answers yes or no."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any

from PIL import Image

from surd.pipeline.models.caption_model import CaptionAnswer, CaptionModel, CaptionPrompt, caption_answer
from surd.pipeline.models.counting import OnDone, uncounted
from surd.pipeline.models.openai_client import OpenAIClient
from surd.pipeline.models.openai_request import Question
from surd.pipeline.models.sent_picture import SentPicture
from surd.pipeline.models.vision_answers import TOP_LOGPROBS, VisionAnswer, VisionAnswers, YesNo, yes_no
from surd.schemas import SurdError
from surd.schemas.config import ServerConfig
from surd.schemas.model_ref import ServerRef

log = logging.getLogger(__name__)
_TOP_P = 0.9
_SHORT = "Answer yes or no."
#: Of a yes or no: some models begin with a line break or a quotation mark.
_FEW_TOKENS = 3


class VisionServer(CaptionModel):
    """``openai:http://host:port/v1#model`` about pictures: its chat completions; see OpenAIClient.

    Pictures go as data URLs of at most ``server.image_size`` pixels a side. They may be given as stored files, which
    are then sent as they are where that can be, or as pixels.
    """

    def __init__(self, ref: ServerRef, settings: ServerConfig, role: str) -> None:
        self._ref, self._field, self._size = ref, f"models.{role}", settings.image_size
        self._client = OpenAIClient(ref, settings, VisionAnswers(), role=role, lenient=True)
        self._has_warned = False

    @property
    def prompted(self) -> bool:
        return True

    def caption(
        self,
        images: Iterable[Image.Image | bytes],
        k: int,
        num_beams: int,
        max_new_tokens: int,
        seed: int,
        prompts: Sequence[Sequence[CaptionPrompt]] | None = None,
        max_side: int | None = None,
        on_done: OnDone = uncounted,
    ) -> list[list[CaptionAnswer]]:
        """See CaptionModel. ``images`` are drawn one after another, as requests get under way: give all at once.

        There is no beam search here: the first answer is greedy. ``max_side``: pixels, if pictures are to be sent
        smaller than ``server.image_size``. ``on_done`` is told of answers as they come. Raises SurdError if a
        prompt is empty, and as OpenAIClient does.
        """
        size = min(self._size, max_side or self._size)
        asked: list[Sequence[CaptionPrompt]] = []

        def questions() -> Iterator[Question]:
            of_each = repeat([CaptionPrompt()]) if prompts is None else prompts
            for image, of_one in zip(images, of_each, strict=prompts is not None):
                asked.append(of_one)
                picture = SentPicture(image, size)
                for prompt in of_one:
                    for number in range(k):
                        yield self._caption_question(picture, prompt, max_new_tokens, seed, number)

        answers = iter(self._client.ask(questions(), on_done))
        found: list[list[CaptionAnswer]] = []
        for of_one in asked:
            named = ((prompt.name, next(answers)) for prompt in of_one for _ in range(k))
            found.append([_caption_answer(name, answer) for name, answer in named])
        return found

    def probabilities(
        self, images: Iterable[Image.Image | bytes], questions: Iterable[Sequence[str]]
    ) -> list[list[float | None]]:
        """For each image P(yes), one for each of its own questions; None where there is no answer.

        Both are drawn side by side, as requests get under way. Raises SurdError as OpenAIClient does.
        """
        return [[one.p for one in of_one] for of_one in self.yes_or_no(images, questions)]

    def yes_or_no(self, images: Iterable[Image.Image | bytes], questions: Iterable[Sequence[str]]) -> list[list[YesNo]]:
        """``probabilities`` with the reasons. One request asks one question about one picture alone; equal ones are
        asked once. From a server without logprobs an answer counts as 1 or 0, and the log says so, once."""
        counts: list[int] = []

        def each() -> Iterator[Question]:
            for image, of_one in zip(images, questions, strict=True):
                counts.append(len(of_one))
                picture = SentPicture(image, self._size) if of_one else None
                for text in of_one:
                    if picture:
                        yield self._yes_no_question(picture, text)

        answers = iter([yes_no(answer) for answer in self._client.ask(each())])
        found = [[next(answers) for _ in range(count)] for count in counts]
        if not self._has_warned and any(not one.calibrated for of_one in found for one in of_one):
            self._has_warned = True
            log.warning(
                "%s: the server at %s gives no logprobs: its answers count as 1 or 0, and no rate of false facts"
                " between can be kept; use a server that gives them, such as vLLM",
                self._field, self._ref.url,
            )  # fmt: skip
        return found

    def _caption_question(
        self, picture: SentPicture, prompt: CaptionPrompt, max_new_tokens: int, seed: int, number: int
    ) -> Question:
        if not prompt.text.strip():
            raise SurdError(
                f"{self._field} is a server, and the prompt of caption {prompt.name!r} is empty: say in the captions'"
                " templates what it is to be asked, such as 'Describe the picture in one sentence.'"
            )
        sampled = {"temperature": 1.0, "top_p": _TOP_P} if number else {"temperature": 0.0}
        most = prompt.max_new_tokens or max_new_tokens
        return self._question(picture, prompt.text, max_tokens=most, seed=seed + number, **sampled)

    def _yes_no_question(self, picture: SentPicture, text: str) -> Question:
        # In one message: the chat templates of some models have no place for a system text.
        return self._question(
            picture, f"{text} {_SHORT}", max_tokens=_FEW_TOKENS, temperature=0.0, seed=0, logprobs=True,
            top_logprobs=TOP_LOGPROBS,
        )  # fmt: skip

    def _question(self, picture: SentPicture, text: str, **fields: Any) -> Question:
        content = [
            {"type": "image_url", "image_url": {"url": picture.name}},
            {"type": "text", "text": text},
        ]
        messages = [{"role": "user", "content": content}]
        return Question(
            payload={"model": self._ref.model, "messages": messages, "stream": False, **fields}, picture=picture
        )


def _caption_answer(name: str, answer: VisionAnswer) -> CaptionAnswer:
    if answer.text is None:
        return CaptionAnswer(name=name, why=answer.why)
    return caption_answer(name, answer.text, cut=answer.cut)
