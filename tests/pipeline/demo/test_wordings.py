"""Sentences in other words: true to their scenes, and tests share neither words nor structures with trainings."""

import hashlib
import json
import random
import re
import tarfile
from itertools import product

import pytest

from surd.flows.import_dataset import Import, import_dataset
from surd.flows.listener import Listener
from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.reader import read_manifest, read_scores, read_shard
from surd.pipeline.demo import eval_prompts, training_set
from surd.pipeline.demo.world.phrases import SLOTS, Phrases
from surd.pipeline.demo.world.prompts import NUMBERS, OPPOSITE, complex_prompt
from surd.pipeline.demo.world.scenes import ACTIONS, BACKGROUNDS, RELATIONS, STYLES, SUBJECTS, TINTABLE, Scene, scene
from surd.pipeline.demo.world.wordings import LONG, TIERS, people_sentence, tier_sentence
from surd.pipeline.demo.world.words import (
    APART,
    KINDS,
    TRAINING_USES,
    content,
    held_out,
    lemma,
    lexicon,
    related,
    riddles,
    wordings,
)

MADE = ("b", "c", "d", "e")
SCENES = [scene(4321, index) for index in range(500)]
RELATION = Scene("relation", "cat", 1, "red", "none", 0, relation="left of", other="dog")


def tokens(text):
    return set(re.findall(r"[^\W_]+", text.lower()))


def prompts(tier):
    return [tier_sentence(tier, one, random.Random(index)) for index, one in enumerate(SCENES)]


@pytest.fixture(scope="module")
def training():
    """20,000 training sentences."""
    return [people_sentence(scene(777, index), random.Random(index)) for index in range(20_000)]


def test_tier_a_is_byte_for_byte_what_it_was_before_there_were_tiers(tmp_path):
    assert eval_prompts.write(tmp_path / "prompts.jsonl", 5000, 5) == 30
    digest = hashlib.sha256((tmp_path / "prompts.jsonl").read_bytes()).hexdigest()
    assert digest == "772868779a31a6f8d5f88b3d83198d84907921e2cab87ff61c96c18a2e6d1a8f"


def test_all_tiers_show_the_same_scenes_and_differ_in_the_sentence_alone(tmp_path):
    tiers = {}
    for tier in TIERS:
        eval_prompts.write(tmp_path / f"{tier}.jsonl", 5000, 1, tier)
        tiers[tier] = [json.loads(line) for line in (tmp_path / f"{tier}.jsonl").read_text().splitlines()]
        assert {line.get("tier") for line in tiers[tier]} == {None if tier == "a" else tier}
    for tier in MADE:
        for line, plain in zip(tiers[tier], tiers["a"], strict=True):
            assert line["prompt"] != plain["prompt"]
            for name in ("facts", "complex", "category"):
                assert line[name] == plain[name]
            assert line["image"].split("/")[1] == plain["image"].split("/")[1]


def test_the_same_scene_and_seed_give_the_same_sentence():
    assert all(prompts(tier) == prompts(tier) for tier in MADE)
    again = [[people_sentence(one, random.Random(7)) for one in SCENES] for _ in range(2)]
    assert again[0] == again[1]


def test_every_value_has_words_to_train_and_words_to_test_by():
    values = {
        "subjects": (*SUBJECTS, *TINTABLE), "colours": BACKGROUNDS, "counts": "12345", "actions": ACTIONS,
        "relations": RELATIONS, "styles": [style for style in STYLES if style != "none"],
    }  # fmt: skip
    known, more, tested = (lexicon(which).words for which in ("known", "training", "test"))
    for kind in KINDS:
        assert list(more[kind]) == list(tested[kind]) == list(values[kind])
        for value in values[kind]:
            assert len(set(more[kind][value]) - set(known[kind][value])) >= 4, value
            assert 2 <= len(tested[kind][value]) <= 4, value


def test_no_word_stands_for_two_values():
    for which in ("training", "test"):
        words = lexicon(which).words
        phrases = [phrase for kind in KINDS for of in words[kind].values() for phrase in of]
        assert len(set(phrases)) == len(phrases)


def test_no_test_word_is_related_to_a_training_word():
    trained, tested = (
        {word for kind in KINDS for of in words[kind].values() for phrase in of for word in content(phrase)}
        for words in (lexicon("training").words, held_out())
    )
    assert [(one, other) for one in tested - APART for other in trained if related(one, other)] == []


