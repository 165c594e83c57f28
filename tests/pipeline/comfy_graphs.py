"""Known ComfyUI graphs, made here: one of each way in which a text does, or does not, reach the sampler."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.pipeline.tool_files import node

FOX, CAR, BAD = "a red fox in the snow, pine trees", "a blue racing car, motion blur", "blurry, watermark"
ORDERS = "Write a prompt for Stable Diffusion about a fox. Answer with the prompt only."


@dataclass(frozen=True, kw_only=True)
class KnownGraph:
    """A graph and what is right: a prompt, or none and the node class to which that is owed (``owed``)."""

    name: str
    graph: dict[str, Any]
    prompt: str | None = FOX
    negative: str | None = BAD
    owed: str | None = None


def picture(positive: Any = None, negative: Any = None, **nodes: dict) -> dict[str, Any]:
    """Checkpoint, sampler, saved image; the positive side reads ``positive``, a text or a link to one."""
    return {
        "3": node("KSampler", seed=1, steps=20, cfg=7, sampler_name="euler", denoise=0.9, model=["4", 0],
                  positive=["6", 0], negative=["7", 0], latent_image=["5", 0]),
        "4": node("CheckpointLoaderSimple", ckpt_name="dream.safetensors"),
        "5": node("EmptyLatentImage", width=64, height=64),
        "6": node("CLIPTextEncode", text=FOX if positive is None else positive, clip=["4", 1]),
        "7": node("CLIPTextEncode", text=BAD if negative is None else negative, clip=["4", 1]),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", images=["8", 0], filename_prefix="ComfyUI"),
    } | {name.lstrip("n"): value for name, value in nodes.items()}  # fmt: skip


def typed(text: str) -> dict[str, Any]:
    return node("PrimitiveStringMultiline", value=text)


def encoded(text: Any) -> dict[str, Any]:
    return node("CLIPTextEncode", text=text, clip=["4", 1])


def known_graphs() -> Iterator[KnownGraph]:
    """Every graph."""
    for family in (_encoders, _conditioning, _strings, _switches, _shown_and_made, _pipes, _samplers, _pictures):
        yield from family()


def _encoders() -> Iterator[KnownGraph]:
    for kind, inputs in {
        "CLIPTextEncodeSDXL": {"text_g": FOX, "text_l": FOX, "width": 1024},
        "CLIPTextEncodeSDXLRefiner": {"ascore": 6, "text": FOX},
        "CLIPTextEncodeSD3": {"clip_l": FOX, "clip_g": FOX, "t5xxl": FOX, "empty_padding": "none"},
        "CLIPTextEncodeFlux": {"clip_l": FOX, "t5xxl": FOX, "guidance": 3.5},
        "CLIPTextEncodeHunyuanDiT": {"bert": FOX, "mt5xl": FOX},
        "CLIPTextEncodeHiDream": {"clip_l": FOX, "clip_g": FOX, "t5xxl": FOX, "llama": FOX},
        "CLIPTextEncodeLumina2": {"system_prompt": "superior", "user_prompt": FOX},
        "CLIPTextEncodeKandinsky5": {"clip_l": "", "qwen25_7b": FOX},
        "CLIPTextEncodePixArtAlpha": {"resolution": 1024, "text": FOX},
        "TextEncodeQwenImageEditPlus": {"prompt": FOX, "image1": ["20", 0]},
        "TextEncodeZImageOmni": {"prompt": FOX, "auto_resize_images": True},
        "TextEncodeHunyuanVideo_ImageToVideo": {"prompt": FOX, "image_interleave": 2},
        "smZ CLIPTextEncode": {"text": FOX, "parser": "A1111", "text_g": "", "text_l": ""},
        "BNK_CLIPTextEncodeAdvanced": {"text": FOX, "token_normalization": "none", "weight_interpretation": "comfy"},
        "Power Prompt (rgthree)": {"prompt": FOX, "insert_lora": "CHOOSE", "insert_saved": "CHOOSE"},
        "SDXL Power Prompt - Positive (rgthree)": {"prompt_g": FOX, "prompt_l": FOX, "insert_lora": "CHOOSE"},
    }.items():
        yield KnownGraph(name=f"encoder {kind}", graph=picture(n6=node(kind, clip=["4", 1], **inputs)))
    two = node("CLIPTextEncodeFlux", clip=["4", 1], clip_l="a red fox", t5xxl=FOX, guidance=3.5)
    yield KnownGraph(name="encoder with two texts", graph=picture(n6=two), prompt=f"a red fox, {FOX}")
    unheard = node("CLIPTextEncodeBrandNew", clip=["4", 1], text=FOX)
    yield KnownGraph(name="unlisted encoder", graph=picture(n6=unheard), prompt=None, owed="CLIPTextEncodeBrandNew")


def _conditioning() -> Iterator[KnownGraph]:
    zeroed = node("ConditioningZeroOut", conditioning=["6", 0])
    yield KnownGraph(name="negative zeroed", graph=picture(n7=zeroed), negative=None)
    through = node("ConditioningSetTimestepRange", conditioning=["20", 0], start=0.0, end=0.5)
    yield KnownGraph(name="time range", graph=picture(n6=through, n20=encoded(FOX)))
    for kind, first, second in (("ConditioningCombine", "conditioning_1", "conditioning_2"),
                                ("ConditioningConcat", "conditioning_to", "conditioning_from")):  # fmt: skip
        both = node(kind, **{first: ["20", 0], second: ["21", 0]})
        yield KnownGraph(name=kind, graph=picture(n6=both, n20=encoded(FOX), n21=encoded("by night")),
                         prompt=f"{FOX}, by night")  # fmt: skip
    for strength, prompt in ((1.0, FOX), (0.0, CAR), (0.5, f"{FOX}, {CAR}")):
        average = node("ConditioningAverage", conditioning_to=["20", 0], conditioning_from=["21", 0],
                       conditioning_to_strength=strength)  # fmt: skip
        yield KnownGraph(name=f"average {strength}", graph=picture(n6=average, n20=encoded(FOX), n21=encoded(CAR)),
                         prompt=prompt)  # fmt: skip
    control = node("ControlNetApplyAdvanced", positive=["6", 0], negative=["7", 0], image=["22", 0], strength=1)
    sampler = picture()["3"]
    sides = node("KSampler", **sampler["inputs"] | {"positive": ["20", 0], "negative": ["20", 1]})
    yield KnownGraph(
        name="both sides go through", graph=picture(n3=sides, n20=control, n22=node("LoadImage", image="a"))
    )
    crossed = node("KSampler", **sampler["inputs"] | {"positive": ["20", 1], "negative": ["20", 0]})
    yield KnownGraph(name="sides are told by slot", graph=picture(n3=crossed, n20=control), prompt=BAD, negative=FOX)
    odd = node("MixTheConditioning", conditioning=["20", 0])
    yield KnownGraph(name="unlisted conditioning", graph=picture(n6=odd, n20=encoded(FOX)), prompt=None,
                     owed="MixTheConditioning")  # fmt: skip


def _strings() -> Iterator[KnownGraph]:
    for name, made, prompt in (
        ("concatenate", node("StringConcatenate", string_a="a red fox", string_b="in the snow", delimiter=" "),
         "a red fox in the snow"),
        ("replace", node("StringReplace", string=CAR, find=CAR, replace=FOX), FOX),
        ("regex", node("RegexReplace", string="a RED fox   in snow", regex_pattern=r"\s+", replace=" ",
                       case_insensitive=True, multiline=False, dotall=False, count=0), "a RED fox in snow"),
        ("extract", node("RegexExtract", string=f"prompt: {FOX}; seed: 7", regex_pattern="prompt: ([^;]+)",
                         mode="First Group", group_index=1), FOX),
        ("trim", node("StringTrim", string=f"  {FOX}  ", mode="Both"), FOX),
        ("case", node("CaseConverter", string=FOX.upper(), mode="lowercase"), FOX),
        ("substring", node("StringSubstring", string=FOX + CAR, start=0, end=len(FOX)), FOX),
        ("crystools", node("List of strings [Crystools]", string_1=FOX, string_4="", string_8="by night",
                           delimiter=", "), f"{FOX}, by night"),
        ("was", node("Text Concatenate", text_a=f" {FOX} ", text_b="", text_c="by night", delimiter=", ",
                     clean_whitespace="true"), f"{FOX}, by night"),
        ("kj", node("JoinStringMulti", inputcount=2, string_1="a", string_2="b", string_3="unused", delimiter="+",
                    return_list=False), "a+b"),
        ("comfyroll", node("CR Text Replace", text="a cat in the snow", find1="cat", replace1="red fox", find2="",
                           replace2="", find3="", replace3=""), "a red fox in the snow"),
        ("pysssss", node("StringFunction|pysssss", action="append", tidy_tags="yes", text_a=FOX, text_b="by night",
                         text_c=""), f"{FOX}, by night"),
        ("number", node("StringConcatenate", string_a="cats: ", string_b=["21", 0], delimiter=""), "cats: 3"),
        ("literal", node("String Literal", string=FOX), FOX),
    ):  # fmt: skip
        count = node("PrimitiveInt", value=3)
        yield KnownGraph(name=f"string {name}", graph=picture(["20", 0], n20=made, n21=count), prompt=prompt)
    hostile = node("RegexReplace", string=FOX, regex_pattern="(a+)+$", replace="")
    yield KnownGraph(name="a pattern that may take for ever", graph=picture(["20", 0], n20=hostile), prompt=None,
                     owed="RegexReplace")  # fmt: skip
    unlisted = node("Shuffle The Words", text_a=FOX, text_b=CAR)
    yield KnownGraph(name="unlisted string", graph=picture(["20", 0], n20=unlisted), prompt=None,
                     owed="Shuffle The Words")  # fmt: skip
    half = node("StringConcatenate", string_a=FOX, string_b=["21", 0], delimiter=", ")
    told = node("OllamaGenerateV2", prompt=ORDERS)
    yield KnownGraph(name="half of it is unknown", graph=picture(["20", 0], n20=half, n21=told), prompt=None,
                     owed="OllamaGenerateV2")  # fmt: skip


def _switches() -> Iterator[KnownGraph]:
    car, fox = typed(CAR), typed(FOX)
    for kind, inputs in {
        "ImpactSwitch": {"select": 2, "sel_mode": False, "input1": ["21", 0], "input2": ["22", 0]},
        "Any Switch (rgthree)": {"any_01": ["40", 0], "any_02": ["22", 0], "any_03": ["21", 0]},
        "CR Text Input Switch": {"Input": 2, "text1": CAR, "text2": FOX},
        "CR Text Input Switch (4 way)": {"Input": 3, "text1": CAR, "text2": CAR, "text3": ["22", 0]},
        "easy textIndexSwitch": {"index": 1, "text0": CAR, "text1": FOX},
        "easy textSwitch": {"input": 2, "text1": ["21", 0], "text2": ["22", 0]},
        "easy anythingIndexSwitch": {"index": ["23", 0], "value0": ["21", 0], "value2": ["22", 0]},
        "easy ifElse": {"boolean": False, "on_true": ["21", 0], "on_false": ["22", 0]},
        "ComfySwitchNode": {"switch": True, "on_true": ["22", 0], "on_false": ["21", 0]},
        "Switch string [Crystools]": {"boolean": True, "on_true": FOX, "on_false": CAR},
        "Text Input Switch": {"boolean": False, "text_a": ["21", 0], "text_b": ["22", 0]},
        "LazySwitchKJ": {"switch": False, "on_true": ["21", 0], "on_false": ["22", 0]},
        "ImpactConditionalBranch": {"cond": True, "tt_value": ["22", 0], "ff_value": ["21", 0]},
    }.items():
        nodes = {"n20": node(kind, **inputs), "n21": car, "n22": fox, "n23": node("PrimitiveInt", value=2)}
        yield KnownGraph(name=f"switch {kind}", graph=picture(["20", 0], **nodes))
    for kind, inputs in {
        "CR Conditioning Input Switch": {"Input": 2, "conditioning1": ["21", 0], "conditioning2": ["22", 0]},
        "easy conditioningIndexSwitch": {"index": 0, "cond0": ["22", 0], "cond1": ["21", 0]},
        "Conditioning Switch (JPS)": {"select": 5, "con_1": ["21", 0], "con_5": ["22", 0]},
    }.items():
        nodes = {"n6": node(kind, **inputs), "n21": encoded(CAR), "n22": encoded(FOX)}
        yield KnownGraph(name=f"switch {kind}", graph=picture(**nodes))
    drawn = node("ImpactSwitch", select=["24", 0], input1=["21", 0], input2=["22", 0])
    dice = node("Random Number", minimum=1, maximum=2)
    yield KnownGraph(name="switch by chance", graph=picture(["20", 0], n20=drawn, n21=car, n22=fox, n24=dice),
                     prompt=None, owed="ImpactSwitch")  # fmt: skip
    odd = node("My Switch", choice=2, text1=CAR, text2=FOX)
    yield KnownGraph(name="unlisted switch", graph=picture(["20", 0], n20=odd), prompt=None, owed="My Switch")


def _shown_and_made() -> Iterator[KnownGraph]:
    made = {"n21": node("OllamaGenerate", prompt=ORDERS)}
    yield KnownGraph(name="language model", graph=picture(["21", 0], **made), prompt=None, owed="OllamaGenerate")
    for kind in ("Florence2Run", "WD14Tagger|pysssss", "Qwen2_VQA", "DPMagicPrompt", "TextGenerate", "Unheard Of LLM"):
        graph = picture(["21", 0], n21=node(kind, text=ORDERS, prompt=ORDERS, image=["30", 0]))
        yield KnownGraph(name=f"made by {kind}", graph=graph, prompt=None, owed=kind)
    shown = node("ShowText|pysssss", text=["21", 0], text_0=FOX)
    yield KnownGraph(name="kept by the node that shows it", graph=picture(["20", 0], n20=shown, **made))
    stale = node("ShowText|pysssss", text=["21", 0], text_0=CAR)
    yield KnownGraph(name="kept text is of an earlier run", graph=picture(["20", 0], n20=stale, n21=typed(FOX)))
    nothing = node("easy showAnything", anything=["21", 0])
    yield KnownGraph(name="shown but not kept", graph=picture(["20", 0], n20=nothing, **made), prompt=None,
                     owed="OllamaGenerate")  # fmt: skip
    drawn = node("ImpactWildcardProcessor", wildcard_text="a {red|blue} fox", populated_text=FOX, mode="populate")
    yield KnownGraph(name="drawn wildcards are kept", graph=picture(["20", 0], n20=drawn))
    open_ = node("ImpactWildcardProcessor", wildcard_text="a {red|blue} fox", populated_text="a {red|blue} fox")
    yield KnownGraph(name="wildcards left open", graph=picture(["20", 0], n20=open_), prompt=None,
                     owed="ImpactWildcardProcessor")  # fmt: skip
    for text, prompt in ((FOX, FOX), ("a __animal__ in the snow", None)):
        random = node("DPRandomGenerator", text=text, seed=1)
        yield KnownGraph(name=f"dynamic prompt {text}", graph=picture(["20", 0], n20=random), prompt=prompt,
                         owed=None if prompt else "DPRandomGenerator")  # fmt: skip
    for style, prompt in (("base", FOX), ("sai-anime", None)):
        styled = node("SDXLPromptStyler", text_positive=FOX, text_negative="", style=style)
        yield KnownGraph(name=f"style {style}", graph=picture(["20", 0], n20=styled), prompt=prompt,
                         owed=None if prompt else "SDXLPromptStyler")  # fmt: skip


def _pipes() -> Iterator[KnownGraph]:
    texts = {"6": encoded(FOX), "7": encoded(BAD)}
    pipe = node("ToBasicPipe", positive=["6", 0], negative=["7", 0])
    sampler = node("ImpactKSamplerBasicPipe", basic_pipe=["20", 0], seed=1, steps=9, latent_image=["5", 0])
    saved = {"8": node("VAEDecode", samples=["3", 1]), "9": node("SaveImage", images=["8", 0])}
    yield KnownGraph(name="basic pipe", graph=texts | saved | {"3": sampler, "20": pipe})
    other = node("EditBasicPipe", basic_pipe=["21", 0], positive=["22", 0])
    yield KnownGraph(
        name="edited pipe",
        graph=texts | saved | {"3": sampler, "20": other, "21": pipe | {}, "22": encoded("a grey wolf")},
        prompt="a grey wolf",
    )
    loader = node("easy fullLoader", ckpt_name="dream.safetensors", positive=FOX, negative=BAD, clip_skip=-2)
    settings = node("easy preSampling", pipe=["1", 0], steps=20, cfg=7, seed=7)
    easy = node("easy kSampler", pipe=["2", 0], image_output="Save", save_prefix="ComfyUI")
    yield KnownGraph(name="easy pipe", graph={"1": loader, "2": settings, "3": easy})
    linked = node("easy fullLoader", positive=["4", 0], negative=["5", 0])
    sides = {"4": node("easy positive", positive=FOX), "5": node("easy negative", negative=BAD)}
    yield KnownGraph(name="easy loader with links", graph={"1": linked, "2": settings, "3": easy} | sides)
    odd = node("easy somethingNew", pipe=["1", 0])
    yield KnownGraph(name="unlisted node in a pipe", graph={"1": loader, "2": odd, "3": easy}, prompt=None,
                     negative=None, owed="easy somethingNew")  # fmt: skip
    efficient = {
        "1": node("Efficient Loader", ckpt_name="dream.safetensors", positive=FOX, negative=BAD),
        "3": node("KSampler (Efficient)", positive=["1", 1], negative=["1", 2], latent_image=["1", 3], seed=1),
        "9": node("SaveImage", images=["3", 5]),
    }
    yield KnownGraph(name="efficient", graph=efficient)
    first = node("Context (rgthree)", positive=["6", 0], negative=["7", 0])
    second = node("Context (rgthree)", base_ctx=["20", 0], positive=["22", 0])
    context = picture()["3"]["inputs"] | {"positive": ["21", 4], "negative": ["21", 5]}
    nodes = {"n3": node("KSampler", **context), "n20": first, "n22": encoded("a grey wolf")}
    yield KnownGraph(name="contexts in a row", graph=picture(n21=second, **nodes), prompt="a grey wolf")
    merged = node("Context Merge (rgthree)", ctx_01=["20", 0], ctx_02=["23", 0])
    later = node("Context (rgthree)", positive=["22", 0])
    yield KnownGraph(name="merged contexts", graph=picture(n21=merged, n23=later, **nodes), prompt="a grey wolf")
    chosen = node("Context Switch (rgthree)", ctx_01=["24", 0], ctx_02=["20", 0], ctx_03=["23", 0])
    yield KnownGraph(name="chosen context", graph=picture(n21=chosen, n23=later, **nodes))
    tiny = {
        "1": node("ttN pipeLoader_v2", ckpt_name="dream.safetensors", positive=FOX, negative=BAD),
        "2": node("ttN pipeKSampler_v2", pipe=["1", 0], steps=20, image_output="Save", seed=1),
    }
    yield KnownGraph(name="tinyterra", graph=tiny)


def _samplers() -> Iterator[KnownGraph]:
    advanced = {
        "3": node("SamplerCustomAdvanced", noise=["30", 0], guider=["31", 0], sampler=["32", 0], latent_image=["5", 0]),
        "30": node("RandomNoise", noise_seed=1),
        "32": node("KSamplerSelect", sampler_name="euler"),
    }
    guided = node("CFGGuider", positive=["6", 0], negative=["7", 0], cfg=3.5)
    yield KnownGraph(name="CFGGuider", graph=picture() | advanced | {"31": guided})
    basic = node("BasicGuider", conditioning=["33", 0])
    flux = {"31": basic, "33": node("FluxGuidance", conditioning=["6", 0], guidance=3.5)}
    yield KnownGraph(name="BasicGuider", graph=picture() | advanced | flux, negative=None)
    dual = node("DualCFGGuider", cond1=["6", 0], cond2=["33", 0], negative=["7", 0])
    yield KnownGraph(name="DualCFGGuider", graph=picture() | advanced | {"31": dual, "33": encoded("by night")},
                     prompt=f"{FOX}, by night")  # fmt: skip
    refined = picture() | {
        "40": node("LatentUpscale", samples=["3", 0]),
        "41": node("KSampler", seed=2, denoise=0.4, positive=["42", 0], negative=["7", 0], latent_image=["40", 0]),
        "42": encoded("sharp details"),
        "8": node("VAEDecode", samples=["41", 0]),
    }
    yield KnownGraph(name="a second sampler refines", graph=refined)
    unlisted = node("KSampler of Somebody", model=["4", 0], positive=["6", 0], negative=["7", 0],
                    latent_image=["5", 0], steps=20)  # fmt: skip
    yield KnownGraph(name="unlisted sampler with the usual inputs", graph=picture(n3=unlisted))
    generator = {"1": node("All In One Generator", prompt=FOX, seed=1), "9": node("SaveImage", images=["1", 0])}
    yield KnownGraph(name="unlisted generator", graph=generator, prompt=None, negative=None,
                     owed="All In One Generator")  # fmt: skip
    service = {"1": node("IdeogramV3", prompt=FOX, negative_prompt=BAD), "9": node("SaveImage", images=["1", 0])}
    yield KnownGraph(name="a service that is listed", graph=service)


def _pictures() -> Iterator[KnownGraph]:
    other = {
        "43": node("KSampler", seed=2, positive=["44", 0], negative=["7", 0], latent_image=["5", 0]),
        "44": encoded(CAR),
        "48": node("VAEDecode", samples=["43", 0]),
    }
    shown = {"49": node("PreviewImage", images=["48", 0])}
    yield KnownGraph(name="the saved picture, not the one that is only shown", graph=picture() | other | shown)
    both = {"49": node("SaveImage", images=["48", 0])}
    yield KnownGraph(name="two saved pictures", graph=picture() | other | both, prompt=None, owed="KSampler")
    alike = {"49": node("SaveImage", images=["48", 0]), "44": encoded(FOX)}
    yield KnownGraph(name="two saved pictures with one prompt", graph=picture() | other | alike)
    switch = {"9": node("SaveImage", images=["50", 0]),
              "50": node("ImpactSwitch", select=1, input1=["8", 0], input2=["48", 0])}  # fmt: skip
    yield KnownGraph(name="a switch of pictures", graph=picture() | other | switch)
    batch = {"9": node("SaveImage", images=["50", 0]), "50": node("ImageBatch", image1=["8", 0], image2=["48", 0])}
    yield KnownGraph(name="a batch of two pictures", graph=picture() | other | batch, prompt=None, owed="KSampler")
    parts = {
        "8": node("VAEDecode", samples=["50", 0]),
        "50": node("LatentComposite", samples_to=["3", 0], samples_from=["43", 0]),
    }
    yield KnownGraph(name="two pictures in one", graph=picture() | other | parts, prompt=f"{FOX}, {CAR}")
    loaded = {"1": node("LoadImage", image="in.png"), "9": node("SaveImage", images=["1", 0])}
    yield KnownGraph(name="a loaded picture", graph=loaded, prompt=None, negative=None, owed="LoadImage")
