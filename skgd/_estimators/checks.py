"""What data must be, and the sentence said when they are not.

Of scikit-learn's private helpers, those that check are imported here, those that its
searches are made of in ``evaluation`` and ``searches``, and none elsewhere.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import Parameter, signature
from itertools import pairwise
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

from skgd._estimators.parameters import (
    Rule,
    fits_a_float,
    hidden_units,
    is_real,
    shown,
)
from skgd._estimators.sklearn_private import check_sample_weight, check_y
from skgd._machine.arrays import Array

# A batch of so few rows is not what a fit runs out of memory for.
_FEW_ROWS = 1024

# What the targets must be for the losses that do not take every number.
TARGETS: Mapping[str, Rule] = {
    "gamma": Rule(lambda y: bool((y > 0).all()), "above 0"),
    "poisson": Rule(lambda y: bool((y >= 0).all()), "0 or more"),
    "tweedie": Rule(lambda y: bool((y >= 0).all()), "0 or more"),
}


def check_numeric(name: str, values: Any) -> Any:
    """Return the values, lists as an array.

    Dates, records and masks are refused: they would turn into numbers in silence.
    """
    check_given(name, values)
    of_arrow = hasattr(values, "to_pylist") and not hasattr(values, "schema")
    if isinstance(values, list | tuple) or of_arrow:
        values = np.asarray(values)
    check_unmasked(name, values)
    columns = columns_of(values) or [(None, getattr(values, "dtype", None))]
    for _, dtype in columns:
        temporal = getattr(dtype, "is_temporal", bool)()  # the word of polars
        temporal = temporal or str(dtype).startswith(("date", "time", "duration"))
        if temporal or getattr(dtype, "kind", "f") in "mMV":
            msg = f"{name} must hold numbers. Got dtype {dtype}; turn it into numbers."
            raise ValueError(msg)
    return values


def check_given(name: str, rows: Any) -> None:
    """Refuse None, which would be taken for a number that is missing."""
    if rows is None:
        msg = f"{name} must hold numbers, a row for each sample. Got None."
        raise ValueError(msg)


def columns_of(frame: Any) -> list[tuple[Any, Any]]:
    """Return the names and dtypes of the columns of a data frame, none of what is none.

    Frames of pandas and polars, and tables of pyarrow, have them.
    """
    if hasattr(frame, "columns") and hasattr(frame, "dtypes"):
        return list(zip(frame.columns, frame.dtypes, strict=True))
    if hasattr(frame, "column_names") and hasattr(frame, "schema"):
        return list(zip(frame.column_names, frame.schema.types, strict=True))
    return []


def check_unmasked(name: str, values: Any) -> None:
    """Refuse masked entries, for what is under the mask would be taken."""
    if np.ma.is_masked(values):
        n_masked = np.ma.getmaskarray(values).sum()
        msg = (
            f"{name} must have no masked entries. Got {n_masked} of them; fill them, "
            "or leave their rows out."
        )
        raise ValueError(msg)


def check_text(name: str, values: Any) -> None:
    """Refuse NumPy's text of variable width, which scikit-learn does not know."""
    if getattr(getattr(values, "dtype", None), "kind", "") == "T":
        msg = (
            f"{name} must be of a dtype that scikit-learn knows. Got {values.dtype}; "
            f"pass {name}.astype(object)."
        )
        raise TypeError(msg)


def check_places(name: str, matrix: Any) -> None:
    """Refuse a sparse matrix that has entries outside of its shape.

    What it says of itself is believed by SciPy and scikit-learn, which then read and
    write elsewhere in memory.
    """
    if matrix.format == "coo":
        places = list(enumerate(matrix.coords))
    elif matrix.format in ("csr", "csc", "bsr"):
        check_starts(name, matrix)
        along = 0 if matrix.format == "csc" else 1
        places = [(along, matrix.indices[: matrix.indptr[-1]])]
    else:  # the others hold no places, or SciPy has looked at them
        return
    for axis, indices in places:
        # A negative number is a large one without its sign: one pass finds both.
        unsigned = indices.view(indices.dtype.str.replace("i", "u"))
        block = matrix.blocksize[axis] if matrix.format == "bsr" else 1
        if len(indices) and unsigned.max() >= matrix.shape[axis] // block:
            place = int(indices[unsigned.argmax()]) * block
            msg = (
                f"{name} must have its entries in its shape, {matrix.shape}. Got one "
                f"in {('row', 'column')[axis]} {place}."
            )
            raise ValueError(msg)


