"""Mini-batch gradient descent for scikit-learn: linear models and neural networks."""

from importlib.metadata import version as _version

from skgd._callbacks import WeightTrajectory
from skgd._displays import LossCurveDisplay, LossSurfaceDisplay
from skgd._estimators import MiniBatchClassifier, MiniBatchRegressor
from skgd._search import (
    VectorizedGridSearchCV,
    VectorizedHalvingGridSearchCV,
    VectorizedHalvingRandomSearchCV,
    VectorizedRandomizedSearchCV,
)

__version__ = _version("skgd")

__all__ = [
    "LossCurveDisplay",
    "LossSurfaceDisplay",
    "MiniBatchClassifier",
    "MiniBatchRegressor",
    "VectorizedGridSearchCV",
    "VectorizedHalvingGridSearchCV",
    "VectorizedHalvingRandomSearchCV",
    "VectorizedRandomizedSearchCV",
    "WeightTrajectory",
]
