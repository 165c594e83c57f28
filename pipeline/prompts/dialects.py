"""The syntax that a prompt is written in: known from the tool, else only if the text can be no other.

The common syntax is the A1111 web UI's, which most tools share: what others write as ``1.5::fox::`` or ``fox++`` is no
weight there but letters. So such marks count only in the prompts of NovelAI and InvokeAI, and in those of an unknown
tool if they have no mark of another syntax.
"""

from __future__ import annotations

import re
from typing import Literal

from surd.pipeline.prompts import compel, novelai

Dialect = Literal["common", "compel", "novelai"]
_DIALECTS: dict[str, Dialect] = {
    "NovelAI": "novelai",
    "InvokeAI": "compel",
    "AUTOMATIC1111": "common",
    "Civitai": "common",
    "SD.Next": "common",
    "Fooocus": "common",
    "SwarmUI": "common",
    "Draw Things": "common",
    "Midjourney": "common",
    "Mochi Diffusion": "common",
}
_PARSER = re.compile(r'"Parser":"([^"]{1,60})"')  # SD.Next's choice of a syntax, in params as they are stored
_PLAIN_MODEL = re.compile(r'"base":"(?:flux|sd-3|cogview|qwen|z-image)')  # for which InvokeAI does not use compel
_ANY_MARK = re.compile(r"::|\+|[)\"]\.|\)[0-9]|\.swap\(|\.attend\(|Lora\(")
#: Weights, LoRA tags and region words of the common syntax, and Midjourney's flags and weights.
_COMMON = re.compile(
    r"(?<!:):[ ]{0,3}[0-9.]{1,8}[ ]{0,3}\)|<(?:lora|lyco|hypernet):|(?<!\w)(?:BREAK|ADD(?:COMM|BASE|COL|ROW))(?!\w)"
    r"|(?<!\S)--(?:ar|aspect|v|version|niji|s|stylize|no|q|quality|c|chaos|iw|tile|style)\b|\w[ ]?::[ ]?[0-9]"
)


def dialect_of(tool: str | None, params: str | None = None) -> Dialect | None:
    """The syntax that a tool reads, by its name and its parameters (JSON as stored), or None if that is not known."""
    if tool == "SD.Next" and (parser := _PARSER.search(params or "")):
        return "compel" if "compel" in parser[1].lower() else "common"
    if tool == "InvokeAI" and _PLAIN_MODEL.search(params or ""):
        return "common"
    return _DIALECTS.get(tool or "")


def evident_dialect(text: str) -> Dialect:
    """The syntax whose marks a text has, if it has none of another one; else the common one."""
    if not _ANY_MARK.search(text):  # most texts
        return "common"
    if compel.FUNCTION.search(text):
        return "compel"
    if _COMMON.search(text):
        return "common"
    if novelai.EVIDENT.search(text):
        return "novelai"
    return "compel" if compel.MARK.search(text) else "common"


def to_common(text: str, dialect: Dialect) -> str:
    """The same prompt in the common syntax."""
    if dialect == "novelai":
        return novelai.to_common(text)
    return compel.to_common(text) if dialect == "compel" else text
