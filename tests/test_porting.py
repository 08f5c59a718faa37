"""docs/porting.md: its names are parameters, and its settings do what the peers do."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import scale

from skgd import MiniBatchClassifier, MiniBatchRegressor

PAGE = (Path(__file__).parents[1] / "docs" / "porting.md").read_text()
OURS = MiniBatchClassifier, MiniBatchRegressor
COLUMNS = {
    "skgd": OURS,
    "SGD": (SGDClassifier, SGDRegressor),
    "MLP": (MLPClassifier, MLPRegressor),
}
ROWS = 400  # two batches of 200
SETTINGS = {  # the peers whose defaults they reproduce
    "sgd_classifier": SGDClassifier(),
    "sgd_regressor": SGDRegressor(),
    "mlp_classifier": MLPClassifier(),
    "mlp_regressor": MLPRegressor(),
}


def table():
    """Return the rows of the table, each a dict from the column to its words."""
    lines = [line for line in PAGE.splitlines() if line.startswith("|")]
    head, _, *rows = (
        [cell.strip() for cell in line[1:-1].split("|")] for line in lines
    )
    return [dict(zip(head, row, strict=True)) for row in rows]


def names(column):
    """Return what stands in a column as code."""
    return [name for row in table() for name in re.findall(r"`([^`]+)`", row[column])]


def parameters(classes):
    return {name for cls in classes for name in cls().get_params()}


def settings():
    """Return the estimators that the page makes, by name."""
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    made = {}
    exec(compile(code, "porting.md", "exec"), made)
    return {name: model for name, model in made.items() if isinstance(model, OURS)}


def standardised(peer):
    """Return rows and targets for it."""
    is_classifier = isinstance(peer, SGDClassifier | MLPClassifier)
    load = load_breast_cancer if is_classifier else load_diabetes
    X, y = load(return_X_y=True)
    return scale(X)[:ROWS], (y if is_classifier else scale(y))[:ROWS]


def fitted(model, X, y, **start):
    """Return a copy that is fitted, whether or not it settles."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return clone(model).fit(X, y, **start)


def starting_weights(peer, X, y):
    """Return the weights that a network of scikit-learn draws, as arguments of fit."""
    if isinstance(peer, SGDClassifier | SGDRegressor):
        return {}
    drawn = clone(peer).set_params(learning_rate_init=1e-300, max_iter=1)
    drawn = fitted(drawn, X, y)
    return {"coefs_init": drawn.coefs_, "intercepts_init": drawn.intercepts_}


def weights(model):
    """Return all weights and biases of a fitted estimator in a row."""
    arrays = (
        [*model.coefs_, *model.intercepts_]
        if hasattr(model, "coefs_")
        else [model.coef_, model.intercept_]
    )
    return np.concatenate([array.ravel() for array in arrays])


@pytest.mark.parametrize("column", COLUMNS)
def test_the_names_in_a_column_are_parameters(column):
    """What the table calls a parameter is one, of one of the two classes at least."""
    assert names(column)
    assert set(names(column)) <= parameters(COLUMNS[column])


def test_all_of_our_parameters_have_a_row():
    """The table is complete, and names none of them twice."""
    assert sorted(names("skgd")) == sorted(parameters(OURS))


@pytest.mark.parametrize("column", ["SGD", "MLP"])
def test_the_peers_parameters_are_all_there(column):
    """Who looks up a parameter of scikit-learn's finds it."""
    assert set(names(column)) == parameters(COLUMNS[column])


def test_the_page_makes_an_estimator_for_every_peer():
    """The four of scikit-learn are compared below; the others are made and named."""
    others = "skorch_classifier skorch_regressor mbsgd_classifier mbsgd_regressor"
    assert settings().keys() == {*SETTINGS, *others.split()}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_settings_reproduce_the_peers_defaults(name):
    """Rows in order and from the same weights, both train alike, and stop alike."""
    params = {"shuffle": False, "random_state": 0}
    peer = clone(SETTINGS[name]).set_params(**params)
    model = settings()[name].set_params(**params)
    if name.startswith("mlp"):  # rounding and the penalty part them in the long run
        for each in (peer, model):
            each.set_params(max_iter=10)
    X, y = standardised(peer)
    model = fitted(model, X, y, **starting_weights(peer, X, y))
    peer = fitted(peer, X, y)
    assert model.n_iter_ == peer.n_iter_
    off = np.linalg.norm(weights(model) - weights(peer))
    assert off < 1e-3 * np.linalg.norm(weights(peer))


@pytest.mark.parametrize("name", SETTINGS)
def test_the_settings_wait_as_long_as_the_peers(name):
    """Without any progress by so much, both stop after as many epochs."""
    peer = clone(SETTINGS[name]).set_params(tol=100)
    model = settings()[name].set_params(tol=100)
    X, y = standardised(peer)
    assert model.fit(X, y).n_iter_ == peer.fit(X, y).n_iter_


def test_squared_hinge_at_optimal_rates_needs_a_cut_gradient():
    """It diverges here, where SGDClassifier cuts the derivative, unless we cut too."""
    X, y = standardised(SGDClassifier())
    model = settings()["sgd_classifier"].set_params(loss="squared_hinge", tol=None)
    model.set_params(max_iter=5, random_state=0)
    with pytest.raises(ValueError, match="diverged"):
        clone(model).fit(X, y)
    peer = SGDClassifier(loss="squared_hinge", max_iter=5, tol=None, random_state=0)
    assert peer.fit(X, y).score(X, y) > 0.9
    assert model.set_params(max_grad_norm=1).fit(X, y).score(X, y) > 0.9


def test_the_loss_of_several_targets_is_their_sum():
    """MLPRegressor tells the mean over the targets, though its steps are the same."""
    X, y = standardised(MLPRegressor())
    Y = np.column_stack([y, y**2, X[:, 0]])
    peer = MLPRegressor(max_iter=3, tol=0, shuffle=False, random_state=0, alpha=0)
    model = settings()["mlp_regressor"].set_params(max_iter=3, tol=None, shuffle=False)
    model.set_params(alpha=0).fit(X, Y, **starting_weights(peer, X, Y))
    mean_losses = np.array(fitted(peer, X, Y).loss_curve_)
    np.testing.assert_allclose(model.loss_curve_, 3 * mean_losses, rtol=1e-5)
