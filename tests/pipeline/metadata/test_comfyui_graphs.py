"""What reaches the sampler of a ComfyUI graph is its prompt; what cannot be told is null, and the node is named."""

import json
from pathlib import Path

import pytest

from surd.pipeline.metadata.comfyui import read_graph
from surd.pipeline.metadata.reader import read_metadata
from surd.schemas import Reason
from tests.pipeline.comfy_graphs import BAD, CAR, FOX, KnownGraph, encoded, known_graphs, picture, typed
from tests.pipeline.fetching import from_folder
from tests.pipeline.image_bytes import png, tool_chunk
from tests.pipeline.tool_files import node

CASES = Path(__file__).parents[4] / "shared" / "cases"


@pytest.mark.parametrize("known", [*known_graphs()], ids=lambda known: known.name)
def test_a_graph_gives_its_prompt_or_names_the_node_that_hides_it(known: KnownGraph):
    found = read_graph(known.graph)
    assert (found.prompt, found.negative_prompt) == (known.prompt, known.negative)
    if known.prompt is not None:
        assert found.reason is None
    else:
        assert known.owed in found.reason


def test_there_are_known_graphs_of_every_kind():
    assert len([*known_graphs()]) >= 34


def files() -> list:
    listed = sorted(CASES.glob("comfy-*/expected.json"))
    return [(path.parent / "input" / file["file"], file) for path in listed for file in json.loads(path.read_text())]


@pytest.mark.parametrize(("path", "right"), files(), ids=lambda value: value.stem if isinstance(value, Path) else "")
def test_the_shared_cases_are_read_right(path, right):
    found = read_metadata(path.read_bytes())
    assert (found.prompt, found.negative_prompt) == (right["prompt"], right["negative_prompt"])


def test_what_was_executed_outranks_what_was_drawn():
    drawn = {"nodes": [{"id": 6, "type": "CLIPTextEncode", "inputs": [], "widgets_values": [CAR]},
                       {"id": 3, "type": "KSampler", "inputs": [{"name": "positive", "link": 1}]}],
             "links": [[1, 6, 0, 3, 0, "CONDITIONING"]]}  # fmt: skip
    workflow = tool_chunk("workflow", json.dumps(drawn))
    for graph, prompt in ((picture(), FOX), (picture(["20", 0], n20=node("OllamaGenerate", prompt="a fox")), None)):
        found = read_metadata(png(workflow, tool_chunk("prompt", json.dumps(graph))))
        assert (found.prompt, bool(found.reason)) == (prompt, prompt is None)
    assert read_metadata(png(workflow)).prompt == CAR


def test_a_text_that_the_editor_saved_with_the_file_is_of_this_run_and_outranks_that_of_the_run_before():
    graph = picture(["20", 0], n20=node("ShowText|pysssss", text=["21", 0], text_0=CAR),
                    n21=node("OllamaGenerate", prompt="a fox"))  # fmt: skip
    drawn = {"nodes": [{"id": 20, "type": "ShowText|pysssss", "inputs": [], "widgets_values": [[FOX]]}], "links": []}
    chunks = (tool_chunk("prompt", json.dumps(graph)), tool_chunk("workflow", json.dumps(drawn)))
    assert read_metadata(png(*chunks)).prompt == FOX


def test_comments_in_an_executed_graph_stay_as_they_went_to_the_encoder():
    assert read_graph(picture("a fox // at https://example.org")).prompt == "a fox // at https://example.org"


def test_the_row_says_which_node_is_to_blame(tmp_path):
    graph = picture(["20", 0], n20=node("WD14Tagger|pysssss", image=["30", 0]))
    (row,) = from_folder(tmp_path, {"a.png": png(tool_chunk("prompt", json.dumps(graph)))}).values()
    assert (row.prompt, row.tool, row.negative_prompt) == (None, "ComfyUI", BAD)
    assert row.detail == "WD14Tagger|pysssss (node 20) makes text of its own, which the file does not record"
    assert row.reject("clean", Reason.NO_PROMPT, row.detail).detail == row.detail


def test_models_and_loras_are_found_in_all_nodes():
    lora = node("LoraLoader", lora_name="style/ink.safetensors", model=["4", 0])
    switched_off = node("Power Lora Loader (rgthree)", lora_1={"on": False, "lora": "no.safetensors"},
                        lora_2={"on": True, "lora": "yes.safetensors"})  # fmt: skip
    found = read_metadata(png(tool_chunk("prompt", json.dumps(picture(n20=lora, n21=switched_off)))))
    assert (found.models, found.loras) == (["dream"], ["ink", "yes"])


def test_a_circle_leads_to_no_text():
    graph = picture(["20", 0], n20=node("StringConcatenate", string_a=["20", 0], string_b="a", delimiter=""))
    assert read_graph(graph).prompt in (None, "a")
    graph = picture(n6=node("Reroute", value=["6", 0]))
    assert read_graph(graph).prompt is None
    assert read_graph(picture(n5=node("VAEEncode", pixels=["8", 0]))).prompt == FOX


def test_nodes_of_one_text_may_be_many():
    joined = {f"n{number}": node("StringConcatenate", string_a=[str(number + 1), 0], string_b="x", delimiter=" ")
              for number in range(20, 60)}  # fmt: skip
    assert read_graph(picture(["20", 0], n60=typed("a"), **joined)).prompt == "a" + " x" * 40
    assert read_graph(picture(n6=encoded(["20", 0]), n20=typed(FOX))).prompt == FOX