def test_no_word_by_which_tier_c_states_a_fact_is_in_a_training_sentence_or_a_keyword_prompt(training):
    tested = {word for kind in KINDS for of in held_out()[kind].values() for phrase in of for word in content(phrase)}
    prompts_of_c = [tier_sentence("c", scene(778, i), random.Random(i)) for i in range(2000)]
    used = {token for prompt in prompts_of_c for token in tokens(prompt) if lemma(token) in tested}
    assert len(used) > 200
    keywords = [complex_prompt(scene(777, index), random.Random(index)) for index in range(20_000)]
    for texts in (training, keywords):
        seen = {token for text in texts for token in tokens(text)}
        assert used & seen == set()
        assert tested & {lemma(token) for token in seen} == set()


def literal(structure):
    """The words of a structure, its slots as one mark each."""
    return re.sub(r"\{\w+\}", " _ ", structure.lower()).translate(str.maketrans("", "", "[].,;:!?")).split()


def test_no_structure_of_tiers_b_d_and_e_is_one_of_training_nor_shares_five_words_in_a_row_with_one():
    def runs(structure):
        words = literal(structure)
        spans = {tuple(words[at : at + 5]) for at in range(len(words) - 4)}
        return {span for span in spans if sum(word != "_" for word in span) >= 4}

    groups = {use: [one for texts in wordings()[use].values() for one in texts] for use in wordings()}
    assert set(groups) == {*TRAINING_USES, "b", "d", "e", "riddle"}
    for use, other in product(TRAINING_USES, ("b", "d", "e", "riddle")):
        assert not {tuple(literal(one)) for one in groups[use]} & {tuple(literal(one)) for one in groups[other]}
        shared = set().union(*map(runs, groups[use])) & set().union(*map(runs, groups[other]))
        assert shared == set(), (use, other)


def test_every_structure_states_everything():
    for use in ("plain", "training", "b", "e"):
        for kind, texts in wordings()[use].items():
            for text in texts:
                slots = set(re.findall(r"\{(\w+)\}", text))
                assert slots <= set(SLOTS)
                assert slots & {"ground", "colour"} and slots & {"style", "medium", "pic"}, text
                whole = {
                    "count": {"number"} <= slots and slots & {"things", "plural"},
                    "action": {"who"} <= slots and slots & {"does", "doing"},
                    "relation": {"first", "second"} <= slots and slots & {"rel", "opp"},
                }
                assert slots & {"what", "clause", "bare"} or whole.get(kind), text
                inside = "".join(re.findall(r"\[(.*?)\]", text))
                assert ("{style}" in text) == ("{style}" in inside), text


def stated(text, kind, value, which, are_many=False):
    """Whether the text has one of the lexicon's phrases for a value."""
    found = False
    for phrase in lexicon(which).words[kind][value]:
        one, _, more = phrase.removeprefix("@").removeprefix("~").removeprefix("!").partition("/")
        if kind == "actions":
            stems = {lemma(word) for word in tokens(text)}
            found |= all(word in stems for word in content(re.sub(r"[{}]", "", one)))
        else:
            forms = [re.escape(one.lower()), *([re.escape(more.lower())] if more else [])]
            found |= bool(re.search(rf"\b(?:{'|'.join(forms)})(?:s|es)?\b", text.lower()))
    return found


@pytest.mark.parametrize(
    ("tier", "which"), [("b", "known"), ("c", "test"), ("d", "known"), ("e", "known"), ("train", "training")]
)
def test_a_sentence_states_every_fact_of_its_scene(tier, which):
    texts = prompts(tier) if tier != "train" else [people_sentence(one, random.Random(3)) for one in SCENES]
    for one, text in zip(SCENES, texts, strict=True):
        assert stated(text, "colours", one.background, which), text
        if one.tint:
            assert stated(text, "colours", one.tint, which), text
        if one.style != "none":
            assert stated(text, "styles", one.style, which), text
        if re.search("Who am I|What am I|Who are we|Guess what", text):
            clues = (riddles()["actions"].get(one.action), riddles()["subjects"].get(one.subject))
            assert any(clue and clue in text for clue in clues), text
            continue
        if one.action:
            assert stated(text, "actions", one.action, which), text
        else:
            assert stated(text, "subjects", one.subject, which), text
        if one.relation:
            assert stated(text, "subjects", one.other, which), text
            both = (one.relation, OPPOSITE[one.relation])
            assert any(stated(text, "relations", relation, which) for relation in both), text
        elif one.count > 1:
            assert stated(text, "counts", str(one.count), which) or NUMBERS[one.count] in tokens(text), text


