"""Models are checked before the first stage, by their config files: kind, abilities, what is missing."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import save_file

from surd.pipeline.build.folder import Build
from surd.pipeline.models.check import check_role, roles_needed
from surd.pipeline.runner.model_check import check_models
from surd.pipeline.stages.caption import check_questions
from surd.schemas import SurdError, load_config
from tests.flows.tiny_llm import save_tiny_llm
from tests.pretrained.checkpoints import tiny_pipeline, write_checkpoint

PARTS = ("preprocessor_config.json", "tokenizer.json", "model.safetensors")


def model_folder(folder, config, *names):
    """A folder of one model, its files empty but for config.json: nothing may read the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def fault(role, values):
    """The sentence that a config gets for a role; None where it is fine."""
    try:
        check_role(role, load_config({}, values))
    except SurdError as error:
        assert str(error).isprintable()
        return str(error)
    return None


@pytest.mark.parametrize("role", list(roles_needed(load_config({}))))
def test_the_embedded_models_pass(role):
    assert fault(role, {}) is None


@pytest.mark.parametrize("kind", ["blip", "blip-2", "git", "vision-encoder-decoder"])
def test_captioners_that_need_no_prompt_pass(tmp_path, kind):
    assert fault("captioner", {"models.captioner": model_folder(tmp_path, {"model_type": kind}, *PARTS)}) is None


@pytest.mark.parametrize("kind", ["llava", "llava_next", "qwen2_vl", "instructblip", "gemma3", "idefics3"])
def test_a_captioner_without_a_chat_template_passes_with_the_users_own_prompt_only(tmp_path, kind):
    values = {"models.captioner": model_folder(tmp_path, {"model_type": kind}, *PARTS)}
    assert "among its files is no chat template (chat_template.jinja); add it" in fault("captioner", values)
    assert fault("captioner", values | {"caption.prompt": "USER: <image> What is this? ASSISTANT:"}) is None


@pytest.mark.parametrize("kind", ["florence2", "paligemma"])
def test_a_captioner_that_knows_tasks_needs_no_chat_template(tmp_path, kind):
    assert fault("captioner", {"models.captioner": model_folder(tmp_path, {"model_type": kind}, *PARTS)}) is None


CHAT = "{% for m in messages %}{% for part in m['content'] %}%s{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("part", "why"),
    [
        ("{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}", None),
        ("{% if part.type == 'text' %}{{ part.text }}{% endif %}", "leaves out the picture"),
        ("{{ part.type }}", "leaves out the question"),
        ("{{ m['content'] }}", "takes text alone: it writes out a list"),
        ("{% if part.type == 'image' %}{{ raise_exception('no images') }}{% endif %}", "takes no picture (no images)"),
        ("{% if %}", "takes no picture"),
    ],
)
@pytest.mark.parametrize("file", ["chat_template.jinja", "chat_template.json", "tokenizer_config.json"])
def test_a_chat_template_has_to_take_a_picture_and_a_question(tmp_path, part, why, file):
    folder = model_folder(tmp_path, {"model_type": "llava"}, *PARTS)
    template = CHAT.replace("%s", part)
    (tmp_path / file).write_text(template if file.endswith("jinja") else json.dumps({"chat_template": template}))
    found = fault("captioner", {"models.captioner": folder})
    assert found is None if why is None else why in found


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [("blip", "BlipForQuestionAnswering"), ("llava", "LlavaLlamaForCausalLM"), ("git", "GitModel")],
)
def test_a_model_of_another_class_is_named_before_its_weights_are_read(tmp_path, kind, architecture):
    folder = model_folder(tmp_path, {"model_type": kind, "architectures": [architecture]}, *PARTS)
    assert f"it is a {architecture!r}, which writes no captions" in fault("captioner", {"models.captioner": folder})


def asked_fault(values):
    """The sentence that a config gets for what its captioner is to be asked; None where it is fine."""
    try:
        check_questions(load_config({}, values))
    except SurdError as error:
        return str(error)
    return None


