"""Bad held-out rows: a clear error, and the estimator as it was."""

import numpy as np
import pandas as pd
import pytest
from bad_cases import (
    BAD_ROWS,
    EACH_BAD_TARGET,
    FRAME,
    NO_SCORES,
    ONES,
    TARGET,
    assert_refused,
    ignore_names,
    labels,
    stream,
    tensor,
    with_one,
    y,
)
from conftest import X, Y, every_class

from skgd import MiniBatchClassifier, MiniBatchRegressor

# Held-out rows


@every_class
@pytest.mark.parametrize(
    ("given", "missing"),
    [
        (("X_val",), "no y_val"),
        (("y_val",), "no X_val"),
        (("sample_weight_val",), "no X_val and no y_val"),
        (("X_val", "sample_weight_val"), "no y_val"),
        (("y_val", "sample_weight_val"), "no X_val"),
    ],
)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_part_of_a_held_out_set_is_refused(cls, given, missing, early_stopping):
    """X_val and y_val come together, and weights of them not alone."""
    parts = {"X_val": X, "y_val": TARGET[cls], "sample_weight_val": ONES}
    model = stream(cls).set_params(early_stopping=early_stopping)
    held_out = {name: parts[name] for name in given}
    match = f"X_val and y_val must be given together. Got {missing};"
    assert_refused(model.fit, X, TARGET[cls], match=match, **held_out)


@ignore_names
@every_class
@pytest.mark.parametrize(("rows", "message"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_bad_held_out_rows_are_refused(cls, rows, message):
    """What X must be, X_val must be, and the error says which of them it is."""
    model = stream(cls)
    match = "Got no X_val" if rows is None else f"(?s)In X_val.*({message})"
    how = {"match": match, "error": (TypeError, ValueError)}
    held_out = {"X_val": rows, "y_val": TARGET[cls]}
    assert_refused(model.fit, X, TARGET[cls], **held_out, **how)


@pytest.mark.parametrize(("cls", "bad", "match"), EACH_BAD_TARGET)
def test_bad_held_out_targets_are_refused(cls, bad, match):
    """What y must be, y_val must be."""
    model = stream(cls).set_params(early_stopping=True)
    held_out = {"X_val": X, "y_val": bad, "error": (TypeError, ValueError)}
    if bad is None:
        match = "Got no y_val"
    assert_refused(model.fit, X, TARGET[cls], match=match, **held_out)


def names_of(columns):
    """Return the rows as a frame with such columns."""
    return pd.DataFrame(X, columns=columns)


UNLIKE_THE_TRAINING_ROWS = {
    "narrower": (X, {"X_val": X[:, :3]}, "In X_val.*3 features, but"),
    "wider": (X, {"X_val": np.hstack([X, X])}, "In X_val.*8 features, but"),
    "a wide tensor": (X, {"X_val": tensor(X)[:, :1]}, "In X_val.*1 features, but"),
    "other names": (
        FRAME,
        {"X_val": names_of(list("abcz"))},
        "(?s)In X_val.*feature names should match",
    ),
    "another order": (
        FRAME,
        {"X_val": names_of(list("bacd"))},
        "(?s)In X_val.*feature names should match",
    ),
    "beyond its float32": (X.astype("f4"), {"X_val": with_one(1e39)}, "In X_val.*inf"),
}
EACH_UNLIKE = [
    *[
        pytest.param(cls, *unlike, id=f"{cls.__name__}-{name}")
        for cls in TARGET
        for name, unlike in UNLIKE_THE_TRAINING_ROWS.items()
    ],
    *[
        pytest.param(cls, X, {"y_val": bad}, match, id=f"{cls.__name__}-{match}")
        for cls, bad, match in (
            (MiniBatchRegressor, Y, r"y must have 1 target\(s\).* Got 2"),
            (MiniBatchClassifier, labels + 1, "y holds 2, not among the classes"),
            (MiniBatchClassifier, labels.astype(str), "y holds '-1', '0', '1', not"),
            (MiniBatchClassifier, (Y > 3).astype(int), "y must hold one label a row"),
        )
    ],
]


@pytest.mark.parametrize(("cls", "rows", "unlike", "match"), EACH_UNLIKE)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_held_out_rows_are_like_those_to_train_on(
    cls, rows, unlike, match, early_stopping
):
    """Held-out rows have the features and the kind of target of the others."""
    model = stream(cls).set_params(early_stopping=early_stopping)
    held_out = {"X_val": rows, "y_val": TARGET[cls], **unlike}
    assert_refused(model.fit, rows, TARGET[cls], match=match, **held_out)


def one_counts(rows):
    """Return weights that are 0 but for one row."""
    weight = np.zeros(len(rows))
    weight[0] = 1
    return weight


@every_class
@pytest.mark.parametrize("fraction", [1e-9, 0.001, 0.999, 1 - 1e-9])
def test_a_split_without_enough_rows_is_refused(cls, fraction):
    """Fewer than two rows to judge by, or none to train on, are told."""
    model = stream(cls).set_params(early_stopping=True, validation_fraction=fraction)
    match = "validation_fraction|validation set must have at least 2 rows"
    assert_refused(model.fit, X, TARGET[cls], match=match)


@every_class
@pytest.mark.parametrize("n_rows", [1, 2, 3, 10])
def test_a_set_too_small_to_split_is_refused(cls, n_rows):
    """A tenth of so few rows is no validation set."""
    model = stream(cls).set_params(early_stopping=True, batch_size=1)
    match = "validation|one class"
    assert_refused(model.fit, X[:n_rows], TARGET[cls][:n_rows], match=match)


@every_class
def test_a_split_of_which_a_part_does_not_count_is_refused(cls):
    """Weights above 0 are needed in both parts."""
    model = stream(cls).set_params(early_stopping=True)
    match = "sample_weight must be above 0 for some of the rows"
    assert_refused(model.fit, X, TARGET[cls], one_counts(X), match=match)


@pytest.mark.parametrize(
    "classes", [np.arange(60) == 7, np.arange(60) // 2], ids=["a row", "too many"]
)
def test_classes_that_cannot_be_held_out_are_refused(classes):
    """Every class must have a row in both parts."""
    model = stream(MiniBatchClassifier).set_params(early_stopping=True)
    match = "early_stopping=True must hold out validation_fraction=0.1 of the 60 rows"
    assert_refused(model.fit, X, classes.astype(int), match=match)


@every_class
@pytest.mark.parametrize("score", NO_SCORES, ids=repr)
def test_a_scorer_must_give_a_number(cls, score):
    """What is no number cannot be compared: training by it is refused."""
    model = stream(cls)
    model.set_params(early_stopping=True, scoring=lambda estimator, X, y: score)
    assert_refused(model.fit, X, TARGET[cls], match="scoring must give a number")


def test_a_score_that_a_single_row_does_not_have_is_refused():
    """R2 of one row is no number."""
    model = stream(MiniBatchRegressor).set_params(early_stopping=True)
    with pytest.warns(UserWarning, match="R[^2]2 score is not well-defined"):
        assert_refused(model.fit, X, y, X_val=X[:1], y_val=y[:1], match="scoring must")


# Training that goes well, though it may look otherwise


@every_class
def test_an_error_of_a_scorer_is_told_whatever_its_kind(cls):
    """Some errors cannot be made again from a sentence."""

    def scoring(estimator, rows, y):
        raise UnicodeDecodeError("utf-8", b"x", 0, 1, "no text")

    model = stream(cls).set_params(early_stopping=True, scoring=scoring)
    assert_refused(model.fit, X, TARGET[cls], match="In scoring: .* no text")
