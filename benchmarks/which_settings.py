"""Compare settings of a linear classifier on noisy data, where a constant rate wavers.

    python benchmarks/which_settings.py

50,000 rows of ``make_classification``, a quarter of them held out; the log loss and the
accuracy are of these, and LogisticRegression's are the mark.
"""

import time
import warnings

from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgd import MiniBatchClassifier

SETTINGS = {
    "default parameters": {},
    "constant rate": {"lr_schedule": "constant"},
    "constant rate, average=True": {"lr_schedule": "constant", "average": True},
    "cosine, 20 epochs": {"lr_schedule": "cosine", "max_iter": 20, "tol": None},
    "batch_size=1024": {"batch_size": 1024},
    'optimizer="sgd"': {"optimizer": "sgd"},
}


def main() -> None:
    """Fit each, and print how well it does on held-out rows."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    X, y = make_classification(
        50_000, 50, n_informative=20, n_classes=3, random_state=0
    )
    X, X_test, y, y_test = train_test_split(X, y, random_state=0)
    models = {"LogisticRegression": LogisticRegression()}
    for name, params in SETTINGS.items():
        models[name] = MiniBatchClassifier(random_state=0, **params)
    print("| settings | log loss | accuracy | seconds |\n|---|---|---|---|")
    for name, model in models.items():
        fitted = make_pipeline(StandardScaler(), model)
        began = time.perf_counter()
        fitted.fit(X, y)
        seconds = time.perf_counter() - began
        loss = log_loss(y_test, fitted.predict_proba(X_test))
        accuracy = fitted.score(X_test, y_test)
        print(f"| {name} | {loss:.3f} | {accuracy:.3f} | {seconds:.2f} |")


if __name__ == "__main__":
    main()
