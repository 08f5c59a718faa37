"""Bad rows, targets, classes, weights: a clear error, and the estimator as it was."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from bad_cases import (
    BAD_LABELS,
    BAD_NUMBERS,
    BAD_ROWS,
    BAD_TARGETS,
    DATES,
    EACH_BAD_TARGET,
    NO_FACTORS,
    NO_SCORES,
    ONES,
    SEVERAL,
    TARGET,
    assert_refused,
    ignore_names,
    labels,
    stream,
    tensor,
    with_one,
    y,
)
from conftest import (
    WEIGHT,
    X,
    Y,
    every_class,
    every_depth,
    every_optimizer,
    every_task,
    fitted_state,
    small,
)
from covering import every_pair
from scipy import sparse
from sklearn.exceptions import NotFittedError

from skgd import MiniBatchClassifier, MiniBatchRegressor, VectorizedGridSearchCV

# Rows


def broken(kind, place, n_columns=4):
    """Return rows of a sparse format with an entry in a column that is not there.

    SciPy checks what it is given, and not what is changed later.
    """
    rows = sparse.csr_array(X)
    rows.resize(len(X), n_columns)
    rows = rows.asformat(kind)
    if kind == "lil":
        rows.rows[3][1] = place
    elif kind == "coo":
        rows.coords[1][7] = place
    elif kind == "csc":  # its indices are rows
        rows.indices[7] = place if place < 0 else len(X)
    else:
        rows.indices[7] = place
    return rows


@every_pair(
    pytest.mark.parametrize("n_columns", [4, 5000], ids=["narrow", "wide"]),
    pytest.mark.parametrize("place", [-1, 5000, 2**30]),
    pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr", "lil"]),
    every_class,
)
def test_entries_outside_of_a_sparse_matrix_are_refused(cls, kind, place, n_columns):
    """They would be taken for entries of other rows, or of other arrays."""
    rows, match = broken(kind, place, n_columns), "X must have its entries in its shape"
    empty, y = rows.__class__(rows.shape), TARGET[cls]
    new, seen = small(cls), small(cls).fit(empty, y)
    assert_refused(new.fit, rows, y, match=match)
    assert_refused(seen.fit, rows, y, match=match)
    assert_refused(seen.partial_fit, rows, y, match=match)
    assert_refused(seen.predict, rows, match=match)
    assert_refused(new.fit, empty, y, X_val=rows, y_val=y, match=f"In X_val.*{match}")
    search = VectorizedGridSearchCV(small(cls), {"lr": [0.1]}, cv=2)
    assert_refused(search.fit, rows, y, match=match)


@pytest.mark.parametrize("starts", [{3: 1000}, {3: 0}, {-1: 1000}, {0: 1}], ids=str)
def test_rows_that_are_no_pieces_of_the_entries_are_refused(starts):
    """So is a sparse matrix whose rows begin elsewhere."""
    rows = sparse.csr_array(X)
    for row, start in starts.items():
        rows.indptr[row] = start
    model, match = stream(MiniBatchRegressor), "X must have an indptr that rises from 0"
    assert_refused(model.fit, rows, y, match=match)
    assert_refused(model.partial_fit, rows, y, match=match)
    assert_refused(model.predict, rows, match=match)


def test_labels_outside_of_a_sparse_matrix_are_refused():
    """Several labels a row may come sparse as well."""
    several = sparse.csr_array(SEVERAL)
    several.indices[0] = 2
    model, match = small(MiniBatchClassifier), "y must have its entries in its shape"
    assert_refused(model.fit, X, several, match=match)


def test_spare_entries_of_a_sparse_matrix_are_not_looked_at():
    """What lies behind the last row belongs to none."""
    rows = sparse.csr_array(X)
    rows.indices = np.append(rows.indices, 99)
    rows.data = np.append(rows.data, 99.0)
    spared = small(MiniBatchRegressor).fit(rows, y)
    plain = small(MiniBatchRegressor).fit(sparse.csr_array(X), y)
    assert np.array_equal(spared.coef_, plain.coef_)


@ignore_names
@every_pair(
    every_class,
    every_depth,
    pytest.mark.parametrize(("rows", "message"), BAD_ROWS.values(), ids=BAD_ROWS),
)
def test_bad_rows_are_refused(cls, hidden, rows, message):
    """fit, partial_fit and predict refuse rows that are not a table of numbers."""
    new = small(cls, hidden_layer_sizes=hidden)
    seen = stream(cls, hidden_layer_sizes=hidden)
    how = {"match": message, "error": (TypeError, ValueError)}
    assert_refused(new.fit, rows, TARGET[cls], **how)
    assert_refused(seen.fit, rows, TARGET[cls], **how)
    assert_refused(seen.partial_fit, rows, TARGET[cls], **how)
    assert_refused(seen.predict, rows, **how)


@every_class
@pytest.mark.parametrize(
    ("rows", "n_features"),
    [(X[:, :3], 3), (np.hstack([X, X]), 8)],
    ids=["fewer", "more"],
)
def test_rows_of_another_width_are_refused(cls, rows, n_features):
    """partial_fit, warm fits and predict want the features of the first call."""
    model, match = stream(cls, warm_start=True), f"{n_features} features, but"
    assert_refused(model.partial_fit, rows, TARGET[cls], match=match)
    assert_refused(model.fit, rows, TARGET[cls], match=match)
    assert_refused(model.predict, rows, match=match)


@every_class
def test_prediction_needs_a_fit(cls):
    """Before any fit the methods that predict say that there was none."""
    model = small(cls)
    methods = [model.predict]
    if cls is MiniBatchClassifier:
        methods += [
            model.decision_function,
            model.predict_proba,
            model.predict_log_proba,
        ]
    for method in methods:
        assert_refused(method, X, match="is not fitted yet", error=NotFittedError)


# Targets


@pytest.mark.parametrize(("cls", "bad", "match"), EACH_BAD_TARGET)
def test_bad_targets_are_refused(cls, bad, match):
    """fit and partial_fit refuse targets that are not what the class learns."""
    new, seen = small(cls), stream(cls)
    how = {"match": match, "error": (TypeError, ValueError)}
    assert_refused(new.fit, X, bad, **how)
    assert_refused(new.fit, tensor(X), bad, **how)
    assert_refused(seen.fit, X, bad, **how)
    assert_refused(seen.partial_fit, X, bad, **how)


@pytest.mark.parametrize(
    "bad", [["a", None] * 30, labels.astype(object), ["a", "d"] * 30], ids=str
)
def test_labels_unlike_the_text_of_a_stream_are_refused(bad):
    """Text may lie in arrays of objects, which may hold anything."""
    text = np.array(["a", "b", "c"] * 20, object)
    model = small(MiniBatchClassifier).partial_fit(X, text, classes=["a", "b", "c"])
    match = "labels of one kind|Unknown label type|not among the classes"
    assert_refused(model.partial_fit, X, np.array(bad, object), match=match)
    assert_refused(model.set_params(warm_start=True).fit, X, bad, match=match)


@every_class
@pytest.mark.parametrize("bad", [1.0, np.array(1)], ids=["float", "array"])
def test_a_single_number_is_no_target(cls, bad):
    """A number for all rows is refused, by the error that scikit-learn raises."""
    model = stream(cls)
    assert_refused(model.fit, X, bad, error=(TypeError, ValueError))
    assert_refused(model.partial_fit, X, bad, error=(TypeError, ValueError))


def test_a_stream_keeps_its_number_of_targets():
    """partial_fit and warm fits want as many targets as the first call had."""
    one = stream(MiniBatchRegressor, warm_start=True)
    two = small(MiniBatchRegressor, warm_start=True).fit(X, Y)
    for model, other in ((one, Y), (two, y)):
        assert_refused(model.partial_fit, X, other, match="begin anew")
        assert_refused(model.fit, X, other, match="begin anew")


@every_class
def test_a_stream_keeps_its_layers(cls):
    """Other hidden layers than the fitted ones need a new fit."""
    model = stream(cls, warm_start=True).set_params(hidden_layer_sizes=(3,))
    assert_refused(model.partial_fit, X, TARGET[cls], match="begin anew")
    assert_refused(model.fit, X, TARGET[cls], match="begin anew")


# Classes


def test_text_of_variable_width_is_told_what_to_become():
    """scikit-learn does not know NumPy's StringDType: not in y, classes, or a score."""
    words = np.array(["a", "b"] * 30, dtype=np.dtypes.StringDType())
    model = stream(MiniBatchClassifier)
    said = {"match": r"Got StringDType\(\); pass y.astype\(object", "error": TypeError}
    assert_refused(model.fit, X, words, **said)
    assert_refused(model.partial_fit, X, words, **said)
    assert_refused(model.fit, X, labels, X_val=X, y_val=words, **said)
    assert list(model.fit(X, words.astype(object)).classes_) == ["a", "b"]
    assert_refused(model.score, X, words, **said)
    new, classes = small(MiniBatchClassifier), np.unique(words)
    said["match"] = "^classes must be of a dtype that scikit-learn knows"
    assert_refused(new.partial_fit, X, words.astype(object), classes, **said)


