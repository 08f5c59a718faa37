"""What scikit-learn does under SCIPY_ARRAY_API=1; test_array_api runs these apart."""

import numpy as np
import pytest
import torch
from conftest import WEIGHT, X, Y, every_class, fitted_state, small
from sklearn import config_context
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from skgd import MiniBatchClassifier, MiniBatchRegressor

LABELS = np.digitize(Y[:, 0], [2, 4]) - 1
TARGET = {MiniBatchRegressor: Y[:, 0], MiniBatchClassifier: LABELS}
METHODS = ["predict", "decision_function", "predict_proba", "predict_log_proba"]


@every_class
@pytest.mark.filterwarnings("ignore")  # the checks' data are few rows, few epochs
def test_every_check_of_scikit_learn_passes(cls):
    """With default parameters, none is skipped and none is expected to fail."""
    results = check_estimator(cls(), on_fail=None, on_skip=None)
    assert len(results) >= 60
    others = [one for one in results if one["status"] != "passed"]
    assert not [(one["check_name"], one["exception"]) for one in others]


@every_class
@pytest.mark.parametrize("device", ["cpu", "pretended"], indirect=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("targets", ["one", "several"])
def test_tensors_give_tensors_where_dispatch_is_on(cls, dtype, targets, device):
    """Predictions are tensors under dispatch and arrays otherwise, of equal numbers."""
    target = TARGET[cls] if targets == "one" else (Y > 3).astype(int)
    rows = torch.tensor(X, dtype=dtype).to(device)
    model = small(cls).fit(rows, torch.tensor(target).to(device))
    for name in METHODS if cls is MiniBatchClassifier else METHODS[:1]:
        array = getattr(model, name)(rows)
        with config_context(array_api_dispatch=True):
            tensor = getattr(model, name)(rows)
            assert type(getattr(model, name)(X)) is np.ndarray
        assert type(array) is np.ndarray
        assert isinstance(tensor, torch.Tensor)
        assert not tensor.requires_grad
        assert not tensor.is_inference()
        assert tensor.device == rows.device
        assert np.array_equal(tensor.cpu().numpy(), array)


def test_labels_that_are_text_stay_an_array():
    """There are no tensors of text."""
    with config_context(array_api_dispatch=True):
        model = small(MiniBatchClassifier).fit(
            torch.tensor(X), np.array(["a", "b"] * 30)
        )
        assert set(model.predict(torch.tensor(X))) <= {"a", "b"}


@every_class
@pytest.mark.parametrize("scoring", [None, "loss", "own"])
def test_dispatch_changes_no_fit(cls, scoring):
    """The fitted state is the same with and without it, early stopping included."""
    held_out = {}
    data = torch.tensor(X), torch.tensor(TARGET[cls]), torch.tensor(WEIGHT)
    if scoring == "own" and cls is MiniBatchClassifier:
        scoring = "roc_auc_ovr"  # which wants every class among the rows held out
        held_out = {"X_val": data[0], "y_val": data[1]}
    elif scoring == "own":
        scoring = "neg_mean_absolute_error"
    model = small(cls, early_stopping=True, scoring=scoring)
    alone = fitted_state(model.fit(*data, **held_out))
    with config_context(array_api_dispatch=True):
        assert fitted_state(model.fit(*data, **held_out)) == alone
        assert isinstance(model.score(*data), float)


@every_class
def test_pipelines_and_searches_take_tensors(cls):
    """A scaler and an estimator, and a search over them, give what arrays give."""
    pipeline = make_pipeline(StandardScaler(), small(cls))
    grid = {f"{cls.__name__.lower()}__lr": [0.01, 0.1]}
    search = GridSearchCV(pipeline, grid, cv=KFold(2), error_score="raise")
    arrays, tensors = (X, TARGET[cls]), (torch.tensor(X), torch.tensor(TARGET[cls]))
    expected = pipeline.fit(*arrays).predict(X)
    scores = search.fit(*arrays).cv_results_["mean_test_score"]
    with config_context(array_api_dispatch=True):
        predicted = pipeline.fit(*tensors).predict(tensors[0])
        assert isinstance(predicted, torch.Tensor)
        np.testing.assert_allclose(predicted, expected, rtol=1e-9)
        search.fit(*tensors)
        assert isinstance(search.predict(tensors[0]), torch.Tensor)
        folds = cross_val_score(small(cls), *tensors, cv=KFold(2), error_score="raise")
    # accuracies of tensors are computed in float32
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], scores, rtol=1e-6)
    assert np.isfinite(folds).all()
