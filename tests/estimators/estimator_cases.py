"""What tests of the two estimators share: targets, and losses by scikit-learn."""

from conftest import TASKS, Y
from sklearn import metrics

from skgd import MiniBatchRegressor

y = Y[:, 0]
two_classes, three_classes = TASKS["two classes"][1], TASKS["three classes"][1]

AS_THEY_ARE = {MiniBatchRegressor: {"normalize_y": False}}  # the targets, as of peers


def loss_by_scikit_learn(model, rows, y):
    """Return the mean loss of a fitted model by scikit-learn's metrics."""
    if isinstance(model, MiniBatchRegressor):
        errors = metrics.mean_squared_error(
            y, model.predict(rows), multioutput="raw_values"
        )
        return errors.sum() / 2
    return metrics.log_loss(y, model.predict_proba(rows), labels=model.classes_)