@pytest.mark.parametrize("one", [[0], ["a"], [True]], ids=str)
def test_one_class_is_refused(one):
    """A classifier needs two classes, in y or in classes."""
    new, seen = small(MiniBatchClassifier), stream(MiniBatchClassifier)
    assert_refused(new.fit, X, one * len(X), match="one class")
    assert_refused(seen.fit, X, one * len(X), match="one class")
    assert_refused(new.partial_fit, X, one * len(X), classes=one, match="one class")


def test_the_first_call_of_a_stream_names_the_classes():
    """Without classes the first partial_fit is refused, whatever y holds."""
    new = small(MiniBatchClassifier)
    assert_refused(new.partial_fit, X, labels, match="classes must be passed")


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ([], "two classes"),
        (3, "1d array"),
        ("text", "1d array"),
        ([[-1, 0, 1]], "1d array"),
        ([-1, 0, 1, np.nan], "NaN"),
        ([-1, 0, 1, None], "label"),
        ([-1, 0, 1, "a"], "label|among the classes"),
    ],
    ids=str,
)
def test_bad_classes_are_refused(bad, match):
    """classes are a list of labels, all of one kind."""
    new = small(MiniBatchClassifier)
    assert_refused(new.partial_fit, X, labels, classes=bad, match=match)


@pytest.mark.parametrize(
    "unseen",
    [labels + 1, labels.astype(str), np.where(labels > 0, "a", "b"), labels == 0],
    ids=["another number", "text of them", "text", "bool"],
)
def test_an_unseen_class_is_refused(unseen):
    """Labels that the first call did not name are told, in streams and warm fits."""
    if unseen.dtype == bool:
        unseen = unseen * 7
    model, match = stream(MiniBatchClassifier, warm_start=True), "not among the classes"
    assert_refused(model.partial_fit, X, unseen, match=match)
    assert_refused(model.fit, X, unseen, match=match)
    new = small(MiniBatchClassifier)
    assert_refused(new.partial_fit, X, unseen, classes=[-1, 0, 1], match=match)


