"""What labels and weights mean: several labels a row, class weights, single rows."""

import pickle
from copy import deepcopy

import numpy as np
import pytest
from conftest import (
    N_FEATURES,
    N_ROWS,
    TASKS,
    WEIGHT,
    X,
    Y,
    assert_same_layers,
    every_depth,
    every_optimizer,
    fitted_state,
    small,
    state_but_for_seen,
)
from scipy.sparse import csr_array
from sklearn import metrics
from sklearn.base import clone
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

from skgd import MiniBatchClassifier, MiniBatchRegressor
from skgd._estimators.parameters import LOSSES_OF_CLASSES

y = Y[:, 0]
two_classes, three_classes = TASKS["two classes"][1], TASKS["three classes"][1]
LABELS = np.column_stack([y > 3, Y[:, 1] > -1, y + Y[:, 1] > 4]).astype(int)
LOSSES = LOSSES_OF_CLASSES


# Several labels a row


@every_depth
def test_every_label_has_an_output(hidden):
    """Scores and probabilities have a column a label, 0 and 1/2 being the border."""
    model = small(MiniBatchClassifier, hidden_layer_sizes=hidden).fit(X, LABELS)
    scores, probability = model.decision_function(X), model.predict_proba(X)
    prediction = model.predict(X)
    assert scores.shape == probability.shape == prediction.shape == (N_ROWS, 3)
    assert np.array_equal(model.classes_, [0, 1, 2])
    assert np.array_equal(prediction, scores > 0)
    assert np.array_equal(prediction, probability > 0.5)
    assert set(prediction.ravel()) == {0, 1}
    np.testing.assert_allclose(
        model.predict_log_proba(X), np.log(probability), rtol=1e-10
    )
    accuracy = metrics.accuracy_score(LABELS, prediction)  # all labels of a row right
    assert model.score(X, LABELS) == accuracy
    if not hidden:
        assert model.coef_.shape == (3, N_FEATURES)
        assert model.intercept_.shape == (3,)


@pytest.mark.parametrize("loss", LOSSES)
@every_optimizer
def test_several_labels_are_as_many_fits_of_two_classes(loss, optimizer):
    """A linear fit of all labels has the weights of MultiOutputClassifier's fits."""
    model = small(MiniBatchClassifier, loss=loss, **{**optimizer, "lr": 0.02})
    both = clone(model).fit(X, LABELS, sample_weight=WEIGHT)
    apart = MultiOutputClassifier(model).fit(X, LABELS, sample_weight=WEIGHT)
    for n, single in enumerate(apart.estimators_):
        np.testing.assert_allclose(both.coef_[n], single.coef_[0], rtol=1e-9)
        np.testing.assert_allclose(both.intercept_[n], single.intercept_[0], rtol=1e-9)
    assert np.array_equal(both.predict(X), apart.predict(X))
    if loss in ("log_loss", "modified_huber"):
        probabilities = [p[:, 1] for p in apart.predict_proba(X)]
        np.testing.assert_allclose(
            both.predict_proba(X), np.transpose(probabilities), rtol=1e-9
        )


def test_the_first_link_of_a_chain_is_the_first_label():
    """ClassifierChain fits its first label as we do beside others."""
    model = small(MiniBatchClassifier)
    chain = ClassifierChain(model).fit(X, LABELS)
    both = clone(model).fit(X, LABELS)
    np.testing.assert_allclose(chain.estimators_[0].coef_[0], both.coef_[0], rtol=1e-9)
    assert chain.estimators_[2].coef_.shape == (1, N_FEATURES + 2)


@every_depth
def test_a_stream_of_several_labels_is_a_fit(hidden):
    """partial_fit needs no classes for them, takes their numbers, and goes on."""
    model = small(MiniBatchClassifier, hidden_layer_sizes=hidden)
    whole, stream = clone(model).fit(X, LABELS), clone(model)
    for _ in range(3):
        stream.partial_fit(X, LABELS)
    assert fitted_state(stream) == fitted_state(whole)
    named = clone(model).partial_fit(X, LABELS, classes=[0, 1, 2])
    assert fitted_state(named) == fitted_state(clone(model).partial_fit(X, LABELS))
    stream.partial_fit(X[:4], 0 * LABELS[:4])
    assert stream.n_iter_ == 4


@pytest.mark.parametrize(
    "kind", [bool, float, np.uint8, csr_array, list], ids=lambda kind: kind.__name__
)
def test_several_labels_may_come_in_any_kind(kind):
    """0 and 1 of whatever kind are the same fit."""
    labels = LABELS.tolist() if kind is list else None
    if labels is None:
        labels = csr_array(LABELS) if kind is csr_array else LABELS.astype(kind)
    fitted = small(MiniBatchClassifier).fit(X, labels)
    plain = small(MiniBatchClassifier).fit(X, LABELS)
    assert fitted_state(fitted) == fitted_state(plain)


