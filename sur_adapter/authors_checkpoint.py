"""Import and export of checkpoints of the authors' code (github.com/Qrange-group/SUR-adapter).

Their file is a torch-saved dict of tensors under the names of ``SURAdapter``'s parts, and of two more that do not
affect the result: ``encoder_layer`` and ``attention.value_layer``. Strength is not in it, but in the name of the folder
they save to. Nothing is unpickled: torch reads only tensors.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sur_adapter.adapter import AttentionAxis, SURAdapter
from surd.schemas.errors import SurdError, one_line

HEADS = 8
DEAD = ("encoder_layer.", "attention.value_layer.")
_STRENGTH = re.compile(r"adapterw(\d*\.?\d+(?:e-?\d+)?)")
_LAYER = re.compile(r"transformer_encoder\.layers\.(\d+)\.")


class AuthorsAdapter(nn.Module):
    """Our ``adapter`` behind the call signature of the authors' class.

    ``dead`` are the tensors of their file that are unused, kept so that an export equals what was read.
    """

    def __init__(self, adapter: SURAdapter, dead: dict[str, Tensor]) -> None:
        super().__init__()
        self.adapter = adapter
        self.dead = dead

    def forward(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(mixed, encoder, output), each [B, T, width]: y, h and o."""
        out = self.adapter(x_BTD)
        return out.states, out.encoder_states, out.output


def load_authors_checkpoint(
    path: str | Path, strength: float | None = None, attention_axis: AttentionAxis = "batch"
) -> AuthorsAdapter:
    """Their adapter in eval mode, its width and depth those of the tensors.

    ``strength`` (eta) is read from a folder called ``..._adapterw0.1`` in ``path`` by default.
    ``attention_axis`` ``batch`` is what their class computes; ``self`` is that at one prompt a batch, which is how
    they trained, and does not make a prompt depend on its neighbours. Raises SurdError for any other file.
    """
    if strength is None:
        strength = strength_in(Path(path))
    tensors = _read(Path(path))
    live = {name: tensor.float() for name, tensor in tensors.items() if not name.startswith(DEAD)}
    layers = {int(match[1]) for name in live if (match := _LAYER.match(name))}
    try:
        adapter = SURAdapter(
            width=len(live["fc.bias"]),
            depth=len(layers),
            heads=HEADS,
            feed_forward=len(live["transformer_encoder.layers.0.linear1.bias"]),
            eta=strength,
            attention_axis=attention_axis,
            mask_padding=False,
            residual=False,
            objective="authors",
        )
        adapter.load_state_dict(live)
    except (KeyError, RuntimeError, AssertionError) as error:
        reason = one_line(error)
        raise SurdError(
            f"{path}: is not an adapter of the authors' code ({reason}); give their adapter checkpoint"
        ) from error
    dead = {name: tensor for name, tensor in tensors.items() if name.startswith(DEAD)}
    return AuthorsAdapter(adapter, dead).eval()


def export_authors_checkpoint(adapter: AuthorsAdapter | SURAdapter, path: str | Path) -> None:
    """Write an adapter as a file that the authors' class loads with ``strict=True``.

    Their unused tensors are those that were read, or others of the right shape. Raises SurdError for an
    adapter that their class cannot compute: one that is residual.
    """
    dead = adapter.dead if isinstance(adapter, AuthorsAdapter) else {}
    module = adapter.adapter if isinstance(adapter, AuthorsAdapter) else adapter
    if module.config["residual"]:
        raise SurdError("export: the authors' class has no residual output; train with --objective authors")
    state = {name: tensor for name, tensor in module.state_dict().items() if not name.startswith("llm_")}
    if not dead:
        first = "transformer_encoder.layers.0."
        dead = {name.replace(first, DEAD[0]): x for name, x in state.items() if name.startswith(first)}
        for kind in ("weight", "bias"):
            dead[f"{DEAD[1]}{kind}"] = torch.zeros_like(state[f"fc.{kind}"])
    whole = {name: tensor.detach().cpu().clone() for name, tensor in (dead | state).items()}
    torch.save(whole, path)


def strength_in(path: Path) -> float:
    """The strength in the name of the authors' folder; SurdError if there is none."""
    strengths = _STRENGTH.findall(str(path))
    if not strengths:
        raise SurdError(f"{path}: names no strength, as in '..._adapterw0.1/'; pass strength=0.1")
    return float(strengths[-1])


def _read(path: Path) -> dict[str, Tensor]:
    try:
        tensors: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise SurdError(f"{path}: the file is missing; give the authors' adapter checkpoint") from error
    except Exception as error:  # torch on a foreign or damaged file raises all sorts
        reason = (str(error).splitlines() or ["empty"])[0]
        raise SurdError(f"{path}: does not hold only tensors ({reason}); give the authors' checkpoint") from error
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise SurdError(f"{path}: is not a dict of tensors; give the authors' adapter checkpoint")
    return {str(name).removeprefix("module."): tensor for name, tensor in tensors.items()}
