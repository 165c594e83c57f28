"""Which precision a device computes in."""

from __future__ import annotations

import torch


def computes_bfloat16(device: str | torch.device) -> bool:
    """Whether the hardware behind a torch device computes in bfloat16; where it does not, float32 is the faster."""
    kind = torch.device(device).type
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    features = torch.cpu.get_capabilities() if kind == "cpu" else {}
    return bool(features.get("avx512_bf16") or features.get("amx_bf16") or features.get("bf16"))
