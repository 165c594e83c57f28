"""A corpus of our own: one small file in the format of each tool, with what it says of its making."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.pipeline.image_bytes import (
    USER_COMMENT,
    chunk,
    packed_chunk,
    png,
    stealth,
    text_chunk,
    tool_chunk,
    with_exif,
)

SUBJECTS = "a red fox, ふわふわ, 🦊", "an old lighthouse by night, stars", "two cats on a sofa"


@dataclass(frozen=True, kw_only=True)
class ToolFile:
    """A file and its truth; of one that was not generated, or says nothing of it, ``prompt`` is None."""

    name: str
    data: bytes
    prompt: str | None
    negative_prompt: str | None = None
    models: list[str] = field(default_factory=list)
    loras: list[str] = field(default_factory=list)


def corpus() -> Iterator[ToolFile]:
    """Every file, in the order of the tools below."""
    for subject in SUBJECTS:
        number = SUBJECTS.index(subject)
        truth = Truth(f"{subject}, best quality", "blurry,\nbad hands")
        for family in (_web_uis, _comfyui, _json_tools, _invokeai, _hidden):
            for name, ext, data, models, loras, *told in family(truth):
                prompt, negative = told or (truth.prompt, truth.negative)
                yield ToolFile(name=f"{name}-{number}.{ext}", data=data, prompt=prompt, negative_prompt=negative,
                               models=models, loras=loras)  # fmt: skip
    yield from _silent()


@dataclass(frozen=True)
class Truth:
    prompt: str
    negative: str


def _web_uis(truth: Truth) -> Iterator[tuple]:
    model, lora = ["realisticVision_v5"], ["detail_slider"]
    tagged = f"{truth.prompt} <lora:detail_slider:0.8>"
    steps = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 7, Size: 8x8, Model hash: abcdef1234, Model: "
    text = f"{truth.prompt}\nNegative prompt: {truth.negative}\n{steps}realisticVision_v5, Version: v1.10.1"
    hashed = (
        f'{tagged}\nNegative prompt: {truth.negative}\n{steps}realisticVision_v5, Lora hashes: "detail_slider: 0a1b2c"'
    )
    civitai = json.dumps([{"type": "checkpoint", "modelVersionId": 1, "modelName": "WAI"},
                          {"type": "lora", "weight": 0.8, "modelName": "Detail Slider"}])  # fmt: skip
    both = f"{truth.prompt}\nNegative prompt: {truth.negative}\nSteps: 20, Sampler: Euler a, CFG scale: 5, Seed: 1, "
    onsite = f"{both}Civitai resources: {civitai}, Civitai metadata: {{}}"
    sdnext = f"{both}Size: 8x8, App: SD.Next, Model: realisticVision_v5"
    yield "a1111", "png", png(packed_chunk("parameters", text)), model, []
    yield "a1111-late", "png", png(tool_chunk("parameters", text), late=True), model, []
    yield "a1111-lora", "png", png(tool_chunk("parameters", hashed)), model, lora, tagged, truth.negative
    for ext, format_ in (("jpg", "JPEG"), ("webp", "WEBP")):
        big = b"UNICODE\0" + text.encode("utf-16-be")
        yield f"a1111-{ext}", ext, with_exif(format_, USER_COMMENT, big), model, []
    yield (
        "little-endian",
        "jpg",
        with_exif("JPEG", USER_COMMENT, b"UNICODE\0" + text.encode("utf-16-le"), "<"),
        model,
        [],
    )
    yield (
        "civitai",
        "jpg",
        with_exif("JPEG", USER_COMMENT, b"UNICODE\0" + onsite.encode("utf-16-be")),
        ["WAI"],
        ["Detail Slider"],
    )
    yield "sdnext", "png", png(tool_chunk("parameters", sdnext)), model, []


def _comfyui(truth: Truth) -> Iterator[tuple]:
    model, lora = ["dream"], ["ink"]
    graph = comfy_graph(truth.prompt, truth.negative)
    first, _, rest = truth.prompt.partition(", ")
    workflow = {"nodes": [{"id": 6, "type": "CLIPTextEncode", "inputs": [], "widgets_values": [truth.prompt]}],
                "links": [], "groups": [], "version": 0.4}  # fmt: skip
    joined = graph | {
        "6": node("CLIPTextEncode", text=["20", 0], clip=["10", 1]),
        "20": node("StringConcatenate", string_a=["21", 0], string_b=["22:1", 0], delimiter=", "),
        "21": node("PrimitiveString", value=first),
        "22:1": node("PrimitiveStringMultiline", value=rest),
    }
    yield (
        "comfyui",
        "png",
        png(tool_chunk("prompt", json.dumps(graph)), tool_chunk("workflow", json.dumps(workflow))),
        model,
        lora,
    )
    saved_only = json.dumps(editor_workflow(truth))
    yield "comfyui-workflow", "png", png(tool_chunk("workflow", saved_only)), ["dream"], []
    yield "comfyui-joined", "png", png(tool_chunk("prompt", json.dumps(joined))), model, lora
    yield (
        "comfyui-advanced",
        "png",
        png(tool_chunk("prompt", json.dumps(custom_graph(truth.prompt)))),
        ["flux"],
        [],
        truth.prompt,
        None,
    )
    yield "comfyui-animated", "webp", with_exif("WEBP", 0x0110, "prompt:" + json.dumps(graph)), model, lora


def _json_tools(truth: Truth) -> Iterator[tuple]:
    told = {"prompt": truth.prompt, "negativeprompt": truth.negative, "model": "dream", "seed": 1, "steps": 20}
    swarm = json.dumps({"sui_image_params": told | {"loras": ["ink"], "loraweights": ["1"]}})
    yield "swarmui", "png", png(tool_chunk("parameters", swarm)), ["dream"], ["ink"]
    yield (
        "swarmui",
        "jpg",
        with_exif("JPEG", USER_COMMENT, b"UNICODE\0" + swarm.encode("utf-16-le"), "<"),
        ["dream"],
        ["ink"],
    )
    fooocus = json.dumps({"prompt": truth.prompt, "negative_prompt": truth.negative, "base_model": "dream.safetensors",
                          "base_model_hash": "1", "sampler": "dpmpp_2m_sde_gpu", "scheduler": "karras", "seed": "1",
                          "steps": 30, "sharpness": 2, "guidance_scale": 4, "loras": [["ink.safetensors", 0.5, "2"]],
                          "metadata_scheme": "fooocus", "version": "Fooocus v2.5.5"})  # fmt: skip
    scheme = tool_chunk("fooocus_scheme", "fooocus")
    yield "fooocus", "png", png(scheme, tool_chunk("parameters", fooocus)), ["dream"], ["ink"]
    yield "fooocus", "jpg", with_exif("JPEG", USER_COMMENT, b"ASCII\0\0\0" + fooocus.encode()), ["dream"], ["ink"]
    comment = json.dumps({"steps": 28, "sampler": "k_euler", "seed": 1, "strength": 0.7, "noise": 0.2, "scale": 5.0,
                          "uc": truth.negative})  # fmt: skip
    novelai = {"Title": "AI generated image", "Description": truth.prompt, "Software": "NovelAI",
               "Source": "Stable Diffusion 1D44365E", "Comment": comment}  # fmt: skip
    yield "novelai", "png", png(*(tool_chunk(*pair) for pair in novelai.items())), ["Stable Diffusion"], []
    easy = {"prompt": truth.prompt, "negative_prompt": truth.negative, "seed": "1", "num_inference_steps": "25",
            "guidance_scale": "7.5", "use_stable_diffusion_model": "dream", "use_lora_model": "ink"}  # fmt: skip
    yield "easydiffusion", "png", png(*(tool_chunk(*pair) for pair in easy.items())), ["dream"], ["ink"]
    space = json.dumps(
        {"prompt": truth.prompt, "negative_prompt": truth.negative, "guidance_scale": 7, "Model": "dream"}
    )
    yield "huggingface-space", "png", png(tool_chunk("metadata", space)), ["dream"], []
    tensor = {"prompt": truth.prompt, "negativePrompt": truth.negative, "steps": 25,
              "baseModel": {"label": "v1", "modelFileName": "dream"}}  # fmt: skip
    utf8 = json.dumps(tensor, ensure_ascii=False) + "\0"  # where the format wants latin-1
    yield "tensorart", "png", png(text_chunk("generation_data", utf8)), ["dream"], []
    yield "drawthings", "png", png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + _xmp(truth))), ["dream"], ["ink"]


def _invokeai(truth: Truth) -> Iterator[tuple]:
    negative = truth.negative.replace("\n", " ")
    dream = f'"{truth.prompt} [{negative}]" -s 50 -S 7 -W 512 -H 768 -C 5.0 -A k_lms'
    yield "invokeai-dream", "png", png(tool_chunk("Dream", dream)), [], [], truth.prompt, negative
    old = {"model": "stable diffusion", "model_weights": "dream", "app_id": "invoke-ai/InvokeAI", "image": {
        "prompt": [{"prompt": f"{truth.prompt} [{negative}]", "weight": 1.0}], "steps": 50, "seed": 7, "cfg_scale": 5,
        "sampler": "k_lms"}}  # fmt: skip
    yield "invokeai-2", "png", png(tool_chunk("sd-metadata", json.dumps(old))), ["dream"], [], truth.prompt, negative
    new = {"generation_mode": "txt2img", "positive_prompt": truth.prompt, "negative_prompt": truth.negative, "seed": 7,
           "scheduler": "euler", "cfg_scale": 7.0, "steps": 30, "model": {"name": "dream", "base": "sdxl", "key": "1"},
           "loras": [{"model": {"name": "ink", "base": "sdxl"}, "weight": 0.7}]}  # fmt: skip
    yield "invokeai-5", "png", png(tool_chunk("invokeai_metadata", json.dumps(new))), ["dream"], ["ink"]


def _hidden(truth: Truth) -> Iterator[tuple]:
    settings = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 7, Size: 8x8, Model: dream"
    text = f"{truth.prompt}\nNegative prompt: {truth.negative}\n{settings}".encode()
    for mode in ("RGBA", "RGB"):
        for packed in (True, False):
            yield f"stealth-{mode}-{packed}".lower(), "png", stealth(text, mode, packed=packed), ["dream"], []
    comment = json.dumps({"prompt": truth.prompt, "uc": truth.negative, "steps": 28})
    novelai = {
        "Description": truth.prompt,
        "Software": "NovelAI",
        "Source": "NovelAI Diffusion V3 C1E1DE52",
        "Comment": comment,
    }
    hidden = json.dumps(novelai).encode()
    yield "stealth-novelai", "png", stealth(hidden), ["NovelAI Diffusion V3"], []
    yield (
        "stealth-novelai",
        "webp",
        stealth(hidden, format_="WEBP", lossless=True, exact=True),
        ["NovelAI Diffusion V3"],
        [],
    )


def _silent() -> Iterator[ToolFile]:
    """Files that say nothing of a prompt; to find one in them would be wrong."""
    camera = with_exif("JPEG", 0x0110, "Canon EOS R5", comment=b"Created with GIMP")
    params = tool_chunk("parameters", "Steps: 20, Sampler: Euler a, Seed: 1")
    upscaled = json.dumps({"1": node("SaveImage", images=["2", 0]), "2": node("LoadImage", image="in.png")})
    for name, data in (("camera.jpg", camera), ("software.png", png(tool_chunk("Software", "Krita"))),
                       ("bare.png", png()), ("only-steps.png", png(params)),
                       ("upscaled.png", png(tool_chunk("prompt", upscaled)))):  # fmt: skip
        yield ToolFile(name=name, data=data, prompt=None)


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def comfy_graph(prompt: str, negative: str) -> dict:
    """Checkpoint and LoRA, two texts, a sampler, a saved image."""
    return {
        "3": node("KSampler", seed=1, steps=20, cfg=7, sampler_name="euler", positive=["6", 0], negative=["7", 0],
                  latent_image=["5", 0], model=["10", 0]),
        "4": node("CheckpointLoaderSimple", ckpt_name="sd/dream.safetensors"),
        "5": node("EmptyLatentImage", width=8, height=8),
        "6": node("CLIPTextEncode", text=prompt, clip=["10", 1]),
        "7": node("CLIPTextEncode", text=negative, clip=["10", 1]),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", images=["8", 0]),
        "10": node("LoraLoader", lora_name="ink.safetensors", strength_model=0.8, model=["4", 0], clip=["4", 1]),
    }  # fmt: skip


def editor_workflow(truth: Truth) -> dict:
    """What the editor saves of a graph whose positive text goes through a subgraph, a bypassed node and a widget."""

    def one(id, type, links, values=(), **more):
        sockets = [{"name": name, "link": link} for name, link in links.items()]
        return {"id": id, "type": type, "inputs": sockets, "widgets_values": list(values), "mode": 0, **more}

    inner = {
        "id": "a-subgraph",
        "nodes": [
            one(1, "CLIPTextEncode", {"clip": None, "text": 3}),
            one(2, "ConditioningZeroOut", {"in": 1}, mode=4),
        ],
        "links": [
            {"id": 3, "origin_id": -10, "origin_slot": 0, "target_id": 1, "target_slot": 1},
            {"id": 1, "origin_id": 1, "origin_slot": 0, "target_id": 2, "target_slot": 0},
            {"id": 2, "origin_id": 2, "origin_slot": 0, "target_id": -20, "target_slot": 0},
        ],
    }
    nodes = [
        one(
            3,
            "KSampler",
            {"model": 10, "positive": 11, "negative": 12, "latent_image": 13},
            [1, "fixed", 20, 7, "euler"],
        ),
        one(4, "CheckpointLoaderSimple", {}, inputs=[{"name": "ckpt_name", "widget": {"name": "ckpt_name"}}])
        | {"widgets_values": ["dream.safetensors"]},
        one(5, "EmptyLatentImage", {}, [8, 8, 1]),
        one(6, "a-subgraph", {}, [truth.prompt], inputs=[{"name": "text", "widget": {"name": "text"}, "link": None}]),
        one(7, "CLIPTextEncode", {"clip": 15}, [truth.negative]),
        one(8, "CLIPTextEncode", {"clip": 15}, ["not connected"]),
    ]
    links = [[10, 4, 0, 3, 0, "MODEL"], [11, 6, 0, 3, 1, "CONDITIONING"], [12, 7, 0, 3, 2, "CONDITIONING"],
             [13, 5, 0, 3, 3, "LATENT"], [15, 4, 1, 7, 0, "CLIP"]]  # fmt: skip
    return {"nodes": nodes, "links": links, "version": 0.4, "definitions": {"subgraphs": [inner]}}


def custom_graph(prompt: str) -> dict:
    """What Flux is run with: a guider with one conditioning, noise and sampler as nodes of their own."""
    return {
        "1": node("SaveImage", images=["2", 0]),
        "2": node("VAEDecode", samples=["3", 0]),
        "3": node("SamplerCustomAdvanced", noise=["8", 0], guider=["4", 0], sampler=["9", 0], latent_image=["7", 0]),
        "4": node("BasicGuider", conditioning=["5", 0], model=["10", 0]),
        "5": node("FluxGuidance", guidance=3.5, conditioning=["6", 0]),
        "6": node("CLIPTextEncode", text=prompt),
        "7": node("EmptySD3LatentImage", width=8),
        "8": node("RandomNoise", noise_seed=1),
        "9": node("KSamplerSelect", sampler_name="euler"),
        "10": node("UNETLoader", unet_name="flux.safetensors"),
    }


def _xmp(truth: Truth) -> bytes:
    document = json.dumps({"c": truth.prompt, "uc": truth.negative, "model": "dream", "steps": 20,
                           "lora": [{"model": "ink", "weight": 0.6}]}, ensure_ascii=False)  # fmt: skip
    escaped = document.replace("&", "&amp;").replace('"', "&quot;")
    inner = f'<exif:UserComment><rdf:Alt><rdf:li xml:lang="x-default">{escaped}</rdf:li></rdf:Alt></exif:UserComment>'
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description>{inner}</rdf:Description></x:xmpmeta>'.encode()
