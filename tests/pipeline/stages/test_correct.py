"""Semantic correction with the embedded CLIP: wrong facts are repaired, right ones stay, foreign pictures go."""

import random

import numpy as np
import pytest

from surd.pipeline.build.folder import Build
from surd.pipeline.demo.world.prompts import FirstChoice, complex_prompt, narrative
from surd.pipeline.demo.world.render import render
from surd.pipeline.demo.world.scenes import Scene, scene, variant
from surd.pipeline.models import Models
from surd.pipeline.sentences.fact_check import FactChecker
from surd.pipeline.sentences.lexicon import read_lexicon
from surd.pipeline.stages.correct import correct
from surd.schemas import BuildConfig, Captioned, Reason, Rewritten, Scored, load_config

MODELS = Models(BuildConfig().models)
SEED = 8100
APPLES = Scene("count", "apple", 3, "blue", "none", 1)


def plain(shown):
    return narrative(shown, FirstChoice())


def checked(sentence, shown, prompt=None, **settings):
    config = load_config({}, {f"correct.{name}": value for name, value in settings.items()}).correct
    (image,) = MODELS.clip.embed_images([render(shown)])
    (text,) = MODELS.clip.embed_texts([prompt or complex_prompt(shown, random.Random(1), markup=False)])
    return FactChecker(MODELS, config, read_lexicon(None)).check([(sentence, image, text)])[0]


def corrected(tmp_path, shown, captions, rewrites=(), prompt=None, **settings):
    """The row that stage correct makes of one picture."""
    build, key = Build(str(tmp_path)), "0" * 16
    (image,) = MODELS.clip.embed_images([render(shown)])
    (text,) = MODELS.clip.embed_texts([prompt or complex_prompt(shown, random.Random(1), markup=False)])
    build.write_rows("score", 0, Scored, [
        Scored(key=key, image_embedding=image.tolist(), complex_embedding=text.tolist(), clip_complex=image @ text)
    ])  # fmt: skip
    build.write_rows("caption", 0, Captioned, [Captioned(key=key, captions=list(captions))])
    build.write_rows("rewrite", 0, Rewritten, [Rewritten(key=key, rewrites=list(rewrites))])
    config = load_config({}, {"correct.fuse": False} | {f"correct.{name}": value for name, value in settings.items()})
    return correct(build, 0, config, MODELS)[0]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("Three apples on a red background.", "Three apples on a blue background."),
        ("Five apples on a blue background.", "Three apples on a blue background."),
        ("Three bananas on a blue background.", "Three apples on a blue background."),
        ("Two lemons on a blue background.", "Three apples on a blue background."),
        ("Three apples on a blue background, in pixel art.", "Three apples on a blue background."),
    ],
)
def test_wrong_facts_are_repaired_one_or_two_at_once(wrong, right):
    outcome = checked(wrong, APPLES)
    assert outcome.sentence == right
    assert outcome.repairs and all("->" in repair for repair in outcome.repairs)


def test_a_style_left_out_is_added():
    shown = Scene("count", "cat", 1, "green", "sketch", 5)
    assert checked("A cat on a green background.", shown).sentence == (
        "A cat on a green background, drawn as a pencil sketch."
    )


def test_true_sentences_stay_as_they_are():
    scenes = [scene(SEED, index) for index in range(40)]
    images = MODELS.clip.embed_images([render(one) for one in scenes])
    checker = FactChecker(MODELS, BuildConfig().correct, read_lexicon(None))
    prompts = MODELS.clip.embed_texts([complex_prompt(one, random.Random(1)) for one in scenes])
    outcomes = checker.check(list(zip(map(plain, scenes), images, prompts, strict=True)))
    kept = sum(outcome.sentence == plain(one) for one, outcome in zip(scenes, outcomes, strict=True))
    assert kept >= 38
    assert all(outcome.facts_checked >= 3 for outcome in outcomes)


def test_most_sentences_with_one_wrong_fact_come_out_true():
    rng = random.Random(0)
    cases = [(one, variant(one, name, rng)) for one in (scene(SEED + 1, i) for i in range(12))
             for name in ("colour", "style")]  # fmt: skip
    right = [checked(plain(wrong), shown).sentence == plain(shown) for shown, wrong in cases]
    assert np.mean(right) >= 0.8


@pytest.mark.parametrize("lie", ["three bananas, blue background", "five apples, red background"])
def test_a_prompt_that_lies_about_the_picture_does_not_make_a_true_sentence_false(lie):
    true = "Three apples on a blue background."
    assert checked(true, APPLES, prompt=lie).sentence == true
    assert checked("Three lemons on a blue background.", APPLES, prompt=lie).sentence == true


def test_no_rounds_and_the_papers_rule_repair_nothing():
    wrong = "Three apples on a red background."
    assert checked(wrong, APPLES, rounds=0).sentence == wrong
    assert checked(wrong, APPLES, rule="paper").sentence == wrong


def test_the_row_says_what_was_repaired_from_what_and_how_sure_clip_is(tmp_path):
    row = corrected(tmp_path, APPLES, ["three apples on a red background"])
    assert row.decision == "repair" and row.simple == "Three apples on a blue background."
    assert row.before == "Three apples on a red background."
    (repair,) = row.repairs
    assert repair.startswith("colour: red -> blue (0.")
    assert row.clip_simple == pytest.approx(max(row.candidate_scores), abs=1e-6)
    assert row.candidates == ["Three apples on a blue background.", "Three apples on a red background."]
    assert len(row.simple_embedding) == 192 and row.text_simple > 0.8


def test_the_candidate_clip_likes_best_wins_wherever_it_comes_from(tmp_path):
    row = corrected(tmp_path, APPLES, ["a dog on a red background."], ["Three apples on a blue background."], rounds=0)
    assert (row.simple, row.method, row.decision) == ("Three apples on a blue background.", "rewrite", "keep")
    assert row.before is None and row.repairs == []


def test_a_repaired_caption_is_weighed_against_a_rewrite_that_was_nearer_at_first(tmp_path):
    row = corrected(tmp_path, APPLES, ["Three lemons on a blue background."], ["Three apples somewhere."])
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
    rows = [corrected(tmp_path / str(n), APPLES, ["four apples on a red background"]) for n in range(2)]
    assert rows[0] == rows[1]


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
