"""Mini-batch gradient descent for scikit-learn: linear models and neural networks."""

from skgd._callbacks import WeightTrajectory
from skgd._displays import LossCurveDisplay, LossSurfaceDisplay
from skgd._estimators import MiniBatchClassifier, MiniBatchRegressor
from skgd._search import (
    VectorizedGridSearchCV,
    VectorizedHalvingGridSearchCV,
    VectorizedHalvingRandomSearchCV,
    VectorizedRandomizedSearchCV,
)
from skgd._versions import VERSION as _VERSION

__version__ = _VERSION

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
