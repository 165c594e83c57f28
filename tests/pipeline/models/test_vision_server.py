"""A vision server captions pictures and says yes or no about them; nothing is asked twice."""

import io
import json
import threading

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from surd.pipeline.models import Models
from surd.pipeline.models.caption_model import CaptionAnswer, CaptionPrompt
from surd.schemas import SurdError, load_config
from tests.pipeline.models.vision_service import (
    completion,
    logprobs,
    picture,
    picture_bytes,
    question,
    stored,
)

pytest_plugins = ["tests.pipeline.served"]
KEY = "sk-not-a-real-key"
SHORT, LONG = CaptionPrompt(name="short", text="Describe it."), CaptionPrompt(name="long", text="All of it, please.")
YES, NO = (logprobs({word: 0.9, other: 0.1}) for word, other in (("Yes", "No"), ("No", "Yes")))


def flat(red, side=64):
    return Image.new("RGB", (side, side), (red, 0, 0))


@pytest.fixture
def models(tmp_path, no_waiting):
    """``models(url, **server)``: the roles of a build whose captioner and vlm are the server at ``url``."""

    def at(url, **server):
        values = {"cache": str(tmp_path / "answers.sqlite"), "timeout": 5, **server}
        name = f"openai:{url}/v1#tiny"
        return Models(load_config({}, {"models.captioner": name, "models.vlm": name, "models.server": values}).models)

    return at


def caption(models, images, prompts=(SHORT,), k=1):
    return models.captioner.caption(
        images, k=k, num_beams=1, max_new_tokens=40, seed=0, prompts=[list(prompts) for _ in images]
    )


def texts(captions):
    return [[one.text for one in of_one] for of_one in captions]


def red(request):
    return round(np.asarray(picture(request).convert("RGB"))[..., 0].mean())


def test_each_picture_gets_the_answers_to_its_own_prompts_in_order(serve, models, monkeypatch):
    monkeypatch.setenv("SURD_LLM_API_KEY", KEY)
    server = serve(lambda request: request.send(200, completion(f"{red(request)}: {question(request)}")))
    images = [stored(flat(10)), flat(200), stored(flat(100), "JPEG", quality=95)]
    prompts = [[SHORT], [LONG, SHORT], []]
    captioner = models(server.url).captioner
    answers = captioner.caption(images, k=1, num_beams=1, max_new_tokens=40, seed=0, prompts=prompts)
    assert answers[0] == [CaptionAnswer(name="short", text="10: Describe it.")]
    assert [(one.name, one.text) for one in answers[1]] == [
        ("long", "200: All of it, please."), ("short", "200: Describe it."),
    ]  # fmt: skip
    assert answers[2] == []
    assert {headers["Authorization"] for headers in server.headers_seen} == {f"Bearer {KEY}"}


def test_what_is_sampled_has_another_seed_and_the_surest_none_of_chance(serve, models):
    sent = []

    def answer(request):
        sent.append(json.loads(request.body))
        request.send(200, completion(f"seed {sent[-1]['seed']}"))

    assert texts(caption(models(serve(answer).url, concurrency=1), [flat(1)], k=3)) == [["seed 0", "seed 1", "seed 2"]]
    assert [one["temperature"] for one in sent] == [0.0, 1.0, 1.0]
    assert ["top_p" in one for one in sent] == [False, True, True]


def test_nothing_is_asked_twice_in_a_call_or_in_the_next_build_and_no_picture_is_in_the_cache(serve, models, tmp_path):
    server = serve(lambda request: request.send(200, completion("yes", logprobs=YES)))
    image = stored(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)))
    for _ in range(2):
        caption(models(server.url), [image, image], (SHORT, SHORT, LONG))
        models(server.url).vlm.probabilities([image, image], [["Is it a dog?", "Is it a dog?"], ["Is it a dog?"]])
    assert len(server.requests) == 3
    models(server.url, image_size=48).vlm.probabilities([image], [["Is it a dog?"]])
    assert len(server.requests) == 4, "at another size it is another picture"
    assert (tmp_path / "answers.sqlite").stat().st_size < len(image) * 3