@pytest.mark.parametrize(
    ("other", "match"),
    [
        ([0, 1], "without -1;"),
        ([-1, 0, 2, 3], "without 1;"),
        ([2, 3], "without -1, 0, 1;"),
        (["-1", "0", "1", "2"], "without -1, 0, 1, for they are of another kind;"),
        ([-1.0, 0.0, 1.0, 0.5], "of another kind;"),
        ([False, True], "of another kind;"),
        ([], "Got none, without -1"),
        (["a", None], "classes must hold labels of one kind"),
        ([-1, 0, 1, np.nan], "Got NaN"),
        ([[-1, 0, 1, 2]], "1d array"),
    ],
    ids=str,
)
def test_other_classes_later_are_refused(other, match):
    """Later calls name the known classes, and may name more, or name none."""
    for model in (stream(MiniBatchClassifier), small(MiniBatchClassifier)):
        if not hasattr(model, "t_"):  # known, and no step has been taken
            model.partial_fit(X, labels, [-1, 0, 1], sample_weight=0)
        assert_refused(model.partial_fit, X, labels, classes=other, match=match)


def test_unseen_labels_beside_new_classes_are_refused():
    """A label that is not among more classes either is told, and none is added."""
    model, match = stream(MiniBatchClassifier), "y holds 3, not among the classes"
    y = np.where(labels == 0, 3, labels)
    assert_refused(model.partial_fit, X, y, classes=[-1, 0, 1, 2], match=match)


@pytest.mark.parametrize(
    ("n_labels", "classes", "match"),
    [
        (1, None, "one label a row"),
        (3, None, r"2 labels a row known before. Got 3; classes=range\(3\)"),
        (3, [0, 1], "classes must be the places"),
        (3, [0, 1, 2, 3], "classes must be the places"),
    ],
    ids=str,
)
def test_other_numbers_of_labels_are_refused(n_labels, classes, match):
    """More labels a row than known are new ones only where classes says so."""
    several = (np.column_stack([Y, Y[:, 0]]) > 3).astype(int)
    model = small(MiniBatchClassifier).partial_fit(X, several[:, :2])
    y = several[:, :n_labels]
    assert_refused(model.partial_fit, X, y, classes=classes, match=match)


def test_a_column_of_labels_does_not_name_the_classes():
    """A first chunk of a stream must, also where its labels are a column."""
    model = small(MiniBatchClassifier)
    with pytest.raises(ValueError, match="classes must be passed"):
        model.partial_fit(X, labels[:, np.newaxis])


