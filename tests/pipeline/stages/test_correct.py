"""Semantic correction with the embedded models: wrong facts are repaired, right ones stay, foreign pictures go."""

import json
import random

import numpy as np
import pytest

from surd.pipeline.build.folder import Build
from surd.pipeline.demo.world.prompts import FirstChoice, complex_prompt, narrative
from surd.pipeline.demo.world.render import render
from surd.pipeline.demo.world.scenes import Scene, scene, variant
from surd.pipeline.models import Models
from surd.pipeline.stages.correct import correct
from surd.schemas import BuildConfig, Captioned, Cleaned, Reason, Rewritten, Scored, load_config
from tests.bench.facts import is_true

MODELS = Models(BuildConfig().models)
SEED = 8100
APPLES = Scene("count", "apple", 3, "blue", "none", 1)


def plain(shown):
    return narrative(shown, FirstChoice())


def prompt_of(shown):
    return complex_prompt(shown, random.Random(1), markup=False)


def rows(tmp_path, pairs, **settings):
    """The rows that stage correct makes of pairs: scene, captions, rewrites, prompt (None for the scene's own)."""
    build = Build(str(tmp_path))
    prompts = [prompt or prompt_of(shown) for shown, _, _, prompt in pairs]
    keys = [f"{number:016x}" for number in range(len(pairs))]
    images = MODELS.clip.embed_images([render(shown) for shown, *_ in pairs])
    texts = MODELS.clip.embed_texts(prompts)
    scored = [
        Scored(
            key=key, image_embedding=image.tolist(), complex_embedding=text.tolist(), clip_complex=float(image @ text)
        )
        for key, image, text in zip(keys, images, texts, strict=True)
    ]
    build.write_rows("score", 0, Scored, scored)
    cleaned = [
        Cleaned(key=key, complex=text, keywords=text.split(", ")) for key, text in zip(keys, prompts, strict=True)
    ]
    build.write_rows("clean", 0, Cleaned, cleaned)
    captioned = [Captioned(key=key, captions=list(pair[1])) for key, pair in zip(keys, pairs, strict=True)]
    for row, pair in zip(captioned, pairs, strict=True):
        row.caption_names = list(pair[1].values()) if isinstance(pair[1], dict) else ["caption"] * len(pair[1])
    build.write_rows("caption", 0, Captioned, captioned)
    rewritten = [Rewritten(key=key, rewrites=list(pair[2])) for key, pair in zip(keys, pairs, strict=True)]
    build.write_rows("rewrite", 0, Rewritten, rewritten)
    config = load_config(
        {},
        {"correct.vary": False, "facts.similarity": None}
        | {f"correct.{name}": value for name, value in settings.items()},
    )
    return correct(build, 0, config, MODELS)


def corrected(tmp_path, shown, captions, rewrites=(), prompt=None, **settings):
    """The row that stage correct makes of one picture: too few to measure what the witnesses' answers mean."""
    return rows(tmp_path, [(shown, captions, rewrites, prompt)], **settings)[0]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("Three apples on a red background.", "Three apples on a blue background."),
        ("Five apples on a blue background.", "Three apples on a blue background."),
        ("Three bananas on a blue background.", "Three apples on a blue background."),
        ("Two lemons on a blue background.", "Three apples on a blue background."),
        ("Three apples on a blue background, in pixel art.", "Three apples on a blue background."),
        ("A dog on a red background.", "Three apples on a blue background."),
    ],
)
def test_wrong_facts_are_repaired_one_or_more_at_once(tmp_path, wrong, right):
    row = corrected(tmp_path, APPLES, [wrong])
    assert (row.simple, row.before, row.decision) == (right, wrong, "repair")
    assert row.repairs and all("->" in repair for repair in row.repairs)


