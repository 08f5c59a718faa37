"""docs/porting.md: its names are parameters, and its settings do what the peers do."""

import pickle
import re
import warnings
from copy import copy, deepcopy
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import scale

from skgd import MiniBatchClassifier, MiniBatchRegressor
from skgd._estimators.peers import OF_OTHER_METHODS, PEERS

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


def rows_of_peers():
    """Return for each name that is not ours the names of ours in the rows it is in."""
    ours = {}
    for row in table():
        for column in ("SGD", "MLP", "skorch", "cuML"):
            for name in set(re.findall(r"`([^`]+)`", row[column])) - parameters(OURS):
                ours.setdefault(name, []).append(re.findall(r"`([^`]+)`", row["skgd"]))
    return ours


def test_errors_know_the_names_of_the_page():
    """All that are not ours as well, and those that the page names above its table."""
    head = PAGE.split("\n|")[0]
    above = {name for name in PEERS if f"`{name}`" in head}
    of_ensembles = {"n_estimators", "quantiles"}
    of_boosting = {"eval_set", "quantile_alpha", "tweedie_variance_power"}
    assert above == {"C", *of_ensembles, *of_boosting}
    assert PEERS.keys() == rows_of_peers().keys() | above


@pytest.mark.parametrize("name", rows_of_peers())
def test_errors_say_what_the_page_says(name):
    """Of each row in which a name stands, they tell a parameter of ours."""
    words = set(re.findall(r"\w+", PEERS[name].removeprefix(name)))
    rows = [row for row in rows_of_peers()[name] if row]
    assert all(words & set(row) for row in rows)
    assert rows or "no counterpart" in PEERS[name]


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("cls", OURS)
def test_a_name_of_a_peers_is_explained(cls, name):
    """The constructor, set_params and fit say what it is called; nothing changes."""
    model, peer = cls(lr=0.5), {name: 0.1}
    message = f"takes no '{name}': {re.escape(PEERS[name])}[.]$"
    with pytest.raises(TypeError, match=f"^{cls.__name__} {message}"):
        cls(**peer)
    with pytest.raises(ValueError, match=f"^{cls.__name__} {message}"):
        make_pipeline(model).set_params(**{f"{cls.__name__.lower()}__{name}": 0.1})
    with pytest.raises(ValueError, match=message):
        model.set_params(lr=0.1, **peer)
    with pytest.raises(TypeError, match=f"^{cls.__name__}.fit {message}"):
        model.fit([[0.0]], [0.0], **peer)
    assert model.get_params() == cls(lr=0.5).get_params()


@pytest.mark.parametrize("name", OF_OTHER_METHODS)
@pytest.mark.parametrize("cls", OURS)
def test_an_argument_of_another_method_is_explained(cls, name):
    """The constructor and set_params say whose it is; and it is one there."""
    message = f"takes no '{name}': {re.escape(OF_OTHER_METHODS[name])}[.]$"
    for method, error in ((cls, TypeError), (cls().set_params, ValueError)):
        with pytest.raises(error, match=message):
            method(**{name: "run.skgd"})
    whose = MiniBatchRegressor.predict if name == "return_std" else cls.fit
    assert name in signature(whose).parameters
    assert re.search(rf" of (\w+\.)?{whose.__name__}\b", OF_OTHER_METHODS[name])


def test_several_names_are_explained_at_once():
    """One error is enough for a line that was pasted."""
    with pytest.raises(TypeError, match=r"no 'eta0' and no 'n_jobs': eta0 is lr here"):
        MiniBatchClassifier(eta0=0.1, n_jobs=2)


@pytest.mark.parametrize(
    ("value", "word"), [("hinge", "loss"), ((10,), "hidden_layer_sizes")]
)
def test_a_parameter_without_its_name_is_told_one(value, word):
    """SGDClassifier and MLPClassifier take their first one so."""
    with pytest.raises(TypeError, match=re.escape(f"write, say, {word}={value!r}.")):
        MiniBatchClassifier(value)


def test_other_names_are_left_to_python_and_scikit_learn():
    """Unknown ones get their usual sentences."""
    with pytest.raises(TypeError, match="got an unexpected keyword argument 'learn'"):
        MiniBatchRegressor(learn=0.1)
    with pytest.raises(
        TypeError, match=r"Regressor.fit\(\) got an unexpected .* 'learn'"
    ):
        MiniBatchRegressor().fit([[0.0]], [0.0], learn=0.1)
    with pytest.raises(ValueError, match="Invalid parameter 'learn' for estimator"):
        MiniBatchRegressor().set_params(learn=0.1)