def test_what_a_captioner_cannot_be_asked_is_one_sentence(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("version: 1\ntemplates:\n  short:\n    ask: Describe {promt}.\n")
    promptless = {"models.captioner": model_folder(tmp_path / "blip", {"model_type": "blip"}, *PARTS)}
    florence = {"models.captioner": model_folder(tmp_path / "florence", {"model_type": "florence2"}, *PARTS)}
    gemma = {"models.captioner": model_folder(tmp_path / "gemma", {"model_type": "paligemma"}, *PARTS)}
    for config in (promptless, florence, gemma, florence | {"caption.names": ["short", "medium", "long"]}):
        assert asked_fault(config) is None
    assert "is a 'blip', which answers no question" in asked_fault(promptless | {"caption.names": ["short"]})
    assert "is a 'blip', which answers no question" in asked_fault(promptless | {"caption.templates": str(own)})
    assert "a 'paligemma' has no task for it" in asked_fault(gemma | {"caption.names": ["long"]})
    assert "there is no such template; choose from short, medium, long" in asked_fault(
        florence | {"caption.names": ["tall"]}
    )
    placed = asked_fault(florence | {"caption.templates": str(own)})
    assert "own.yaml' line 4, column 10" in placed and "unknown placeholder {promt}; the placeholders are" in placed
    assert "both set; keep one" in asked_fault(florence | {"caption.prompt": "a", "caption.names": ["short"]})
    vit = {"models.captioner": model_folder(tmp_path / "vit", {"model_type": "vision-encoder-decoder"}, *PARTS)}
    assert "takes no text; set caption.prompt to null" in fault("captioner", vit | {"caption.prompt": "a photo of"})


@pytest.mark.parametrize(
    ("config", "names", "why"),
    [
        ({"model_type": "bert"}, PARTS, "no image-to-text model"),
        ({"model_type": "blip"}, ("preprocessor_config.json", "tokenizer.json", "pytorch_model.bin"), "unpickled"),
        ({"model_type": "blip"}, ("preprocessor_config.json", "tokenizer.json"), "it has no weights"),
        ({"model_type": "blip"}, ("preprocessor_config.json", "model.safetensors"), "none of tokenizer.json"),
        ({"model_type": "blip"}, ("tokenizer.json", "model.safetensors"), "none of preprocessor_config.json"),
        ([], PARTS, "config.json is not a JSON object"),
        ({}, PARTS, "it is a None"),
    ],
)
def test_a_captioner_that_is_incomplete_or_none_is_one_sentence(tmp_path, config, names, why):
    assert why in fault("captioner", {"models.captioner": model_folder(tmp_path, config, *names)})


def test_layers_deeper_than_the_llm_are_found_before_any_stage(tmp_path):
    values = {"models.llm": str(save_tiny_llm(tmp_path)), "embed.layers": [0, 2]}
    assert fault("embed_llm", values) is None
    for layers, odd in (([0, 3], 3), ([20], 20), ([-1], -1)):
        assert f"embed.layers asks for layer {odd}" in fault("embed_llm", values | {"embed.layers": layers})
    assert fault("llm", values | {"embed.layers": [20]}) is None, "what embed asks for is no matter to rewrite"


def test_layers_deeper_than_a_gguf_are_found_too():
    assert "has 0 to 30" in fault("embed_llm", {"embed.layers": [31]})


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"model_type": "clip"}, "no causal LM"),
        ({"model_type": "odd", "auto_map": {"AutoConfig": "x"}}, "code of its own, which is not run"),
        ({"model_type": "llama", "num_hidden_layers": "many"}, "config.json is not valid"),
    ],
)
def test_a_folder_that_is_no_llm_says_what_it_is(tmp_path, config, why):
    assert why in fault("llm", {"models.llm": model_folder(tmp_path, config, *PARTS)})


def test_a_multimodal_gemma_counts_the_layers_of_its_text_model(tmp_path):
    config = {"model_type": "gemma3", "text_config": {"num_hidden_layers": 3}}
    values = {"models.llm": model_folder(tmp_path, config, *PARTS)}
    assert fault("embed_llm", values | {"embed.layers": [3]}) is None
    assert "has 0 to 3" in fault("embed_llm", values | {"embed.layers": [4]})