def test_what_the_prompt_states_and_the_picture_shows_is_added(tmp_path):
    shown = Scene("count", "cat", 1, "green", "none", 5)
    row = corrected(tmp_path, shown, ["A cat."], prompt="1 cat, green background, 8k")
    assert (row.simple, row.before) == ("A cat on a green background.", "A cat.")
    assert corrected(tmp_path, shown, ["A cat."], prompt="1 cat, green background", add=False).repairs == []
    sketched = Scene("count", "cat", 1, "green", "sketch", 5)
    assert "pencil sketch" in corrected(tmp_path, sketched, ["A cat."], prompt="1 cat, pencil sketch").simple


def test_true_sentences_stay_as_they_are(tmp_path):
    scenes = [scene(SEED, index) for index in range(40)]
    outcomes = rows(tmp_path, [(one, [plain(one)], (), None) for one in scenes])
    kept = sum(row.simple == plain(one) for one, row in zip(scenes, outcomes, strict=True))
    assert kept >= 37
    assert all(row.facts_checked >= 2 for row in outcomes)


def test_most_sentences_with_one_wrong_fact_come_out_true(tmp_path):
    rng = random.Random(0)
    cases = [(one, variant(one, name, rng)) for one in (scene(SEED + 1, i) for i in range(12))
             for name in ("colour", "style")]  # fmt: skip
    outcomes = rows(tmp_path, [(shown, [plain(wrong)], (), None) for shown, wrong in cases])
    right = [row.simple == plain(shown) for (shown, _), row in zip(cases, outcomes, strict=True)]
    assert np.mean(right) >= 0.7


@pytest.mark.parametrize("lie", ["three bananas, blue background", "five apples, red background"])
def test_a_prompt_that_lies_about_the_picture_does_not_make_a_true_sentence_false(tmp_path, lie):
    true = "Three apples on a blue background."
    assert corrected(tmp_path, APPLES, [true], prompt=lie).simple == true


def test_nothing_is_added_from_a_prompt_that_shares_no_fact_with_the_captions(tmp_path):
    row = corrected(tmp_path, APPLES, ["Three apples on a blue background."], prompt="a snowman juggling, neon lights")
    assert row.simple == "Three apples on a blue background."


def test_no_rounds_and_the_papers_rule_repair_nothing(tmp_path):
    wrong = "Three apples on a red background."
    assert corrected(tmp_path, APPLES, [wrong], rounds=0).simple == wrong
    assert corrected(tmp_path, APPLES, [wrong], rule="paper").simple == wrong


def test_the_row_says_what_was_repaired_from_what_and_how_probable_it_was(tmp_path):
    row = corrected(tmp_path, APPLES, ["three apples on a red background"])
    assert row.decision == "repair" and row.simple == "Three apples on a blue background."
    assert row.before == "Three apples on a red background."
    (repair,) = row.repairs
    assert repair.startswith("colour: red -> blue (0.")
    assert row.clip_simple == pytest.approx(max(row.candidate_scores), abs=1e-6)
    assert row.candidates == ["Three apples on a blue background.", "Three apples on a red background."]
    assert len(row.simple_embedding) == 192 and row.text_simple > 0.8
    assert row.captions is None  # of one name alone


def test_captions_of_several_names_are_each_checked_and_kept(tmp_path):
    captions = {"apples": "short", "three apples on a red background": "long"}
    row = corrected(tmp_path, APPLES, captions)
    kept = {caption["name"]: caption for caption in json.loads(row.captions)}
    assert set(kept) == {"short", "long"} and row.method == "caption"
    assert kept["long"]["text"] == "Three apples on a blue background."
    assert any(fact.startswith("colour: red -> blue") for fact in kept["long"]["dropped"])
    assert all(caption["model"] == MODELS.config.captioner for caption in kept.values())
    assert row.simple in {caption["text"] for caption in kept.values()}


def test_the_candidate_with_most_true_facts_wins_wherever_it_comes_from(tmp_path):
    row = corrected(tmp_path, APPLES, ["a dog on a red background."], ["Three apples on a blue background."], rounds=0)
    assert (row.simple, row.method, row.decision) == ("Three apples on a blue background.", "rewrite", "keep")
    assert row.before is None and row.repairs == []


