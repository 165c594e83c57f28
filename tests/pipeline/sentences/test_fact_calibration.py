"""What witnesses' answers mean is measured, and the share of false facts comes out as asked."""

import numpy as np
import pytest

from surd.pipeline.sentences.fact_calibration import LEAST, PRIORS, FactCalibration, FactScores, threshold

RNG = np.random.default_rng(5)


def scores(truths, origin="caption", bias=2.0, spread=2.0, kinds=("entity", "colour")):
    """Scores of a witness that says yes too easily: by ``bias`` log odds too much."""
    truths = np.asarray(truths, bool)
    values = np.where(truths, 3.0, -3.0) + bias + RNG.normal(0, spread, len(truths))
    return FactScores(
        values[:, None], np.array([kinds[at % len(kinds)] for at in range(len(truths))]), np.full(len(truths), origin)
    )


def together(*groups):
    return FactScores(
        *(np.concatenate([getattr(one, name) for one in groups]) for name in ("scores", "kinds", "origins"))
    )


def fitted(true_share=0.8, facts=4000):
    truths = RNG.random(facts) < true_share
    asked = scores(truths)
    calibration = FactCalibration()
    calibration.fit(scores(np.ones(500)), scores(np.zeros(500)), asked)
    return calibration, asked, truths


def test_probabilities_are_calibrated_although_the_witness_says_yes_too_easily():
    calibration, asked, truths = fitted()
    beliefs = calibration.probabilities(asked)
    for low, high in ((0.0, 0.2), (0.2, 0.8), (0.8, 1.01)):
        within = (beliefs >= low) & (beliefs < high)
        assert within.sum() > 20
        assert truths[within].mean() == pytest.approx(beliefs[within].mean(), abs=0.08)
    taken_at_its_word = FactCalibration().probabilities(asked)
    assert abs(taken_at_its_word.mean() - truths.mean()) > abs(beliefs.mean() - truths.mean())


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_the_share_of_true_facts_of_an_origin_is_estimated_from_its_own_scores(share):
    calibration, _, truths = fitted(share)
    assert calibration.priors["caption"] == pytest.approx(truths.mean(), abs=0.03)
    assert calibration.priors["prompt"] == PRIORS["prompt"]  # nobody of that origin was seen


@pytest.mark.parametrize("rate", [0.01, 0.02, 0.05])
def test_the_share_of_false_facts_that_stay_is_what_was_asked(rate):
    calibration, asked, truths = fitted(0.88, 8000)
    beliefs = calibration.probabilities(asked)
    stay = beliefs >= threshold(beliefs, rate)
    assert rate / 2 <= 1 - truths[stay].mean() <= 2 * rate


def test_no_fact_goes_where_all_may_stay_and_none_stays_where_none_may():
    assert threshold([0.99, 1.0, 0.98], 0.05) == 0.0
    assert threshold([0.2, 0.3], 0.05) == 1.0
    assert threshold([], 0.05) == 0.0


def test_with_too_few_facts_the_witness_is_taken_at_its_word():
    calibration = FactCalibration()
    calibration.fit(scores(np.ones(LEAST - 1)), scores(np.zeros(500)), scores(np.ones(10)))
    assert not calibration.fitted and calibration.priors == PRIORS
    facts = FactScores(np.array([[4.0], [-4.0], [np.nan]]), np.array(["entity"] * 3), np.array(["caption"] * 3))
    high, low, none = calibration.probabilities(facts)
    assert high > 0.98 and low < 0.1 and none == pytest.approx(PRIORS["caption"])


def test_a_witness_that_does_not_answer_leaves_the_judgement_to_the_other():
    true, false = scores(np.ones(300)), scores(np.zeros(300))
    silent = np.full((300, 1), np.nan)
    both = [FactScores(np.concatenate([one.scores, silent], 1), one.kinds, one.origins) for one in (true, false)]
    calibration = FactCalibration()
    calibration.fit(*both, together(*both))
    beliefs = calibration.probabilities(together(*both))
    assert beliefs[:300].mean() > 0.9 > 0.2 > beliefs[300:].mean()
