"""The LLM in process: answers to chats, and hidden states of sentences (``hidden_states``)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LogitsProcessorList

from surd.pipeline.batching import batched
from surd.pipeline.models.chat import Chat, ChatModel, Message, Reply, reply_of
from surd.pipeline.models.chat_template import ChatWriter
from surd.pipeline.models.counting import OnDone, uncounted
from surd.pipeline.models.prefix_cache import PrefixStates, Tokens
from surd.pipeline.models.sampling import SeededSampling, row_seed
from surd.pretrained.batch_limit import BatchLimit
from surd.pretrained.hidden_states import HiddenStates, padding_token
from surd.pretrained.language_model import load_language_model

__all__ = ["LLM", "Message"]
_TOP_P = 0.9
_STEP = 16  # tokens


class LLM(ChatModel):
    """Any transformers causal LM: a folder, a hub id, or one ``.gguf`` file.

    ``prefixes``: how many few-shot prefixes keep their keys and values; 0 reads every prompt from its beginning.
    """

    def __init__(self, ref: str, device: str, dtype: str, prefixes: int = 4) -> None:
        model, tokenizer = load_language_model(AutoModelForCausalLM, ref, getattr(torch, dtype))
        self._tokenizer: Any = tokenizer
        self._model = model.to(device)
        self._device = device
        eos = self._model.generation_config.eos_token_id
        self._ends = set(eos if isinstance(eos, list) else [eos]) - {None}
        self._padding = padding_token(self._tokenizer, self._ends)
        self._written = ChatWriter(self._tokenizer)
        self._prefixes = PrefixStates(self._model, device, prefixes)
        self._limit = BatchLimit("models.llm", "name a smaller model, or lower rewrite.max_new_tokens")
        self._head = lru_cache(maxsize=8)(self._head_tokens)
        self.hidden_states = HiddenStates(self._model, self._tokenizer, device)

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
        """See ChatModel. A model without a chat template sees the messages as plain text."""
        prompts = [self._tokens(chat) for chat in chats]
        groups: dict[tuple[Tokens, int], list[int]] = defaultdict(list)
        for at, (chat, prompt) in enumerate(zip(chats, prompts, strict=True)):
            prefix = self._head(json.dumps(list(chat[:-1]))) if self._prefixes.usable and len(chat) > 1 else ()
            prefix = prefix if prompt[: len(prefix)] == prefix != prompt else ()
            groups[prefix, self._padded(len(prompt) - len(prefix))].append(at)
        found: dict[int, Reply] = {}
        for (prefix, width), members in groups.items():
            # Rows of like length together, so that little of a batch is padding.
            for batch in batched(sorted(members, key=lambda at: (len(prompts[at]), prompts[at])), batch_size):

                def compute(rows: Sequence[int], prefix: Tokens = prefix, width: int = width) -> list[list[int]]:
                    seeds = [row_seed(seed, prompts[at]) for at in rows] if temperature > 0 else []
                    rest = [prompts[at][len(prefix) :] for at in rows]
                    return self._generate(prefix, rest, width, max_new_tokens, temperature, seeds)

                tokens = chain.from_iterable(self._limit.run(compute, batch))
                found |= {at: self._reply(of_row) for at, of_row in zip(batch, tokens, strict=True)}
                on_done(len(batch))
        return [found[at] for at in range(len(chats))]

    @torch.inference_mode()
    def _generate(
        self,
        prefix: Tokens,
        rest: Sequence[Tokens],
        width: int,
        max_new_tokens: int,
        temperature: float,
        seeds: Sequence[int],
    ) -> list[list[int]]:
        """New tokens of one batch whose rows all begin with ``prefix``; greedy without ``seeds``. ``width``: what the
        rest of each row is padded to; 0: to the longest.

        Padding lies between the prefix and a row's own tokens. The mask hides it, and positions are counted along the
        mask, so that a row sees what it would see alone.
        """
        width = width or max(len(row) for row in rest)
        padding = self._padding
        tokens = [[*prefix, *[padding] * (width - len(row)), *row] for row in rest]
        mask = [[1] * len(prefix) + [0] * (width - len(row)) + [1] * len(row) for row in rest]
        how: dict[str, Any] = {"do_sample": False}
        if seeds:
            sampling = SeededSampling(seeds, temperature, _TOP_P)
            how = {"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0}
            how["logits_processor"] = LogitsProcessorList([sampling])
        if prefix:
            how["past_key_values"] = self._prefixes.expanded(prefix, len(rest))
        generated = self._model.generate(
            torch.tensor(tokens, device=self._device),
            attention_mask=torch.tensor(mask, device=self._device),
            max_new_tokens=max_new_tokens,
            pad_token_id=padding,
            **how,
        )
        new: list[list[int]] = generated[:, len(prefix) + width :].tolist()
        return new

    def _padded(self, length: int) -> int:
        """What a row of that length is padded to, on a CPU: then it does not depend on the rows beside it, not even in
        the last bits. A GPU adds up a larger batch in another order anyway, and wants it full: 0."""
        return 0 if torch.device(self._device).type == "cuda" else -(-length // _STEP) * _STEP

    def _reply(self, tokens: list[int]) -> Reply:
        end = next((at for at, token in enumerate(tokens) if token in self._ends), None)
        # Special tokens stay in the text: an answer that plays several roles of a chat should look like one.
        return reply_of(self._tokenizer.decode(tokens[:end], skip_special_tokens=False), cut=end is None)

    def _tokens(self, chat: Chat) -> Tokens:
        return self._written.tokens(chat) or (self._padding,)

    def _head_tokens(self, head: str) -> Tokens:
        """The tokens that every chat beginning with the messages ``head`` (JSON) begins with, whatever comes last."""
        probes = [self._tokens([*json.loads(head), {"role": "user", "content": text}]) for text in ("A", "0", "")]
        shortest = min(probes, key=len)
        same = (at for at in range(len(shortest)) if len({probe[at] for probe in probes}) > 1)
        return shortest[: next(same, len(shortest))]
