"""MiniBatchRegressor and MiniBatchClassifier: parameters, checks, arrays in and out.

The shell of the package. Fitted state is NumPy and Python values only; tensors live
inside a call. Every call that trains works on a copy of the estimator and takes its
state over at the end, so input that is refused, or training that diverges, leaves the
estimator as it was.
"""

from __future__ import annotations  # help() then shows ArrayLike, not all it stands for

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, Self
from warnings import warn

import numpy as np
import numpy.typing as npt
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from skgd._activations import ACTIVATIONS
from skgd._batches import Data
from skgd._losses import LOSSES, Loss
from skgd._network import (
    Layer,
    Network,
    initialise_,
    new_like,
    new_network,
    raw_prediction,
)
from skgd._optimizers import OPTIMIZERS, PerModel, variant
from skgd._tensors import (
    CPU,
    device_named,
    new_generator,
    to_numpy,
    to_tensor,
    unmoved_on_error,
)
from skgd._training import History, Models, Shared, train
from skgd._validation import (
    check_cast,
    check_classes,
    check_dtype_of_device,
    check_initial,
    check_labels,
    check_layers,
    check_numeric,
    check_parameters,
    check_targets,
    check_weights,
    distinct_labels,
)

Array = npt.NDArray[Any]

# Hyperparameters that may differ between models trained together.
PER_MODEL = ("lr", "momentum", "beta_1", "beta_2", "epsilon", "alpha", "l1_ratio")


