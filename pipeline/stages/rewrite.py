"""Stage rewrite: plain sentences from complex prompts by the LLM."""

from __future__ import annotations

from collections.abc import Iterable

from surd.pipeline.build.folder import Build
from surd.pipeline.build.rows import StageRows
from surd.pipeline.models import Models
from surd.pipeline.models.chat import ChatModel
from surd.pipeline.sentences.plain_sentence import InvalidRewrite, rewritten_sentence
from surd.pipeline.sentences.rewrite_template import RewriteTemplate, read_template
from surd.schemas import BuildConfig, Cleaned, Rewritten, Safe
from surd.schemas.config import RewriteConfig


def rewrite(build: Build, part: int, config: BuildConfig, models: Models) -> list[Rewritten]:
    """One partition's rewrites, up to ``rewrite.k`` different ones per prompt, the surest first.

    After an unusable answer the prompt is tried once more, then dropped: ``rewrite_dropped`` gives the reason.
    """
    settings = config.rewrite
    rewritten = StageRows(Rewritten, build.read_rows("safety", part, Safe))
    prompts = rewritten.of_kept(build.read_rows("clean", part, Cleaned))
    if not settings.enabled:
        return rewritten.rows
    template = read_template(settings.template)
    # A small LLM puts every word of its input into the sentence: words that must not be in it are left out.
    scenes = [template.scene(_scene_keywords(prompt)) for prompt in prompts]
    answers = _Answers(models.llm, template, settings, sorted(set(scenes)))
    for at, scene in zip(rewritten.kept, scenes, strict=True):
        sentences, dropped = answers.of(scene)
        rewritten.set(at, rewrites=sentences, rewrite_dropped=dropped)
    return rewritten.rows


def _scene_keywords(prompt: Cleaned) -> list[str]:
    """The keywords that are not praise or provenance; all of them if there are no others."""
    keywords, praise = prompt.keywords or [], set(prompt.qualities or ())
    return [keyword for keyword in keywords if keyword not in praise] or keywords


class _Answers:
    """The LLM's sentences for each distinct prompt, and why other answers were not used."""

    def __init__(self, llm: ChatModel, template: RewriteTemplate, settings: RewriteConfig, prompts: list[str]) -> None:
        self._llm, self._template, self._settings = llm, template, settings
        self._sentences: dict[str, list[str]] = {prompt: [] for prompt in prompts}
        self._reasons: dict[str, list[str]] = {prompt: [] for prompt in prompts}
        for number in range(settings.k):
            unusable = self._ask(prompts, 0.0 if number == 0 else settings.temperature, settings.seed + number)
            # A seed that no first try has; a higher temperature would only make the answers wilder.
            for prompt, why in self._ask(unusable, settings.temperature, settings.seed + settings.k + number).items():
                self._drop(prompt, why)

    def of(self, prompt: str) -> tuple[list[str], str | None]:
        return list(dict.fromkeys(self._sentences[prompt])), "; ".join(dict.fromkeys(self._reasons[prompt])) or None

    def _ask(self, prompts: Iterable[str], temperature: float, seed: int) -> dict[str, str]:
        """One answer per prompt; keeps the usable ones and returns why the others are not.

        A prompt without any answer is not tried again: the server has already been retried.
        """
        unusable: dict[str, str] = {}
        prompts = list(prompts)
        chats = [self._template.chat(prompt) for prompt in prompts]
        replies = self._llm.replies(
            chats,
            self._settings.max_new_tokens,
            temperature=temperature,
            seed=seed,
            batch_size=self._settings.batch_size,
        )
        for prompt, reply in zip(prompts, replies, strict=True):
            if reply.text is None:
                self._drop(prompt, reply.why or "no answer")
                continue
            try:
                self._sentences[prompt].append(rewritten_sentence(reply.text, prompt, self._template, cut=reply.cut))
            except InvalidRewrite as reason:
                unusable[prompt] = str(reason)
        return unusable

    def _drop(self, prompt: str, why: str) -> None:
        self._reasons[prompt].append(why)