def test_a_damaged_gguf_is_one_sentence(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + b"\xff" * 100)
    assert "not a valid GGUF file" in fault("embed_llm", {"models.llm": str(tmp_path / "x.gguf")})


def test_a_diffusion_model_needs_safetensors_in_each_part(tmp_path):
    index = {"_class_name": "StableDiffusionPipeline", "vae": ["diffusers", "A"], "text_encoder": ["transformers", "C"]}
    model_folder(tmp_path, {}, "vae/diffusion_pytorch_model.safetensors", "text_encoder/pytorch_model.bin")
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    values = {"models.diffusion": str(tmp_path), "embed.columns": ["latents"]}
    assert "its text_encoder are only in formats that would have to be unpickled" in fault("diffusion", values)
    (tmp_path / "model_index.json").write_text(json.dumps(index | {"_class_name": "FluxPipeline"}))
    assert "it is a FluxPipeline; name a Stable Diffusion 1.x, 2.x" in fault("diffusion", values)


def test_models_with_a_transformer_pass_and_each_of_their_text_encoders_needs_weights(tmp_path):
    encoders = ("text_encoder", "text_encoder_2", "text_encoder_3")
    index = {"_class_name": "StableDiffusion3Pipeline"} | {part: ["transformers", "C"] for part in encoders}
    model_folder(tmp_path, {}, *(f"{part}/model.safetensors" for part in (*encoders[:2], "vae")))
    (tmp_path / "model_index.json").write_text(json.dumps(index | {"vae": ["diffusers", "A"]}))
    values = {"models.diffusion": str(tmp_path), "embed.columns": ["latents"]}
    assert "the weights of its text_encoder_3 are not there" in fault("diffusion", values)
    (tmp_path / "model_index.json").write_text(json.dumps(index | {"_class_name": "PixArtSigmaPipeline"}))
    assert fault("diffusion", values) is None


def test_a_single_file_of_another_kind_is_refused_by_its_header_before_any_stage(tmp_path):
    file = tmp_path / "one.safetensors"
    values = {"models.diffusion": str(file), "embed.columns": ["latents"]}
    assert "there is no such folder or file" in fault("diffusion", values)
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(1)}, file)
    assert fault("diffusion", values).startswith(f"models.diffusion is {str(file)!r}: it is a LoRA")
    pipe = tiny_pipeline("1")
    whole = write_checkpoint(pipe, file).read_bytes()
    assert fault("diffusion", values) is None
    file.write_bytes(whole[:-1000])
    assert "it is cut off: it has" in fault("diffusion", values)


@pytest.mark.parametrize(
    ("labels", "why"), [({"0": "cat", "1": "dog"}, "none means safe"), ({}, "no labels"), ({"0": "nsfw"}, None)]
)
@pytest.mark.parametrize("field", ["safety.text_model", "safety.image_model"])
def test_a_classifier_must_say_what_is_unsafe(tmp_path, field, labels, why):
    folder = model_folder(tmp_path, {"id2label": labels}, *PARTS)
    sentence = fault(field, {field: folder})
    assert (sentence is None) if why is None else (why in sentence and sentence.startswith(field))


def test_an_open_clip_tag_that_does_not_exist_lists_those_that_do():
    assert "choose one of" in fault("clip", {"models.clip": "ViT-B-32/laion3b"})


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_a_device_that_is_not_there_is_found_before_any_stage(device):
    assert fault("clip", {"models.device": device}).startswith(f"models.device is {device!r}: ")


def test_only_the_models_of_stages_that_load_them_are_checked():
    values = {"rewrite.enabled": False, "correct.fuse": False, "embed.layers": [], "safety.enabled": False}
    needed = set(roles_needed(load_config({}, values)))
    assert needed == {"clip", "captioner", "facts.parser"}
    paper = set(roles_needed(load_config({}, values | {"correct.rule": "paper"})))
    assert paper == {"clip", "captioner"}
    assert roles_needed(load_config({}, {"embed.columns": ["latents"]}))["diffusion"] == ("embed",)