class _MiniBatchBase(ABC, BaseEstimator):
    """All that the two estimators share; each encodes its own targets."""

    _losses: tuple[str, ...]  # what the parameter ``loss`` may be

    @abstractmethod
    def _encode(self, y: Array, classes: ArrayLike | None, dtype: Any) -> Array:
        """Return the targets as numbers, (o, n), or as class numbers, (1, n)."""

    @abstractmethod
    def _n_outputs(self, targets: Array) -> int:
        """Return the number of outputs that the targets ask for."""

    @abstractmethod
    def _loss_entry(self, n_outputs: int) -> str:
        """Return the entry of the table of losses."""

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        coef_init: ArrayLike | None = None,
        intercept_init: ArrayLike | None = None,
        coefs_init: Sequence[ArrayLike] | None = None,
        intercepts_init: Sequence[ArrayLike] | None = None,
    ) -> Self:
        """Train on X and y for up to ``max_iter`` epochs.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data, finite numbers; standardise them first.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets of a regressor; labels, of shape (n_samples,), of a classifier.
        sample_weight : array-like of shape (n_samples,), default=None
            What each row counts, 0 or more. Only the proportions matter: the weights
            are divided by their mean. None counts all rows alike.
        coef_init, intercept_init : array-like, default=None
            Starting weights of a linear model, of the shapes of ``coef_`` and
            ``intercept_``. None starts at zero.
        coefs_init, intercepts_init : list of array-like, default=None
            Starting weights of a network, of the shapes of ``coefs_`` and
            ``intercepts_``. None draws the former and starts the latter at zero.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data are not what they must be, or if training
            diverges: ends far above the loss it began with, or grows and grows. The
            estimator is then as it was.
        """
        check_parameters(self, self._losses)
        continuing = self.warm_start and self.__sklearn_is_fitted__()
        trainee = self._trainee()
        if not continuing:
            trainee._forget()
        rows, targets, weight = trainee._checked(
            X, y, sample_weight, classes=None, first=not continuing
        )
        if weight is not None:  # relative to the mean over the whole set, not a batch
            weight = weight / weight.mean()
        if self.batch_size is not None and self.batch_size > len(rows):
            msg = (
                f"batch_size={self.batch_size} is larger than the {len(rows)} rows of "
                "X; every batch is the whole training set, as with batch_size=None."
            )
            warn(msg, UserWarning, stacklevel=2)
        starts = {
            "coef_init": coef_init,
            "intercept_init": intercept_init,
            "coefs_init": coefs_init,
            "intercepts_init": intercepts_init,
        }
        history = trainee._train(
            rows, targets, weight, starts=starts, max_iter=self.max_iter, tol=self.tol
        )
        self.__dict__ = trainee.__dict__
        if self.tol is not None and not history.converged:
            msg = (
                f"Training stopped after max_iter={self.max_iter} epochs before the "
                "objective had settled. Raise max_iter, try another lr, or standardise "
                "X (and y of a regressor); tol=None trains for max_iter epochs without "
                "this warning."
            )
            warn(msg, ConvergenceWarning, stacklevel=2)
        return self

    def _partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None,
        sample_weight: ArrayLike | None,
    ) -> Self:
        check_parameters(self, self._losses)
        trainee = self._trainee()
        rows, targets, weight = trainee._checked(
            X, y, sample_weight, classes, first=not self.__sklearn_is_fitted__()
        )
        trainee._train(rows, targets, weight, starts={}, max_iter=1, tol=None)
        self.__dict__ = trainee.__dict__
        return self

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = isinstance(self, RegressorMixin)
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "t_")

    def _trainee(self) -> Self:
        """Return an estimator of the same state, to be trained in place of this one."""
        trainee = type(self).__new__(type(self))
        trainee.__dict__.update(self.__dict__)
        return trainee

    def __copy__(self) -> Self:
        other = self._trainee()
        if self.__sklearn_is_fitted__():
            other.loss_curve_ = [*self.loss_curve_]  # training extends it in place
        return other

    def _forget(self) -> None:
        """Drop the fitted state; all of its names end in an underscore."""
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)

    def _checked(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None,
        classes: ArrayLike | None,
        *,
        first: bool,
    ) -> tuple[Array, Array, Array | None]:
        """Return X, the encoded targets and the weights, or raise ValueError."""
        check_numeric("X", X)
        with np.errstate(all="ignore"):  # a number too large becomes infinite: refused
            rows, targets = validate_data(
                self,
                X,
                y,
                dtype=self._dtypes(first),
                multi_output=True,
                y_numeric=isinstance(self, RegressorMixin),
                reset=first,
            )
        rows = rows.astype(rows.dtype.newbyteorder("="), copy=False)
        weight = check_weights(sample_weight, rows)
        return rows, self._encode(targets, classes, rows.dtype), weight

    def _dtypes(self, first: bool) -> Any:
        """Return the dtypes that X may have; it becomes the first one otherwise."""
        if self.dtype is not None:
            return [np.dtype(self.dtype)]
        float32 = np.dtype(np.float32)
        if first:
            return [np.dtype(np.float64), float32, float32.newbyteorder()]
        return [self._layers()[0][0].dtype]

    def _train(
        self,
        X: Array,
        targets: Array,
        weight: Array | None,
        *,
        starts: Mapping[str, Any],
        max_iter: int,
        tol: float | None,
    ) -> History:
        """Train on checked arrays and store the fitted state, or raise ValueError."""
        device = device_named(self.device)
        check_dtype_of_device(X.dtype, device.type)
        n_outputs = self._n_outputs(targets)
        hidden = np.atleast_1d(self.hidden_layer_sizes).tolist()
        sizes = (X.shape[1], *hidden, n_outputs)
        shared = self._shared(n_outputs, max_iter, tol)
        per_model = {name: np.array([getattr(self, name)], float) for name in PER_MODEL}
        if weight is not None:
            weight = check_cast("sample_weight", weight, X.dtype)[np.newaxis]
        with torch.inference_mode(), unmoved_on_error(self.random_state):
            data = Data(
                to_tensor(X, device),
                to_tensor(targets, device),
                None if weight is None else to_tensor(weight, device),
            )
            models = self._models(sizes, shared, per_model, data.x, starts)
            [history] = train(data, models, shared, per_model)
            if history.diverged:
                raise ValueError(self._divergence(history))
            self._store(models, history)
        return history

    def _shared(self, n_outputs: int, max_iter: int, tol: float | None) -> Shared:
        """Return the hyperparameters that models trained together have in common."""
        return Shared(
            loss=self._loss_entry(n_outputs),
            activation=self.activation,
            negative_slope=self.negative_slope,
            optimizer=self.optimizer,
            nesterov=self.nesterov,
            batch_size=self.batch_size,
            last_batch=self.last_batch,
            shuffle=self.shuffle,
            max_iter=max_iter,
            tol=tol,
            n_iter_no_change=self.n_iter_no_change,
            record_batch_loss=self.record_batch_loss,
            verbose=bool(self.verbose),
        )

    def _models(
        self,
        sizes: Sequence[int],
        shared: Shared,
        per_model: PerModel,
        like: Tensor,
        starts: Mapping[str, Any],
    ) -> Models:
        """Return the model to train: a new one, or the fitted one to go on with."""
        network = new_network(1, sizes, self.fit_intercept, like)
        optimizer = OPTIMIZERS[variant(shared.optimizer, shared.nesterov, per_model)]
        kept = {name: new_like(network) for name in optimizer.keeps}
        if self.__sklearn_is_fitted__():
            models = self._go_on(network, kept, sizes)
        else:
            generator = new_generator(self.random_state)
            activation = ACTIVATIONS[self.activation](self.negative_slope)
            initialise_(network, activation, [generator])
            models = Models(network, kept, [generator])
        _begin_(network, starts)
        return models

    def _go_on(
        self, network: Network, kept: dict[str, Network], sizes: Sequence[int]
    ) -> Models:
        """Return the fitted model, written into a network of zeros."""
        layers = self._layers()
        fitted_sizes = (layers[0][0].shape[1], *(len(bias) for _, bias in layers))
        if fitted_sizes != tuple(sizes) or self._fit_intercept_ != self.fit_intercept:
            msg = (
                f"Training goes on only with the layers it began with, of "
                f"{fitted_sizes} units and fit_intercept={self._fit_intercept_}. Got "
                f"{tuple(sizes)} and {self.fit_intercept}; to begin anew, call fit "
                "with warm_start=False."
            )
            raise ValueError(msg)
        _fill_(network, layers)
        since = self._since_
        if set(kept) == set(self._kept_):
            for name, values in self._kept_.items():
                kept[name].flat.copy_(to_tensor(values, CPU))
        else:  # another optimizer, which begins now to keep what it keeps
            since = self.t_
        generators = [deepcopy(self._generator_)]
        return Models(network, kept, generators, self.t_, since, self._start_)

    def _store(self, models: Models, history: History) -> None:
        """Keep what was trained as NumPy and Python values."""
        layers = models.parameters.layers
        weights = [to_numpy(w[0]) for w, _ in layers]
        biases = [
            np.zeros(len(w), w.dtype) if bias is None else to_numpy(bias[0])
            for w, (_, bias) in zip(weights, layers, strict=True)
        ]
        if len(layers) == 1:
            self.coef_, self.intercept_ = self._linear_shape(weights[0]), biases[0]
        else:
            self.coefs_ = [w.T for w in weights]  # scikit-learn's are (in, out)
            self.intercepts_ = biases
        self._kept_ = {name: to_numpy(kept.flat) for name, kept in models.kept.items()}
        self._since_, self._start_ = models.since, history.start
        self._fit_intercept_ = self.fit_intercept
        self._generator_ = models.generators[0]
        self.t_ = models.t
        self.loss_curve_ = getattr(self, "loss_curve_", [])
        self.loss_curve_ += history.objective  # in place: a stream makes it long
        self.n_iter_ = len(self.loss_curve_)
        self.loss_ = self.loss_curve_[-1]
        if self.record_batch_loss:
            earlier = getattr(self, "batch_loss_curve_", np.empty(0))
            self.batch_loss_curve_ = np.concatenate([earlier, *history.batch_loss])

    def _layers(self) -> list[tuple[Array, Array]]:
        """Return the fitted weights (o, i) and biases (o,) of every layer."""
        if hasattr(self, "coef_"):
            return [(np.atleast_2d(self.coef_), np.atleast_1d(self.intercept_))]
        pairs = zip(self.coefs_, self.intercepts_, strict=True)
        return [(coef.T, intercept) for coef, intercept in pairs]

    def _divergence(self, history: History) -> str:
        epoch, objective = len(history.objective), history.objective[-1]
        return (
            f"Training diverged in epoch {epoch}: the loss was {history.start:.3g} at "
            f"the start, the objective is {objective:.3g} "
            f"(lr={self.lr!r}, optimizer={self.optimizer!r}). Either (a) lr is too "
            "large for these data: lower it; or (b) a feature or the target has a "
            "large scale: standardise X, and y of a regressor, first."
        )

    def _raw_prediction(self, X: ArrayLike) -> Tensor:
        """Return the prediction before the inverse link, of shape (1, o, n)."""
        check_is_fitted(self)
        check_parameters(self, self._losses)
        layers = self._layers()
        check_numeric("X", X)
        with np.errstate(all="ignore"):
            rows = validate_data(self, X, dtype=layers[0][0].dtype, reset=False)
        device = device_named(self.device)
        check_dtype_of_device(rows.dtype, device.type)
        with torch.inference_mode():
            on_device = [
                Layer(to_tensor(w, device)[None], to_tensor(bias, device)[None])
                for w, bias in layers
            ]
            activation = ACTIVATIONS[self.activation](self.negative_slope)
            return raw_prediction(on_device, to_tensor(rows, device), activation)


