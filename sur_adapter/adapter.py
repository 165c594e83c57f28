"""SUR-adapter: enriches a frozen text encoder's states of a simple prompt before they reach the UNet.

An LLM may teach it in training (``distil``), be read with every prompt (``attach``, see ``resampler.py``), or both; or
the adapter only puts what an LLM has read into the words of prompts (``translate``, see ``translator.py``).

The network is the one of arXiv 2305.05189 (section "SUR-adapter"), by default with three deliberate differences from
its authors' code: attention runs over the tokens of one prompt, padding is masked, and an untrained adapter is exactly
the identity. Options give the authors' network exactly (``authors_checkpoint.py`` reads and writes their files).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.outputs import BaseOutput
from torch import Tensor, nn

from sur_adapter.resampler import Connector, LLMAttachment
from sur_adapter.translator import PromptTranslator

LLMRole = Literal["distil", "attach", "both", "translate"]
AttentionAxis = Literal["token", "batch", "self"]
Projection = Literal["learned", "random"]


@dataclass
class SURAdapterOutput(BaseOutput):
    """``states`` [B, T, width] condition the UNet; ``encoder_states`` [B, T, width] are compared with the LLM;
    ``output`` [B, T, width] is what was mixed into the prompt's own states; ``llm_target`` [B, 1 or T, width] is the
    projected LLM state, None if none was given. Of an adapter that translates only ``translation`` [B, T, vocabulary]:
    logits of the token after each of the prompt's."""

    # None by default: so accelerate can rebuild the output when it turns half precision into float32.
    states: Tensor = None  # type: ignore[assignment]
    encoder_states: Tensor = None  # type: ignore[assignment]
    output: Tensor = None  # type: ignore[assignment]
    llm_target: Tensor | None = None
    translation: Tensor | None = None


