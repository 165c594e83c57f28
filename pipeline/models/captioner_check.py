"""Whether a captioner can be asked what the config asks, from its config files alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surd.pipeline.models.captioner_families import BY_TASK, TEXTLESS, UNPROMPTED
from surd.pipeline.models.model_files import ModelFiles, model_files
from surd.schemas import BuildConfig
from surd.schemas.errors import one_line
from surd.schemas.model_ref import server_ref

_PROBE = "What is this?"
#: Stands in a message's part where no template looks: one that writes it out takes the whole message for a text.
_MARK = "surd-mark"


def captioner_family(config: BuildConfig) -> tuple[str, bool]:
    """``model_type`` of the captioner ("" of a server), and whether it has to be asked."""
    if server_ref(config.models.captioner):
        return "", True
    kind = captioner_files(config).read_json("config.json").get("model_type")
    return str(kind), kind not in UNPROMPTED


def captioner_files(config: BuildConfig) -> ModelFiles:
    """The files of the captioner in process."""
    return model_files("models.captioner", config.models.captioner)


def check_captioner_kind(files: ModelFiles, config: BuildConfig) -> None:
    """Raises SurdError when a model does not turn an image into text, or cannot be asked what the config asks."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as NAMES

    settings = files.read_json("config.json")
    kind = settings.get("model_type")
    if kind not in NAMES:
        raise files.fault(f"it is a {kind!r}, which is no image-to-text model; name one such as BLIP")
    has, needed = settings.get("architectures"), NAMES[str(kind)]
    if isinstance(has, list) and has and isinstance(needed, str) and needed not in has:
        raise files.fault(f"it is a {has[0]!r}, which writes no captions; name a {needed}")
    if kind in TEXTLESS and config.caption.prompt:
        raise files.fault(f"a {kind!r} takes no text; set caption.prompt to null, or name a captioner that takes one")
    most = _most_tokens(settings)
    if kind in UNPROMPTED and most and config.caption.max_new_tokens > most:
        raise files.fault(f"it writes at most {most} tokens; set caption.max_new_tokens to that or less")
    if kind not in UNPROMPTED and kind not in BY_TASK:
        _check_chat_template(files, str(kind), config)


def _check_chat_template(files: ModelFiles, kind: str, config: BuildConfig) -> None:
    template = chat_template(files)
    if template is None:
        if config.caption.prompt or config.caption.templates:
            return  # the user's own words, as this model reads them
        raise files.fault(
            f"a {kind!r} answers in a chat, and among its files is no chat template (chat_template.jinja); add it, or"
            " set caption.prompt to a whole prompt as this model reads it"
        )
    picture, question = {"type": "image", "mark": _MARK}, {"type": "text", "text": _PROBE}
    try:
        with_picture = _rendered(template, [picture, question])
    except Exception as error:  # whatever an odd template makes jinja raise
        raise files.fault(f"its chat template takes no picture ({one_line(error, 120)}); name another") from None
    try:
        without = _rendered(template, [question])
    except Exception:  # it wants a picture
        without = None
    if _MARK in with_picture:
        raise files.fault("its chat template takes text alone: it writes out a list of parts; name a model that sees")
    if with_picture == without or _PROBE not in with_picture:
        left_out = "question" if _PROBE not in with_picture else "picture"
        raise files.fault(f"its chat template leaves out the {left_out}; name a model that sees, or another template")


def _most_tokens(settings: Mapping[str, Any]) -> int | None:
    """How many positions the decoder of a promptless model has, which is the most tokens that it can write."""
    for part in (settings.get("text_config"), settings.get("decoder"), settings):
        for name in ("max_position_embeddings", "n_positions"):
            if isinstance(part, Mapping) and isinstance(part.get(name), int):
                return int(part[name])
    return None


def _rendered(template: str, content: list[dict[str, str]]) -> str:
    from transformers.utils.chat_template_utils import render_jinja_template

    chats: Any = [[{"role": "user", "content": content}]]
    rendered: Any = render_jinja_template(chats, chat_template=template, add_generation_prompt=True)[0]
    return str(rendered[0])


def chat_template(files: ModelFiles) -> str | None:
    """The chat template among a model's files, wherever transformers has kept it; of several the default one."""
    if "chat_template.jinja" in files.names:
        return files.read_text("chat_template.jinja")
    for name in ("chat_template.json", "processor_config.json", "tokenizer_config.json"):
        template = files.read_json(name).get("chat_template")
        if isinstance(template, list):  # of a tokenizer with several
            named = {one.get("name"): one.get("template") for one in template if isinstance(one, Mapping)}
            template = named.get("default")
        if isinstance(template, str) and template:
            return template
    return None
