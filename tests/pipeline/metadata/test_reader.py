"""read_metadata finds the prompt wherever a tool put it, and never raises."""

from __future__ import annotations

import io
import json
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from surd.pipeline import untrusted_json
from surd.pipeline.metadata.a1111 import parse_a1111
from surd.pipeline.metadata.comfyui import api_graph, read_graph
from surd.pipeline.metadata.reader import read_metadata
from surd.pipeline.metadata.stealth import read_stealth
from tests.pipeline.fetching import from_folder
from tests.pipeline.image_bytes import chunk, png, stealth, text_chunk, with_exif
from tests.pipeline.tool_files import corpus, node

pytest_plugins = ["tests.pipeline.served"]

A1111 = "a fox, ふわふわ\nbest quality\nNegative prompt: blurry,\nbad hands\nSteps: 20, Sampler: Euler a, Seed: 7"


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    "extra",
    [
        text_chunk("parameters", A1111),
        chunk(b"zTXt", b"parameters\0\0" + zlib.compress(A1111.encode())),
        chunk(b"iTXt", b"parameters\0\0\0\0\0" + A1111.encode()),
        chunk(b"iTXt", b"parameters\0\1\0ja\0\0" + zlib.compress(A1111.encode())),
    ],
)
def test_a1111_text_is_read_from_every_kind_of_png_chunk_before_and_after_the_pixels(extra, late):
    found = read_metadata(png(extra, late=late))
    assert found.prompt == "a fox, ふわふわ\nbest quality"
    assert found.negative_prompt == "blurry,\nbad hands"
    assert found.params == {"Steps": "20", "Sampler": "Euler a", "Seed": "7"} and found.tool == "AUTOMATIC1111"


@pytest.mark.parametrize("format_", ["JPEG", "WEBP", "PNG"])
@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\0" + A1111.encode("utf-16-be"),
        b"UNICODE\0" + A1111.encode("utf-16-le"),
        b"ASCII\0\0\0" + A1111.encode(),
        b"\0" * 8 + A1111.encode(),
    ],
)
def test_a_user_comment_is_read_in_either_byte_order(format_, comment):
    assert read_metadata(with_exif(format_, 0x9286, comment)).prompt == "a fox, ふわふわ\nbest quality"


@pytest.mark.parametrize(
    ("text", "prompt", "negative", "params"),
    [
        ("a cat\r\nSteps: 3", "a cat", None, {"Steps": "3"}),
        ("Steps: 3, CFG scale: 7", None, None, {"Steps": "3", "CFG scale": "7"}),
        ("a\nNegative prompt: b", "a", "b", {}),
        ("Steps: to heaven\nSteps: 3", "Steps: to heaven", None, {"Steps": "3"}),
        ("a\nSteps: 3\nTemplate: {a|b}", "a", None, {"Steps": "3"}),
        ('a\nSteps: 3, ADetailer prompt: "red, blue: \\"x\\"\\n", Seed: 1', "a", None,
         {"Steps": "3", "ADetailer prompt": 'red, blue: "x"\n', "Seed": "1"}),
        ('a\nSteps: 3, Hashes: {"model": "ab", "lora:x": "c,d"}, Version: v1', "a", None,
         {"Steps": "3", "Hashes": {"model": "ab", "lora:x": "c,d"}, "Version": "v1"}),
        ('a\nSteps: 3, Broken: {"model, Seed: 1', "a", None, {"Steps": "3", "Broken": '{"model', "Seed": "1"}),
        ("just words", None, None, None),
    ],
)  # fmt: skip
def test_a1111_text_is_parsed_with_its_quirks(text, prompt, negative, params):
    found = parse_a1111(text)
    if params is None:
        assert found is None
    else:
        assert (found.prompt, found.negative_prompt, found.params) == (prompt, negative, params)


SAMPLER = {"seed": 1, "sampler_name": "euler"}