def test_a_repaired_caption_is_weighed_against_a_rewrite_that_was_nearer_at_first(tmp_path):
    row = corrected(tmp_path, APPLES, ["Three lemons on a blue background."], ["Three apples."])
    assert (row.simple, row.method) == ("Three apples on a blue background.", "caption")
    assert row.candidates[0] == row.simple and row.before == "Three lemons on a blue background."


def test_a_sentence_worse_than_its_prompt_is_rejected_and_keeps_its_figures(tmp_path):
    row = corrected(tmp_path, APPLES, ["something is somewhere."], rounds=0)
    assert row.reason is Reason.MISMATCH and row.decision == "reject" and row.clip_simple < row.clip_complex


def test_the_papers_rule_rejects_what_is_even_a_little_worse_than_the_prompt(tmp_path):
    facts = corrected(tmp_path / "facts", APPLES, ["three apples."], tolerance=1.0, rounds=0)
    paper = corrected(tmp_path / "paper", APPLES, ["three apples."], tolerance=1.0, rule="paper")
    assert facts.kept and paper.reason is Reason.MISMATCH


def test_no_candidate_at_all_is_its_own_reason(tmp_path):
    assert corrected(tmp_path, APPLES, []).reason is Reason.NO_CANDIDATE


def test_correcting_twice_gives_the_same_row(tmp_path):
    outcomes = [corrected(tmp_path / str(n), APPLES, ["four apples on a red background"]) for n in range(2)]
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    "caption",
    [
        "Drei Äpfel auf blauem Grund.",  # another language
        "Apples apples " * 1000,
        "blue.",
        "Barack Obama with three apples on a blue background.",
        "三つのりんご。",
        '{"caption": "three apples"}',
        "\u202e\u0000\ufeff.",
    ],
)
def test_odd_captions_become_rows(tmp_path, caption):
    row = corrected(tmp_path, APPLES, [caption])
    assert row.simple and (row.kept or row.reason is Reason.MISMATCH)
    if "Obama" in caption:
        assert "Barack Obama" in row.simple  # no person is exchanged for another


def test_only_what_the_lexicon_names_is_checked_where_it_is_closed(tmp_path):
    lexicon = tmp_path / "lexicon.yaml"
    lexicon.write_text('version: 1\ngroups:\n  colour: {kind: phrase, ask: "{}", values: [red, blue]}\n')
    row = corrected(tmp_path, APPLES, ["Two apples on a red background."], only_lexicon=True, lexicon=str(lexicon))
    assert "blue background" in row.simple and row.simple.startswith("Two apples")


def test_with_vary_a_kept_prompt_is_worded_another_way_and_says_from_what(tmp_path):
    own = own_wordings(tmp_path, "a picture of {}")
    row = corrected(tmp_path, APPLES, ["three apples on a red background"], vary=True, wordings=own)
    assert (row.simple, row.worded_from) == (
        "A picture of three apples on a blue background.", "Three apples on a blue background."
    )  # fmt: skip
    assert row.repairs and row.decision == "repair" and row.method == "caption"
    assert {row.simple, row.worded_from} < set(row.candidates)
    assert row.clip_simple == pytest.approx(row.candidate_scores[row.candidates.index(row.simple)], abs=1e-6)


def test_a_wording_that_clip_surely_likes_less_is_not_taken(tmp_path):
    lie = own_wordings(tmp_path, "five purple crowns in neon and {}")
    row = corrected(tmp_path, APPLES, [plain(APPLES)], vary=True, wordings=lie)
    assert (row.simple, row.worded_from) == (plain(APPLES), None)


def own_wordings(folder, frame):
    file = folder / "wordings.yaml"
    file.write_text(f'version: 1\nframes: ["{frame}"]\n')
    return str(file)