def _fill_(network: Network, layers: Sequence[tuple[Array, Array]]) -> None:
    """Write fitted weights and biases into the network of a single model."""
    for layer, fitted in zip(network.layers, layers, strict=True):
        for array, values in zip(layer, fitted, strict=True):
            if array is not None:
                array[0] = to_tensor(values, CPU)


def _begin_(network: Network, starts: Mapping[str, Any]) -> None:
    """Write the starting weights that ``fit`` was given into the network."""
    n_layers = len(network.layers)
    linear = n_layers == 1
    dtype = to_numpy(network.flat[:0]).dtype
    for name, start in starts.items():
        if start is None:
            continue
        if linear is name.endswith("s_init"):
            kinds = ["a linear model", "a network"]
            right = name.removesuffix("s_init" if linear else "_init")
            msg = (
                f"{name} must start {kinds[linear]}. Got {kinds[not linear]}, the "
                f"other kind; use {right + ('_init' if linear else 's_init')}."
            )
            raise ValueError(msg)
        values = [start] if linear else check_layers(name, start, n_layers)
        for (w, bias), value in zip(network.layers, values, strict=True):
            # scikit-learn's coefs_ are (in, out), its coef_ is (out, in)
            weights = w if linear else w.mT
            array = bias if name.startswith("intercept") else weights
            if array is None:
                msg = f"{name} was given, but fit_intercept=False leaves it out."
                raise ValueError(msg)
            initial = check_initial(name, value, tuple(array[0].shape), dtype)
            array[0] = to_tensor(initial, CPU)