def test_a_stored_file_goes_as_it_is_without_its_texts_and_others_as_a_small_jpeg(serve, models):
    sent = []

    def answer(request):
        sent.append(picture_bytes(request))
        request.send(200, completion("x"))

    roles = models(serve(answer).url, concurrency=1, image_size=64)
    plain = stored(flat(9))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "the prompt"
    info = PngInfo()
    info.add_text("parameters", "the prompt")
    wide = Image.new("RGB", (300, 30), (9, 9, 9))
    images = [
        plain, stored(flat(9), pnginfo=info), stored(wide, "JPEG", exif=exif), stored(wide, "WEBP"),
        stored(Image.new("RGBA", (8, 8))), stored(flat(9), "GIF"), stored(flat(9), "JPEG"), Image.new("L", (300, 30)),
    ]  # fmt: skip
    caption(roles, images)
    assert sent[:2] == [plain, plain]
    assert [(image.format, image.size) for image in map(Image.open, map(io.BytesIO, sent[2:]))] == [
        ("JPEG", (6, 64)), ("JPEG", (64, 6)), ("JPEG", (8, 8)), ("JPEG", (64, 64)), ("JPEG", (64, 64)),
        ("JPEG", (64, 6)),
    ]  # fmt: skip
    assert Image.open(io.BytesIO(sent[4])).getpixel((4, 4)) == (255, 255, 255), "what is transparent is white"
    assert not any(b"the prompt" in data for data in sent)


def test_a_picture_that_cannot_be_read_costs_itself(serve, models):
    server = serve(lambda request: request.send(200, completion("x")))
    images = [b"not a picture", stored(flat(1), "JPEG", quality=95)[:-400], stored(flat(1))]
    first, second, third = (of_one[0] for of_one in caption(models(server.url), images))
    assert (first.why.startswith("the picture cannot be decoded (") and second.why == first.why) or second.why
    assert third.text == "x" and len(server.requests) == 1


def test_a_refused_size_is_asked_once_and_half_of_it_then(serve, models):
    sizes = []

    def answer(request):
        sizes.append(picture(request).size[0])
        too_large = sizes[-1] > 64
        words = json.dumps({"error": {"message": "The image exceeds the maximum of 64 pixels"}}).encode()
        request.send(413 if sizes[-1] > 200 else 400, words) if too_large else request.send(200, completion("small"))

    server = serve(answer)
    roles = models(server.url, concurrency=1)
    images = [stored(flat(1, 100)), flat(2, 300), stored(flat(3, 64))]
    half, never, fits = caption(roles, images, (SHORT, LONG))
    assert [one.text for one in half + fits] == ["small"] * 4
    assert sizes == [100, 50, 50, 300, 150, 150, 64, 64], "what is known to be too large is not sent again"
    assert all(
        one.why.startswith("the server gave no answer: HTTP 400 Bad Request: The image exceeds") for one in never
    )
    server.requests.clear()
    caption(models(server.url), [images[0], images[2]], (SHORT, LONG))
    assert server.requests == []


def test_a_build_of_pictures_that_are_all_too_large_or_filtered_goes_on_with_reasons(serve, models):
    words = json.dumps({"error": {"message": "Your request was rejected by our safety system."}}).encode()
    server = serve(lambda request: request.send(413) if red(request) < 99 else request.send(400, words))
    answers = caption(models(server.url), [flat(1), flat(200)], (SHORT,))
    assert [of_one[0].why for of_one in answers] == [
        "the server gave no answer: HTTP 413 Request Entity Too Large",
        "the server gave no answer: HTTP 400 Bad Request: Your request was rejected by our safety system.",
    ]


