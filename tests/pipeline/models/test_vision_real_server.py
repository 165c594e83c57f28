"""``transformers serve`` over an untrained LLaVA answers our client: captions as in process, and yes or no."""

import importlib.util
import socket
import subprocess
import sys
import time
from contextlib import suppress

import httpx
import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers import models as token_models

from surd.pipeline.models import Models
from surd.pipeline.models.caption_model import CaptionPrompt
from surd.schemas import load_config
from tests.pipeline.models.tiny_models import SIDE, TEXT, VISION
from tests.pipeline.models.vision_service import stored

SPECIAL = ["[PAD]", "[UNK]", "<s>", "</s>", "<image>"]
#: All that the model can say begins with a yes, so that an untrained one answers questions.
WORDS = [*SPECIAL, "yes", "Yes", "YES", "yes.", "Yes.", "yes,", "Yes,", "YES,", "yes!", "Yes!", "YES!", "YES."]
SECONDS = 90
TEMPLATE = (
    "{% for message in messages %}<s> {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}"
)


def save_llava(folder):
    torch.manual_seed(0)
    text = transformers.LlamaConfig(**TEXT | {"vocab_size": len(WORDS)})
    vision = transformers.CLIPVisionConfig(**VISION | {"num_hidden_layers": 2})
    config = transformers.LlavaConfig(vision_config=vision, text_config=text, image_token_index=4)
    model = transformers.LlavaForConditionalGeneration(config)
    with torch.no_grad():  # an ordinary word is likelier than any special one
        model.lm_head.weight[: len(SPECIAL)] = 0
    model.generation_config.suppress_tokens = list(range(len(SPECIAL)))
    model.save_pretrained(folder)
    tokenizer = Tokenizer(token_models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", bos_token="<s>", eos_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    images = transformers.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    processor = transformers.LlavaProcessor(
        images, fast, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )  # fmt: skip
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(the folder of a model, the address of ``transformers serve`` over it)."""
    if not all(importlib.util.find_spec(name) for name in ("openai", "fastapi", "uvicorn")):
        pytest.skip("transformers serve needs openai, fastapi and uvicorn: pip install 'surd[test]'")
    folder = save_llava(tmp_path_factory.mktemp("served") / "llava")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = "import sys; from transformers.cli.transformers import app; sys.argv[0] = 'transformers'; app()"
    command = [sys.executable, "-c", program, "serve", str(folder), "--port", str(port), "--device", "cpu"]
    log = folder.with_suffix(".log")
    with log.open("w") as output, subprocess.Popen(
        [*command, "--host", "127.0.0.1"], stdout=output, stderr=subprocess.STDOUT
    ) as server:  # fmt: skip
        try:
            until = time.monotonic() + SECONDS
            while not _is_up(port):
                assert server.poll() is None and time.monotonic() < until, log.read_text()[-2000:]
                time.sleep(0.1)
            yield folder, f"http://127.0.0.1:{port}"
        finally:
            server.kill()


def _is_up(port):
    with suppress(httpx.HTTPError):
        return httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200
    return False


@pytest.fixture
def roles(served, tmp_path):
    folder, url = served
    name = f"openai:{url}/v1#{folder}"
    server = {"cache": str(tmp_path / "answers.sqlite"), "concurrency": 2}
    config = {"models.captioner": name, "models.vlm": name, "models.server": server}
    return Models(load_config({}, config).models)


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)) for _ in range(2)]


def test_a_real_server_captions_as_the_same_model_does_in_process(served, roles, pictures):
    asked = {"k": 1, "num_beams": 1, "max_new_tokens": 5, "seed": 0}
    prompts = [[CaptionPrompt(name="short", text="yes yes")]] * 2
    answers = roles.captioner.caption([stored(picture) for picture in pictures], **asked, prompts=prompts)
    texts = [[one.text for one in of_one] for of_one in answers]
    local = Models(load_config({}, {"models.captioner": str(served[0]), "models.device": "cpu"}).models).captioner
    assert texts == [[one.text for one in of_one] for of_one in local.caption(pictures, **asked, prompts=prompts)]
    assert all(len(text.split()) == 5 for (text,) in texts) and all(of_one[0].cut for of_one in answers)


def test_a_real_server_without_logprobs_says_yes(roles, pictures, caplog):
    ((answer,),) = roles.vlm.yes_or_no([stored(pictures[0])], [["Is it a dog?"]])
    assert (answer.p, answer.why, answer.calibrated) == (1.0, None, False)
    assert "gives no logprobs" in caplog.text
