"""No ComfyUI graph makes the reader raise, take long, or take much memory."""

import json
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surd.pipeline.metadata.comfyui import api_graph, computed, read_graph
from surd.pipeline.metadata.comfyui.table import node_table
from tests.fuzz import FUZZED
from tests.pipeline.comfy_graphs import known_graphs, picture
from tests.pipeline.tool_files import node

KNOWN = [known.graph for known in known_graphs()]
CLASSES = sorted(node_table())
NAMES = sorted({name for graph in KNOWN for one in graph.values() for name in one["inputs"]})
links = st.tuples(st.sampled_from([*"123456", 3, "20"]), st.integers(-1, 9)).map(list)
words = st.text(max_size=6) | st.sampled_from(["{a|b}", "(a+)+$", "/x/", "None", "Save", "\ud800"])
values = st.one_of(links, st.none(), st.booleans(), st.integers(-2, 5), st.floats(), words, st.lists(links, max_size=2))
inputs = st.dictionaries(st.sampled_from(NAMES), values, max_size=6)
nodes = st.fixed_dictionaries({"class_type": st.sampled_from(CLASSES) | st.text(max_size=5), "inputs": inputs})
graphs = st.dictionaries(st.sampled_from([*"123456", "20"]), nodes, min_size=1, max_size=6)


def can_be_stored(found) -> bool:
    for text in (found.prompt, found.negative_prompt, found.reason):
        (text or "").encode("utf-8")
    return (found.prompt is None) == (found.reason is not None)


@pytest.mark.fuzz
@FUZZED
@given(graphs)
def test_a_random_graph_of_listed_classes_gives_a_prompt_or_a_reason(graph):
    assert can_be_stored(read_graph(graph))


@pytest.mark.fuzz
@FUZZED
@given(st.sampled_from(KNOWN), st.data())
def test_a_known_graph_with_changes_gives_a_prompt_or_a_reason(known, draw):
    graph = json.loads(json.dumps(known))
    for _ in range(draw.draw(st.integers(1, 4))):
        target = graph[draw.draw(st.sampled_from(sorted(graph)))]
        if draw.draw(st.booleans()):
            target["class_type"] = draw.draw(st.sampled_from(CLASSES))
        name = draw.draw(st.sampled_from([*target["inputs"], "text"]))
        target["inputs"][name] = draw.draw(values | st.sampled_from(sorted(graph)).map(lambda id: [id, 0]))
    assert can_be_stored(read_graph(graph))


widgets = (
    st.lists(values, max_size=8) | st.dictionaries(st.sampled_from(NAMES), values, max_size=3) | st.text(max_size=3)
)
sockets = st.fixed_dictionaries(
    {"name": st.sampled_from(NAMES) | st.none(), "link": st.integers(0, 6) | st.none()},
    optional={"widget": st.just({"name": "text"}), "type": st.sampled_from(["STRING", "CONDITIONING", None, 3])},
)
drawn_nodes = st.fixed_dictionaries(
    {
        "id": st.integers(1, 6),
        "type": st.sampled_from([*CLASSES, "SetNode", "GetNode", "sub"]),
        "widgets_values": widgets,
    },
    optional={"inputs": st.lists(sockets, max_size=4), "mode": st.sampled_from([0, 2, 4, "x"])},
)
drawn_links = st.tuples(st.integers(0, 6), st.integers(-10, 6), st.integers(-1, 3), st.integers(1, 6),
                        st.integers(0, 3), st.sampled_from(["STRING", "CONDITIONING", 1])).map(list)  # fmt: skip
drawn_levels = st.fixed_dictionaries(
    {"nodes": st.lists(drawn_nodes, max_size=6), "links": st.lists(drawn_links, max_size=8)},
    optional={"extra": st.fixed_dictionaries({"ue_links": st.lists(st.dictionaries(st.text(), values), max_size=2)})},
)


@pytest.mark.fuzz
@FUZZED
@given(drawn_levels, drawn_levels)
def test_a_random_workflow_gives_a_prompt_or_a_reason(outer, inner):
    graph = api_graph(outer | {"definitions": {"subgraphs": [inner | {"id": "sub"}]}})
    assert graph == {} or can_be_stored(read_graph(graph, outer))


