"""Rows that training and test share."""

from adapterkit.data import Rows, find_overlap

TRAIN = Rows([{"text": "Where is my card?", "label": "a"}, {"text": "Hi", "label": "b"}], [1, 4], "train.csv")


def test_case_spacing_and_unicode_form_do_not_hide_a_shared_row():
    test = Rows([{"text": "new", "label": "a"}, {"text": " where  IS my card\uff1f", "label": "a"}], [2, 3], "test.csv")
    found = find_overlap(TRAIN, test)
    assert found.pairs == ((3, (1,)),)
    assert (found.count, found.test_numbers, found.train_numbers) == (1, (3,), (1,))
    assert str(found) == "1 of 2 rows of test.csv also stand in train.csv: 3 (there 1)"
    assert found


def test_another_label_hides_it_unless_only_the_inputs_are_compared():
    test = Rows([{"text": "hi", "label": "a"}])
    assert not find_overlap(TRAIN, test)
    assert find_overlap(TRAIN, test, ["text"]).pairs == ((1, (4,)),)


def test_lists_and_objects_are_compared_inside():
    rows = Rows([{"tokens": ["Hi", "you"], "answers": {"text": ["A  b"]}}])
    assert find_overlap(rows, Rows([{"tokens": ["hi", "YOU"], "answers": {"text": ["a b"]}}])).count == 1
    assert find_overlap(rows, Rows([{"tokens": ["hi you"], "answers": {"text": ["a b"]}}])).count == 0


def test_only_columns_that_both_have_are_compared_and_none_is_no_overlap():
    assert find_overlap(TRAIN, Rows([{"text": "hi"}])).count == 1
    nothing = find_overlap(TRAIN, Rows([{"other": "hi"}]))
    assert nothing.count == 0
    assert str(nothing) == "no row of rows in memory stands in train.csv"