def check_starts(name: str, matrix: Any) -> None:
    """Refuse a sparse matrix whose rows, or columns, are no pieces of its entries."""
    starts = matrix.indptr
    n_entries = min(len(matrix.indices), len(matrix.data))
    if starts[0] != 0 or starts[-1] > n_entries or (starts[1:] < starts[:-1]).any():
        msg = (
            f"{name} must have an indptr that rises from 0 to at most the {n_entries} "
            f"entries. Got {_listed(starts)}."
        )
        raise ValueError(msg)


@contextmanager
def conversion_of(name: str, values: Any = None) -> Iterator[None]:
    """Say in errors of the block which argument did not become numbers, and why.

    Numbers that are too large become infinite, and are then refused as such.
    """
    try:
        with np.errstate(all="ignore"):
            yield
    except OverflowError as error:  # of an int
        raise ValueError(f"{name} must hold numbers. Got: {error}.") from error
    except (TypeError, ValueError) as error:
        sentence = _sentence_about(name, values, str(error))
        if sentence:
            raise ValueError(sentence) from error
        if isinstance(error, TypeError):
            raise TypeError(f"{name} must hold numbers. Got: {error}") from error
        if name != "X" and name not in str(error):
            raise ValueError(f"In {name}: {error}") from error
        raise


def _sentence_about(name: str, values: Any, said: str) -> str:
    """Return what is wrong with an argument, or '' where what was said will do.

    NumPy, pandas and scikit-learn do not know the argument's name, or show all of it.
    """
    text = re.search(r"could not convert string to float: (?:np\.\w+\()?(.*)", said)
    if text:
        got = text[1].removesuffix(")")[:60]
        if name == "X":
            got += f"{_column_of_text(values)}; use sklearn.preprocessing.OneHotEncoder"
        return f"{name} must hold numbers. Got the text {got}."
    if "Complex data not supported" in said:
        return f"Complex data not supported: {name} must hold real numbers."
    if "NAType" in said or "NA is ambiguous" in said:
        return f"{name} must have no missing values. Got <NA>; fill or drop them."
    if "at least 1 dimension" in said:
        got = shown(values)[:60]
        return f"{name} must have an entry for every row of X. Got {got}."
    if said == "Input contains NaN":  # among objects
        return f"{name} must have no missing values. Got NaN; fill or drop them."
    shape = re.match(r"Found array with 0 .*?\(shape=(\(.*?\))\)", said)
    if shape and name != "X":
        return f"{name} must have an entry for every row of X. Got shape {shape[1]}."
    return ""


def _column_of_text(values: Any) -> str:
    """Return words that tell the first column that does not become numbers."""
    names = [column for column, _ in columns_of(values)]
    if not names:
        values = np.asarray(values)
        names = [*range(values.shape[1])] if values.ndim == 2 else []
    for column in names:
        part = values[:, column] if isinstance(values, np.ndarray) else values[column]
        try:
            np.asarray(part).astype(float)
        except (TypeError, ValueError):
            return f" in column {column!r}"
    return ""


def checked_targets(y: Any, n_rows: int, *, numeric: bool) -> Any:
    """Return the targets of so many rows as an array, or a sparse matrix."""
    if y is None:
        msg = (
            "fit requires y to be passed, but the target y is None; pass the targets, "
            "one for each row of X."
        )
        raise ValueError(msg)
    with conversion_of("y", y):
        targets = check_y(y, multi_output=True, y_numeric=numeric)
    if targets.shape[0] != n_rows:
        msg = (
            f"y must have a target for each of the {n_rows} rows of X. Got "
            f"{targets.shape[0]}, inconsistent numbers of samples."
        )
        raise ValueError(msg)
    return targets


def check_weights(name: str, weights: Any, n_rows: int) -> Array | None:
    """Return the weights as float64, or None; they are 0 or more."""
    if weights is None:
        return None
    with conversion_of(name):
        weight: Array = check_sample_weight(
            check_numeric(name, weights),
            np.empty((n_rows, 1)),
            dtype=np.float64,
            ensure_non_negative=True,
            allow_all_zero_weights=True,
        )
        total = weight.sum()
    if not np.isfinite(total):
        msg = (
            f"{name} must have a finite sum. Got {total}; only the proportions of its "
            "numbers matter in fit, so divide them by the largest."
        )
        raise ValueError(msg)
    return weight


def check_any_counts(name: str, weights: Array | None) -> None:
    """Refuse weights by which nothing counts."""
    if weights is not None and not weights.any():
        msg = (
            f"{name} must hold at least one non-zero number. Got only zeros, by which "
            "nothing would be learned; leave it out, or raise some."
        )
        raise ValueError(msg)