def test_texts_reach_the_sampler_through_links_that_join_them():
    graph = {
        "9": node("SaveImage", images=["8", 0]),
        "8": node("VAEDecode", samples=["3", 0]),
        "3": node("KSampler", positive=["4", 0], negative=["5", 0], latent_image=["7", 0], **SAMPLER),
        "7": node("EmptyLatentImage", width=64),
        "4": node("FluxGuidance", conditioning=["12:6", 0]),
        "12:6": node("CLIPTextEncode", text=["10", 0], clip=["1", 0]),
        "10": node(
            "List of strings [Crystools]", string_1=["11", 0], string_4="a cat", string_8=["13", 0], delimiter=""
        ),
        "11": node("Primitive string [Crystools]", string="a photo of "),
        "13": node("Switch any [Crystools]", on_true="!", on_false=["14", 0], boolean=False),
        "14": node("Primitive string [Crystools]", string=" at sea"),
        "5": node("CLIPTextEncode", text="blurry", clip=["1", 0]),
        "1": node("CheckpointLoaderSimple", ckpt_name="sd15.safetensors"),
        "99": node("CLIPTextEncode", text="not connected"),
    }
    found = read_graph(graph)
    assert (found.prompt, found.negative_prompt) == ("a photo of a cat at sea", "blurry")
    assert found.params == {**SAMPLER, "models": ["sd15.safetensors"]}


def test_the_first_sampler_of_a_chain_decides_not_the_one_that_refines():
    graph = {
        "1": node("SaveImage", images=["2", 0]),
        "2": node("VAEDecode", samples=["3", 0]),
        "3": node("KSampler", positive=["6", 0], negative=["7", 0], latent_image=["4", 0], **SAMPLER),
        "4": node("LatentUpscale", samples=["5", 0]),
        "5": node("KSampler", positive=["8", 0], negative=["7", 0], latent_image=["9", 0], **SAMPLER),
        "6": node("CLIPTextEncode", text="details"),
        "7": node("CLIPTextEncode", text=""),
        "8": node("ControlNetApplyAdvanced", positive=["10", 0], negative=["7", 0]),
        "9": node("EmptyLatentImage"),
        "10": node("ConditioningCombine", conditioning_1=["11", 0], conditioning_2=["12", 0]),
        "11": node("CLIPTextEncodeSDXL", text_g="a castle", text_l="a castle"),
        "12": node("CLIPTextEncode", text="by night"),
    }
    found = read_graph(graph)
    assert (found.prompt, found.negative_prompt) == ("a castle, by night", None)


def test_a_guider_with_one_conditioning_has_no_negative_prompt():
    graph = {
        "1": node("SamplerCustomAdvanced", guider=["2", 0], latent_image=["9", 0]),
        "2": node("BasicGuider", conditioning=["3", 0]),
        "3": node("CLIPTextEncode", text="a field"),
    }
    found = read_graph(graph)
    assert (found.prompt, found.negative_prompt) == ("a field", None)


def test_a_graph_that_bites_its_tail_ends():
    graph = {
        "1": node("KSampler", positive=["2", 0], negative=["1", 0], latent_image=["1", 0], **SAMPLER),
        "2": node("Reroute", value=["2", 0], text=["1", 0]),
    }
    assert read_graph(graph).prompt is None


@pytest.mark.parametrize(
    ("chunks", "tool", "prompt", "negative"),
    [
        ({"parameters": '{"sui_image_params": {"prompt": "a", "negativeprompt": "b"}}'}, "SwarmUI", "a", "b"),
        ({"generation_data": '{"prompt": "a", "negativePrompt": "b", "seed": NaN}\0'}, "unknown", "a", "b"),
        (
            {"invokeai_metadata": '{"positive_prompt": "a", "negative_prompt": "b", "scheduler": "e"}'},
            "InvokeAI",
            "a",
            "b",
        ),
        ({"Dream": '"a [b]" -s 20 -A euler'}, "InvokeAI", "a", "b"),
        ({"Description": "a", "Source": "SD 1D44365E", "Comment": '{"sampler": "k", "uc": "b"}'}, "NovelAI", "a", "b"),
        ({"parameters": "{red|blue} car"}, "unknown", "{red|blue} car", None),
        ({"parameters": "a \ud83d", "prompt": "{}"}, "unknown", "a ?", None),
    ],
)
def test_other_tools_are_read_too(chunks, tool, prompt, negative):
    data = png(*(text_chunk(name, text.encode("utf-8", "replace")) for name, text in chunks.items()))
    found = read_metadata(data)
    assert (found.tool, found.prompt, found.negative_prompt) == (tool, prompt, negative)