# Weights

BAD_WEIGHTS = {
    "negative": (with_one(-1, ONES), "[Nn]egative"),
    "all negative": (-ONES, "[Nn]egative"),
    "all zero": (0 * ONES, "non-zero"),
    "zero": (0, "non-zero"),
    "nan": (with_one(np.nan, ONES), "NaN"),
    "inf": (with_one(np.inf, ONES), "infinity"),
    "too few": (ONES[1:], "sample_weight.*shape|1D array"),
    "too many": (np.append(ONES, 1), "sample_weight.*shape|1D array"),
    "2-D": (ONES[:, np.newaxis], "In sample_weight: .* 1D array"),
    "none": (
        [],
        r"sample_weight must have an entry for every row of X. Got shape \(0,",
    ),
    "text": (["a"] * len(X), "sample_weight must hold numbers. Got the text 'a'"),
    "text among numbers": (
        with_one("a", ONES, object),
        "sample_weight must hold numbers. Got the text 'a'",
    ),
    "<NA>": (
        with_one(pd.NA, ONES, object),
        "sample_weight must have no missing values",
    ),
    "complex": (ONES * 1j, "Complex data not supported: sample_weight must"),
    "ragged": ([[1, 2], [3]] * 30, "In sample_weight: .* inhomogeneous"),
    "a sum beyond float64": (ONES * 1e308, "sample_weight must have a finite sum"),
    "a number that is none": (np.nan, "sample_weight must have a finite sum"),
    "a negative number": (-1, "Negative values .*sample_weight"),
    "ints beyond float64": ([10**400] * 60, "sample_weight .*int too large"),
    "False for all": ([False] * 60, "non-zero"),
    "None for all": ([None] * 60, "sample_weight contains NaN"),
    "a word": ("balanced", "sample_weight must hold numbers. Got the text 'balanced'"),
    "a dict": ({0: 1, 1: 2}, "sample_weight must hold numbers"),
    "a set": ({0, 1}, "sample_weight must hold numbers"),
    "a function": (len, "sample_weight must hold numbers"),
    "records": (np.ones(60, "f8,f8"), "sample_weight must hold numbers"),
    "dates": (np.full(60, np.datetime64("2020-01-01")), "sample_weight must hold numb"),
    "durations": (np.full(60, np.timedelta64(1, "D")), "sample_weight must hold numbe"),
    "dates in a series": (pd.Series(DATES), "sample_weight must hold numbers"),
    "dates in polars": (pl.Series(DATES), "sample_weight must hold numbers"),
    "dates in pyarrow": (pa.array(DATES), "sample_weight must hold numbers"),
    "a series with a gap": (pd.Series(pd.array([1, None] * 30)), "sample_weight .*NaN"),
    "masked": (np.ma.masked_equal(WEIGHT, 1), "sample_weight must have no masked"),
    "sparse": (sparse.csr_array(ONES[np.newaxis]), "Sparse data .* sample_weight"),
    "a negative tensor": (tensor(-ONES), "Negative values .*sample_weight"),
    "a tensor of nan": (tensor(ONES * np.nan), "sample_weight contains NaN"),
    "a tensor too short": (tensor(ONES[1:]), "sample_weight.shape"),
    "a tensor of 2 axes": (tensor(ONES)[:, None], "1D array"),
    "a complex tensor": (tensor(ONES * 1j), "Complex data"),
    "a sparse tensor": (tensor(ONES).to_sparse(), "sample_weight must be a dense"),
    "a meta tensor": (tensor(ONES).to("meta"), "sample_weight must be a dense"),
}