@pytest.mark.parametrize("two", [(1, 2), (-1, 1), (0, 2)])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_several_labels_are_zero_or_one(two, method):
    """Other numbers are refused: they would be trained on as they are."""
    labels = np.array(two)[LABELS]
    with pytest.raises(ValueError, match="must hold 0 and 1, "):
        getattr(small(MiniBatchClassifier), method)(X, labels)


@pytest.mark.parametrize(
    ("first", "then", "match"),
    [
        (LABELS, two_classes, "several labels a row.*Got one label a row"),
        (two_classes, LABELS, "one label a row.*Got several labels a row"),
        (LABELS, LABELS[:, :2], "the 3 labels a row known before. Got 2"),
    ],
)
def test_a_stream_keeps_the_kind_of_its_labels(first, then, match):
    """One label a row after several, or others, are refused, and nothing changes."""
    model = small(MiniBatchClassifier).fit(X, first)
    before = fitted_state(model)
    with pytest.raises(ValueError, match=match):
        model.partial_fit(X, then)
    assert fitted_state(model) == before


# Class weights


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["alike", "weighted"])
@pytest.mark.parametrize("batch_size", [None, 8, 1])
@pytest.mark.parametrize("labels", [two_classes, three_classes], ids=["two", "three"])
@every_depth
def test_class_weights_are_sample_weights_to_the_bit(
    hidden, labels, batch_size, weight
):
    """A dict, and "balanced", are the weights of scikit-learn's rows."""
    names = np.unique(labels)
    balanced = compute_class_weight(
        "balanced", classes=names, y=labels, sample_weight=weight
    )
    model = small(MiniBatchClassifier, hidden_layer_sizes=hidden, batch_size=batch_size)
    for given, of_class in (
        (dict(zip(names, [1, 5, 2], strict=False)), [1.0, 5.0, 2.0]),
        ("balanced", balanced),
    ):
        rows = np.take(of_class, np.searchsorted(names, labels))
        one = clone(model).set_params(class_weight=given).fit(X, labels, weight)
        weights = rows if weight is None else rows * weight
        other = clone(model).fit(X, labels, weights)
        assert state_but_for_seen(one) == state_but_for_seen(other)


def test_classes_without_a_weight_count_once():
    """A dict may name some classes only."""
    some = small(MiniBatchClassifier, class_weight={1: 3.0})
    weight = np.where(three_classes == 1, 3.0, 1.0)
    one = some.fit(X, three_classes)
    other = clone(some).set_params(class_weight=None).fit(X, three_classes, weight)
    assert fitted_state(one) == fitted_state(other)


def test_class_weights_of_a_stream_are_used_as_given():
    """partial_fit multiplies them with those of the rows."""
    given = {"no": 0.5, "yes": 3.0}
    weight = WEIGHT * [given[label] for label in two_classes]
    one = small(MiniBatchClassifier, class_weight=given)
    other = small(MiniBatchClassifier)
    for _ in range(2):
        one.partial_fit(X, two_classes, ["no", "yes"], WEIGHT)
        other.partial_fit(X, two_classes, ["no", "yes"], weight)
    assert fitted_state(one) == fitted_state(other)


@pytest.mark.parametrize(
    "given", ["balanced", [{0: 1, 1: 2}, {0: 3, 1: 1}, {0: 1, 1: 4}]]
)
def test_class_weights_of_several_labels_multiply(given):
    """A row counts the product over its labels, as in scikit-learn."""
    one = small(MiniBatchClassifier, class_weight=given).fit(X, LABELS)
    weight = compute_sample_weight(given, LABELS)
    other = small(MiniBatchClassifier).fit(X, LABELS, weight)
    assert state_but_for_seen(one) == state_but_for_seen(other)


def test_rows_of_no_weight_balance_no_labels():
    """Balanced, rows of weight 0 are as those that are not there, of labels too."""
    counts = np.arange(N_ROWS) % 3 > 0
    params = {"class_weight": "balanced", "batch_size": None}
    one = small(MiniBatchClassifier, **params).fit(X, LABELS, counts * 1.0)
    other = small(MiniBatchClassifier, **params).fit(X[counts], LABELS[counts])
    assert_same_layers(one, other, rtol=1e-9)


# Classes that a stream balances


def pieces(*arrays, sizes=(7, 1, 20, 12, 20)):
    """Yield chunks of the arrays, of unlike sizes."""
    for start, size in zip(np.cumsum([0, *sizes]), sizes, strict=False):
        yield tuple(array[start : start + size] for array in arrays)