def test_numbers_that_json_does_not_know_become_null():
    found = read_metadata(
        png(text_chunk("parameters", '{"prompt": "a", "seed": NaN, "cfg": 1e999, "steps": -Infinity}'))
    )
    assert found.params == {"seed": None, "cfg": None, "steps": None}


def test_a_comfyui_graph_hidden_in_a_camera_field_is_read():
    graph = {
        "1": node("KSampler", positive=["2", 0], negative=["2", 0], **SAMPLER),
        "2": node("CLIPTextEncode", text="a ship"),
    }
    assert read_metadata(with_exif("WEBP", 0x0110, "prompt:" + json.dumps(graph))).prompt == "a ship"


def test_text_that_is_utf8_where_latin1_is_promised_is_no_mojibake():
    assert read_metadata(png(text_chunk("parameters", "猫\nSteps: 1"))).prompt == "猫"
    assert read_metadata(png(text_chunk("parameters", "café\nSteps: 1".encode("latin-1")))).prompt == "café"


@pytest.mark.parametrize("file", [*corpus()], ids=lambda file: file.name)
def test_every_tool_is_read_right_prompts_models_and_loras(file):
    with Image.open(io.BytesIO(file.data)) as picture:
        found = read_metadata(file.data, picture)
    if file.prompt is None:
        assert found is None or found.prompt is None
    else:
        told = (file.prompt, file.negative_prompt, file.models, file.loras)
        assert (found.prompt, found.negative_prompt, found.models, found.loras) == told


def test_a_row_says_what_the_file_was_made_with(tmp_path):
    file = next(file for file in corpus() if file.name == "invokeai-5-0.png")
    (row,) = from_folder(tmp_path, {file.name: file.data}).values()
    assert (row.tool, row.models, row.loras) == ("InvokeAI", ["dream"], ["ink"])
    assert (row.prompt, row.negative_prompt) == (file.prompt, file.negative_prompt)
    assert json.loads(row.params)["cfg_scale"] == 7.0


def test_a_photograph_has_none(samples):
    assert read_metadata(with_exif("JPEG", 0x010F, "Canon")) is None
    assert read_metadata((samples / "metadata/enslo_sd-metadata/webp_gimp.webp").read_bytes()) is None


def same(one: str | None, other: str | None) -> bool:
    return " ".join((one or "").split()) == " ".join((other or "").split())


def test_every_real_image_that_carries_metadata_gives_its_listed_prompt(samples):
    lines = [json.loads(line) for line in (samples / "pairs/pairs.jsonl").read_text().splitlines()]
    wrong = []
    for line in lines:
        found = read_metadata((samples / "pairs" / line["image"]).read_bytes())
        assert line["embedded_metadata"] or found is None
        if line["embedded_metadata"] and not same(found and found.prompt, line["prompt"]):
            wrong.append(line["image"])
    assert wrong == []


def test_the_files_of_twenty_tools_give_a_prompt(samples):
    def read(path):
        data = path.read_bytes()
        return read_metadata(data, Image.open(io.BytesIO(data)) if data else None)

    without = {
        path.name
        for path in (samples / "metadata").rglob("*")
        if path.suffix in (".png", ".jpg", ".jpeg", ".webp") and not ((found := read(path)) and found.prompt)
    }
    carry_none = {"empty_file.png", "empty_image.png", "jpg_empty.jpg", "webp_gimp.webp"}
    assert without <= carry_none | {"jpg_comfyui-comfy-image-saver.jpeg"}  # whose prompt is the word "unknown"


