"""A chat reaches any model whole: folded where its template refuses roles, with its BOS, without its thoughts."""

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, Gemma3Config, Gemma3ForConditionalGeneration

from surd.pipeline.models.chat_template import ChatWriter
from surd.pipeline.models.llm import LLM
from tests.flows.tiny_llm import save_tiny_llm
from tests.pipeline.models.tiny_models import TEXT, VISION, WORDS, save_llm, save_tokenizer

ALTERNATE = (
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
)
GEMMA = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + ALTERNATE
    + "<start_of_turn>{{ message['role'] }} {{ message['content'] | trim }}<end_of_turn> {% endfor %}"
)  # fmt: skip
MISTRAL = (
    ALTERNATE + "{% if message['role'] == 'user' %}[INST] {{ message['content'] }} [/INST]"
    "{% else %}{{ message['content'] + '</s>' }}{% endif %}{% endfor %}"
)
ONE_TURN = (
    "{% if messages | length > 1 or messages[0]['role'] != 'user' %}{{ raise_exception('one turn') }}{% endif %}"
    "USER: {{ messages[0]['content'] }}"
)
FORGETFUL = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'] }}: {{ message['content'] }} "
    "{% endif %}{% endfor %}"
)
PLAIN = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }} {% endfor %}"
CHAT = [
    {"role": "system", "content": "the red box"},
    {"role": "user", "content": "three dog"},
    {"role": "assistant", "content": "a table"},
    {"role": "user", "content": "white cat"},
]


@pytest.fixture
def tokenizer(tmp_path):
    save_tokenizer(tmp_path)
    return AutoTokenizer.from_pretrained(tmp_path)


def written(tokenizer, template, monkeypatch):
    """The text that a template makes of CHAT."""
    tokenizer.chat_template = template
    texts = []
    monkeypatch.setattr(type(tokenizer), "__call__", lambda self, text, **_: texts.append(text) or {"input_ids": []})
    with pytest.raises(AttributeError):
        ChatWriter(tokenizer).tokens(CHAT)
    return texts[-1]


@pytest.mark.parametrize("template", [GEMMA, MISTRAL, ONE_TURN, FORGETFUL, PLAIN])
def test_no_message_is_lost_whatever_the_template_refuses(tokenizer, template, monkeypatch):
    text = written(tokenizer, template, monkeypatch)
    places = [text.index(message["content"]) for message in CHAT]
    assert places == sorted(places), "and they stay in order"


@pytest.mark.parametrize(
    ("template", "start"),
    [
        (GEMMA, "<start_of_turn>user the red box\n\nthree dog<end_of_turn>"),
        (MISTRAL, "[INST] the red box\n\nthree dog [/INST]a table</s>[INST] white cat"),
        (ONE_TURN, "USER: the red box\n\nthree dog\n\na table\n\nwhite cat"),
        (FORGETFUL, "user: the red box\n\nthree dog assistant: a table"),
        (PLAIN, "system: the red box user: three dog"),
    ],
)
def test_only_what_is_refused_is_folded(tokenizer, template, start, monkeypatch):
    assert written(tokenizer, template, monkeypatch).startswith(start)


def test_a_template_that_can_think_is_asked_not_to(tokenizer, monkeypatch):
    thinking = PLAIN + "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
    assert written(tokenizer, thinking, monkeypatch).endswith("<think></think>")


@pytest.mark.parametrize("ends", [False, True])
def test_a_base_model_gets_its_bos_and_no_eos(tokenizer, ends):
    single = "<s> $A </s>" if ends else "<s> $A"
    marks = [("<s>", 2), ("</s>", 3)][: 1 + ends]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=marks)
    tokens = ChatWriter(tokenizer).tokens(CHAT)
    assert tokens[0] == 2 and tokens.count(2) == 1 and 3 not in tokens
    assert tokens[1:] == tuple(WORDS.index(word) for message in CHAT for word in message["content"].split())


def test_templates_answer_the_same_with_and_without_a_kept_prefix(tmp_path):
    folder = save_tiny_llm(tmp_path)
    for template in (GEMMA, MISTRAL, ONE_TURN):
        answers = []
        for prefixes in (4, 0):
            llm = LLM(str(folder), "cpu", "float32", prefixes=prefixes)
            llm._tokenizer.chat_template = template
            chats = [[*CHAT[:3], {"role": "user", "content": text}] for text in ("white dog", "box", "a the table")]
            answers.append(llm.replies(chats, 6))
        assert answers[0] == answers[1]


def test_a_tokenizer_without_pad_and_eos_answers_in_batches_as_alone(tmp_path):
    folder = save_llm(tmp_path, special=False)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.pad_token is None and tokenizer.eos_token is None
    llm = LLM(str(folder), "cpu", "float32")
    chats = [[{"role": "user", "content": text}] for text in ("the box", "a", "the red on of three the red on of")]
    assert llm.replies(chats, 5) == [llm.replies([chat], 5)[0] for chat in chats]
    assert len(dict(llm.hidden_states.read(["", "a the"], [(1, "mean")], None))) == 2


def test_a_multimodal_gemma_3_answers_and_gives_the_states_of_its_text_model(tmp_path):
    torch.manual_seed(0)
    text = {key: value for key, value in TEXT.items() if key != "num_hidden_layers"}
    config = Gemma3Config(
        text_config=text | {"num_hidden_layers": 3, "head_dim": 8, "num_key_value_heads": 1, "sliding_window": 8},
        vision_config=VISION | {"num_hidden_layers": 3},
        mm_tokens_per_image=4,
        image_token_index=4,
    )
    model = Gemma3ForConditionalGeneration(config).eval()
    model.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    llm = LLM(str(tmp_path), "cpu", "float32")
    assert llm.hidden_states.depth == 3
    assert len(llm.replies([CHAT, CHAT[:2]], 4)) == 2
    rows = llm.hidden_states.tokens(["the red box on a table"])
    ((_, states),) = llm.hidden_states.read(["the red box on a table"], [(2, "tokens"), (3, "tokens")], None)
    with torch.inference_mode():
        expected = model(torch.tensor(rows), output_hidden_states=True).hidden_states
    for layer in (2, 3):
        torch.testing.assert_close(states[layer, "tokens"], expected[layer][0], atol=2e-6, rtol=1e-5)
