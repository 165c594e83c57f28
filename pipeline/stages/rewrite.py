"""rewrite: turns kept complex prompts into plain sentences by asking the LLM."""

from __future__ import annotations

from collections.abc import Iterable

from surd.pipeline.build.folder import Build
from surd.pipeline.build.rows import StageRows
from surd.pipeline.models import Models
from surd.pipeline.models.chat import ChatModel
from surd.pipeline.sentences.plain_sentence import InvalidRewrite, plain_sentence, rewritten_sentence
from surd.pipeline.sentences.rewrite_template import RewriteTemplate, read_template
from surd.schemas import BuildConfig, Cleaned, Rewritten, Safe
from surd.schemas.config import RewriteConfig

__all__ = ["plain_sentence", "rewrite"]


def rewrite(build: Build, part: int, config: BuildConfig, models: Models) -> list[Rewritten]:
    """One partition's rewrites, up to ``rewrite.k`` different ones per prompt, the surest first.

    An answer that is no usable sentence is asked for once more, then dropped: ``rewrite_dropped`` says why.
    """
    settings = config.rewrite
    rewritten = StageRows(Rewritten, build.read_rows("safety", part, Safe))
    prompts = rewritten.of_kept(build.read_rows("clean", part, Cleaned))
    if not settings.enabled:
        return rewritten.rows
    template = read_template(settings.template)
    # A small LLM puts every word it is given into its sentence: what must not be in there, it is not given.
    scenes = [template.scene(_shown(prompt)) for prompt in prompts]
    answers = _Answers(models.llm, template, settings, sorted(set(scenes)))
    for at, scene in zip(rewritten.kept, scenes, strict=True):
        sentences, dropped = answers.of(scene)
        rewritten.set(at, rewrites=sentences, rewrite_dropped=dropped)
    return rewritten.rows


def _shown(prompt: Cleaned) -> list[str]:
    """The keywords that are not praise or provenance; all of them where there are no others."""
    keywords, praise = prompt.keywords or [], set(prompt.qualities or ())
    return [keyword for keyword in keywords if keyword not in praise] or keywords


class _Answers:
    """What the LLM made of each distinct prompt: sentences, and why other answers were not used."""

    def __init__(self, llm: ChatModel, template: RewriteTemplate, settings: RewriteConfig, prompts: list[str]) -> None:
        self._llm, self._template, self._settings = llm, template, settings
        self._sentences: dict[str, list[str]] = {prompt: [] for prompt in prompts}
        self._reasons: dict[str, list[str]] = {prompt: [] for prompt in prompts}
        for number in range(settings.k):
            unusable = self._ask(prompts, 0.0 if number == 0 else settings.temperature, settings.seed + number)
            # Another seed than any first try has; hotter would only be wilder.
            for prompt, why in self._ask(unusable, settings.temperature, settings.seed + settings.k + number).items():
                self._drop(prompt, why)

    def of(self, prompt: str) -> tuple[list[str], str | None]:
        return list(dict.fromkeys(self._sentences[prompt])), "; ".join(dict.fromkeys(self._reasons[prompt])) or None

    def _ask(self, prompts: Iterable[str], temperature: float, seed: int) -> dict[str, str]:
        """Ask once for each prompt, and keep what is usable; returns why answers that came are not.

        A prompt that got no answer is not asked again: the server has had its tries.
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
