"""P(yes) of a vision server: from the logprobs of the first word, else from the word, else missing with a reason."""

import json
import logging
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surd.pipeline.models import Models
from surd.pipeline.models.openai_answers import UnusableAnswer
from surd.pipeline.models.vision_answers import VisionAnswers, YesNo, yes_no
from surd.schemas import SurdError, load_config
from tests.fuzz import FUZZED
from tests.pipeline.models.test_vision_server import flat, models, red  # noqa: F401  a fixture
from tests.pipeline.models.vision_service import completion, logprobs, question, stored

pytest_plugins = ["tests.pipeline.served"]


def judged(body):
    """What an answer says, now and from the cache."""
    answers = VisionAnswers()
    answer = answers.read(body)
    assert answers.load(answers.dump(answer)) == answer
    return yes_no(answer)


@pytest.mark.parametrize(
    ("positions", "text", "p"),
    [
        ([{"Yes": 0.9, "No": 0.1}], "Yes", 0.9),
        ([{"No": 0.75, "Yes": 0.25}], "No.", 0.25),
        ([{" yes": 0.5, "Yes": 0.25, "YES": 0.05, "no": 0.1, " NO": 0.1}], " yes", 0.8),
        ([{"\u2581Yes": 0.6, "\u0120No": 0.2, "The": 0.2}], "Yes", 0.75),
        ([{"\n": 1.0}, {"Yes": 0.8, "No": 0.2}], "\nYes", 0.8),
        ([{"<s>": 1.0}, {"**": 1.0}, {"No": 0.6, "Yes": 0.4}], "**No**", 0.4),
        ([{"Yes": 0.5, "Maybe": 0.3, "Perhaps": 0.1}], "Yes", 0.5 / 0.6),
        ([{"Yes": 0.97}], "Yes", 0.97),
        ([{"No": 1.0}], "No", 0.0),
    ],
)
def test_p_yes_is_the_share_of_yes_among_yes_and_no_for_the_first_word(positions, text, p):
    answer = judged(completion(text, logprobs=logprobs(*positions)))
    assert answer.p == pytest.approx(p) and answer.calibrated and answer.why is None


def test_probabilities_near_one_differ():
    def at(logit):
        share = 1 / (1 + math.exp(-logit))
        return judged(completion("Yes", logprobs=logprobs({"Yes": share, "No": math.exp(-logit) * share}))).p

    assert [math.log(p / (1 - p)) for p in map(at, (5, 10, 20))] == pytest.approx([5, 10, 20], rel=1e-4)


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (completion("Yes."), YesNo(p=1.0, calibrated=False)),
        (completion("no, there is none"), YesNo(p=0.0, calibrated=False)),
        (completion("Yes", logprobs={"content": None}), YesNo(p=1.0, calibrated=False)),
        (completion("Yes", logprobs={"content": [{"token": "Yes", "logprob": "x"}]}), YesNo(p=1.0, calibrated=False)),
        (completion("I cannot tell."), YesNo(why="it answered neither yes nor no: I cannot tell.")),
        (completion('{"answer": "yes"}'), YesNo(why='it answered neither yes nor no: {"answer": "yes"}')),
        (completion("The", logprobs=logprobs({"The": 0.9, "Yes": 0.09, "No": 0.01})), "it answered neither"),
        (completion("Yesterday"), "it answered neither"),
        (completion(""), YesNo(why="it answered nothing")),
        (completion(None, refusal="Sorry."), YesNo(why="the model refused: Sorry.")),
        (completion("<think>hm", "length"), "it was still thinking"),
    ],
)
def test_without_logprobs_the_word_counts_and_anything_else_is_no_answer(body, answer):
    found = judged(body)
    assert found.p is None and found.why.startswith(answer) if isinstance(answer, str) else found == answer