@pytest.mark.parametrize(
    "text",
    [
        "[" * 1_000_000,
        "{" * 1_000_000,
        '{"a":' * 5_000 + "1" + "}" * 5_000,
        "Steps: 1, " + "a: [" * 250_000,
        "Steps: 1, " + 'a: "' * 250_000,
        "Steps: 1, " + "a: [1, " * 150_000,
        "Steps: 1, " + 'a: "b, ' * 150_000,
        "Steps: 1, " + 'a: {"b": "c", ' * 70_000,
        "<lora:" * 150_000,
        '{"prompt": "a", "loras": [' + '{"model":' * 90 + "1" + "}" * 90 + ', "b"' * 200_000 + "]}",
        '{"sui_image_params":' * 50_000,
        '"' + "[" * 1_000_000 + '" -s 1 -A k',
        '"a" ' + "-s 1 " * 200_000,
        "Negative prompt:" * 60_000,
        " " * 1_000_000 + "x{",
        "\n" * 500_000 + "Steps:" * 80_000,
        '{"prompt": ' + "9" * 10_000 + "}",
        json.dumps(
            {str(n): node("KSampler", positive=[str(n + 1), 0], samples=[str(n + 1), 0], seed=1) for n in range(8000)}
        ),
        json.dumps({str(n): node("SaveImage", images=["0", 0], text=[str(n + 1), 0]) for n in range(8000)}),
    ],
    ids=lambda text: text[:12].strip() or "blank",
)
def test_a_megabyte_of_malice_is_read_in_moments(text):
    names = ("parameters", "prompt", "Dream", "Comment", "sd-metadata", "XML:com.adobe.xmp")
    started = time.process_time()
    for name in names:
        read_metadata(png(text_chunk(name, text), text_chunk("Description", "a"), text_chunk("Source", text)))
    assert time.process_time() - started < 10 * len(names)


pieces = st.sampled_from(
    [
        "Steps: 20",
        ", ",
        "\n",
        "Negative prompt:",
        "{",
        "}",
        "[",
        '"',
        ":",
        "prompt",
        '"prompt": ',
        "NaN",
        "\ud800",
        "\0",
        "a fox",
    ]
)
names = st.sampled_from(
    [
        "1",
        "2",
        "inputs",
        "class_type",
        "positive",
        "negative",
        "text",
        "guider",
        "seed",
        "samples",
        "models",
        "delimiter",
        "on_true",
        "on_false",
        "prompt",
        "meta",
        "Comment",
        "ckpt_name",
    ]
)
socket = st.fixed_dictionaries({"name": names, "link": st.integers(0, 5)})
editor_node = st.fixed_dictionaries(
    {"id": st.integers(1, 4), "type": st.sampled_from(["K", "sub"]), "mode": st.sampled_from([0, 2, 4]),
     "inputs": st.lists(socket, max_size=3), "widgets_values": st.lists(st.sampled_from(["a", 1]), max_size=2)}
)  # fmt: skip
link = st.tuples(st.integers(0, 5), st.sampled_from([-10, 1, 2, 3, 4]), st.integers(-1, 2)).map(list) | st.builds(
    lambda id, origin, target: {"id": id, "origin_id": origin, "origin_slot": 0, "target_id": target, "target_slot": 0},
    st.integers(0, 5), st.sampled_from([-10, 1, 2, 3, 4]), st.sampled_from([-20, 1]),
)  # fmt: skip
levels = st.fixed_dictionaries({"nodes": st.lists(editor_node, max_size=4), "links": st.lists(link, max_size=6)})


@settings(max_examples=100, deadline=None)
@given(levels, levels)
def test_no_workflow_of_the_editor_makes_it_raise_or_go_round_for_ever(outer, inner):
    workflow = outer | {"definitions": {"subgraphs": [inner | {"id": "sub"}]}}
    graph = api_graph(workflow)
    assert len(graph) < 10_000
    read_metadata(png(text_chunk("workflow", json.dumps(workflow))))


def test_subgraphs_within_subgraphs_do_not_unfold_without_end():
    many = {"nodes": [{"id": number, "type": "sub"} for number in range(50)], "links": []}
    assert len(api_graph(many | {"definitions": {"subgraphs": [many | {"id": "sub"}]}})) <= 5_000


