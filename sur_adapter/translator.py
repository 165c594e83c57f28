"""How an adapter puts a sentence into the words of prompts: a small decoder reads an LLM's states of the sentence and
writes a prompt, token by token, in the vocabulary of the base model's own tokenizer.

The frozen text encoder reads that prompt in the sentence's place, so its states lie among those that the denoiser
knows, which states that are computed directly need not do. What was written can be read, and is decided once a prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sur_adapter.resampler import head_count, positions

#: Tokens of a written prompt at most, as many as CLIP reads; T5 would read more than pictures can show.
MOST_WRITTEN = 77
#: Share of the LLM's numbers that training leaves out: a word's state is then not known by a few of them.
STATE_DROPOUT = 0.5
#: Of the embeddings of written tokens before training: small beside those of their places.
WORD_STD = 0.16


class PromptTranslator(nn.Module):
    """Logits of the next token of a prompt, given the LLM's states of a sentence and the tokens before it.

    A transformer decoder (arXiv 1706.03762) of pre-normed layers, whose memory is the LLM's tokens and their mean.
    Before training it writes nothing.
    """

    def __init__(self, llm_width: int, vocabulary: int, end: int, width: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.end, self.width = end, width
        self.thin = nn.Dropout(STATE_DROPOUT)
        self.input = nn.Sequential(nn.LayerNorm(llm_width), nn.Linear(llm_width, width))
        # Means of states are much alike: only beside those of other sentences does it show what each of them says.
        self.compare = nn.BatchNorm1d(llm_width, affine=False)
        self.summary = nn.Linear(llm_width, width)
        self.words = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.words.weight, std=WORD_STD)
        layer = nn.TransformerDecoderLayer(
            width, head_count(width), 4 * width, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.decoder = nn.TransformerDecoder(layer, depth, norm=nn.LayerNorm(width))
        self.head = nn.Linear(width, vocabulary)

    def forward(self, llm_BLW: Tensor, mask_BL: Tensor, prompt_BT: Tensor) -> Tensor:
        """Logits [B, T, vocabulary] of the token after each of ``prompt_BT``. ``llm_BLW``: standardised states of L
        tokens, of which ``mask_BL`` (true or 1) are real."""
        return self._write(*self._memory(llm_BLW, mask_BL.bool()), prompt_BT)

    @torch.no_grad()
    def write(self, llm_BLW: Tensor, mask_BL: Tensor, start: int) -> list[list[int]]:
        """The likeliest token after the likeliest, until the prompt ends: the tokens between start and end."""
        if not self.compare.num_batches_tracked:  # never trained
            return [[] for _ in llm_BLW]
        memory = self._memory(llm_BLW, mask_BL.bool())
        prompt_BT = torch.full((len(llm_BLW), 1), start, device=llm_BLW.device)
        is_open_B = torch.ones(len(llm_BLW), dtype=torch.bool, device=llm_BLW.device)
        while is_open_B.any() and prompt_BT.shape[1] < MOST_WRITTEN:
            logits_BV = self._write(*memory, prompt_BT)[:, -1]
            likeliest = logits_BV.max(dim=-1)
            is_open_B &= likeliest.values > logits_BV[:, self.end]
            prompt_BT = torch.cat([prompt_BT, likeliest.indices.where(is_open_B, self.end)[:, None]], dim=1)
        rows = prompt_BT[:, 1:].tolist()
        return [row[: row.index(self.end)] if self.end in row else row for row in rows]

    def _memory(self, llm_BLW: Tensor, mask_BL: Tensor) -> tuple[Tensor, Tensor]:
        """What is read of the LLM [B, L + 1, width], tokens and their mean, and where it is real."""
        mask_BL1 = mask_BL[..., None].to(llm_BLW.dtype)
        mean_BW = (llm_BLW * mask_BL1).sum(dim=1) / mask_BL1.sum(dim=1).clamp(min=1)
        tokens_BLD = self.input(self.thin(llm_BLW)) + positions(llm_BLW.shape[1], self.width).to(llm_BLW)
        summary_BD = self.summary(self.thin(self.compare(mean_BW)))
        real_BL = torch.cat([mask_BL, mask_BL.new_ones(len(mask_BL), 1)], dim=1)
        return torch.cat([tokens_BLD, summary_BD[:, None]], dim=1), real_BL

    def _write(self, memory_BLD: Tensor, real_BL: Tensor, prompt_BT: Tensor) -> Tensor:
        length = prompt_BT.shape[1]
        x_BTD = self.words(prompt_BT)
        x_BTD = x_BTD + positions(length, self.width).to(x_BTD)
        later = torch.ones(length, length, dtype=torch.bool, device=x_BTD.device).triu(1)
        x_BTD = self.decoder(x_BTD, memory_BLD, tgt_mask=later, tgt_is_causal=True, memory_key_padding_mask=~real_BL)
        return self.head(x_BTD)


@dataclass(frozen=True)
class PromptTokens:
    """Prompts as the tokens that a translator writes, and back; ``tokenizer`` is the base model's (first) one."""

    tokenizer: Any

    @property
    def vocabulary(self) -> int:
        return len(self.tokenizer)

    @property
    def start(self) -> int:
        """The token before the first one: T5 has none of its own, and its models start with padding."""
        found = self.tokenizer.bos_token_id
        return int(self.tokenizer.pad_token_id if found is None else found)

    @property
    def end(self) -> int:
        return int(self.tokenizer.eos_token_id)

    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokens [B, T] from start to end, cut to ``MOST_WRITTEN``, and their mask [B, T], true where one is real."""
        rows = self.tokenizer(list(prompts), add_special_tokens=False, verbose=False).input_ids
        rows = [[self.start, *row[: MOST_WRITTEN - 2], self.end] for row in rows]
        mask_BT = torch.arange(max(map(len, rows))) < torch.tensor([len(row) for row in rows])[:, None]
        tokens_BT = torch.full(mask_BT.shape, self.end)
        tokens_BT[mask_BT] = torch.tensor([token for row in rows for token in row])
        return tokens_BT, mask_BT

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """The prompts of written tokens, without what they say a second time: a decoder that takes the likeliest token
        each time may repeat its last keywords until it has no room left."""
        texts = self.tokenizer.batch_decode(rows, skip_special_tokens=True)
        return [", ".join(dict.fromkeys(part for each in text.split(",") if (part := each.strip()))) for text in texts]