class Penalised(MiniBatchRegressor):
    """A subclass with a parameter that a peer has, and one that may go unnamed."""

    def __init__(self, penalty=1, *, lr=0.01):
        super().__init__(lr=lr)
        self.penalty = penalty


def test_a_subclass_may_have_a_name_of_a_peers():
    """Its own constructor says what it takes, for copies, clones and pickles too."""
    model = Penalised(2, lr=0.5)
    copies = (
        clone(model),
        copy(model),
        deepcopy(model),
        pickle.loads(pickle.dumps(model)),
    )
    for one in (*copies, Penalised(penalty=0, lr=0.5).set_params(penalty=2)):
        assert (one.penalty, one.lr) == (2, 0.5)
    assert list(signature(Penalised).parameters) == ["penalty", "lr"]
    with pytest.raises(TypeError, match="eta0 is lr here"):
        Penalised(eta0=1)


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


ROWS_OF_THE_TABLE = {  # what they call it, what it is here: of SGD, and of MLP
    "sgd_regressor": [
        ({"loss": "huber", "epsilon": 0.2}, {"loss": "huber", "delta": 0.2}),
        (
            {"loss": "squared_epsilon_insensitive", "epsilon": 0.2},
            {"loss": "squared_epsilon_insensitive", "delta": 0.2},
        ),
        ({"average": 100}, {"average": 100}),
        ({"fit_intercept": False}, {"fit_intercept": False}),
        ({"learning_rate": "adaptive"}, {"lr_schedule": "adaptive"}),
        ({"penalty": None}, {"alpha": 0}),
    ],
    "sgd_classifier": [
        ({"loss": "log_loss", "class_weight": "balanced"},) * 2,
        ({"loss": "modified_huber"},) * 2,
    ],
    "mlp_regressor": [
        (
            {"solver": "sgd", "momentum": 0.5, "nesterovs_momentum": False},
            {"optimizer": "sgd", "momentum": 0.5},
        ),
        ({"solver": "sgd"}, {"optimizer": "sgd", "momentum": 0.9, "nesterov": True}),
        ({"beta_1": 0.5, "beta_2": 0.9},) * 2,
        ({"activation": "tanh"},) * 2,
        ({"activation": "logistic"},) * 2,
        (  # with Adam, the penalty is another one
            {"solver": "sgd", "momentum": 0, "batch_size": 50, "alpha": 1.0},
            {"optimizer": "sgd", "batch_size": 50, "alpha": 1 / 50},
        ),
    ],
}


@pytest.mark.parametrize(
    ("name", "theirs", "ours"),
    [(name, *row) for name, rows in ROWS_OF_THE_TABLE.items() for row in rows],
)
def test_a_row_of_the_table_says_the_same_of_both(name, theirs, ours):
    """Set as it says, both take the same steps for some epochs."""
    short = {"shuffle": False, "random_state": 0, "max_iter": 5}
    peer, model = clone(SETTINGS[name]), settings()[name]
    if name.startswith("sgd"):  # at rates so small that nothing is cut
        peer.set_params(tol=None, learning_rate="constant", eta0=1e-3)
        model.set_params(lr_schedule="constant", lr=1e-3)
    else:
        peer.set_params(tol=0)
    peer.set_params(**short, **theirs)
    model.set_params(tol=None, **short, **ours)
    X, y = standardised(peer)
    start = starting_weights(peer, X, y)
    begun = fitted(model.set_params(max_iter=1), X, y, **start)
    model = fitted(model.set_params(max_iter=5), X, y, **start)
    peer = fitted(peer, X, y)
    off = np.linalg.norm(weights(model) - weights(peer))
    assert off < 1e-3 * np.linalg.norm(weights(model) - weights(begun))


def test_c_is_the_alpha_that_is_told():
    """LogisticRegression ends where alpha = 1 / (C * n) does."""
    X, y = standardised(SGDClassifier())
    peer = LogisticRegression(C=0.1, tol=1e-8).fit(X, y)
    model = MiniBatchClassifier(alpha=1 / (0.1 * len(X)), batch_size=None, lr=0.1)
    model.set_params(lr_schedule="cosine", tol=None, max_iter=500).fit(X, y)
    np.testing.assert_allclose(weights(model), weights(peer), atol=1e-5)


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
