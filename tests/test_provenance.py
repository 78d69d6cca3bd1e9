from monai_ext.provenance import chose_epoch, provenance_of

PARTS = {"train": [{"case": "a"}], "inner": [{"case": "b"}], "val": [{"case": "c"}, {"case": "d"}]}
ITEMS = [{"case": name} for name in "abcde"]


def chosen(rule):
    return chose_epoch(ITEMS, [None, provenance_of(PARTS, selection=rule)])


def test_the_cases_that_chose_the_epoch_are_those_of_its_rule():
    assert chosen("best") == ["c", "d"]
    assert chosen("inner") == ["b"]


def test_nothing_is_said_to_have_been_chosen_where_nothing_was_or_where_it_is_not_known():
    assert chosen("last") == chosen(None) == []
