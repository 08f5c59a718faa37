"""to_onnx, and the registration of the converters."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted


def register_onnx() -> None:
    """Let skl2onnx convert this package's estimators and searches.

    From then on, ``skl2onnx.to_onnx`` and ``skl2onnx.convert_sklearn`` take them
    wherever they take an estimator: alone, in a Pipeline, or in what combines models.
    A second call changes nothing. ``to_onnx`` makes the call by itself.

    Their classifiers give labels and probabilities, with the options of skl2onnx for
    those: zipmap, nocl, output_class_labels and raw_scores. With a loss that has no
    probabilities they give scores instead, one for each class: of two, the decision
    function and minus it.

    Returns
    -------
    None
        What is registered is skl2onnx's to keep.

    Raises
    ------
    ImportError
        If skl2onnx is not installed.
    """
    try:
        from skgd._onnx.converters import register
    except ImportError as error:
        msg = 'ONNX graphs are made with skl2onnx: pip install "skgd[onnx]".'
        raise ImportError(msg) from error
    register()


def to_onnx(model: Any, X: Any, *, target_opset: int | None = None) -> Any:
    """Return a fitted model as an ONNX graph, which predicts without Python.

    The graph computes what ``predict`` and ``predict_proba`` do, in the precision of X:
    float64 if a column of X is, and float32 otherwise. What comes out differs by
    rounding only.

    It gives a regressor's predictions, "variable" of shape (n_samples, n_targets), even
    for one target; and a classifier's "label" of shape (n_samples,), or (n_samples,
    n_labels) for several labels a row, and "probabilities" of shape (n_samples,
    n_classes). With a loss that has none, "scores" of this shape take their place: of
    two classes, the decision function is the last column, and minus it the first.

    Parameters
    ----------
    model : estimator
        An estimator or a search of this package, or a Pipeline of scikit-learn's with
        one at its end. Of a search it is the best estimator.
    X : ndarray or pandas.DataFrame of shape (n_samples, n_features)
        Rows such as the graph will be given. Only the dtypes, and the number of columns
        or their names, matter. Of an array, the graph has one input, "X"; of a frame,
        one input for every column, of shape (n_samples, 1).
    target_opset : int or None, default=None
        The version of ONNX's operators that the graph may use, for an older runtime.
        None is the latest that skl2onnx knows.

    Returns
    -------
    graph : onnx.ModelProto
        Its ``SerializeToString()`` is what a file holds and a runtime reads.

    Raises
    ------
    ImportError
        If skl2onnx is not installed.
    NotFittedError
        If the model is not fitted.
    TypeError, ValueError
        If X is sparse, or not such as the model was fitted on; or if labels are such as
        ONNX has none of.

    See Also
    --------
    register_onnx : For ``skl2onnx.to_onnx`` itself, and all its options.

    References
    ----------
    ONNX operators, https://onnx.ai/onnx/operators/; sklearn-onnx,
    https://onnx.ai/sklearn-onnx/.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skgd import MiniBatchRegressor, to_onnx
    >>> X, y = load_diabetes(return_X_y=True)
    >>> graph = to_onnx(MiniBatchRegressor(random_state=0).fit(X, y), X)
    >>> [output.name for output in graph.graph.output]
    ['variable']
    """
    register_onnx()
    from skl2onnx import to_onnx as converted

    check_is_fitted(model)
    best = _best_of(model)
    options = {id(best): {"zipmap": False}} if is_classifier(best) else None
    return converted(best, _rows(X), options=options, target_opset=target_opset)


def _best_of(model: Any) -> Any:
    """Return the best estimator of a search, and any other model as it is."""
    if hasattr(model, "best_estimator_") or not hasattr(model, "cv_results_"):
        return getattr(model, "best_estimator_", model)
    msg = (
        "A search must have a best estimator to be exported. Got "
        f"{type(model).__name__} with refit=False; refit, or export an estimator."
    )
    raise ValueError(msg)


# Of what numbers the inputs of a graph may be, by skl2onnx.
_NUMBERS = ["float32", "float64", "int64", "int32", "int8", "uint8", "bool"]


def _rows(X: Any) -> Any:
    """Return X as skl2onnx takes it, an array or a frame of pandas, or raise."""
    if issparse(X):
        msg = (
            "X must be an array or a pandas DataFrame. Got a sparse matrix, of which "
            "ONNX has none; give X[:1].toarray()."
        )
        raise TypeError(msg)
    if not (isinstance(X, np.ndarray) or hasattr(X, "iloc")):
        package, name = type(X).__module__.partition(".")[0], type(X).__name__
        msg = f"X must be an array or a pandas DataFrame. Got {package}.{name}."
        raise TypeError(msg)
    for dtype in [X.dtype] if isinstance(X, np.ndarray) else X.dtypes:
        if getattr(dtype, "kind", "O") in "fiu" and str(dtype) not in _NUMBERS:
            msg = (
                f"Numbers in X must be {', '.join(_NUMBERS[:-1])} or {_NUMBERS[-1]}. "
                f"Got {dtype}; convert X, and what the graph will be given."
            )
            raise TypeError(msg)
    return X
