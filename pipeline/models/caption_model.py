"""Interface of captioners, in process or behind a server: answers about pictures, each to a named prompt."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from surd.pipeline.models.answer_text import plain_text, without_thoughts

#: The name of a caption that no template asked for.
UNNAMED = "caption"


@dataclass(frozen=True, kw_only=True)
class CaptionPrompt:
    """What a captioner is asked about one picture.

    ``name``: of the caption that it asks for (short, long ...). ``text``: as the model is to read it; "" asks nothing,
    which suits captioners that need no prompt. ``max_new_tokens``: of its answer; None: those of the call.
    """

    name: str = UNNAMED
    text: str = ""
    max_new_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class CaptionAnswer:
    """What a captioner answered to the prompt of that ``name``, as it came: not checked, and not cleaned of anything
    but control characters and thoughts. Without a ``text`` there is ``why``. ``cut``: it stopped at the token limit.
    """

    name: str
    text: str | None = None
    why: str | None = None
    cut: bool = False


class CaptionModel(ABC):
    """A model that describes pictures: in process (``Captioner``) or behind an OpenAI-compatible server."""

    @property
    @abstractmethod
    def prompted(self) -> bool:
        """Whether it has to be asked: a chat model, a server. Others caption when they are asked nothing."""

    @property
    def family(self) -> str:
        """The ``model_type`` of an architecture of transformers, which tells what tasks it knows; "" of a server."""
        return ""

    @abstractmethod
    def caption(
        self,
        images: Sequence[Image.Image],
        k: int,
        num_beams: int,
        max_new_tokens: int,
        seed: int,
        prompts: Sequence[Sequence[CaptionPrompt]] | None = None,
    ) -> list[list[CaptionAnswer]]:
        """For each image the answers to its own prompts, in their order; to each prompt ``k``, the surest first.

        ``prompts``: a list for each image, which may be of any length and is answered by as many times ``k`` answers;
        None: no image comes with one, and each is captioned as if by the prompt ``CaptionPrompt()``. The first answer
        to a prompt is greedy or by ``num_beams`` beams, the others are sampled (top-p 0.9, temperature 1): what is
        sampled depends on the pixels, the prompt, its name and the seed, not on the batch or on what else is running.
        Equal answers stay. One that is missing (the server refuses the image, no try got an answer) has ``why``.

        Raises SurdError when nothing can be asked at all: the model takes no prompt, or the server is not there.
        """


def caption_answer(name: str, text: str, *, cut: bool) -> CaptionAnswer:
    """The answer that a text makes: without thoughts and control characters. ``cut``: see CaptionAnswer."""
    answer = plain_text(without_thoughts(text))
    if not answer:
        thought = "it was still thinking at max_new_tokens" if cut else "it thought and gave no answer"
        return CaptionAnswer(name=name, why=thought if plain_text(text) else "an empty answer")
    return CaptionAnswer(name=name, text=answer, cut=cut)
