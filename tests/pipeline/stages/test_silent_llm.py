"""An LLM that says nothing costs a row its rewrite, never the row."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from surd.pipeline.build.folder import Build
from surd.pipeline.inspection.unusable import unusable_note, unusable_notes
from surd.pipeline.models import Models
from surd.pipeline.stages import BY_NAME
from surd.pipeline.stages.correct import correct
from surd.pipeline.stages.rewrite import rewrite
from surd.schemas import Captioned, Cleaned, Reason, Safe, Scored, SurdError, load_config


@pytest.fixture
def silent_llm(tmp_path):
    """A real LLaMA folder whose every next token is the end of the text."""
    folder = tmp_path / "silent"
    vocabulary = {"</s>": 0, "[UNK]": 1, "cat": 2}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="[UNK]").save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=3, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2, eos_token_id=0
    )
    model = LlamaForCausalLM(config)
    for layer in model.model.layers:  # the state stays that of the embedding, which is the same for every token
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
        torch.nn.init.zeros_(layer.mlp.down_proj.weight)
    torch.nn.init.ones_(model.model.embed_tokens.weight)
    torch.nn.init.zeros_(model.lm_head.weight)
    torch.nn.init.constant_(model.lm_head.weight[0], 10.0)
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def build(tmp_path):
    """Two kept rows; one has a caption, one has none."""
    build = Build(str(tmp_path / "build"))
    keys = [f"{number:016x}" for number in range(2)]
    build.write_rows("safety", 0, Safe, [Safe(key=key) for key in keys])
    build.write_rows("clean", 0, Cleaned, [Cleaned(key=key, complex=f"cat {key}") for key in keys])
    unit = [1.0] + [0.0] * 191
    scored = [Scored(key=key, image_embedding=unit, complex_embedding=unit, clip_complex=-1.0) for key in keys]
    build.write_rows("score", 0, Scored, scored)
    captions = [["a cat on a blue background"], []]
    build.write_rows(
        "caption", 0, Captioned, [Captioned(key=k, captions=c) for k, c in zip(keys, captions, strict=True)]
    )
    return build


def test_an_empty_answer_is_no_rewrite_and_only_a_row_without_any_sentence_is_rejected(silent_llm, build):
    config = load_config({}, {"models.llm": silent_llm, "models.dtype": "float32", "correct.rounds": 0})
    models = Models(config.models)
    assert models.llm.answer([[{"role": "user", "content": "cat"}]], 8) == [""]
    rewritten = rewrite(build, 0, config, models)
    assert [(row.kept, row.rewrites) for row in rewritten] == [(True, []), (True, [])]
    build.write_rows("rewrite", 0, BY_NAME["rewrite"].row, rewritten)
    captioned, bare = correct(build, 0, config, models)
    assert (captioned.kept, captioned.simple, captioned.method) == (True, "A cat on a blue background.", "caption")
    assert (bare.reason, bare.rejected_by) == (Reason.NO_CANDIDATE, "correct")


def test_a_folder_that_is_no_llm_is_one_sentence(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    models = Models(load_config({}, {"models.llm": str(tmp_path)}).models)
    with pytest.raises(SurdError, match=r"cannot be loaded as LLM") as error:
        _ = models.llm
    assert "\n" not in str(error.value)


def noted(build, **columns):
    """What is said of a build whose rows of caption or rewrite hold these columns."""
    for stage, rows in columns.items():
        row = BY_NAME[stage].row
        build.write_rows(stage, 0, row, [row(key=f"{number:016x}", **one) for number, one in enumerate(rows)])
    return unusable_notes(build)


def test_a_stage_whose_outputs_are_mostly_unusable_says_so_with_the_commonest_reason(silent_llm, build):
    config = load_config({}, {"models.llm": silent_llm, "models.dtype": "float32"})
    build.write_rows("rewrite", 0, BY_NAME["rewrite"].row, rewrite(build, 0, config, Models(config.models)))
    note = unusable_note(build, "rewrite")
    assert note.startswith("rewrite: 2 of 2 prompts got no usable sentence; the commonest reason (2): an empty answer;")
    dropped = [{"rewrites": [], "rewrite_dropped": why} for why in ("chat markup (<a>); x", "chat markup (<b>)", "odd")]
    said = noted(build, rewrite=[*dropped, {"rewrites": ["A cat."]}])
    assert said[-1].startswith("rewrite: 3 of 4 prompts got no usable sentence; the commonest reason (2): chat markup;")
    assert not noted(build, rewrite=[dropped[0], *[{"rewrites": ["A cat sits."]}] * 2], caption=[{"captions": ["a"]}])
    assert noted(build, rewrite=[{"rewrites": None}] * 2, caption=[{"captions": []}]) == [
        "caption: 1 of 1 pictures got no caption; the commonest reason (1): the captioner gave no text;"
        " name another models.captioner"
    ]
