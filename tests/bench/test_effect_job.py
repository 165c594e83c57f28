"""Jobs of the benchmark of the effect, run on models and data as small as they can be."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from sur_adapter.base_model import encode_prompts, load_base, networks
from sur_adapter.evaluation.prompts import read_eval_prompts
from sur_adapter.llm import revision
from surd.schemas import SurdError
from tests.bench.effect import JUDGE
from tests.bench.effect_arms import FLOOR, Arm
from tests.bench.effect_controls import CompelPipeline, random_llm, weighed
from tests.bench.effect_data import write_texts
from tests.bench.effect_job import Job, run_job
from tests.bench.effect_lora import PARTS, TARGETS, lora_pipeline, lora_rank
from tests.bench.effect_scores import Effect
from tests.bench.effect_table import overview
from tests.sur_adapter import conftest as tiny

base = tiny.base
TRAINING = {"steps": 2, "batch_size": 2, "heads": 4, "feed_forward": 64}


@pytest.fixture
def build(tmp_path: Path, base: Path) -> tiny.TinyBuild:
    build = tiny.TinyBuild(tmp_path / "build", base).write()
    return build.add_columns("latents", "clip-simple", "clip-complex")


@pytest.fixture
def job(tmp_path: Path, base: Path, build: tiny.TinyBuild) -> Callable[..., Job]:
    """A job of an arm on two tiers of two prompts."""
    random = np.random.default_rng(0)
    for tier in ("a", "c"):
        lines = []
        for at, (text, subject) in enumerate((("one red cat", "cat"), ("two dogs", "dog"))):
            picture = f"{tier}{at}.png"
            Image.fromarray(random.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(tmp_path / picture)
            lines.append({
                "prompt": f"{text} {tier}", "complex": f"{text} 8k", "category": "subject",
                "facts": {"subject": subject}, "image": picture,
            })  # fmt: skip
        (tmp_path / f"{tier}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "results").mkdir()

    def make(arm: Arm, **fields: object) -> Job:
        settings = {
            "arm": arm, "seed": 0, "shards": build.pattern, "out": tmp_path / "results",
            "prompts": {tier: tmp_path / f"{tier}.jsonl" for tier in "ac"},
            "training": {} if arm.training is None else TRAINING | dict(arm.training), "base": str(base),
            "judge": JUDGE, "drawing": {"seeds": 1, "steps": 2, "guidance_scale": 2.0},
        }  # fmt: skip
        return Job(**(settings | fields))  # type: ignore[arg-type]

    return make


def test_a_job_is_trained_once_for_all_tiers_and_a_further_tier_draws_alone(job: Callable[..., Job]):
    whole = job(Arm(name="ours", training={}, layer=2))
    part = replace(whole, prompts={"a": whole.prompts["a"]})
    run_job(part)
    first = (whole.folder / "adapter/trained.json").stat().st_mtime_ns, part.results()["a"]
    assert part.done() and not whole.done()
    run_job(whole)
    assert whole.done() and (whole.folder / "adapter/trained.json").stat().st_mtime_ns == first[0]
    assert whole.results()["a"] == first[1] and np.shape(whole.results()["c"]["scores"]) == (1, 2)
    assert json.loads(whole.file.read_text())["weights"] > 1000


def test_tiers_of_the_same_keyword_prompts_are_drawn_once(job: Callable[..., Job]):
    complex_arm, plain = job(Arm(name="complex", prompts="complex")), job(Arm(name=FLOOR))
    run_job(complex_arm)
    assert len(list((complex_arm.folder / "pictures").iterdir())) == 1 and complex_arm.done()
    assert plain.pictures("a") != plain.pictures("c")
    assert plain.pictures("a") != replace(plain, drawing={"steps": 3}).pictures("a")


def test_results_of_jobs_become_a_table(job: Callable[..., Job]):
    jobs = [job(Arm(name=FLOOR)), *(job(Arm(name="ours", training={}, layer=2), seed=seed) for seed in (0, 1))]
    for one in jobs:
        run_job(one)
    effect = Effect.read(jobs)
    head, base_row, ours = overview(effect)
    assert len(head) == len(ours) == 7 and base_row[2] == "" and "±" in ours[2] and "±" in ours[3]
    assert effect.outcomes["ours"].scores["c"].shape == (2, 2) and set(effect.tiers["a"].real) == {"subject"}


def test_a_job_is_done_until_something_that_decides_its_result_changes(job: Callable[..., Job], tmp_path: Path):
    done = job(Arm(name="ours", training={}, layer=2))
    document = {"tiers": {tier: {"identity": done.identity(tier)} for tier in done.prompts}}
    assert not done.done()
    done.file.write_text(json.dumps(document))
    assert done.done() and replace(done, arm=replace(done.arm, note="other words")).done()
    changes = {"drawing": {"steps": 3}, "training": TRAINING | {"lr": 0.5}, "judge": str(done.base)}
    for name, value in changes.items():
        assert not replace(done, **{name: value}).done(), name
    assert not replace(done, arm=replace(done.arm, prompts="complex")).done()
    done.file.write_text("half of a")
    assert not done.done()


def test_a_column_made_anew_makes_its_trainings_new(job: Callable[..., Job], build: tiny.TinyBuild):
    before = job(Arm(name="ours", training={}, layer=2)).training_identity
    manifest = build.root / "columns" / tiny.COLUMN / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"revision":"0"', '"revision":"1"'))
    from tests.bench.effect_job import _content

    _content.cache_clear()
    assert job(Arm(name="ours", training={}, layer=2)).training_identity != before


LORA = {"w_llm": 0.0, "w_prompt": 0.0, "lr": 0.01, "caption_dropout": 0.5}


@pytest.mark.parametrize("kind", ["lora-unet", "lora-text"])
def test_lora_trains_its_own_part_and_draws_with_it(job: Callable[..., Job], base: Path, kind: str):
    lora = job(Arm(name="lora", kind=kind, training=LORA, weights=1500), training=TRAINING | LORA)  # type: ignore[arg-type]
    run_job(lora)
    record = json.loads(lora.file.read_text())
    assert lora.done() and record["steps"] == 2 and 1000 < record["weights"] < 2000

    before, after = networks(load_base(str(base))), networks(lora_pipeline(kind, str(base), lora.folder / "adapter"))
    changed = {
        (part, name.replace(".base_layer", ""))
        for part, network in after.items()
        for name, weight in network.state_dict().items()
        if "lora_" not in name and not torch.equal(weight, before[part].state_dict()[name.replace(".base_layer", "")])
    }
    assert {part for part, _ in changed} == {PARTS[kind]}
    assert all(name.removesuffix(".weight").endswith(TARGETS[kind]) for _, name in changed)


def test_lora_that_has_not_learned_draws_as_the_base_does(job: Callable[..., Job], base: Path):
    still = LORA | {"lr": 1e-12, "weight_decay": 0.0}
    lora = job(Arm(name="lora", kind="lora-text", training=still, weights=1500), training=TRAINING | still)
    bare = job(Arm(name=FLOOR))
    for one in (lora, bare):
        run_job(one)
    pictures = [np.asarray(Image.open(one.pictures("a") / "00000-0.png"), dtype=int) for one in (lora, bare)]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_the_rank_follows_from_the_number_of_weights_and_is_at_most_full(base: Path):
    encoder = load_base(str(base), unet=False, vae=False).text_encoder
    # Two layers, each of four 32 x 32 and two 32 x 64 matrices: 896 weights a rank.
    assert [lora_rank("lora-text", encoder, weights) for weights in (10, 3 * 896, 10**9)] == [1, 3, 32]


def test_lora_on_the_text_encoder_can_be_aligned_and_on_the_unet_not(job: Callable[..., Job]):
    aligned = LORA | {"w_prompt": 5.0}
    run_job(job(Arm(name="text", kind="lora-text", training=aligned, weights=1500), training=TRAINING | aligned))
    with pytest.raises(SurdError, match="aligns no prompt"):
        run_job(job(Arm(name="unet", kind="lora-unet", training=aligned, weights=1500), training=TRAINING | aligned))


def test_compel_weighs_the_words_that_carry_facts():
    texts = weighed(["Two red cats are sleeping (quietly) under a well-known tree.", "It is late."], 1.25)
    assert texts == [
        "(Two)1.25 (red)1.25 (cats)1.25 are (sleeping)1.25 \\(quietly\\) under a (well-known)1.25 (tree)1.25.",
        "It is late.",
    ]


def test_prompts_without_weights_are_encoded_by_compel_as_by_the_base(base: Path):
    pipe = load_base(str(base))
    encoded = CompelPipeline(pipe).compel(["two red cats", "(two)1.25 red cats"])
    plain = encode_prompts(pipe, ["two red cats"]).states[0]
    assert torch.equal(encoded[0], plain) and not torch.equal(encoded[1], plain)


def test_an_arm_of_weighed_prompts_is_drawn_by_the_base(job: Callable[..., Job]):
    arm = job(Arm(name="compel", kind="compel"))
    for file in arm.prompts.values():
        assert list(write_texts(file, "compel")) == [one.prompt for one in read_eval_prompts(file)]
    run_job(arm)
    assert arm.done() and any("1.25" in text for text in arm.texts("a"))


def test_texts_are_made_anew_when_the_prompts_change(tmp_path: Path):
    file = tmp_path / "a.jsonl"
    for texts in (["a red cat"], ["a red cat", "two dogs"]):
        file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
        assert list(write_texts(file, "compel")) == texts


def test_an_arm_reads_the_column_of_its_llm(job: Callable[..., Job], build: tiny.TinyBuild):
    columns = build.root / "columns"
    for name in ("llm-random-l2", "llm-random-all-layers", "llm-tiny-all-layers"):
        (columns / name).mkdir()
        (columns / name / "manifest.json").write_text("{}")

    def column(**fields: object) -> str | None:
        return job(Arm(name="x", training={}, **fields)).settings().llm_column  # type: ignore[arg-type]

    assert column(layer=2) == tiny.COLUMN and column(layer=2, llm="random") == "llm-random-l2"
    assert column(column="all-layers") == "llm-tiny-all-layers"
    assert column(column="all-layers", llm="random") == "llm-random-all-layers" and column(llm=None) is None
    with pytest.raises(SurdError, match="llm-\\*-l3, and there is none"):
        column(layer=3)


@pytest.fixture
def llm(tmp_path: Path, base: Path) -> Path:
    """The folder of a causal LM of two layers."""
    config = LlamaConfig(
        vocab_size=80, hidden_size=tiny.LLM_WIDTH, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llm")
    AutoTokenizer.from_pretrained(base / "tokenizer").save_pretrained(tmp_path / "llm")
    return tmp_path / "llm"


def test_an_arm_that_attaches_an_llm_is_trained_from_its_column_and_draws_with_it(
    job: Callable[..., Job], build: tiny.TinyBuild, llm: Path
):
    build.add_columns("tokens")
    file = build.root / "columns" / f"{tiny.COLUMN}-tokens" / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model": str(llm), "revision": revision(str(llm))}))
    training = {"llm_role": "attach", "w_llm": 0.0, "queries": 4, "connector_depth": 1}
    attach = job(Arm(name="attach", training=training, column="l2-tokens"))
    assert attach.settings().llm_column == f"{tiny.COLUMN}-tokens"
    run_job(attach)
    assert attach.done() and json.loads(attach.file.read_text())["result"]["llm_column"] == f"{tiny.COLUMN}-tokens"


def test_the_base_models_own_text_encoder_stands_in_the_place_of_an_llm(job: Callable[..., Job], build: tiny.TinyBuild):
    training = {"llm_role": "translate", "w_denoise": 0.0, "w_prompt": 0.0, "w_llm": 0.0, "caption_dropout": 0.0}
    without = job(Arm(name="x", training=training | {"translator_width": 32}, llm="text encoder", column="all-layers"))
    assert without.settings().llm_column is None and str(without.settings().llm).endswith("text-encoder")
    run_job(without)
    assert without.done() and json.loads(without.file.read_text())["result"]["llm"] == without.settings().llm


def test_a_random_llm_has_the_shapes_and_tokens_of_another_and_its_weights_from_the_seed(tmp_path: Path, llm: Path):
    one, same, other = (random_llm(llm, tmp_path / str(at), seed) for at, seed in enumerate((0, 0, 1)))
    models = [AutoModelForCausalLM.from_pretrained(folder) for folder in (llm, one, same, other)]
    shapes = [{name: weight.shape for name, weight in model.state_dict().items()} for model in models]
    assert shapes[0] == shapes[1]
    weights = [model.model.layers[0].mlp.up_proj.weight for model in models]
    assert torch.equal(weights[1], weights[2])
    assert not torch.equal(weights[1], weights[3]) and not torch.equal(weights[0], weights[1])
    text = "two red cats"
    assert AutoTokenizer.from_pretrained(one)(text) == AutoTokenizer.from_pretrained(llm)(text)
