"""Models whose outputs are kept in the build: what was asked before is looked up, and loads no model.

Answers of servers are not kept here: the client keeps each as it comes, for all builds of a user (``answer_cache``).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

import numpy as np
import torch
from PIL import Image

from surd.pipeline.model_cache.outputs import OutputCache, Space, item, text_item
from surd.pipeline.models import Models
from surd.pipeline.models.chat import Chat, ChatModel, Reply
from surd.pipeline.models.clip import Clip, FloatArray
from surd.pipeline.models.counting import OnDone, uncounted
from surd.schemas.model_ref import server_ref

#: Of the code that asks: raise it when a model gives another output for the same question.
_CLIP_TEXTS = 1
_CHATS = 1


class CachedModels(Models):
    """The models of a stage, with the CLIP vectors of texts and the replies of the LLM from a build's cache.

    ``stage``: the name that its outputs have in the cache. ``about``: which pictures or texts (their sha256) a message
    to the LLM is about. ``by_key``: see OutputCache.space.
    """

    def __init__(
        self,
        models: Models,
        cache: OutputCache,
        stage: str,
        *,
        about: Callable[[str], Iterable[str]] = lambda message: (),
        by_key: bool = True,
    ) -> None:
        super().__init__(models.config)
        self._models, self._cache, self._stage, self._about, self._by_key = models, cache, stage, about, by_key

    @cached_property
    def clip(self) -> Clip:
        """See Models."""
        space = self._cache.space(
            f"{self._stage}-text", version=_CLIP_TEXTS, clip=self._models.revision("clip"), by_key=self._by_key
        )
        return _CachedClip(self._models, space)

    @cached_property
    def llm(self) -> ChatModel:
        """See Models."""
        if server_ref(self.config.llm):
            return self._models.llm
        space = self._cache.space(
            f"{self._stage}-llm", version=_CHATS, llm=self._models.revision("llm"), by_key=self._by_key
        )
        return _CachedChat(self._models, space, self._about)


class _CachedClip(Clip):
    """CLIP whose text tower sees no text twice. Pictures are the stage's own matter: it knows the hashes of files."""

    def __init__(self, models: Models, texts: Space) -> None:
        self._models, self._texts = models, texts

    @cached_property
    def logit_scale(self) -> float:
        """See Clip."""
        scale = self._texts.outputs([item("logit_scale")], lambda _: [dump_json(self._models.clip.logit_scale)])
        return float(json.loads(scale[0]))

    def prepare(self, image: Image.Image) -> torch.Tensor:
        """See Clip."""
        return self._models.clip.prepare(image)

    def embed_prepared(self, pixels: Sequence[torch.Tensor]) -> FloatArray:
        """See Clip."""
        return self._models.clip.embed_prepared(pixels)

    def embed_texts(self, texts: Sequence[str], batch_size: int = 256, on_done: OnDone = uncounted) -> FloatArray:
        """See Clip."""
        if not texts:
            return np.zeros((0, 0), np.float32)

        def compute(places: list[int]) -> Iterable[bytes]:
            on_done(len(texts) - len(places))
            unknown = [texts[place] for place in places]
            return map(dump_vector, self._models.clip.embed_texts(unknown, batch_size, on_done))

        items = [text_item(text) for text in texts]
        return np.stack([load_vector(value) for value in self._texts.outputs(items, compute)])


class _CachedChat(ChatModel):
    """An LLM in process that is asked nothing twice."""

    def __init__(self, models: Models, space: Space, about: Callable[[str], Iterable[str]]) -> None:
        self._models, self._space, self._about = models, space, about

    def replies(
        self,
        chats: Sequence[Chat],
        max_new_tokens: int,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        batch_size: int = 32,
        on_done: OnDone = uncounted,
    ) -> list[Reply]:
        """See ChatModel."""

        def compute(places: list[int]) -> Iterable[bytes]:
            on_done(len(chats) - len(places))
            replies = self._models.llm.replies(
                [chats[place] for place in places],
                max_new_tokens,
                temperature=temperature,
                seed=seed,
                batch_size=batch_size,
                on_done=on_done,
            )
            return (dump_json(dataclasses.asdict(reply)) for reply in replies)

        how = (max_new_tokens, temperature, seed if temperature > 0 else 0)
        items = [item(list(chat), *how, about=self._about_chat(chat)) for chat in chats]
        return [Reply(**json.loads(value)) for value in self._space.outputs(items, compute)]

    def _about_chat(self, chat: Chat) -> Iterable[str]:
        return self._about(chat[-1]["content"]) if chat else ()


def dump_vector(vector: FloatArray) -> bytes:
    """A vector as the cache keeps it: each bit of its float32."""
    return np.ascontiguousarray(vector, "<f4").tobytes()


def load_vector(value: bytes) -> FloatArray:
    """The vector that ``dump_vector`` wrote; it may be written to."""
    return np.frombuffer(value, "<f4").astype(np.float32)


def dump_json(value: object) -> bytes:
    """A JSON value as the cache keeps it; floats come back as they were."""
    return json.dumps(value, separators=(",", ":")).encode()