@pytest.mark.parametrize("weight", [np.ones(N_ROWS), WEIGHT], ids=["alike", "weighted"])
@pytest.mark.parametrize("labels", [two_classes, three_classes], ids=["two", "three"])
@every_depth
def test_a_stream_is_balanced_by_what_it_has_seen(hidden, labels, weight):
    """Each chunk has scikit-learn's weights of all rows up to it, to the bit."""
    balanced = small(
        MiniBatchClassifier, hidden_layer_sizes=hidden, class_weight="balanced"
    )
    plain = clone(balanced).set_params(class_weight=None)
    n_seen, classes = 0, [*np.unique(labels), type(labels[0])(9)]
    for rows, y, w in pieces(X, labels, weight):
        n_seen += len(y)
        seen = labels[:n_seen]
        of_class = compute_class_weight(
            "balanced", classes=np.unique(seen), y=seen, sample_weight=weight[:n_seen]
        )
        of_rows = of_class[np.searchsorted(np.unique(seen), y)]
        balanced.partial_fit(rows, y, classes, w)
        plain.partial_fit(rows, y, classes, of_rows * w)
        assert state_but_for_seen(balanced) == state_but_for_seen(plain)
        balanced = pickle.loads(pickle.dumps(balanced))


def test_a_stream_balances_several_labels():
    """A row counts the product over its labels, of all rows up to it."""
    balanced = small(MiniBatchClassifier, class_weight="balanced")
    plain, n_seen = small(MiniBatchClassifier), 0
    for rows, y in pieces(X, LABELS):
        n_seen += len(y)
        of_rows = compute_sample_weight("balanced", LABELS[:n_seen])[-len(y) :]
        balanced.partial_fit(rows, y)
        plain.partial_fit(rows, y, sample_weight=of_rows)
        assert state_but_for_seen(balanced) == state_but_for_seen(plain)


def test_a_stream_goes_on_balancing_what_a_fit_has_seen():
    """Its rows count in the weights of the calls that follow, while they balance."""
    fitted = small(MiniBatchClassifier, class_weight="balanced").fit(X, two_classes)
    names = np.unique(two_classes)
    of_class = compute_class_weight(
        "balanced", classes=names, y=np.r_[two_classes, two_classes[:7]]
    )
    given = dict(zip(names, of_class, strict=True))
    other = deepcopy(fitted).set_params(class_weight=given)
    one = fitted.partial_fit(X[:7], two_classes[:7])
    other.partial_fit(X[:7], two_classes[:7])
    assert state_but_for_seen(one) == state_but_for_seen(other)
    other.set_params(class_weight="balanced").partial_fit(X[7:], two_classes[7:])
    [seen] = other._targets_["seen"]  # from here on again
    assert seen.tolist() == [(two_classes[7:] == c).sum() for c in names]


def test_a_chunk_that_does_not_count_balances_nothing():
    """Rows of weight 0 are no rows of their class, anywhere in a stream."""
    one, classes = small(MiniBatchClassifier, class_weight="balanced"), ["no", "yes"]
    other = clone(one)
    one.partial_fit(X[:9], two_classes[:9], classes, 0 * WEIGHT[:9])
    for model in (one, other):
        model.partial_fit(X, two_classes, classes)
    assert fitted_state(one) == fitted_state(other)
    one.partial_fit(X[:9], two_classes[:9], sample_weight=0 * WEIGHT[:9])
    assert fitted_state(one) == fitted_state(other)


# Single rows


@pytest.mark.parametrize("weight", [0.5, 3.0])
@pytest.mark.parametrize(
    ("cls", "y", "classes"),
    [
        (MiniBatchRegressor, y, {}),
        (MiniBatchClassifier, two_classes, {"classes": ["no", "yes"]}),
        (MiniBatchClassifier, three_classes, {"classes": np.unique(three_classes)}),
    ],
    ids=["regression", "two classes", "three classes"],
)
def test_the_weight_of_a_single_row_scales_its_step(cls, y, classes, weight):
    """In batches of one, a weight is a factor of the learning rate."""
    params = {"optimizer": "sgd", "alpha": 0, "batch_size": 1, "shuffle": False}
    weighted = small(cls, lr=0.01, **params)
    faster = small(cls, lr=0.01 * weight, **params)
    weights = np.full(N_ROWS, weight)
    weighted.partial_fit(X, y, sample_weight=weights, **classes)
    faster.partial_fit(X, y, **classes)
    assert_same_layers(weighted, faster, rtol=1e-12)


def test_a_row_of_no_weight_takes_no_step():
    """In batches of one, rows of weight 0 leave the weights where they are."""
    params = {"optimizer": "sgd", "alpha": 0, "batch_size": 1, "shuffle": False}
    weight = np.arange(N_ROWS) % 2 == 0
    some = small(MiniBatchRegressor, **params).partial_fit(X, y, weight.astype(float))
    alone = small(MiniBatchRegressor, **params).partial_fit(X[weight], y[weight])
    assert_same_layers(some, alone, rtol=1e-12)
    assert (some.t_, alone.t_) == (60, 30)
