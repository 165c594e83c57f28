"""Stage rewrite: plain sentences from complex prompts by the LLM."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from surd.pipeline.build.folder import Build
from surd.pipeline.build.progress import UnitProgress
from surd.pipeline.build.rows import StageRows
from surd.pipeline.model_cache.models import CachedModels
from surd.pipeline.model_cache.outputs import OutputCache, text_hash
from surd.pipeline.models import Models
from surd.pipeline.models.chat import ChatModel, Message
from surd.pipeline.models.counting import OnDone, uncounted
from surd.pipeline.sentences.plain_sentence import InvalidRewrite, rewritten_sentence
from surd.pipeline.sentences.rewrite_template import RewriteTemplate, read_template
from surd.schemas import BuildConfig, Captioned, Cleaned, Rewritten, Safe
from surd.schemas.config import RewriteConfig


def rewrite(build: Build, part: int, config: BuildConfig, models: Models) -> list[Rewritten]:
    """One partition's rewrites, up to ``rewrite.k`` different ones per prompt, the surest first.

    With ``rewrite.caption`` the LLM sees what the surest caption says beside the prompt: a prompt alone does not tell
    which of its words the picture shows.
    After an unusable answer the prompt is tried once more, then dropped: ``rewrite_dropped`` gives the reason.
    """
    settings = config.rewrite
    rewritten = StageRows(Rewritten, build.read_rows("safety", part, Safe))
    prompts = rewritten.of_kept(build.read_rows("clean", part, Cleaned))
    if not settings.enabled:
        return rewritten.rows
    template = read_template(settings.template)
    # A small LLM puts every word of its input into the sentence: words that must not be in it are left out.
    captions = rewritten.of_kept(build.read_rows("caption", part, Captioned)) if settings.caption else []
    seen = [(row.captions or [""])[0] for row in captions] or [""] * len(prompts)
    scenes = [template.scene(_scene_keywords(prompt)) for prompt in prompts]
    requests = [_Request(scene, caption) for scene, caption in zip(scenes, seen, strict=True)]
    about: dict[str, set[str]] = defaultdict(set)  # what the LLM reads -> the prompts, and the caption, in it
    for prompt, request in zip(prompts, requests, strict=True):
        about[_chat(template, request)[-1]["content"]] |= {text_hash(prompt.complex or ""), text_hash(request.caption)}
    with OutputCache(build.root, part, [row.key for row in rewritten.rows]) as cache:
        llm = CachedModels(models, cache, "rewrite", about=about.__getitem__).llm
        answers = _Answers(llm, template, settings, sorted(set(requests)), build.progress)
    for at, request in zip(rewritten.kept, requests, strict=True):
        sentences, dropped = answers.of(request)
        rewritten.set(at, rewrites=sentences, rewrite_dropped=dropped)
    return rewritten.rows


def _scene_keywords(prompt: Cleaned) -> list[str]:
    """The keywords that are not praise or provenance; all of them if there are no others."""
    keywords, praise = prompt.keywords or [], set(prompt.qualities or ())
    return [keyword for keyword in keywords if keyword not in praise] or keywords


def _chat(template: RewriteTemplate, request: _Request) -> list[Message]:
    return template.chat(request.scene, request.caption)


class _Request(NamedTuple):
    """A prompt's scene, and the caption beside it ("" for none)."""

    scene: str
    caption: str


class _Answers:
    """The LLM's sentences for each distinct request, and why other answers were not used."""

    def __init__(
        self,
        llm: ChatModel,
        template: RewriteTemplate,
        settings: RewriteConfig,
        requests: list[_Request],
        progress: UnitProgress,
    ) -> None:
        self._llm, self._template, self._settings = llm, template, settings
        self._sentences: dict[_Request, list[str]] = {request: [] for request in requests}
        self._reasons: dict[_Request, list[str]] = {request: [] for request in requests}
        progress.expect(*range(settings.k))
        for number in range(settings.k):
            count = progress.begin(len(requests), number)
            temperature = 0.0 if number == 0 else settings.temperature
            unusable = self._ask(requests, temperature, settings.seed + number, count)
            # A seed that no first try has; a higher temperature would only make the answers wilder.
            for request, why in self._ask(unusable, settings.temperature, settings.seed + settings.k + number).items():
                self._drop(request, why)

    def of(self, request: _Request) -> tuple[list[str], str | None]:
        return list(dict.fromkeys(self._sentences[request])), "; ".join(dict.fromkeys(self._reasons[request])) or None

    def _ask(
        self, requests: Iterable[_Request], temperature: float, seed: int, count: OnDone = uncounted
    ) -> dict[_Request, str]:
        """One answer per request; keeps the usable ones and returns why the others are not.

        A prompt without any answer is not tried again: the server has already been retried.
        """
        unusable: dict[_Request, str] = {}
        requests = list(requests)
        chats = [_chat(self._template, request) for request in requests]
        replies = self._llm.replies(
            chats,
            self._settings.max_new_tokens,
            temperature=temperature,
            seed=seed,
            batch_size=self._settings.batch_size,
            on_done=count,
        )
        for request, reply in zip(requests, replies, strict=True):
            if reply.text is None:
                self._drop(request, reply.why or "no answer")
                continue
            try:
                sentence = rewritten_sentence(
                    reply.text, request.scene, self._template, cut=reply.cut, caption=request.caption
                )
                self._sentences[request].append(sentence)
            except InvalidRewrite as reason:
                unusable[request] = str(reason)
        return unusable

    def _drop(self, request: _Request, why: str) -> None:
        self._reasons[request].append(why)