@pytest.mark.parametrize("tier", ["b", "d"])
def test_a_sentence_in_known_words_states_nothing_else(tier):
    for one, text in zip(SCENES, prompts(tier), strict=True):
        said = tokens(text.replace("comic book", "comic"))
        for name, (more, _) in (SUBJECTS | TINTABLE).items():
            assert name in (one.subject, one.other) or not {name, more} & said, text
        assert not (set(BACKGROUNDS) - {one.background, one.tint}) & said, text
        assert not (set(NUMBERS[2:]) - {NUMBERS[one.count]}) & said, text


@pytest.mark.parametrize("which", ["known", "test", "training"])
def test_a_relation_is_said_the_right_way_round(which):
    words = lexicon(which).words
    forms = {name: {noun.partition("/")[0] for noun in words["subjects"][name]} for name in ("cat", "dog")}
    for seed in range(200):
        phrases = Phrases(RELATION, lexicon(which), random.Random(seed))
        first, relation, second = phrases.fill("x|{first}|{rel}|{second}").split("|")[1:]
        nouns = [re.sub(r"^an? ", "", noun) for noun in (first, second)]
        names = ["cat" if noun in forms["cat"] else "dog" for noun in nouns]
        assert sorted(names) == ["cat", "dog"] and nouns[names.index("dog")] in forms["dog"]
        assert relation in words["relations"]["left of" if names[0] == "cat" else "right of"]
        assert phrases.fill("x|{opp}")[2:] in words["relations"]["right of" if names[0] == "cat" else "left of"]


def test_people_act_in_several_forms_that_agree_with_their_number():
    one, two = (Scene("action", "person", count, "red", "none", 0, action="cycling") for count in (1, 2))
    said = {people_sentence(scene, random.Random(seed)) for seed in range(600) for scene in (one, two)}
    text = " ".join(said)
    for form in ("rides a bike", "ride bikes", "is riding", "are riding", "cyclists", "bicycle being ridden by"):
        assert form in text, form
    assert not re.search(r"\b(?:a person|someone|a cyclist) (?:ride|are)\b|\bpeople (?:is|rides)\b", text)


def test_articles_and_gaps(training):
    odd = r"\ba (?:[aeio]|8|u(?!n(?:i|it)|s|k|e))\w*|\ban (?:[b-df-gj-np-tv-z])\w*|[{}\[\]]|  | [,.;]|\.\.|\ba an?\b"
    for text in (*training[:5000], *(one for tier in MADE for one in prompts(tier))):
        assert not re.search(odd, text.lower()), text


def test_long_descriptions_are_long_and_mostly_tell_the_facts_first():
    early = 0
    for one, text in zip(SCENES, prompts("d"), strict=True):
        words = text.split()
        assert LONG[0] <= len(words) <= LONG[1]
        start = " ".join(words[:60])
        facts = [stated(start, "colours", one.background, "known")]
        facts += [stated(start, "styles", one.style, "known")] if one.style != "none" else []
        facts.append(stated(start, "actions" if one.action else "subjects", one.action or one.subject, "known"))
        early += all(facts)
    assert len(SCENES) / 2 <= early < 0.9 * len(SCENES)


def test_there_is_a_riddle_for_every_subject_and_action_that_does_not_name_it():
    assert set(riddles()["subjects"]) == SUBJECTS.keys() | TINTABLE.keys()
    assert set(riddles()["actions"]) == ACTIONS.keys()
    for name, clue in riddles()["subjects"].items():
        assert name not in tokens(clue)
    assert any("What am I?" in text for text in prompts("e"))


def test_a_training_set_is_a_build_of_true_triples(tmp_path):
    training_set.write_samples(tmp_path / "samples", 5, 7000)
    training_set.write_samples(tmp_path / "again", 5, 7000)
    assert (tmp_path / "samples/00000.tar").read_bytes() == (tmp_path / "again/00000.tar").read_bytes()
    with tarfile.open(tmp_path / "samples/00000.tar") as tar:
        assert len(tar.getnames()) == 10
    request = Import(layout=f"img2dataset:{tmp_path / 'samples'}", out=str(tmp_path / "build"), fields={})
    import_dataset(request, Listener())
    build = Build(str(tmp_path / "build"))
    scores = read_scores(build)
    stored = {one.sample.source_id: one for of in read_manifest(build).shards for one in read_shard(build, of, scores)}
    assert len(stored) == 5
    for index in range(5):
        picture, row = training_set.sample(7000, index)
        one = stored[f"00000/7000-{index:06d}"]
        assert (one.image, one.sample.simple, one.sample.complex) == (picture, row["simple"], row["caption"])
        assert (one.sample.width, one.sample.height) == (64, 64)