class AdapterAttention(nn.Module):
    """One attention head: queries are the encoder's states, keys and values the prompt's own states."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query_layer = nn.Linear(width, width)
        self.key_layer = nn.Linear(width, width)
        self.output_layer = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, x_BTD: Tensor, h_BTD: Tensor, padding_BT: Tensor | None) -> Tensor:
        scores_BTT = self.query_layer(h_BTD) @ self.key_layer(x_BTD).transpose(1, 2) / x_BTD.shape[-1] ** 0.5
        if padding_BT is not None:
            scores_BTT = scores_BTT.masked_fill(padding_BT[:, None, :], float("-inf"))
        u_BTD = scores_BTT.softmax(dim=-1) @ x_BTD + x_BTD
        return u_BTD + self.output_layer(u_BTD)


class SURAdapter(ModelMixin, ConfigMixin):  # type: ignore[misc]  # both of diffusers, which disagree on a type
    """The adapter: ``h = encoder(x)``, ``r = attention(h, x)``, ``o = x + fc(r)``, ``y = eta*o + (1 - eta)*x``.

    ``fc`` starts at zero in weight and bias and ``o`` is residual in ``x``. So an untrained adapter returns its input
    bit for bit, whatever ``eta`` is, and training starts from the base model's own quality. (In the authors' code
    ``o = fc(r)`` with a random bias: their start mixes noise into every prompt.)

    Submodules have the authors' key names. Saved with ``save_pretrained`` as safetensors and a config that holds
    everything needed to use it, strength included; ``from_pretrained`` gives it back with dropout off.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        width: int = 768,
        llm_width: int | None = None,
        depth: int = 2,
        heads: int = 8,
        feed_forward: int = 2048,
        dropout: float = 0.1,
        eta: float = 0.1,
        attention_axis: AttentionAxis = "token",
        mask_padding: bool = True,
        residual: bool = True,
        projection: Projection = "learned",
        llm_standardise: bool = True,
        base_model: str | None = None,
        llm_column: str | None = None,
        llm_model: str | None = None,
        objective: str | None = None,
        llm_role: LLMRole = "distil",
        connector: Connector = "timestep",
        connector_depth: int = 2,
        queries: int = 32,
        llm_layer: int | None = None,
        llm_pooling: str | None = None,
        llm_revision: str | None = None,
        translator_width: int = 256,
        vocabulary: int | None = None,
        prompt_start: int | None = None,
        prompt_end: int | None = None,
    ) -> None:
        """``width`` is the text encoder's, ``llm_width`` the LLM's (None: no LLM projection).

        ``attention_axis``: the encoder lets a token attend to the tokens of its prompt (``token``), to the tokens at
        its place in the other prompts of the batch (``batch``, the authors' class) or to itself alone (``self``, what
        the authors' class comes to at one prompt a batch, which is how they trained it).
        ``residual`` false: ``o = fc(r)``, as the authors have it. ``projection`` (the LLM's) ``random``: never trained.
        ``llm_role`` attach or both: the text states read the LLM through a ``connector`` of ``connector_depth`` blocks
        and ``queries`` tokens. ``llm_model``, ``llm_layer`` (None: the mean over all), ``llm_pooling`` and
        ``llm_revision`` say whose states these are.
        ``llm_role`` translate: a decoder of ``translator_width`` and ``connector_depth`` layers, and nothing else;
        prompts are tokens of a ``vocabulary``, between ``prompt_start`` and ``prompt_end``.
        ``base_model``, ``llm_column`` and ``objective`` record what the adapter was trained on; they change nothing.
        """
        super().__init__()
        if attention_axis not in ("token", "batch", "self"):
            raise ValueError(f"attention_axis must be 'token', 'batch' or 'self', not {attention_axis!r}")
        self.translator, self.llm_projection, self.attachment = None, None, None
        if llm_width is None and llm_role != "distil":
            raise ValueError(f"llm_role is {llm_role!r}: llm_width must say how wide the LLM's states are")
        if llm_width is not None:
            self.register_buffer("llm_mean", torch.zeros(llm_width))
            self.register_buffer("llm_std", torch.ones(llm_width))
        if llm_role == "translate":
            if llm_width is None or vocabulary is None or prompt_start is None or prompt_end is None:
                raise ValueError("llm_role is 'translate': vocabulary, prompt_start and prompt_end must be given")
            self.translator = PromptTranslator(
                llm_width, vocabulary, prompt_end, translator_width, connector_depth, dropout
            )
            return
        layer = nn.TransformerEncoderLayer(width, heads, feed_forward, dropout, activation="relu", batch_first=True)
        self.transformer_encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.attention = AdapterAttention(width)
        self.fc = nn.Linear(width, width)
        nn.init.zeros_(self.fc.weight)
        if residual:
            nn.init.zeros_(self.fc.bias)
        if llm_width is not None and llm_role != "attach":
            self.llm_projection = nn.Linear(llm_width, width, bias=False)
            self.llm_projection.requires_grad_(projection == "learned")
        if llm_role != "distil" and llm_width is not None:
            self.attachment = LLMAttachment(width, llm_width, connector, connector_depth, queries)

    @property
    def reads_llm(self) -> bool:
        """Whether an LLM is read with every prompt."""
        return self.attachment is not None or self.translator is not None

    def forward(
        self,
        x_BTD: Tensor,
        mask_BT: Tensor | None = None,
        llm: Tensor | None = None,
        llm_mask_BL: Tensor | None = None,
        timesteps_B: Tensor | None = None,
        prompt_BT: Tensor | None = None,
    ) -> SURAdapterOutput:
        """Adapt text states.

        ``x_BTD`` [B, T, width]: the text encoder's states. ``mask_BT`` [B, T]: nonzero where a token is real, zero
        where it is padding; padding is adapted too but not attended to. ``llm``, only when training (projected
        here so that DDP sees the projection's gradient): LLM states, pooled [B, llm_width], or of L tokens
        [B, L, llm_width] with ``llm_mask_BL`` [B, L], nonzero where a token is real. With ``timesteps_B`` [B] the
        states are those that a denoiser gets at these timesteps, the attached LLM's share included: none in rows whose
        mask is all zeros.

        Of an adapter that translates, ``x_BTD`` and ``mask_BT`` are the LLM's states of tokens and their mask, and
        ``prompt_BT`` the tokens of the prompts that it learns to write.
        """
        if self.translator is not None:
            assert mask_BT is not None and prompt_BT is not None, "a translation is learned from prompts"
            return SURAdapterOutput(translation=self.translator(self.standardised(x_BTD), mask_BT, prompt_BT))
        padding_BT = ~mask_BT.bool() if mask_BT is not None and self.config["mask_padding"] else None
        h_BTD = self._encode(x_BTD, padding_BT)
        o_BTD = self.fc(self.attention(x_BTD, h_BTD, padding_BT)).to(x_BTD.dtype)
        if self.config["residual"]:
            o_BTD = x_BTD + o_BTD
        # lerp, not eta*o + (1-eta)*x: the same number, but exactly x where o equals x.
        y_BTD = torch.lerp(x_BTD, o_BTD, self.config["eta"])
        if self.attachment is not None and llm is not None and timesteps_B is not None:
            assert llm_mask_BL is not None, "an attached LLM is read token by token"
            y_BTD = self.attach(y_BTD, self.carry(llm, llm_mask_BL), timesteps_B)
        target = None
        if llm is not None and self.llm_projection is not None:
            target = self.project_llm(llm) if llm.ndim == 2 else self.project_llm(llm, llm_mask_BL, mask_BT)
        return SURAdapterOutput(states=y_BTD, encoder_states=h_BTD, output=o_BTD, llm_target=target)

    def carry(self, llm_BLW: Tensor, llm_mask_BL: Tensor) -> Tensor:
        """LLM states of tokens [B, L, llm_width] as ``attach`` reads them, [B, 1 + L, width]; zeros where none is."""
        assert self.attachment is not None, "this adapter reads no LLM"
        carried: Tensor = self.attachment.project(self.standardised(llm_BLW), llm_mask_BL)
        return carried

    def write(self, llm_BLW: Tensor, llm_mask_BL: Tensor) -> list[list[int]]:
        """The prompts, as tokens, for an LLM's states of sentences [B, L, llm_width] and their mask [B, L]; none for a
        sentence without tokens."""
        assert self.translator is not None, "this adapter does not translate"
        rows = self.translator.write(self.standardised(llm_BLW), llm_mask_BL, self.config["prompt_start"])
        return [row if there else [] for row, there in zip(rows, llm_mask_BL.any(dim=1).tolist(), strict=True)]

    def standardised(self, llm: Tensor) -> Tensor:
        """The LLM's states to a mean of 0 and a standard deviation of 1 over the data set."""
        scaled: Tensor = (llm - self.llm_mean) / self.llm_std
        return scaled

    def attach(self, y_BTD: Tensor, carried_BLD: Tensor, timesteps_B: Tensor) -> Tensor:
        """Adapted text states [B, T, width] with what they read of the LLM at ``timesteps_B`` [B] (or one for all)."""
        assert self.attachment is not None, "this adapter reads no LLM"
        read_BTD: Tensor = self.attachment(y_BTD, carried_BLD, timesteps_B)
        return y_BTD + self.config["eta"] * read_BTD

    def _encode(self, x_BTD: Tensor, padding_BT: Tensor | None) -> Tensor:
        axis = self.config["attention_axis"]
        if axis == "batch":
            return self.transformer_encoder(x_BTD.transpose(0, 1)).transpose(0, 1)
        if axis == "self":
            return self.transformer_encoder(x_BTD.flatten(0, 1)[:, None]).view_as(x_BTD)
        return self.transformer_encoder(x_BTD, src_key_padding_mask=padding_BT)

    def project_llm(self, llm: Tensor, llm_mask_BL: Tensor | None = None, mask_BT: Tensor | None = None) -> Tensor:
        """LLM states as targets of the text states: pooled [B, llm_width] -> [B, 1, width]; tokens [B, L, llm_width]
        -> [B, T, width], laid over the T text tokens of which ``mask_BT`` are real.

        Standardised by ``llm_mean`` and ``llm_std``, projected, normalised. Projection and encoder are both learned,
        so they could agree on one constant and distil nothing. Targets of zero mean over the data set, no bias and a
        fixed scale leave no such constant. (Raw pooled LLM states are also nearly parallel for all prompts, with a
        few coordinates hundreds of times larger than the rest.) Without ``llm_standardise`` only projected.
        """
        assert self.llm_projection is not None, "this adapter was made without llm_width"
        if not self.config["llm_standardise"]:
            projected = self.llm_projection(llm)
        else:
            projected = self.llm_projection(self.standardised(llm))
        if llm.ndim == 2:
            projected = projected[:, None, :]
        else:
            assert llm_mask_BL is not None and mask_BT is not None, "states of tokens come with both masks"
            projected = align_tokens(projected, llm_mask_BL, mask_BT)
        return F.layer_norm(projected, projected.shape[-1:]) if self.config["llm_standardise"] else projected


def align_tokens(llm_BLD: Tensor, llm_mask_BL: Tensor, mask_BT: Tensor) -> Tensor:
    """States of L LLM tokens laid over T text tokens, [B, L, D] -> [B, T, D], in each row first to last real token.

    Two tokenizers cut one sentence differently, but both keep its order: the text token a share s into the prompt
    is paired with the LLM's states a share s into it, blended from the two tokens on either side. Padding
    repeats the last.
    """
    last_B1 = (llm_mask_BL.bool().sum(dim=1, keepdim=True) - 1).clamp(min=0)
    length_B1 = (mask_BT.bool().sum(dim=1, keepdim=True) - 1).clamp(min=1)
    share_BT = (torch.arange(mask_BT.shape[1], device=mask_BT.device) / length_B1).clamp(max=1)
    position_BT = share_BT * last_B1
    below_BT = position_BT.long()
    above_BT = torch.minimum(below_BT + 1, last_B1)
    width = llm_BLD.shape[-1]
    left, right = (llm_BLD.gather(1, position[..., None].expand(-1, -1, width)) for position in (below_BT, above_BT))
    return torch.lerp(left, right, (position_BT - below_BT)[..., None].to(left.dtype))
