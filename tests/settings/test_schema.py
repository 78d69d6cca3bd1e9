"""Settings are converted as they are meant, or refused in a sentence that says what is allowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monai_ext.errors import ConfigError
from monai_ext.settings.schema import allowed, convert, is_valid, settle

SWITCH = {"type": "boolean", "description": "Use the mask."}
AUTO = {"enum": [True, False, "auto"], "description": "Mixed precision."}
COUNT = {"type": "integer", "minimum": 1, "description": "Passes over the data."}
RATE = {"type": "number", "exclusiveMinimum": 0, "description": "Learning rate."}
LIMIT = {"type": ["number", "null"], "exclusiveMinimum": 0, "description": "Largest gradient norm."}
FOLDER = {"type": ["string", "null"], "description": "Folder of the cache."}
NAME = {"type": "string", "description": "Name of the run."}
SIZES = {"type": "array", "items": COUNT, "minItems": 3, "maxItems": 3, "description": "Patch size."}
CLASSES = {"type": ["array", "null"], "items": {"type": ["integer", "string"]}, "description": "Classes to leave out."}


@pytest.mark.parametrize("word", ["true", "True", "YES", "on", " On "])
def test_words_for_true_are_true(word):
    assert convert(SWITCH, word) is True
    assert convert(AUTO, word) is True


@pytest.mark.parametrize("word", ["false", "FALSE", "no", "Off"])
def test_words_for_false_are_false(word):
    assert convert(SWITCH, word) is False
    assert convert(AUTO, word) is False


@pytest.mark.parametrize("word", ["null", "None", "NULL", "none"])
@pytest.mark.parametrize("rule", [LIMIT, FOLDER, CLASSES], ids=["number", "text", "list"])
def test_words_for_null_are_null_where_null_is_allowed(rule, word):
    assert convert(rule, word) is None


@pytest.mark.parametrize(
    ("rule", "given", "meant"),
    [
        (COUNT, "3", 3),
        (COUNT, 3.0, 3),
        (RATE, "1e-3", 1e-3),
        (RATE, 1, 1),
        (LIMIT, "2.5", 2.5),
        (NAME, 7, "7"),
        (FOLDER, 7, "7"),
        (NAME, "true", "true"),
        (SIZES, (64, 64, 64), [64, 64, 64]),
        (SIZES, "[64, '96', 64.0]", [64, 96, 64]),
        (CLASSES, "[19, 'Unclassified']", [19, "Unclassified"]),
        (AUTO, "auto", "auto"),
    ],
)
def test_values_get_the_type_of_their_setting(rule, given, meant):
    converted = convert(rule, given)
    assert converted == meant
    assert type(converted) is type(meant)
    assert is_valid(rule, converted)


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        (SWITCH, 1),
        (SWITCH, "maybe"),
        (SWITCH, None),
        (COUNT, 1.5),
        (COUNT, 0),
        (COUNT, True),
        (COUNT, "null"),
        (RATE, -1),
        (RATE, "nan"),
        (RATE, float("inf")),
        (RATE, "fast"),
        (FOLDER, ["a"]),
        (NAME, None),
        (NAME, "null"),
        (RATE, "$-1"),
        (COUNT, "$2.5"),
        (NAME, True),
        (SIZES, [64, 64]),
        (SIZES, 64),
        (SIZES, [64, 0, 64]),
        (AUTO, "sometimes"),
    ],
)
def test_what_does_not_fit_is_refused_with_name_value_and_what_is_allowed(rule, value):
    with pytest.raises(ConfigError) as caught:
        settle({"it": rule}, {"it": value})
    assert str(caught.value).startswith(f"--it {value}: must be {allowed(rule)}")
    assert rule["description"][1:-1] in str(caught.value)


def test_all_wrong_settings_are_in_one_sentence():
    with pytest.raises(ConfigError, match=r"--lr -1: must be a number greater than 0 .*; --epochs 0: must be a whole"):
        settle({"lr": RATE, "epochs": COUNT}, {"lr": -1, "epochs": 0})


@pytest.mark.parametrize("value", ["$1 + 1", "$math.exp(7)", "@other", {"_target_": "x"}, ["@size", 4, 4]])
def test_expressions_references_and_components_pass(value):
    assert settle({"it": COUNT}, {"it": value, "unknown": "x"}) == {"it": value, "unknown": "x"}


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (COUNT, "a whole number from 1"),
        (RATE, "a number greater than 0"),
        (LIMIT, "a number greater than 0 or null"),
        ({"type": "number", "minimum": 0, "maximum": 1}, "a number from 0 to 1"),
        (AUTO, "true, false or auto"),
        (SIZES, "a list of 3 (a whole number from 1 each)"),
        (SWITCH, "true or false"),
        ({"anyOf": [COUNT, {"enum": ["all", None]}]}, "a whole number from 1, all or null"),
        ({"type": ["boolean", "string", "null"]}, "text, null, true or false"),
        ({"type": "integer", "multipleOf": 16, "minimum": 32}, "a whole number divisible by 16 from 32"),
        ({"type": "integer", "not": {"const": 0}}, "a whole number other than 0"),
        (
            {"type": "array", "items": RATE, "minItems": 2, "maxItems": 3},
            "a list of 2 to 3 (a number greater than 0 each)",
        ),
    ],
)
def test_what_is_allowed_is_said_in_words(rule, words):
    assert allowed(rule) == words


@given(value=st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none(), st.lists(st.integers())))
def test_whatever_is_given_is_converted_to_something_valid_or_refused(value):
    for rule in (SWITCH, AUTO, COUNT, RATE, LIMIT, FOLDER, NAME, SIZES, CLASSES):
        try:
            settled = settle({"it": rule}, {"it": value})["it"]
        except ConfigError:
            continue
        assert is_valid(rule, settled) or str(settled).startswith(("$", "@", "%"))


@pytest.mark.parametrize(("rule", "value"), [(NAME, ""), (FOLDER, " ")])
def test_an_empty_text_is_refused_and_shown_in_quotes(rule, value):
    with pytest.raises(ConfigError, match=f"--it {value!r}: must be text"):
        settle({"it": rule}, {"it": value})


TARGETS = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {
        "type": "object",
        "properties": {"channels": {"type": "integer", "minimum": 1}, "weight": {"type": "number"}},
        "required": ["channels"],
    },
}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"sheet": {"channels": 0}}, "--targets#sheet#channels 0: must be a whole number from 1"),
        ({"sheet": {"channels": 1}, "mask": {}}, "--targets#mask {}: needs channels"),
        ({"sheet": {"channels": 1, "weight": float("nan")}}, "--targets#sheet#weight nan: must be a finite"),
        ({"sheet": {"channels": 10**21}}, f"--targets#sheet#channels {10**21}: must be a finite"),
        ({"sheet": 3}, "--targets#sheet 3: must be settings by name"),
        ({}, "--targets {}: must be one or more settings by name"),
    ],
)
def test_the_entry_of_a_table_that_is_wrong_is_named(value, told):
    with pytest.raises(ConfigError) as caught:
        settle({"targets": TARGETS}, {"targets": value})
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize("value", [10**21, "1e21", str(10**21)])
def test_a_number_that_no_loop_can_count_to_is_refused(value):
    with pytest.raises(ConfigError, match=r"--batch_size 10{21}: must be a finite number below 2\^63"):
        settle({"batch_size": {"type": "integer", "minimum": 1}}, {"batch_size": value})