def test_a_server_that_takes_no_pictures_is_one_sentence(serve, models):
    words = json.dumps({"message": "tiny is not a multimodal model"}).encode()
    server = serve(lambda request: request.send(400, words))
    with pytest.raises(SurdError, match=r"models\.captioner: .* answered none of 2 prompts .*not a multimodal model"):
        caption(models(server.url), [flat(1), flat(2)])


def test_busy_failing_cut_and_hanging_answers_are_tried_again(serve, models):
    whole = completion("a red square")
    faults = iter(["429", "503", "cut", "html", "hang up", "well"])

    def answer(request):
        match next(faults):
            case "429":
                request.send(429, b"", Retry_After="1")
            case "503":
                request.send(503)
            case "cut":  # fewer bytes than its header says
                request.send(200, whole[:-9], Content_Length=str(len(whole)))
                request.close_connection = True
            case "html":
                request.send(200, b"<html>")
            case "hang up":
                request.hang_up()
            case _:
                request.send(200, whole)

    server = serve(answer)
    assert texts(caption(models(server.url, retries=6), [flat(1)])) == [["a red square"]]
    assert len(server.requests) == 6


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (completion(None, refusal="I can't help\x1b with that."), "the model refused: I can't help with that."),
        (completion("", "content_filter"), "the server's content filter left out the answer"),
        (completion("a dog on a", "length"), CaptionAnswer(name="short", text="a dog on a", cut=True)),
        (completion('{"caption": "a dog"}'), CaptionAnswer(name="short", text='{"caption": "a dog"}')),
        (completion([{"type": "text", "text": "a dog"}]), CaptionAnswer(name="short", text="a dog")),
        (completion("<think>it is a dog</think>a dog"), CaptionAnswer(name="short", text="a dog")),
    ],
)
def test_what_the_model_answered_is_a_text_or_a_reason_and_kept(serve, models, body, answer):
    server = serve(lambda request: request.send(200, body))
    for _ in range(2):
        ((one,),) = caption(models(server.url), [flat(1)])
        assert one == answer if isinstance(answer, CaptionAnswer) else (one.text, one.why) == (None, answer)
    assert len(server.requests) == 1


@pytest.mark.parametrize("body", [b"[]", b'{"choices": []}', completion(None), completion(7), b'{"choices": [{}]}'])
def test_a_wrongly_shaped_answer_costs_its_question_and_is_asked_again_the_next_time(serve, models, body):
    server = serve(lambda request: request.send(200, body))
    for count in (1, 2):
        ((one,),) = caption(models(server.url), [flat(1)])
        assert one.text is None and one.why.startswith("the server's answer ")
        assert models(server.url).vlm.probabilities([flat(1)], [["Is it a dog?"]]) == [[None]]
        assert len(server.requests) == 2 * count


def test_an_empty_prompt_is_one_sentence_and_costs_no_request(serve, models):
    server = serve(lambda request: request.send(200, completion("x")))
    with pytest.raises(SurdError, match=r"models\.captioner is a server, and the prompt of caption 'caption' is empty"):
        models(server.url).captioner.caption([flat(1)], k=1, num_beams=1, max_new_tokens=9, seed=0)
    assert server.requests == []


def test_pictures_are_drawn_as_their_turn_comes(serve, models):
    drawn, most, lock = [0], [0], threading.Lock()

    def images():
        for number in range(300):
            with lock:
                drawn[0] += 1
            yield flat(number % 256, 32 + number // 256)

    def answer(request):
        with lock:
            most[0] = max(most[0], drawn[0] - len(server.requests))
        request.send(200, completion("x"))

    server = serve(answer)
    captioner = models(server.url, concurrency=4).captioner
    captions = captioner.caption(images(), k=1, num_beams=1, max_new_tokens=9, seed=0, prompts=[[SHORT]] * 300)
    assert len(captions) == len(server.requests) == 300
    assert most[0] <= 80, "not all 300 at once"