graphs = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 4) | st.floats() | st.sampled_from(["1", "2", "text", "a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=5),
    max_leaves=25,
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(pieces | st.text(max_size=5)).map("".join) | graphs.map(json.dumps),
    st.sampled_from(["tEXt", "iTXt", "eXIf"]),
)
def test_no_text_makes_it_raise_and_what_it_finds_can_be_stored(text, kind):
    body = text.encode("utf-8", "replace")
    extra = {"tEXt": b"parameters\0" + body, "iTXt": b"prompt\0\0\0\0\0" + body, "eXIf": body}[kind]
    found = read_metadata(png(chunk(kind.encode(), extra)))
    if found:
        for value in (found.prompt, found.negative_prompt, found.tool, untrusted_json.dump(found.params)):
            (value or "").encode("utf-8")
        json.loads(untrusted_json.dump(found.params), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


repeated = pieces | st.sampled_from(["a: ", "<lora:", "\n\n", "{{", "<rdf:li>", "0", " ", '"a', "\\"])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(repeated, min_size=1, max_size=4),
    st.sampled_from(["parameters", "prompt", "Dream", "Comment", "XML:com.adobe.xmp"]),
    st.sampled_from(["", "Steps: 1, ", '{"prompt": ', '"', "<exif:UserComment>"]),
)
def test_no_repetition_takes_long_or_much(fragments, keyword, start):
    text = (start + "".join(fragments) * 200_000)[:200_000]
    tracemalloc.start()
    started = time.process_time()
    read_metadata(png(chunk(b"zTXt", keyword.encode() + b"\0\0" + zlib.compress(text.encode("utf-8", "replace")))))
    seconds, (_, peak) = time.process_time() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 10 and peak < 40_000_000


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["RGBA", "RGB", "L", "P", "CMYK"]), st.integers(1, 40), st.integers(1, 40), st.data())
def test_no_picture_makes_it_raise(mode, width, height, draw):
    mark = draw.draw(st.sampled_from([b"stealth_pnginfo", b"stealth_pngcomp", b"stealth_rgbinfo", b"stealth_rgbcomp"]))
    hidden = mark + draw.draw(st.binary(max_size=40))
    bits = np.resize(np.unpackbits(np.frombuffer(hidden, np.uint8)), (width, height))
    picture = Image.new(mode, (width, height))
    if mode == "RGBA":
        picture.putalpha(Image.fromarray(bits.T.astype(np.uint8)))
    elif mode == "RGB":
        picture = Image.fromarray(np.resize(bits, (width, height, 3)).swapaxes(0, 1).astype(np.uint8))
    found = read_metadata(png(), picture)
    assert found is None or isinstance(found.prompt, str | None)


def test_a_hidden_text_is_read_only_where_nothing_else_has_a_prompt():
    data = stealth(b"a hidden fox\nSteps: 3")
    with Image.open(io.BytesIO(data)) as picture:
        assert read_metadata(data, picture).prompt == "a hidden fox"
        assert read_metadata(png(text_chunk("parameters", A1111)), picture).prompt == "a fox, ふわふわ\nbest quality"
    assert read_metadata(data) is None


def test_a_hidden_bomb_unpacks_to_no_more_than_the_limit():
    with Image.open(io.BytesIO(stealth(bytes(50_000_000)))) as picture:
        assert len(read_stealth(picture, 1000)) == 1000


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x60\0\0\0WEBP",
                                               b"RIFF\x60\0\0\0WEBPEXIF\x50\0\0\0II*\0\x08\0\0\0"]))  # fmt: skip
def test_no_bytes_make_it_raise(rest, start):
    read_metadata(start + rest)


REAL = [png(text_chunk("parameters", A1111)), with_exif("JPEG", 0x9286, b"UNICODE\0" + A1111.encode("utf-16-be")),
        with_exif("WEBP", 0x010E, "Workflow: {}")]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(REAL), st.data())
def test_no_damage_makes_it_raise(data, draw):
    damaged = bytearray(data[: draw.draw(st.integers(0, len(data)))])
    for _ in range(draw.draw(st.integers(0, 4)) if damaged else 0):
        damaged[draw.draw(st.integers(0, len(damaged) - 1))] = draw.draw(st.integers(0, 255))
    read_metadata(bytes(damaged))