def chained(kind: str, times: int, last: str, **given) -> dict:
    """Nodes 20, 21 ... of which each reads the next one under the names given as None."""
    return {
        f"n{20 + number}": node(kind, **{name: [str(21 + number), 0] if value is None else value
                                        for name, value in given.items()})
        for number in range(times)
    } | {f"n{20 + times}": node("PrimitiveString", value=last)}  # fmt: skip


@pytest.mark.parametrize(
    "graph",
    [
        picture(["20", 0], **chained("StringConcatenate", 60, "a" * 100, string_a=None, string_b=None, delimiter="")),
        picture(["20", 0], **chained("StringConcatenate", 5_000, "a", string_a=None, string_b="b", delimiter="")),
        picture(["20", 0], **chained("StringReplace", 40, "aa", string=None, find="a", replace="aa")),
        picture(["20", 0], **chained("StringReplace", 40, "a", string=None, find="", replace="b" * 1_000)),
        picture(["20", 0], **chained("Reroute", 5_000, "a fox", value=None)),
        picture(["20", 0], **chained("ImpactSwitch", 5_000, "a fox", select=1, input1=None, input2=None)),
        picture(["20", 0], **chained("Any Switch (rgthree)", 500, "a fox", any_01=None, any_02=None)),
        picture(["20", 0], **chained("RegexReplace", 50, "a b " * 700, string=None, regex_pattern=r"\s+x", replace="")),
        picture(n6=node("Context (rgthree)"), **chained("Context (rgthree)", 5_000, "a", base_ctx=None, positive=None)),
        picture(n9=node("SaveImage", images=["20", 0]), **chained("KSampler", 8_000, "a", latent_image=None)),
        picture(n8=node("ImageBatch", a=["20", 0]), **chained("ImageBlend", 3_000, "a", image1=None, image2=None)),
        {str(number): node("SaveImage", images=[str((number * 7 + 1) % 6_000), 0]) for number in range(6_000)},
        {str(number): node("KSampler", positive=["0", 0], latent_image=["0", 0]) for number in range(6_000)},
    ],
    ids=range(13),
)  # fmt: skip
def test_a_graph_made_to_take_long_or_much_does_not(graph):
    tracemalloc.start()
    started = time.process_time()
    found = read_graph(graph)
    seconds, (_, peak) = time.process_time() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert can_be_stored(found) and seconds < 5 and peak < 60_000_000


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|aa)*$", r"(a)\1+", "(?=a+)a", "a{1,9}{1,9}", "a+a+a+$", "(" * 200, "a**"]
)
def test_a_pattern_whose_work_has_no_bound_is_not_run(pattern):
    assert computed.regex("a" * 3_000 + "b", pattern, "") is None


@pytest.mark.parametrize(
    ("pattern", "replacement", "text", "result"),
    [
        (r"\s+", " ", "a  b   c", "a b c"),
        (r"\bcat\b", "fox", "a cat, a catfish", "a fox, a catfish"),
        (r"(\w+) (\w+)", r"\2 \1", "fox red", "red fox"),
        (r"[,;]\s*", ", ", "a;b,  c", "a, b, c"),
        (r"^a ", "", "a fox", "fox"),
        (r"cat|dog", "fox", "a dog", "a fox"),
        (r"\(.*?\)", "", "a (very) red fox", "a  red fox"),
    ],
)
def test_usual_patterns_are_run(pattern, replacement, text, result):
    assert computed.regex(text, pattern, replacement) == result


@pytest.mark.parametrize("pattern", [r"\s+,", "a*b", r"\w+\s+x", ".*z", "a.*b"])
def test_the_work_of_a_pattern_is_bounded(pattern):
    for text in (" " * 100_000, "a" * 100_000, "a " * 50_000):
        started = time.process_time()
        for size in (100_000, 20_000, 3_000, 200):
            computed.regex(text[:size], pattern, "")
        assert time.process_time() - started < 2
