"""The demo's data: what is held out is held out, and the same seed gives the same bytes."""

import re
from collections import Counter

import pytest

from adapterkit.data import find_overlap, read_rows
from adapterkit.demo import GRAMMAR, INTENTS, ROWS, SLOTS, generate, sentences

SPLITS = ("train", "validation", "test")


def expansions(phrasing: str) -> list[str]:
    """Every way to choose among a phrasing's alternatives."""
    found = re.search(r"\[([^\[\]]*)\]", phrasing)
    if found is None:
        return [" ".join(phrasing.split())]
    head, tail = phrasing[: found.start()], phrasing[found.end() :]
    return [whole for choice in found[1].split("|") for whole in expansions(head + choice + tail)]


@pytest.fixture(scope="module")
def made():
    return sentences()


def skeleton(words, tags):
    """The sentence with its slots' names in place of their fillers."""
    return " ".join(
        tag[2:] if tag[0] == "B" else word.lower() for word, tag in zip(words, tags, strict=True) if tag[0] != "I"
    )


def spans(sentence):
    found = []
    for word, tag in zip(sentence.words, sentence.tags, strict=True):
        if tag[0] == "B":
            found.append((tag[2:], [word]))
        elif tag[0] == "I":
            found[-1][1].append(word)
    return [(slot, " ".join(words).lower()) for slot, words in found]


def test_the_files_hold_intents_and_slots_over_the_same_sentences(tmp_path, made):
    paths = generate(tmp_path)
    assert set(paths) == {f"{task}/{split}" for task in ("intents", "slots") for split in SPLITS}
    for split in SPLITS:
        intents, slots = read_rows(paths[f"intents/{split}"]), read_rows(paths[f"slots/{split}"])
        assert len(intents) == len(slots) == ROWS[split]
        assert [(row["text"], row["label"]) for row in intents] == [(s.text, s.intent) for s in made[split]]
        assert [tuple(row["tokens"]) for row in slots] == [s.words for s in made[split]]
        for intent, slot in zip(intents, slots, strict=True):
            assert intent["text"].replace(" ", "") == "".join(slot["tokens"])


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(tmp_path):
    first, again, other = (generate(tmp_path / name, seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    for name, path in first.items():
        assert path.read_bytes() == again[name].read_bytes()
        assert path.read_bytes() != other[name].read_bytes()


def test_no_phrasing_stands_in_two_splits():
    def plain(split):
        whole = (one for phrases in GRAMMAR.phrases[split].values() for phrase in phrases for one in expansions(phrase))
        return {re.sub(r"[^\w{} ]", "", one).lower() for one in whole}

    assert not plain("train") & plain("test")
    assert not plain("train") & plain("validation")
    assert not plain("validation") & plain("test")


def test_a_phrasing_expands_into_all_its_alternatives():
    assert expansions("[set|make] an alarm [|for {time}]") == [
        "set an alarm",
        "set an alarm for {time}",
        "make an alarm",
        "make an alarm for {time}",
    ]


def test_no_test_skeleton_was_trained_on(made):
    trained = {skeleton(s.words, s.tags) for split in ("train", "validation") for s in made[split]}
    assert not trained & {skeleton(s.words, s.tags) for s in made["test"]}


def test_no_test_sentence_was_trained_on(tmp_path):
    paths = generate(tmp_path)
    test = read_rows(paths["intents/test"])
    for split in ("train", "validation"):
        assert not find_overlap(read_rows(paths[f"intents/{split}"]), test, ["text"])


def test_half_of_the_test_fillers_never_occur_in_training(made):
    trained = {span for split in ("train", "validation") for s in made[split] for span in spans(s)}
    tested = [span for s in made["test"] for span in spans(s)]
    new = sum(span not in trained for span in tested)
    assert 0.4 < new / len(tested) < 0.6
    for slot, fillers in GRAMMAR.fillers["test"].items():
        assert not {filler.lower() for filler in fillers} & {
            filler.lower() for filler in GRAMMAR.fillers["everywhere"][slot]
        }


@pytest.mark.parametrize("split", SPLITS)
def test_tags_are_iob2_over_the_known_slots(split, made):
    for sentence in made[split]:
        assert len(sentence.words) == len(sentence.tags)
        before = "O"
        for tag in sentence.tags:
            assert tag == "O" or tag[2:] in SLOTS
            if tag.startswith("I-"):
                assert before[2:] == tag[2:]
            before = tag


@pytest.mark.parametrize("split", SPLITS)
def test_every_intent_has_its_share_and_every_slot_occurs(split, made):
    counts = Counter(sentence.intent for sentence in made[split])
    assert set(counts) == set(INTENTS)
    assert max(counts.values()) - min(counts.values()) <= 1
    assert {slot for s in made[split] for slot, _ in spans(s)} == set(SLOTS)


def test_every_training_phrasing_is_used(made):
    assert {s.phrasing for s in made["train"]} == {
        phrase for some in GRAMMAR.phrases["train"].values() for phrase in some
    }


def test_some_names_are_two_things(made):
    slots = {}
    for slot, filler in (span for s in made["train"] for span in spans(s)):
        slots.setdefault(filler, set()).add(slot)
    assert {"person", "place", "artist"} <= slots["florence"]