def test_each_question_of_each_picture_is_asked_alone(serve, models):  # noqa: F811
    sent = []

    def answer(request):
        sent.append(json.loads(request.body))
        share = red(request) / 100 if question(request).startswith("Is it red?") else 0.5
        request.send(200, completion("Yes", logprobs=logprobs({"Yes": share, "No": 1 - share})))

    vlm = models(serve(answer).url).vlm
    images = [stored(flat(20)), stored(flat(40))]
    found = vlm.probabilities(images, [["Is it red?", "Is it a dog?"], ["Is it red?"]])
    assert found == [[pytest.approx(0.2), pytest.approx(0.5)], [pytest.approx(0.4)]]
    assert all(one["logprobs"] is True and one["top_logprobs"] == 20 and one["max_tokens"] <= 3 for one in sent)
    assert vlm.probabilities(images, [[], []]) == [[], []] and vlm.probabilities([], []) == []


def test_a_server_without_logprobs_is_one_warning(serve, models, caplog):  # noqa: F811
    server = serve(lambda request: request.send(200, completion("Yes")))
    vlm = models(server.url).vlm
    with caplog.at_level(logging.WARNING):
        for text in ("Is it a dog?", "Is it a cat?"):
            assert vlm.probabilities([flat(1)], [[text]]) == [[1.0]]
    warnings = [record.getMessage() for record in caplog.records if "logprobs" in record.getMessage()]
    assert len(warnings) == 1 and warnings[0].startswith(f"models.vlm: the server at {server.url}/v1 gives no logprobs")


def test_a_server_that_refuses_fields_is_asked_without_them(serve, models):  # noqa: F811
    fields = []

    def answer(request):
        sent = json.loads(request.body)
        fields.append({name: sent.get(name) for name in ("seed", "logprobs", "top_logprobs")})
        words = ""
        if sent.get("top_logprobs", 0) > 5:
            words = "Requested sample logprobs of 20, which is greater than max allowed: 5"
        elif "logprobs" in sent and question(request).startswith("Is it a cat?"):
            words = "this model has no logprobs"
        elif "seed" in sent:
            words = "unexpected field: seed"
        request.send(422 if words else 200, json.dumps({"detail": words}).encode() if words else completion("Yes"))

    vlm = models(serve(answer).url, concurrency=1).vlm
    assert vlm.probabilities([flat(1)], [["Is it a dog?", "Is it a cat?", "Is it a cow?"]]) == [[1.0, 1.0, 1.0]]
    assert [(one["seed"], one["logprobs"], one["top_logprobs"]) for one in fields] == [
        (0, True, 20), (0, True, 5), (None, True, 5),
        (None, True, 5), (None, None, None),
        (None, None, None),
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "words"), [(None, "is not set"), ("org/model", "takes servers only")])
def test_the_role_takes_servers_only(name, words):
    roles = Models(load_config({}, {"models.vlm": name}).models)
    with pytest.raises(SurdError, match=rf"models\.vlm .*{words}.*openai:http"):
        _ = roles.vlm
    if name is None:
        assert roles.revision("vlm") == ""


def test_a_build_is_made_again_by_another_model_or_from_other_sizes_and_not_by_another_pace(models):  # noqa: F811
    url = "http://127.0.0.1:9"
    for role in ("captioner", "vlm"):
        known = models(url).revision(role)
        assert known == models(url, concurrency=64).revision(role)
        assert known != models(url, image_size=512).revision(role)
        assert known != models(f"{url}9").revision(role)


@pytest.mark.fuzz
@FUZZED
@given(
    st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters(codec=None), max_size=20)
            | st.sampled_from(["yes", "No", "length"]),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                st.sampled_from(
                    ["choices", "message", "content", "finish_reason", "refusal", "text", "logprobs", "top_logprobs",
                     "token", "logprob"]
                ), inner, max_size=5,
            ),
        ).map(lambda inner: json.dumps({"choices": [inner]}).encode()),
        st.recursive(
            st.floats() | st.text(st.characters(codec=None), max_size=4) | st.sampled_from(["yes", "No"]),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                st.sampled_from(["content", "top_logprobs", "token", "logprob"]), inner, max_size=4
            ),
        ).map(lambda inner: completion("yes", logprobs=inner)),
    )
)  # fmt: skip
def test_any_answer_is_a_probability_or_a_reason(body):
    try:
        answer = judged(body)
    except (UnusableAnswer, json.JSONDecodeError) as why:
        assert str(why).isprintable()
    else:
        assert (answer.p is None) != (answer.why is None)
        assert answer.p is None or 0 <= answer.p <= 1
        assert answer.why is None or answer.why.encode()