def test_a_server_that_is_down_is_found_before_any_stage():
    assert "no server answers" in fault("llm", {"models.llm": "openai:http://127.0.0.1:9/v1#m"})


class Hub(BaseHTTPRequestHandler):
    """A hub that has one captioner, ``owner/llava``, and says that all others do not exist."""

    asked: list[str] = []  # noqa: RUF012 - of the one server of a test

    def do_GET(self):
        self.asked.append(self.path)
        if self.path.startswith("/api/models/owner/llava"):
            names = ["config.json", *PARTS]
            body = {"id": "owner/llava", "siblings": [{"rfilename": name} for name in names]}
            self.answer(200, body)
        elif self.path == "/owner/llava/resolve/main/config.json":
            self.answer(200, {"model_type": "llava"})
        else:
            self.answer(404, {}, {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def answer(self, status, body, headers=None):
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"ETag": '"1"', "X-Repo-Commit": "0" * 40, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    monkeypatch.setattr(
        huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    Hub.asked.clear()
    yield url
    server.shutdown()
    server.server_close()


def test_a_model_of_the_hub_is_judged_by_its_config_without_its_weights(hub):
    assert "is no chat template" in fault("captioner", {"models.captioner": "owner/llava"})
    assert not any("safetensors" in path for path in Hub.asked)
    assert "neither on this machine nor on the hub" in fault("captioner", {"models.captioner": "owner/none"})


def test_without_a_network_a_model_of_the_hub_is_one_sentence_at_once(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    sentence = fault("captioner", {"models.captioner": "owner/blip"})
    assert sentence.startswith("models.captioner is 'owner/blip': it is not on this machine, and the hub cannot be")


def test_a_finished_build_is_skipped_without_its_models_and_an_unfinished_one_is_not(built, monkeypatch):
    monkeypatch.setattr(
        "surd.pipeline.runner.model_check.check_role", lambda role, _: (_ for _ in ()).throw(SurdError(role))
    )
    check_models(built.config, built.build)
    with pytest.raises(SurdError, match="clip"):  # of correct, which reads the captions
        check_models(load_config(built.config.model_dump(), {"caption.seed": 5}), built.build)
    with pytest.raises(SurdError, match=r"safety\.image_model"):
        check_models(built.config, Build(str(built.root) + "-none"))


def test_what_a_captioner_cannot_be_asked_is_said_before_the_first_stage(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("version: 1\ntemplates: {short: {ask: 'Describe {it}.'}}\n")
    llava = model_folder(tmp_path / "llava", {"model_type": "llava"}, *PARTS)
    build = Build(str(tmp_path / "build"))
    for values, why in (
        ({"caption.names": ["short"]}, "'blip', which answers no question"),
        ({"models.captioner": llava}, "is no chat template"),
        ({"models.captioner": llava, "caption.templates": str(own)}, "unknown placeholder {it}"),
    ):
        with pytest.raises(SurdError, match=re.escape(why)):
            check_models(load_config({}, values), build)


@pytest.mark.parametrize("name", ["en_core_web_huge", "/no/such/folder", "", "not a name"])
def test_a_parser_that_is_missing_is_said_before_the_first_stage(name):
    with pytest.raises(SurdError, match=r"facts\.parser is .*no spaCy pipeline of that name is installed"):
        check_role("facts.parser", load_config({}, {"facts.parser": name}))


def test_the_witnesses_that_are_asked_are_checked_and_no_others():
    asked = roles_needed(load_config({}, {"correct.witnesses": ["vqa"]}))
    assert asked["vqa"] == ("correct",) and "vlm" not in asked
    assert "vqa" not in roles_needed(load_config({}))
    with pytest.raises(SurdError, match=r"models\.vlm is not set"):
        check_role("vlm", load_config({}, {"correct.witnesses": ["vlm"]}))