def check_held_out(X_val: Any, y_val: Any, sample_weight_val: Any) -> None:
    """Refuse a part of a held-out set without the rest of it."""
    parts = {"X_val": X_val, "y_val": y_val}
    missing = [name for name, part in parts.items() if part is None]
    if len(missing) == 1 or (missing and sample_weight_val is not None):
        msg = (
            f"X_val and y_val must be given together. Got no {' and no '.join(missing)}"
            "; give both, or neither and no sample_weight_val."
        )
        raise ValueError(msg)


def too_large(estimator: Any, n_rows: int, n_features: int, n_outputs: int) -> str:
    """Return the sentence about training that needs more memory than there is.

    It names the parameter that most of the memory goes by; ``n_rows`` is how many rows
    at most have their units in memory at once.
    """
    hidden = hidden_units(estimator)
    units = [*hidden, n_outputs]
    n_weights = sum(i * o for i, o in pairwise([n_features, *units]))
    if estimator.n_models > 1:
        return (
            "n_models must be so small that all models fit into memory. Got "
            f"{estimator.n_models} of {n_weights} weights each; lower n_models, or "
            "train smaller models."
        )
    n_of_batch = min(estimator.batch_size or n_rows, n_rows)
    if n_of_batch > _FEW_ROWS and n_of_batch * sum(units) > n_weights:
        return (
            f"batch_size={shown(estimator.batch_size)} must be so small that a batch "
            f"fits into memory. Got {n_of_batch} rows of {sum(units)} units; use a "
            "smaller batch_size."
        )
    if hidden:
        return (
            "hidden_layer_sizes must be so small that the weights fit into memory. Got "
            f"{shown(estimator.hidden_layer_sizes)}, of {n_weights} weights; lower "
            "hidden_layer_sizes."
        )
    return (
        f"X must have so few features that their weights fit into memory. Got "
        f"{n_features} features; hash or select fewer of them."
    )


def stack_too_large(max_bytes: int | None, n_models: int) -> str:
    """Return the sentence about models that need more memory together than there is."""
    return (
        "max_bytes must be so small that the models trained together fit into memory. "
        f"Got {shown(max_bytes)}, for {n_models} models; "
        f"{'pass max_bytes' if max_bytes is None else 'lower max_bytes'}."
    )


def check_wide(estimator: Any, n_features: int, of_ranks: bool) -> None:
    """Refuse what steps on wide sparse rows do not have: the norm of all gradients.

    And their sum over ranks.
    """
    if of_ranks:
        msg = (
            "X must have so few features, or be so dense, that its batches are arrays "
            f"with data_parallel. Got sparse rows of {n_features} features; hash or "
            "select fewer of them."
        )
        raise ValueError(msg)
    if estimator.max_grad_norm is not None:
        msg = (
            f"max_grad_norm must be None where X is sparse and as wide as {n_features} "
            f"features. Got {estimator.max_grad_norm!r}; leave it out, or hash or "
            "select fewer features."
        )
        raise ValueError(msg)


def check_outputs(n_outputs: int, held_out: int) -> None:
    """Refuse held-out rows with other targets than are trained on."""
    if held_out != n_outputs:
        msg = f"y must have {n_outputs} target(s), as in training. Got {held_out}."
        raise ValueError(msg)


def check_split(n_held_out: int, trained_on: float, held_out: float) -> None:
    """Refuse to train on, or to judge by, too few rows or rows that do not count.

    Rows that are trained on count so much in all, and so do those held out.
    """
    if n_held_out < 2:
        msg = (
            f"The validation set must have at least 2 rows. Got {n_held_out}; "
            "raise validation_fraction, or give X_val and y_val."
        )
        raise ValueError(msg)
    for in_all, what in ((trained_on, "trained on"), (held_out, "held out")):
        if not in_all:
            msg = (
                f"sample_weight must be above 0 for some of the rows {what} by "
                "early_stopping. Got only zeros; give X_val and y_val instead."
            )
            raise ValueError(msg)


def check_cast(name: str, values: Array, dtype: npt.DTypeLike) -> Array:
    """Return finite numbers in the dtype of the computation, finite there as well."""
    with np.errstate(over="ignore"):
        cast = values.astype(dtype, copy=False)
    if not np.isfinite(cast).all():
        msg = f"{name} holds a number too large for {np.dtype(dtype).name}, or NaN."
        raise ValueError(msg)
    return cast


def check_targets(y: Array, dtype: npt.DTypeLike) -> Array:
    """Return numeric targets, (n,) or (n, o), in the dtype of the computation."""
    if y.dtype.kind not in "biuf":
        raise ValueError(
            f"y must hold numbers to be regressed on. Got dtype {y.dtype}."
        )
    return check_cast("y", y, dtype)


