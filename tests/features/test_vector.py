import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.features.vector import FeatureVector

VECTOR = FeatureVector(("a", "b", "c"), np.array([1.0, np.nan, np.inf]))


def test_values_are_a_read_only_copy():
    values = np.zeros(2, np.float32)
    vector = FeatureVector(("a", "b"), values)
    values[0] = 1
    assert vector.values.tolist() == [0, 0]
    assert vector.values.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        vector.values[0] = 1


@pytest.mark.parametrize(("names", "count"), [(("a",), 2), (("a", "a"), 2), ((), 1)])
def test_names_must_be_unique_and_as_many_as_values(names, count):
    with pytest.raises(ValueError, match="names"):
        FeatureVector(names, np.zeros(count))


def test_prefix_concatenation_and_selection_keep_values_with_their_names():
    both = FeatureVector.concatenate([VECTOR.prefixed("x_"), VECTOR])
    assert both.names == ("x_a", "x_b", "x_c", "a", "b", "c")
    assert both.select(["c", "x_a"]) == FeatureVector(("c", "x_a"), np.array([np.inf, 1.0]))
    assert FeatureVector.concatenate([]).names == ()


def test_selecting_an_absent_name_names_it():
    with pytest.raises(KeyError, match="missing"):
        VECTOR.select(["a", "missing"])


def test_values_that_are_not_finite_are_named():
    assert VECTOR.not_finite() == ("b", "c")


def test_order_is_part_of_equality_and_nan_equals_nan():
    assert VECTOR.select(["a", "b", "c"]) == VECTOR
    assert VECTOR.select(["b", "a", "c"]) != VECTOR


@given(st.permutations(list("abcdef")))
def test_selection_is_a_permutation(order):
    vector = FeatureVector(tuple("abcdef"), np.arange(6.0))
    assert vector.select(order).select("abcdef") == vector
