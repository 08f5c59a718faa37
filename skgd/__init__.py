"""Mini-batch gradient descent for scikit-learn: linear models and neural networks."""

from skgd._displays.curves import LossCurveDisplay
from skgd._displays.rates import LearningRateDisplay
from skgd._displays.searched import SearchDisplay
from skgd._displays.surface import LossSurfaceDisplay
from skgd._estimators.blocks import Blocks
from skgd._estimators.callbacks import Trajectory, WeightTrajectory
from skgd._estimators.classifier import MiniBatchClassifier
from skgd._estimators.parallel import data_parallel
from skgd._estimators.regressor import MiniBatchRegressor
from skgd._estimators.versions import VERSION as _VERSION
from skgd._machine.files import write_atomically
from skgd._onnx.export import register_onnx, to_onnx
from skgd._search.grouping import Group
from skgd._search.searches import (
    VectorizedGridSearchCV,
    VectorizedHalvingGridSearchCV,
    VectorizedHalvingRandomSearchCV,
    VectorizedRandomizedSearchCV,
)

__version__ = _VERSION

__all__ = [
    "Blocks",
    "Group",
    "LearningRateDisplay",
    "LossCurveDisplay",
    "LossSurfaceDisplay",
    "MiniBatchClassifier",
    "MiniBatchRegressor",
    "SearchDisplay",
    "Trajectory",
    "VectorizedGridSearchCV",
    "VectorizedHalvingGridSearchCV",
    "VectorizedHalvingRandomSearchCV",
    "VectorizedRandomizedSearchCV",
    "WeightTrajectory",
    "data_parallel",
    "register_onnx",
    "to_onnx",
    "write_atomically",
]