def check_domain(loss: str, y: Array) -> None:
    """Refuse targets that the loss does not take; y as it will be computed with."""
    if loss in TARGETS and not TARGETS[loss].holds(y):
        msg = (
            f"For loss={loss!r}, y must be {TARGETS[loss].words}. Got numbers from "
            f"{y.min()} to {y.max()}."
        )
        raise ValueError(msg)


def check_scoring(settings: Any, quantiles: Sequence[float] | None) -> None:
    """Refuse scorers of one column where predictions have several: all with names."""
    scoring = settings.scoring
    if quantiles is None or len(quantiles) == 1 or not isinstance(scoring, str):
        return
    if scoring != "loss":
        msg = (
            "scoring must be None, 'loss' or a callable if quantile is several, for "
            f"scikit-learn's scorers compare one column. Got {scoring!r}; None is the "
            "mean of d2_pinball_score."
        )
        raise ValueError(msg)


def check_as_many_quantiles(
    before: Sequence[float] | None, now: Sequence[float] | None
) -> None:
    """Refuse to go on with another number of quantiles: each is an output."""
    n_before, n_now = (1 if some is None else len(some) for some in (before, now))
    if n_before != n_now:
        msg = (
            f"Training goes on only with as many quantiles as it began with, {n_before}"
            f". Got {n_now}; set quantile to as many, or to begin anew, call fit with "
            "warm_start=False."
        )
        raise ValueError(msg)


def distinct_labels(name: str, labels: Any) -> Array:
    """Return the labels that there are, sorted."""
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ValueError(
            f"{name} must be a 1d array of labels. Got shape {labels.shape}."
        )
    missing = {"f": "NaN", "m": "NaT", "M": "NaT"}.get(labels.dtype.kind)
    if missing and (labels != labels).any():
        raise ValueError(f"{name} must hold labels. Got {missing}.")
    try:
        return np.unique(labels)
    except TypeError:
        kinds = sorted({type(label).__name__ for label in labels})
        msg = f"{name} must hold labels of one kind. Got {', '.join(kinds)}."
        raise ValueError(msg) from None


def check_indicators(y: Array, classes: Any) -> None:
    """Refuse several labels a row that are other numbers than 0 and 1."""
    if classes is not None and not np.array_equal(classes, np.arange(y.shape[1])):
        msg = (
            f"classes must be the places of the {y.shape[1]} labels of a row, 0 to "
            f"{y.shape[1] - 1}. Got {classes!r}; leave them out."
        )
        raise ValueError(msg)
    if not np.isin(y, [0, 1]).all():
        msg = (
            "y must hold 0 and 1, if it has several labels a row. Got "
            f"{_listed(np.unique(y))}; sklearn.preprocessing.MultiLabelBinarizer makes "
            "0 and 1 of other labels."
        )
        raise ValueError(msg)


def check_class_weight(given: Any, multilabel: bool) -> None:
    """Refuse what is not a number of 0 or more for a class, unless "balanced"."""
    if given == "balanced":
        return
    if isinstance(given, list) and not multilabel:
        msg = (
            "class_weight must be a single dict where y has one label a row. Got a "
            "list, which is for several labels a row."
        )
        raise ValueError(msg)
    for weights in given if isinstance(given, list) else [given]:
        for label, weight in weights.items():
            if not (is_real(weight) and 0 <= weight < inf and fits_a_float(weight)):
                msg = (
                    "class_weight must give each class a finite number of 0 or more. "
                    f"Got {weight!r} for the class {label!r}."
                )
                raise ValueError(msg)


def check_all_seen(classes: Array, seen: Array) -> None:
    """Refuse classes without a row that counts, where they are to be balanced."""
    if not seen.all():
        msg = (
            "With class_weight='balanced', y must hold rows of every class, for these "
            f"say what each counts. Got none of {_listed(classes[seen == 0])}; pass a "
            "dict, or fit anew."
        )
        raise ValueError(msg)


def takes_weights(scorer: Any) -> bool:
    """Return whether a scorer takes the weights of the rows: what it says of itself.

    A scorer of scikit-learn takes them where its metric does. Any other function has an
    argument of the name, or takes all that there are.
    """
    says: Callable[[], bool] | None = getattr(scorer, "_accept_sample_weight", None)
    if says is not None:
        return says()
    try:
        parameters = signature(scorer).parameters
    except (TypeError, ValueError):  # not every function has one
        return False
    takes_all = any(one.kind is Parameter.VAR_KEYWORD for one in parameters.values())
    named = parameters.get("sample_weight")
    return takes_all or (
        named is not None and named.kind is not Parameter.POSITIONAL_ONLY
    )


