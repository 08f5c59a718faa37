"""The estimators and searches, as skl2onnx asks for them.

Of a model, skl2onnx first wants the variables that it gives (a parser), then their
types (a shape calculator), then the nodes that compute them (a converter). To it, our
searches are GridSearchCV. As of skl2onnx 1.20, whose private names this room alone
imports.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto
from skl2onnx import get_model_alias, update_registered_converter
from skl2onnx._parse import _parse_sklearn_classifier as parse_with_probabilities
from skl2onnx._parse import _parse_sklearn_grid_search_cv as parse_grid_search
from skl2onnx.common.data_types import (
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)
from skl2onnx.common.utils_classifier import get_label_classes
from skl2onnx.operator_converters.grid_search_cv import (
    convert_sklearn_grid_search_cv as convert_grid_search,
)
from skl2onnx.shape_calculators.grid_search_cv import (
    convert_sklearn_grid_search_cv as shapes_of_grid_search,
)
from sklearn.model_selection import GridSearchCV
from sklearn.utils.validation import check_is_fitted

from skgd._estimators.classifier import MiniBatchClassifier
from skgd._estimators.members import members_of
from skgd._estimators.regressor import MiniBatchRegressor
from skgd._estimators.targets import Classes, known_targets
from skgd._estimators.weights import layers_in_units_of_y
from skgd._machine.arrays import Array
from skgd._onnx.equations import (
    ACTIVATIONS,
    INVERSE_LINKS,
    JOINTS,
    Function,
    label_of,
    labels_of,
    mean,
    raw_prediction,
    shares,
    with_both_classes,
    without_crossings,
)
from skgd._onnx.nodes import Node, nodes_in
from skgd._search.searches import (
    VectorizedGridSearchCV,
    VectorizedHalvingGridSearchCV,
    VectorizedHalvingRandomSearchCV,
    VectorizedRandomizedSearchCV,
)

_SEARCHES = [
    VectorizedGridSearchCV,
    VectorizedHalvingGridSearchCV,
    VectorizedHalvingRandomSearchCV,
    VectorizedRandomizedSearchCV,
]

# How numbers of a type are called elsewhere.
_DTYPES = {FloatTensorType: np.float32, DoubleTensorType: np.float64}
_PROTO_TYPES = {
    FloatTensorType: TensorProto.FLOAT,
    DoubleTensorType: TensorProto.DOUBLE,
}

# What may be asked of a classifier, as of those of scikit-learn.
_OPTIONS = {
    "nocl": [True, False],
    "output_class_labels": [False, True],
    "raw_scores": [True, False],
    "zipmap": [True, False, "columns"],
}


def register() -> None:
    """Let skl2onnx know the estimators and searches."""
    update_registered_converter(
        MiniBatchRegressor, "SkgdRegressor", _shapes_of_regressor, _convert_regressor
    )
    update_registered_converter(
        MiniBatchClassifier,
        "SkgdClassifier",
        _shapes_of_classifier,
        _convert_classifier,
        parser=_parse_classifier,
        options=_OPTIONS,
    )
    for search in _SEARCHES:
        update_registered_converter(
            search,
            get_model_alias(GridSearchCV),
            shapes_of_grid_search,
            convert_grid_search,
            parser=parse_grid_search,
            options="passthrough",
        )


def _parse_classifier(
    scope: Any, model: Any, inputs: list[Any], custom_parsers: Any = None
) -> list[Any]:
    """Return the variables that a classifier gives: labels, and what they go by."""
    check_is_fitted(model)
    if _inverse_link(model) is not None:
        outputs: list[Any] = parse_with_probabilities(
            scope, model, inputs, custom_parsers=custom_parsers
        )
        return outputs
    operator = scope.declare_local_operator(get_model_alias(type(model)), model)
    operator.inputs = inputs
    for name in ("label", "scores"):
        operator.outputs.append(scope.declare_local_variable(name, FloatTensorType()))
    return list(operator.outputs)


def _shapes_of_regressor(operator: Any) -> None:
    """Say of what type and shape the predictions are: (b, o), o = 1 included."""
    model = operator.raw_operator
    _check(model, operator.inputs)
    n_rows = operator.inputs[0].get_first_dimension()
    numbers = _numbers_of(operator.inputs)
    targets = known_targets(model)
    assert targets is not None  # it is fitted
    operator.outputs[0].set_type(numbers([n_rows, targets.n_outputs]))


def _shapes_of_classifier(operator: Any) -> None:
    """Say of what type and shape the labels are, and what they go by."""
    model = operator.raw_operator
    _check(model, operator.inputs)
    n_rows = operator.inputs[0].get_first_dimension()
    labels = _labels(operator.scope_inst, model)
    several = _classes(model).several_a_row
    shape = [n_rows, len(labels)]
    of_labels = Int64TensorType if labels.dtype == np.int64 else StringTensorType
    operator.outputs[0].set_type(of_labels(shape if several else [n_rows]))
    operator.outputs[1].set_type(_numbers_of(operator.inputs)(shape))


def _convert_regressor(scope: Any, operator: Any, container: Any) -> None:
    """Add the nodes of the predictions."""
    model = operator.raw_operator
    node, several = _raw_predictions(scope, operator, container)
    inverse_link = _inverse_link(model)
    assert inverse_link is not None  # every loss of numbers has one
    predicted = mean(node, [inverse_link(node, z) for z in several])
    node("Identity", predicted, output=operator.outputs[0].full_name)


def _convert_classifier(scope: Any, operator: Any, container: Any) -> None:
    """Add the nodes of the labels, and of the probabilities or scores."""
    model = operator.raw_operator
    label, scores = (variable.full_name for variable in operator.outputs)
    node, several = _raw_predictions(scope, operator, container)
    classes, labels = _classes(model), _labels(scope, model)
    z = _joint(node, model, several)
    if classes.several_a_row:
        labels_of(node, z, label)
    else:
        z = with_both_classes(node, z) if classes.n_outputs == 1 else z
        label_of(node, z, labels, label)
    inverse_link = _inverse_link(model)
    raw_scores = container.get_options(model, {"raw_scores": False})["raw_scores"]
    if inverse_link is not None and not raw_scores:
        z = inverse_link(node, z)
        if classes.is_one_against_rest(model.loss):
            z = shares(node, z, len(labels))
    node("Identity", z, output=scores)


def _joint(node: Node, model: Any, several: Sequence[str]) -> str:
    """Return the scores of a classifier, given those of its models."""
    if len(several) == 1:
        return several[0]
    classes, inverse_link = _classes(model), _inverse_link(model)
    if inverse_link is not None and classes.is_one_against_rest(model.loss):
        n = len(classes.labels)
        p = mean(node, [shares(node, inverse_link(node, z), n) for z in several])
        return node("Sub", node("Mul", p, 2.0), 1.0)
    return JOINTS.get(classes.loss_entry(model.loss), mean)(node, several)


def _raw_predictions(
    scope: Any, operator: Any, container: Any
) -> tuple[Node, list[str]]:
    """Add the nodes of each model's z; return what adds more of them, and their names.

    Those of an ensemble are several.
    """
    model, inputs = operator.raw_operator, operator.inputs
    numbers = _numbers_of(inputs)
    node = nodes_in(scope, container, _DTYPES[numbers])
    columns = [
        variable.full_name
        if isinstance(variable.type, numbers)
        else node("Cast", variable.full_name, to=_PROTO_TYPES[numbers])
        for variable in inputs
    ]
    x = node("Concat", *columns, axis=1) if len(columns) > 1 else columns[0]
    activation = ACTIVATIONS[model.activation](model.negative_slope)
    return node, [
        raw_prediction(node, x, layers_in_units_of_y(one), activation)
        for one in members_of(model)
    ]


def _inverse_link(model: Any) -> Function | None:
    """Return what makes a prediction of z, if there is such a thing."""
    targets = known_targets(model)
    assert targets is not None  # it is fitted
    quantiles = None if isinstance(targets, Classes) else targets.quantiles
    if quantiles is not None and model.loss == "quantile":
        return without_crossings(quantiles)
    return INVERSE_LINKS[targets.loss_entry(model.loss)]


def _classes(model: Any) -> Classes:
    """Return what a classifier has learnt of y."""
    classes = known_targets(model)
    assert isinstance(classes, Classes)
    return classes


def _labels(scope: Any, model: Any) -> Array:
    """Return the labels as a graph can give them, ints or text, or raise ValueError."""
    labels = np.asarray(get_label_classes(scope, model))
    if labels.dtype.kind not in "biuf":
        return labels
    numbers = labels.astype(np.int64)
    if not np.array_equal(numbers, labels):
        msg = (
            "classes_ must be text, bools or ints of 64 bits, for ONNX has no other "
            f"labels. Got {labels[numbers != labels][0]}; fit with others."
        )
        raise ValueError(msg)
    return numbers


def _numbers_of(inputs: Sequence[Any]) -> Any:
    """Return the type to compute in: float64 if a column is, else float32."""
    double = any(isinstance(one.type, DoubleTensorType) for one in inputs)
    return DoubleTensorType if double else FloatTensorType


def _check(model: Any, inputs: Sequence[Any]) -> None:
    """Refuse a model that is not fitted, and columns that it was not fitted on."""
    check_is_fitted(model)
    name = type(model).__name__
    if any(isinstance(variable.type, StringTensorType) for variable in inputs):
        msg = (
            f"X must be numbers where it comes to {name}. Got text; encode it in a "
            "Pipeline, by OneHotEncoder for example."
        )
        raise ValueError(msg)
    widths = [variable.get_second_dimension() for variable in inputs]
    if None not in widths and sum(widths) != model.n_features_in_:
        msg = (
            f"X must have {model.n_features_in_} columns, as {name} was fitted on. Got "
            f"{sum(widths)}."
        )
        raise ValueError(msg)
    names = [variable.raw_name for variable in inputs]
    known = list(getattr(model, "feature_names_in_", names))
    if len(names) > 1 and names != known:
        got, wanted = next(
            pair for pair in zip(names, known, strict=True) if len({*pair}) > 1
        )
        msg = (
            f"The columns of X must be those that {name} was fitted on, in their "
            f"order. Got {got!r} in place of {wanted!r}; use X[feature_names_in_]."
        )
        raise ValueError(msg)