@every_class
@pytest.mark.parametrize(("weight", "match"), BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
def test_bad_weights_are_refused(cls, weight, match):
    """Weights are a finite number for each row, 0 or more, and not all 0."""
    new, seen = small(cls), stream(cls)
    how = {"match": match, "error": (TypeError, ValueError)}
    assert_refused(new.fit, X, TARGET[cls], sample_weight=weight, **how)
    assert_refused(seen.fit, X, TARGET[cls], sample_weight=weight, **how)
    if match != "non-zero":  # a stream has other rows to come
        assert_refused(seen.partial_fit, X, TARGET[cls], sample_weight=weight, **how)
    held_out = {"X_val": X, "y_val": TARGET[cls], "sample_weight_val": weight}
    how["match"] = rf"(?s)sample_weight_val: .*({match})"
    assert_refused(seen.fit, X, TARGET[cls], **held_out, **how)


@pytest.mark.parametrize("cls", TARGET)
def test_a_hundred_bad_inputs_of_each_class_are_tried(cls):
    """Data, weights, held-out rows and combinations; the parameters come on top."""
    own = BAD_NUMBERS if cls is MiniBatchRegressor else BAD_LABELS
    tables = [BAD_ROWS, BAD_TARGETS, own, BAD_WEIGHTS, NO_FACTORS, NO_SCORES]
    assert sum(map(len, tables)) >= 100


# Numbers that the precision of the computation cannot hold


@every_class
@every_depth
def test_rows_too_large_for_float32_are_refused(cls, hidden):
    """What is finite in float64 but not in float32 is told, not computed with."""
    params = {"hidden_layer_sizes": hidden, "dtype": "float32"}
    new, seen, large = small(cls, **params), stream(cls, **params), with_one(1e39)
    match = "infinity|too large"
    assert_refused(new.fit, large, TARGET[cls], match=match)
    assert_refused(seen.partial_fit, large, TARGET[cls], match=match)
    assert_refused(seen.predict, large, match=match)


def test_targets_too_large_for_float32_are_refused():
    """So are targets."""
    params = {"dtype": "float32"}
    new, seen = (
        small(MiniBatchRegressor, **params),
        stream(MiniBatchRegressor, **params),
    )
    large, match = with_one(1e39, y), "too large for float32"
    assert_refused(new.fit, X, large, match=match)
    assert_refused(seen.partial_fit, X, large, match=match)


@every_class
def test_weights_too_large_for_float32(cls):
    """A stream uses weights as given and refuses such; fit takes their proportions."""
    seen, heavy = stream(cls, dtype="float32"), ONES * 1e39
    match = "infinity|too large"
    assert_refused(seen.partial_fit, X, TARGET[cls], sample_weight=heavy, match=match)
    fitted = small(cls, dtype="float32").fit(X, TARGET[cls], sample_weight=heavy)
    plain = small(cls, dtype="float32").fit(X, TARGET[cls])
    np.testing.assert_allclose(fitted.coef_, plain.coef_, rtol=1e-6)


@every_class
def test_starting_weights_too_large_for_float32_are_refused(cls):
    """So are starting weights, by their name."""
    model = small(cls, dtype="float32").fit(X, TARGET[cls])
    large = np.full(model.coef_.shape, 1e39)
    assert_refused(model.fit, X, TARGET[cls], coef_init=large, match="coef_init")


# What a refused call leaves behind

REFUSED = {
    "nan": {"X": with_one(np.nan)},
    "no rows": {"X": X[:0], "y": []},
    "narrow": {"X": X[:, :2]},
    "too few targets": {"y": [1] * 5},
    "nan targets": {"y": with_one(np.nan, y)},
    "negative weights": {"sample_weight": -ONES},
    "too few weights": {"sample_weight": ONES[1:]},
    "text": {"X": np.full(X.shape, "a")},
    "three targets": {"y": np.column_stack([Y, y])},
    "an unseen class": {"y": np.where(labels > 0, "a", "b")},
}


@every_pair(
    every_optimizer,
    every_depth,
    every_task,
)
def test_a_refused_batch_leaves_the_stream_as_it_was(cls, y, hidden, optimizer):
    """After refused calls the stream goes on, bit by bit, as if they never were."""
    params = {**optimizer, "lr": 0.01, "hidden_layer_sizes": hidden}
    params.update(last_batch="fill", record_batch_loss=True)
    classes = {} if cls is MiniBatchRegressor else {"classes": np.unique(y)}
    spared = small(cls, **params).partial_fit(X, y, **classes)
    model = small(cls, **params).partial_fit(X, y, **classes)
    for bad in REFUSED.values():
        assert_refused(model.partial_fit, **{"X": X, "y": y, **bad})
    model.partial_fit(X, y)
    spared.partial_fit(X, y)
    assert fitted_state(model) == fitted_state(spared)


@every_depth
@every_class
def test_a_refused_fit_leaves_the_seed_as_it_was(cls, hidden):
    """Only fits that happen draw from a RandomState that is given as a seed."""
    seed = np.random.RandomState(0)
    model = small(cls, hidden_layer_sizes=hidden, random_state=seed)
    start = {"coef_init" if hidden else "coefs_init": [1]}
    assert_refused(model.fit, X * np.nan, TARGET[cls], match="NaN")
    assert_refused(model.fit, X, TARGET[cls], -ONES, match="[Nn]egative")
    assert_refused(model.fit, X, TARGET[cls], match="other kind", **start)
    model.set_params(batch_size=0)
    assert_refused(model.fit, X, TARGET[cls], match="batch_size")