class MiniBatchRegressor(RegressorMixin, _MiniBatchBase):
    """Regression by mini-batch gradient descent, by a linear model or a network.

    What is minimised, over all weights w of the model f, is

        J(w) = mean_n( s_n loss(y_n, f(x_n)) )
               + alpha * ( (1 - l1_ratio)/2 |w|_2^2 + l1_ratio |w|_1 )

    where s_n is the sample weight of row n divided by the mean of all, and intercepts
    are free of the penalty. Each step follows the gradient of the first term over a
    mini-batch, and shrinks the weights as the second one asks.

    Parameters
    ----------
    loss : {"squared_error"}, default="squared_error"
        What is minimised. "squared_error" is half the squared error,
        summed over targets.
    hidden_layer_sizes : tuple of int, default=()
        Units of each hidden layer, each at least 1. Empty, the model is linear; more
        and larger layers fit more complicated functions.
    activation : {"identity", "leaky_relu", "logistic", "relu", "tanh"}, default="relu"
        What every hidden unit does to its sum. Without hidden layers it has no effect.
    negative_slope : float in [0, 1], default=0.01
        Slope of "leaky_relu" below zero: 0 is "relu", 1 is "identity".
    fit_intercept : bool, default=True
        Whether every layer has a bias. False leaves out all of them.
    optimizer : {"adam", "sgd"}, default="adam"
        How a gradient becomes a step. "sgd" subtracts ``lr`` times the gradient: plain
        mini-batch gradient descent, and with ``momentum`` its accelerated form. "adam"
        gives every weight a step of its own, of about ``lr`` at the most, whatever the
        scale of its feature; it needs many steps to reach targets far from zero.
    lr : float > 0, default=0.01
        Learning rate, the size of a step. A larger one learns faster; too large a one
        diverges with "sgd" and wavers around the minimum with "adam".
    momentum : float in [0, 1), default=0.0
        Share of the last step's velocity that "sgd" keeps: a larger one runs faster
        along directions that do not change. The step grows up to
        ``lr / (1 - momentum)``.
    nesterov : bool, default=False
        Whether momentum looks ahead (Nesterov's). Without ``momentum``, no effect.
    beta_1 : float in [0, 1), default=0.9
        Decay of Adam's mean of gradients; a larger one averages over more steps.
    beta_2 : float in [0, 1), default=0.999
        Decay of Adam's mean of squared gradients; likewise.
    epsilon : float > 0, default=1e-8
        Added to the root of Adam's mean square; a larger one shortens the steps of
        weights with small gradients.
    alpha : float >= 0, default=1e-4
        Strength of the penalty on the weights; intercepts are free of it. A larger one
        gives smaller weights. It does not depend on ``batch_size``.
    l1_ratio : float in [0, 1], default=0.0
        Share of the L1 norm in the penalty: 0 is L2 alone, 1 is L1 alone, whose weights
        become exactly zero, more of them the larger ``alpha`` is. The noise of small
        batches keeps some of them off zero; whole batches and small ``lr`` do not.
    batch_size : int >= 1 or None, default=32
        Rows of a mini-batch. None is the whole training set (batch gradient descent), 1
        is stochastic gradient descent. A larger one makes fewer, less noisy steps an
        epoch. More than there are rows means all of them; ``fit`` warns of it.
    last_batch : {"keep", "drop", "fill"}, default="keep"
        What happens to the rows that remain where ``batch_size`` does not divide their
        number: they make a short batch with its own mean, are left out of the epoch, or
        are topped up with rows drawn at random from the whole training set.
    shuffle : bool, default=True
        Whether the rows are put in a new order for every epoch.
    max_iter : int >= 1, default=200
        Passes over the training data (epochs), at the most.
    tol : float >= 0 or None, default=1e-4
        Training stops when the objective has not fallen by more than this, in the units
        of the loss, for ``n_iter_no_change`` epochs in a row. None trains for
        ``max_iter`` epochs.
    n_iter_no_change : int >= 1, default=10
        Epochs without improvement to wait for; a larger one is more patient.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the last one: weights, optimizer state, step count
        and random stream. Otherwise it starts anew.
    record_batch_loss : bool, default=False
        Whether ``batch_loss_curve_`` keeps the loss of every step.
    random_state : int, RandomState instance or None, default=None
        Seed of the initial weights and of the order of the rows. An int gives the same
        result at every call, None a new one; ``numpy.random.seed`` has no effect.
    device : {"auto", "cpu", "cuda", "cuda:N", "mps"}, default="auto"
        Where to compute. "auto" is CUDA if there is one, else the CPU.
    dtype : {"float32", "float64"} or None, default=None
        Precision of the computation. None is that of X: float32 stays float32, all
        else becomes float64.
    verbose : bool or int, default=False
        Whether to print the objective of every epoch.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
        Weights of a linear model.
    intercept_ : ndarray of shape (1,) or (n_targets,)
        Its intercept; zeros without ``fit_intercept``.
    coefs_ : list of ndarray of shape (units in, units out)
        Weights of every layer, of a network.
    intercepts_ : list of ndarray of shape (units out,)
        Biases of every layer, of a network; zeros without ``fit_intercept``.
    n_iter_ : int
        Epochs trained, ``partial_fit`` and warm starts included.
    t_ : int
        Steps taken, that is, updates of the weights.
    loss_curve_ : list of float
        The objective, one number an epoch: the mean of the losses of the batches, each
        taken before its step, plus the penalty at the start of the epoch.
    loss_ : float
        The last of them.
    batch_loss_curve_ : ndarray of shape (n_steps,)
        Mean loss of every batch before its step, without the penalty: of the steps
        taken with ``record_batch_loss``.
    n_features_in_ : int
        Features seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names. Only if X had names, all of them strings.

    See Also
    --------
    MiniBatchClassifier : The same for classes.

    Notes
    -----
    In the terms of scikit-learn, with n rows: ``Ridge(alpha=a)`` minimises the same
    objective at ``alpha = a / n``; ``SGDRegressor`` has the same ``alpha``;
    ``MLPRegressor`` divides its own by the rows of a batch.

    References
    ----------
    Bottou, Curtis and Nocedal, "Optimization methods for large-scale machine learning",
    SIAM Review 60 (2018), https://arxiv.org/abs/1606.04838.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skgd import MiniBatchRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> regressor = MiniBatchRegressor(optimizer="sgd", random_state=0)
    >>> model = make_pipeline(StandardScaler(), regressor).fit(X, y)
    >>> round(model.score(X, y), 2)
    0.51
    """

    _losses = ("squared_error",)

    def __init__(
        self,
        *,
        loss: str = "squared_error",
        hidden_layer_sizes: Sequence[int] = (),
        activation: str = "relu",
        negative_slope: float = 0.01,
        fit_intercept: bool = True,
        optimizer: str = "adam",
        lr: float = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        alpha: float = 1e-4,
        l1_ratio: float = 0.0,
        batch_size: int | None = 32,
        last_batch: str = "keep",
        shuffle: bool = True,
        max_iter: int = 200,
        tol: float | None = 1e-4,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        record_batch_loss: bool = False,
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
        dtype: str | None = None,
        verbose: bool | int = False,
    ) -> None:
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.negative_slope = negative_slope
        self.fit_intercept = fit_intercept
        self.optimizer = optimizer
        self.lr = lr
        self.momentum = momentum
        self.nesterov = nesterov
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.batch_size = batch_size
        self.last_batch = last_batch
        self.shuffle = shuffle
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.record_batch_loss = record_batch_loss
        self.random_state = random_state
        self.device = device
        self.dtype = dtype
        self.verbose = verbose

    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Pass once over the given rows, in mini-batches.

        Weights, optimizer state, step count and random stream go on from the last call.
        Fewer rows than ``batch_size`` are one batch. ``max_iter``, ``tol`` and
        ``warm_start`` have no effect.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The next rows of the stream.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Their targets.
        sample_weight : array-like of shape (n_samples,), default=None
            What each row counts, 0 or more, used as given: the mean over the whole
            stream is unknown.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            If the rows are refused, or the weights or the loss overflow or explode. The
            estimator is then as it was before the call.
        """
        return self._partial_fit(X, y, None, sample_weight)

    def predict(self, X: ArrayLike) -> Array:
        """Predict the targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to predict.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
            Predicted targets, of the shape that ``fit`` was given.
        """
        link = LOSSES[self.loss].inverse_link
        y: Array = to_numpy(link(self._raw_prediction(X)))[0]
        return y[0] if self._y_ndim_ == 1 else y.T

    def _encode(self, y: Array, classes: ArrayLike | None, dtype: Any) -> Array:
        targets = check_targets(y, dtype)
        self._y_ndim_ = getattr(self, "_y_ndim_", y.ndim)
        return np.ascontiguousarray(targets.reshape(len(y), -1).T)

    def _n_outputs(self, targets: Array) -> int:
        return len(targets)

    def _loss_entry(self, n_outputs: int) -> str:
        return self.loss

    def _linear_shape(self, w: Array) -> Array:
        return w[0] if self._y_ndim_ == 1 else w


class MiniBatchClassifier(ClassifierMixin, _MiniBatchBase):
    """Classification by mini-batch gradient descent, by a linear model or a network.

    What is minimised, over all weights w of the model f, is

        J(w) = mean_n( s_n loss(y_n, f(x_n)) )
               + alpha * ( (1 - l1_ratio)/2 |w|_2^2 + l1_ratio |w|_1 )

    where s_n is the sample weight of row n divided by the mean of all, and intercepts
    are free of the penalty. Each step follows the gradient of the first term over a
    mini-batch, and shrinks the weights as the second one asks.

    Parameters
    ----------
    loss : {"log_loss"}, default="log_loss"
        What is minimised. "log_loss" is minus the log-likelihood: of one
        sigmoid output for two classes, of softmax outputs for more.
    hidden_layer_sizes : tuple of int, default=()
        Units of each hidden layer, each at least 1. Empty, the model is linear; more
        and larger layers fit more complicated functions.
    activation : {"identity", "leaky_relu", "logistic", "relu", "tanh"}, default="relu"
        What every hidden unit does to its sum. Without hidden layers it has no effect.
    negative_slope : float in [0, 1], default=0.01
        Slope of "leaky_relu" below zero: 0 is "relu", 1 is "identity".
    fit_intercept : bool, default=True
        Whether every layer has a bias. False leaves out all of them.
    optimizer : {"adam", "sgd"}, default="adam"
        How a gradient becomes a step. "sgd" subtracts ``lr`` times the gradient: plain
        mini-batch gradient descent, and with ``momentum`` its accelerated form. "adam"
        gives every weight a step of its own, of about ``lr`` at the most, whatever the
        scale of its feature; it needs many steps to reach targets far from zero.
    lr : float > 0, default=0.01
        Learning rate, the size of a step. A larger one learns faster; too large a one
        diverges with "sgd" and wavers around the minimum with "adam".
    momentum : float in [0, 1), default=0.0
        Share of the last step's velocity that "sgd" keeps: a larger one runs faster
        along directions that do not change. The step grows up to
        ``lr / (1 - momentum)``.
    nesterov : bool, default=False
        Whether momentum looks ahead (Nesterov's). Without ``momentum``, no effect.
    beta_1 : float in [0, 1), default=0.9
        Decay of Adam's mean of gradients; a larger one averages over more steps.
    beta_2 : float in [0, 1), default=0.999
        Decay of Adam's mean of squared gradients; likewise.
    epsilon : float > 0, default=1e-8
        Added to the root of Adam's mean square; a larger one shortens the steps of
        weights with small gradients.
    alpha : float >= 0, default=1e-4
        Strength of the penalty on the weights; intercepts are free of it. A larger one
        gives smaller weights. It does not depend on ``batch_size``.
    l1_ratio : float in [0, 1], default=0.0
        Share of the L1 norm in the penalty: 0 is L2 alone, 1 is L1 alone, whose weights
        become exactly zero, more of them the larger ``alpha`` is. The noise of small
        batches keeps some of them off zero; whole batches and small ``lr`` do not.
    batch_size : int >= 1 or None, default=32
        Rows of a mini-batch. None is the whole training set (batch gradient descent), 1
        is stochastic gradient descent. A larger one makes fewer, less noisy steps an
        epoch. More than there are rows means all of them; ``fit`` warns of it.
    last_batch : {"keep", "drop", "fill"}, default="keep"
        What happens to the rows that remain where ``batch_size`` does not divide their
        number: they make a short batch with its own mean, are left out of the epoch, or
        are topped up with rows drawn at random from the whole training set.
    shuffle : bool, default=True
        Whether the rows are put in a new order for every epoch.
    max_iter : int >= 1, default=200
        Passes over the training data (epochs), at the most.
    tol : float >= 0 or None, default=1e-4
        Training stops when the objective has not fallen by more than this, in the units
        of the loss, for ``n_iter_no_change`` epochs in a row. None trains for
        ``max_iter`` epochs.
    n_iter_no_change : int >= 1, default=10
        Epochs without improvement to wait for; a larger one is more patient.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the last one: weights, optimizer state, step count
        and random stream. Otherwise it starts anew.
    record_batch_loss : bool, default=False
        Whether ``batch_loss_curve_`` keeps the loss of every step.
    random_state : int, RandomState instance or None, default=None
        Seed of the initial weights and of the order of the rows. An int gives the same
        result at every call, None a new one; ``numpy.random.seed`` has no effect.
    device : {"auto", "cpu", "cuda", "cuda:N", "mps"}, default="auto"
        Where to compute. "auto" is CUDA if there is one, else the CPU.
    dtype : {"float32", "float64"} or None, default=None
        Precision of the computation. None is that of X: float32 stays float32, all
        else becomes float64.
    verbose : bool or int, default=False
        Whether to print the objective of every epoch.

    Attributes
    ----------
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        Weights of a linear model; a single row, for ``classes_[1]``, if there are two
        classes.
    intercept_ : ndarray of shape (1,) or (n_classes,)
        Its intercept; zeros without ``fit_intercept``.
    coefs_ : list of ndarray of shape (units in, units out)
        Weights of every layer, of a network.
    intercepts_ : list of ndarray of shape (units out,)
        Biases of every layer, of a network; zeros without ``fit_intercept``.
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    n_iter_ : int
        Epochs trained, ``partial_fit`` and warm starts included.
    t_ : int
        Steps taken, that is, updates of the weights.
    loss_curve_ : list of float
        The objective, one number an epoch: the mean of the losses of the batches, each
        taken before its step, plus the penalty at the start of the epoch.
    loss_ : float
        The last of them.
    batch_loss_curve_ : ndarray of shape (n_steps,)
        Mean loss of every batch before its step, without the penalty: of the steps
        taken with ``record_batch_loss``.
    n_features_in_ : int
        Features seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names. Only if X had names, all of them strings.

    See Also
    --------
    MiniBatchRegressor : The same for numeric targets.

    Notes
    -----
    In the terms of scikit-learn, with n rows: ``LogisticRegression(C=c)`` minimises the
    same objective at ``alpha = 1 / (c n)``; ``SGDClassifier`` has the same ``alpha``;
    ``MLPClassifier`` divides its own by the rows of a batch.

    References
    ----------
    Bottou, Curtis and Nocedal, "Optimization methods for large-scale machine learning",
    SIAM Review 60 (2018), https://arxiv.org/abs/1606.04838.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skgd import MiniBatchClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> classifier = MiniBatchClassifier(hidden_layer_sizes=(32,), random_state=0)
    >>> model = make_pipeline(StandardScaler(), classifier).fit(X[:1200], y[:1200])
    >>> round(model.score(X[1200:], y[1200:]), 1)
    0.9
    """

    _losses = ("log_loss",)

    def __init__(
        self,
        *,
        loss: str = "log_loss",
        hidden_layer_sizes: Sequence[int] = (),
        activation: str = "relu",
        negative_slope: float = 0.01,
        fit_intercept: bool = True,
        optimizer: str = "adam",
        lr: float = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        alpha: float = 1e-4,
        l1_ratio: float = 0.0,
        batch_size: int | None = 32,
        last_batch: str = "keep",
        shuffle: bool = True,
        max_iter: int = 200,
        tol: float | None = 1e-4,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        record_batch_loss: bool = False,
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
        dtype: str | None = None,
        verbose: bool | int = False,
    ) -> None:
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.negative_slope = negative_slope
        self.fit_intercept = fit_intercept
        self.optimizer = optimizer
        self.lr = lr
        self.momentum = momentum
        self.nesterov = nesterov
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.batch_size = batch_size
        self.last_batch = last_batch
        self.shuffle = shuffle
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.record_batch_loss = record_batch_loss
        self.random_state = random_state
        self.device = device
        self.dtype = dtype
        self.verbose = verbose

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Pass once over the given rows, in mini-batches.

        Weights, optimizer state, step count and random stream go on from the last call.
        Fewer rows than ``batch_size`` are one batch. ``max_iter``, ``tol`` and
        ``warm_start`` have no effect.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The next rows of the stream.
        y : array-like of shape (n_samples,)
            Their labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that the stream will hold. Needed in the first call, and the same
            in later ones if given again.
        sample_weight : array-like of shape (n_samples,), default=None
            What each row counts, 0 or more, used as given: the mean over the whole
            stream is unknown.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            If the rows are refused, a label is not among the classes, or the weights or
            the loss overflow or explode. The estimator is then as it was before.
        """
        if classes is None and not self.__sklearn_is_fitted__():
            raise ValueError("classes must be passed on the first call to partial_fit.")
        return self._partial_fit(X, y, classes, sample_weight)

    def decision_function(self, X: ArrayLike) -> Array:
        """Return the raw predictions, before the sigmoid or softmax.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to predict.

        Returns
        -------
        scores : ndarray of shape (n_samples,) or (n_samples, n_classes)
            With two classes, a single score, positive for ``classes_[1]``.
        """
        z: Array = to_numpy(self._raw_prediction(X))[0]
        return z[0] if len(z) == 1 else z.T

    def predict(self, X: ArrayLike) -> Array:
        """Predict the labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to predict.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            The most probable label of each row.
        """
        scores = self.decision_function(X)
        places = scores > 0 if scores.ndim == 1 else scores.argmax(axis=1)
        labels: Array = self.classes_[places.astype(np.intp)]
        return labels

    def predict_proba(self, X: ArrayLike) -> Array:
        """Return the probability of every class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to predict.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            Columns in the order of ``classes_``.
        """
        z, loss = self._class_predictions(X)
        probabilities: Array = to_numpy(loss.inverse_link(z))[0].T
        return probabilities

    def predict_log_proba(self, X: ArrayLike) -> Array:
        """Return the logarithm of the probability of every class, exact near 0 and 1.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to predict.

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, n_classes)
            Columns in the order of ``classes_``.
        """
        z, loss = self._class_predictions(X)
        assert loss.log_inverse_link is not None  # every loss of classes has one
        log_probabilities: Array = to_numpy(loss.log_inverse_link(z))[0].T
        return log_probabilities

    def _class_predictions(self, X: ArrayLike) -> tuple[Tensor, Loss]:
        """Return a raw prediction for every class, and the loss it belongs to."""
        z = self._raw_prediction(X)
        loss = LOSSES[self._loss_entry(z.shape[1])]
        if z.shape[1] == 1:  # sigmoid(-z) is 1 - sigmoid(z), without the cancellation
            z = torch.cat([-z, z], dim=1)
        return z, loss

    def _encode(self, y: Array, classes: ArrayLike | None, dtype: Any) -> Array:
        y = column_or_1d(y, warn=True)
        seen = distinct_labels("y", y)
        check_classification_targets(y)
        named = seen if classes is None else distinct_labels("classes", classes)
        if not hasattr(self, "classes_"):
            self.classes_ = check_classes(named, self)
        elif classes is not None and not np.array_equal(self.classes_, named):
            msg = (
                f"classes must be those of the first call, {self.classes_.tolist()}. "
                f"Got {named.tolist()}."
            )
            raise ValueError(msg)
        check_labels(seen, self.classes_)
        return np.searchsorted(self.classes_, y).astype(dtype)[np.newaxis]

    def _n_outputs(self, targets: Array) -> int:
        return 1 if len(self.classes_) == 2 else len(self.classes_)

    def _loss_entry(self, n_outputs: int) -> str:
        return "binary_log_loss" if n_outputs == 1 else "multinomial_log_loss"

    def _linear_shape(self, w: Array) -> Array:
        return w