def check_score(score: Any) -> float:
    """Return what a scorer has made of held-out rows, a number or NaN."""
    number = score.item() if getattr(score, "ndim", None) == 0 else score
    if not is_real(number):
        msg = (
            "scoring must give a number for the held-out rows. Got "
            f"{score!r}; hold out more rows, or score them in another way."
        )
        raise ValueError(msg)
    return float(number)


def check_classes(classes: Array, estimator: Any) -> Array:
    """Return the classes; a classifier needs two of them."""
    if len(classes) < 2:
        msg = (
            f"{type(estimator).__name__} must have at least two classes. Got "
            f"{'one class only: ' + _listed(classes) if len(classes) else 'none'}."
        )
        raise ValueError(msg)
    return classes


def class_numbers_of(labels: Array, classes: Array) -> npt.NDArray[np.intp] | None:
    """Return the numbers of labels among the classes, None if one is not there."""
    if labels.dtype.kind == "O" or labels.dtype.kind != classes.dtype.kind:
        return None  # objects may be of several kinds
    class_numbers = classes.searchsorted(labels)
    among = classes.take(class_numbers, mode="clip") == labels
    return class_numbers if among.all() else None


def check_labels(labels: Array, classes: Array) -> None:
    """Refuse labels, distinct ones, that are not among the classes."""
    unseen = np.setdiff1d(labels, classes)
    if len(unseen):
        msg = (
            f"y holds {_listed(unseen)}, not among the classes {_listed(classes)} that "
            "are known; name all of them as classes of partial_fit, or fit anew on "
            "rows of every class."
        )
        raise ValueError(msg)


def check_more_classes(known: Array, named: Array) -> None:
    """Refuse classes among which are not all that are known, distinct ones."""
    alike = kind_of_labels(known) == kind_of_labels(named)
    lacking = set(known.tolist()) - set(named.tolist()) if alike else known.tolist()
    if lacking:
        missing = np.array([label in lacking for label in known.tolist()])
        msg = (
            f"classes must be those known before, {_listed(known)}, and may be more. "
            f"Got {_listed(named) or 'none'}, without {_listed(known[missing])}"
            f"{'' if alike else ', for they are of another kind'}; name the known ones "
            "too, or fit anew."
        )
        raise ValueError(msg)


def kind_of_labels(labels: Array) -> str:
    """Return what labels are: ints and text have two kinds of arrays each."""
    kind = labels.dtype.kind
    return {"u": "i", "O": "U"}.get(kind, kind)


def check_as_many_labels(known: int, named: int) -> None:
    """Refuse rows of more or fewer labels than are known."""
    if named != known:
        more = f"; classes=range({named}) adds new ones" if named > known else ""
        msg = f"y must have the {known} labels a row known before. Got {named}{more}."
        raise ValueError(msg)


def check_dtype_of_device(dtype: npt.DTypeLike, device_type: str) -> None:
    """Refuse what the device cannot compute in."""
    if device_type == "mps" and dtype == np.float64:
        msg = (
            "device='mps' computes in float32 only. Got float64; pass dtype='float32', "
            "or X as float32."
        )
        raise ValueError(msg)


def check_layers(name: str, values: Any, n_layers: int) -> Sequence[Any]:
    """Return starting weights layer by layer."""
    if not isinstance(values, list | tuple) or len(values) != n_layers:
        got = len(values) if isinstance(values, list | tuple) else repr(values)
        msg = f"{name} must be a list of {n_layers} arrays, one a layer. Got {got}."
        raise ValueError(msg)
    return values


def check_initial(
    name: str, value: Any, shape: tuple[int, ...], dtype: npt.DTypeLike
) -> Array:
    """Return starting weights as an array of the given shape, finite."""
    try:
        array = np.asarray(value)
    except ValueError:  # ragged
        array = np.empty(0, object)
    if array.dtype.kind in "biuf" and array.size == np.prod(shape) and array.ndim < 2:
        array = array.reshape(shape)  # a vector for the only output
    if array.dtype.kind not in "biuf" or array.shape != shape:
        got = f"{array.dtype} of shape {array.shape}"
        raise ValueError(f"{name} must hold numbers of shape {shape}. Got {got}.")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite. Got NaN or infinity.")
    return check_cast(name, array, dtype)


def _listed(values: Array, most: int = 5) -> str:
    shown = ", ".join(repr(value) for value in values[:most].tolist())
    return shown + (", ..." if len(values) > most else "")
