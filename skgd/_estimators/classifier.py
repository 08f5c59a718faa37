"""MiniBatchClassifier: its parameters, labels, predictions.

What it shares with the regressor is in ``base``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from types import MethodType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import Tags
from torch import Tensor

from skgd._estimators.base import MiniBatchBase, of_one_state
from skgd._estimators.cluster import where_rows_lie
from skgd._estimators.inputs import labels_like_input, like_input, on_host
from skgd._estimators.targets import Classes, known_targets, loss_of
from skgd._machine.arrays import Array
from skgd._machine.devices import to_numpy
from skgd._machine.modes import numpy_as_usual
from skgd._machine.ranks import Ranks


class _OfProbabilities:
    """A method that is there only with a loss that has probabilities.

    The error says why it is not; of scikit-learn's ``available_if``, the cause does.
    """

    def __init__(self, method: Callable[..., Any]) -> None:
        @wraps(method)
        def checked(classifier: Any, *args: Any, **kwargs: Any) -> Any:
            self._check(classifier)
            return method(classifier, *args, **kwargs)

        self._checked = checked
        self.__doc__ = method.__doc__

    def __get__(self, classifier: Any, owner: Any = None) -> Callable[..., Any]:
        if classifier is None:
            return self._checked
        self._check(classifier)
        return MethodType(self._checked, classifier)

    def _check(self, classifier: Any) -> None:
        loss = classifier.loss  # whatever it is: nothing has been checked yet
        if isinstance(loss, str) and loss in ("log_loss", "modified_huber"):
            return
        msg = (
            f"{type(classifier).__name__} has no {self._checked.__name__} with loss="
            f"{classifier.loss!r}, which has no probabilities; use loss='log_loss' or "
            "'modified_huber', or sklearn.calibration.CalibratedClassifierCV."
        )
        raise AttributeError(msg)


class MiniBatchClassifier(ClassifierMixin, MiniBatchBase):
    """Classification by mini-batch gradient descent, by a linear model or a network.

    What is minimised, over all weights w of the model f, is

        J(w) = mean_n( s_n loss(y_n, f(x_n)) )
               + alpha * ( (1 - l1_ratio)/2 |w|_2^2 + l1_ratio |w|_1 )

    where s_n is the sample weight of row n divided by the mean of all, and intercepts
    are free of the penalty. Each step follows the gradient of the first term over a
    mini-batch, and shrinks the weights as the second one asks.

    Parameters
    ----------
    loss : str, default="log_loss"
        What is minimised. "log_loss" is minus the log-likelihood: of one sigmoid output
        for two classes or for each of several labels, of softmax outputs for more
        classes. "hinge" (a linear support vector machine), "squared_hinge",
        "modified_huber" and "perceptron" are SGDClassifier's: one output for two
        classes, for more the sum over one against the rest. "log_loss" and
        "modified_huber" have probabilities.
    hidden_layer_sizes : tuple of int, or int, default=()
        Units of each hidden layer, each at least 1. Empty, the model is linear; more
        and larger layers fit more complicated functions.
    activation : {"elu", "gelu", "identity", "leaky_relu", "logistic", "mish", \
            "relu", "selu", "silu", "softplus", "tanh"}, default="relu"
        What every hidden unit does to its sum. Without hidden layers it has no effect.
    negative_slope : float in [0, 1], default=0.01
        Slope of "leaky_relu" below zero: 0 is "relu", 1 is "identity".
    init : str, default="auto"
        How the weights of a network are drawn: with variance 2 / (in + out), "glorot",
        2 / in, "he", or 1 / in, "lecun", for a layer of so many units, each followed by
        "_uniform" or "_normal". "auto" is "lecun_normal" for the hidden layers of
        "selu", and "glorot_uniform" for all others. A linear model starts at zero, or
        for numbers at their mean.
    dropout : float in [0, 1), default=0.0
        Share of the hidden units that sit out a step, drawn at random, while the others
        count for more. A larger one keeps a network from relying on single units.
        Predictions are made with all of them.
    fit_intercept : bool, default=True
        Whether every layer has a bias. False leaves out all of them.
    optimizer : {"adam", "adamw", "adagrad", "rmsprop", "sgd"}, default="adam"
        How a gradient becomes a step. "sgd" subtracts ``lr`` times the gradient: plain
        mini-batch gradient descent, and with ``momentum`` its accelerated form. The
        others give every weight a step of its own, whatever the scale of its feature:
        "adam" one of about ``lr`` at the most, "rmsprop" likewise after a few longer
        ones, "adagrad" a shorter one the longer it trains. "adamw" is Adam with weights
        that shrink by ``lr * alpha`` a step instead of descending the penalty; it stays
        where a network fits every row, from where Adam with a penalty jumps away at
        times.
    lr : float > 0 or "auto", default="auto"
        Learning rate, the size of a step. A larger one learns faster; too large a one
        diverges with "sgd" and wavers around the minimum with "adam". "auto" is 0.05
        for a linear model, unless it is trained by "sgd", and 0.01 otherwise.
    lr_schedule : str or callable, default="adaptive"
        How the learning rate changes with the steps t = 1, 2, ... "constant" does not.
        "invscaling" is ``lr / t ** power_t``. "optimal" is Bottou's
        ``1 / (alpha * (t_0 + t - 1))``, whatever ``lr`` is. "adaptive" divides by 5
        when training would have stopped for want of progress, and stops at 1e-6, or
        where the last division has brought no progress by ``tol``.
        "cosine" falls to zero, and "one_cycle" rises to ``lr`` before it falls, over
        ``max_iter`` epochs: every ``fit`` runs through the whole curve, a warm start
        too, while the other schedules go on from the steps that there were. "step"
        multiplies by ``decay`` every ``decay_every`` epochs. A call of ``partial_fit``
        counts as an epoch, and goes on wherever the schedule is. A callable gives for t
        what ``lr`` is multiplied by; it is called ahead of the steps, and more than
        once.
    power_t : float >= 0, default=0.5
        Exponent of "invscaling"; a larger one slows down sooner.
    decay : float in (0, 1], default=0.1
        Factor of "step"; a smaller one slows down more.
    decay_every : int >= 1, default=30
        Epochs between two such falls.
    warmup_steps : int >= 0, default=0
        Steps over which the learning rate rises in a straight line, with any schedule;
        more of them make a gentler start.
    momentum : float in [0, 1), default=0.0
        Share of the last step's velocity that "sgd" keeps: a larger one runs faster
        along directions that do not change. The step grows up to
        ``lr / (1 - momentum)``.
    nesterov : bool, default=False
        Whether momentum looks ahead (Nesterov's). Without ``momentum``, no effect.
    beta_1 : float in [0, 1), default=0.9
        Decay of Adam's mean of gradients; a larger one averages over more steps.
    beta_2 : float in [0, 1), default=0.999
        Decay of the mean of squared gradients, of Adam and "rmsprop"; likewise.
    epsilon : float > 0, default=1e-8
        Added to the root of the mean square, or sum of squares, of gradients; a larger
        one shortens the steps of weights with small gradients. No effect with "sgd".
    max_grad_norm : float > 0 or None, default=None
        Length to which a longer gradient of the loss, over all layers, is cut in each
        step. A smaller one tames outliers, and may slow the learning. None cuts none.
    average : bool or int >= 0, default=False
        Whether the model that predicts is the mean of the weights over the steps, which
        wavers less than the last ones: from the first step (True) or from this one on.
        Switched on between calls, it begins there; off, the last weights predict again.
    alpha : float >= 0, default=1e-4
        Strength of the penalty on the weights; intercepts are free of it. A larger one
        gives smaller weights. It does not depend on ``batch_size``.
    l1_ratio : float in [0, 1], default=0.0
        Share of the L1 norm in the penalty: 0 is L2 alone, 1 is L1 alone, whose weights
        become exactly zero, more of them the larger ``alpha`` is. The noise of small
        batches keeps many of them a little off zero; whole batches do not, but for some
        with "hinge" and "perceptron": the gradient of these jumps, whatever the batch.
    class_weight : dict or "balanced", default=None
        What the rows of every class count, by label, times their sample weight. A
        larger one makes the class be predicted more. "balanced" makes all classes count
        alike: a row of class k counts n / (c n_k), where n_k of n rows, or of their
        sample weights, are of this class and there are c classes; in a stream these are
        the rows so far, see ``partial_fit``. None counts all rows alike. For several
        labels, a list of dicts, one for each; "balanced" multiplies what each says.
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
        Passes over the training data (epochs), at the most; more of them come nearer to
        the minimum.
    max_time : float > 0 or None, default=None
        Seconds after which ``fit`` ends, at a whole step, or with several models at
        a whole epoch; with more of them it trains for longer. None sets no limit.
    tol : float >= 0 or None, default=1e-3
        Training stops when the objective has not fallen by more than this, on the scale
        that training sees, for ``n_iter_no_change`` epochs in a row; with
        ``early_stopping``, when the held-out rows do no better. A larger one stops
        sooner. None trains for ``max_iter`` epochs.
    n_iter_no_change : int >= 1, default=5
        Epochs without improvement to wait for; a larger one is more patient.
    early_stopping : bool, default=False
        Whether rows are held out, the model is judged by them after every epoch, and
        ``fit`` ends with the weights that did best. Not with ``partial_fit``.
    validation_fraction : float in (0, 1), default=0.1
        Share of the rows that ``early_stopping`` holds out, of every class alike,
        unless ``fit`` is given others. A larger one judges better, and leaves fewer
        rows to learn from.
    scoring : str, callable or None, default=None
        What the held-out rows are judged by: any scorer of scikit-learn, the score of
        the estimator (None), or the loss ("loss"), which tells more on a few rows.
        Equal scores are told apart by the loss. A callable gets the estimator, rows and
        targets, and their ``sample_weight`` if it has an argument of this name; what
        takes no weights counts all rows alike. Of several models, each is judged by
        itself. If given, the rows of each call of
        ``partial_fit`` but the first are judged by it before they are learned.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the last one: weights, optimizer state, step count,
        random stream, and the split of the rows. Otherwise it starts anew. Another
        optimizer begins with a state of its own.
    record_batch_loss : bool, default=False
        Whether ``batch_loss_curve_`` keeps the loss of every step.
    n_models : int >= 1, default=1
        How many models are trained, which differ in their seeds: in the weights they
        begin with, in the order of the rows, and in those held out. What is predicted
        is the mean over them, of numbers, of probabilities, or of the scores of a loss
        that has none. More of them err less, up to a point, and cost more. Each is the
        model that a fit with its seed alone gives, see ``estimators_``.
    random_state : int, RandomState instance or None, default=None
        Seed of the initial weights, the order of the rows, what is topped up, dropped
        out and held out. An int gives the same result at every call, None a new one;
        ``numpy.random.seed`` has no effect.
    device : {"auto", "cpu", "cuda", "cuda:N", "mps"}, default="auto"
        Where to compute. "auto" is CUDA if there is one, else the CPU. A tensor X is
        computed with where it is.
    engine : {"auto", "torch", "numba"}, default="auto"
        What trains. "torch" is there for all that skgd does; "numba" are loops that it
        compiles when they are first used, faster by far where steps are small. They
        train one model on a CPU, without ``dropout`` or callbacks that look at batches,
        and on wide sparse X no hidden layer; they want ``pip install 'skgd[numba]'``.
        "auto" takes them where they are there, can do it and the steps are small, and
        torch otherwise. Both come to the same but for rounding.
    dtype : {"float32", "float64"} or None, default=None
        Precision of the computation. None is that of X: float32 stays float32, all
        else becomes float64.
    verbose : bool or int, default=False
        Whether to print a line an epoch: which of how many, the objective, loss and
        score of held-out rows, and the seconds so far; of several models, for the first
        that is still in training. In a search, its own ``verbose`` counts.

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
        Epochs trained, ``partial_fit`` and warm starts included; one that was cut short
        counts.
    t_ : int
        Steps taken, that is, updates of the weights.
    loss_curve_ : list of float
        The objective, one number an epoch: the mean of the losses of the batches, each
        taken before its step, plus the penalty at the start of the epoch. That of an
        epoch cut short is of the batches it had. Of a stream of ``partial_fit``, this
        curve and the others keep the last 1,000 at the least.
    loss_ : float
        The last of them.
    best_loss_ : float
        The lowest of all epochs.
    validation_loss_curve_ : list of float
        Mean loss of the held-out rows after every epoch, without the penalty; of a
        stream with ``scoring``, that of the rows of a call by the model before it. NaN
        where there are none.
    validation_scores_ : list of float
        Their score after every epoch, or before every call. Only with
        ``early_stopping`` by a score, or in a stream with one.
    running_loss_ : float
        Of a stream with ``scoring``, the mean of ``validation_loss_curve_`` over the
        rows so far, by weight, where a row counts 1% less with every call that follows.
    running_score_ : float
        Likewise of ``validation_scores_``; a score that is NaN is left out.
    running_rows_ : float
        How many rows these are means of, each as it still counts.
    best_validation_score_ : float
        The highest of the last such fit, that of the weights it kept.
    best_iter_ : int
        The epoch, counted from 1, after which the weights that ``early_stopping`` kept
        did best; 0 if those that training began with did.
    step_curve_ : list of int
        Steps taken at the end of every epoch.
    time_curve_ : list of float
        Seconds of training at the end of every epoch.
    batch_loss_curve_ : ndarray of shape (n_steps,)
        Mean loss of every batch before its step, without the penalty: of the steps
        taken with ``record_batch_loss``.
    engine_ : {"torch", "numba"}
        What trained in the last call.
    estimators_ : list of MiniBatchClassifier
        The models, each as a fitted estimator of one model with its own
        ``random_state``. Only with ``n_models`` above 1; then they alone have weights,
        ``best_iter_`` and ``batch_loss_curve_``. Of the other attributes, counts are
        those of the model that was trained the longest, and numbers and curves are
        means over all, where one that has stopped counts with its last.
    n_features_in_ : int
        Features seen in ``fit``.
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Their names. Only if X had names, all of them strings.

    See Also
    --------
    MiniBatchRegressor : The same for numeric targets.

    Notes
    -----
    In the terms of scikit-learn, with n rows, or weights that sum to n, the same
    objective is minimised at ``alpha = 1 / (c n)`` by ``LogisticRegression(C=c)``, by
    ``LinearSVC(C=c)`` of the same loss, but for a penalty on its intercept, and with
    loss="hinge" and two classes by ``SVC(kernel="linear", C=c)``.

    ``SGDClassifier`` has the same ``alpha``, and ``lr`` for ``eta0``: its steps are
    those of ``batch_size=1`` and ``optimizer="sgd"``. ``MLPClassifier`` divides its
    ``alpha`` by the rows of a batch, and has ``lr`` for ``learning_rate_init``.

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

    __module__ = "skgd"  # its name in pickles and in what is printed

    _multilabel_: bool

    def __init__(
        self,
        *,
        loss: str = "log_loss",
        hidden_layer_sizes: Sequence[int] = (),
        activation: str = "relu",
        negative_slope: float = 0.01,
        init: str = "auto",
        dropout: float = 0.0,
        fit_intercept: bool = True,
        optimizer: str = "adam",
        lr: float | str = "auto",
        lr_schedule: str | Callable[[int], float] = "adaptive",
        power_t: float = 0.5,
        decay: float = 0.1,
        decay_every: int = 30,
        warmup_steps: int = 0,
        momentum: float = 0.0,
        nesterov: bool = False,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        max_grad_norm: float | None = None,
        average: bool | int = False,
        alpha: float = 1e-4,
        l1_ratio: float = 0.0,
        class_weight: Mapping[Any, float] | str | None = None,
        batch_size: int | None = 32,
        last_batch: str = "keep",
        shuffle: bool = True,
        max_iter: int = 200,
        max_time: float | None = None,
        tol: float | None = 1e-3,
        n_iter_no_change: int = 5,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        scoring: str | Callable[..., float] | None = None,
        warm_start: bool = False,
        record_batch_loss: bool = False,
        n_models: int = 1,
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
        engine: str = "auto",
        dtype: str | None = None,
        verbose: bool | int = False,
    ) -> None:
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.negative_slope = negative_slope
        self.init = init
        self.dropout = dropout
        self.fit_intercept = fit_intercept
        self.optimizer = optimizer
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.power_t = power_t
        self.decay = decay
        self.decay_every = decay_every
        self.warmup_steps = warmup_steps
        self.momentum = momentum
        self.nesterov = nesterov
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.max_grad_norm = max_grad_norm
        self.average = average
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.class_weight = class_weight
        self.batch_size = batch_size
        self.last_batch = last_batch
        self.shuffle = shuffle
        self.max_iter = max_iter
        self.max_time = max_time
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.scoring = scoring
        self.warm_start = warm_start
        self.record_batch_loss = record_batch_loss
        self.n_models = n_models
        self.random_state = random_state
        self.device = device
        self.engine = engine
        self.dtype = dtype
        self.verbose = verbose

    @numpy_as_usual
    @where_rows_lie
    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Pass once over the given rows, in mini-batches.

        Weights, optimizer state, step count and random stream go on from the last call.
        Fewer rows than ``batch_size`` are one batch. To a schedule of the learning rate
        a call counts as an epoch, however many rows it has: "cosine" and "one_cycle"
        are laid out over ``max_iter`` calls, or what a ``fit`` has left of them, and
        stay at their last rate, of about zero, from then on. ``max_iter`` has no other
        effect, and ``max_time``, ``tol`` and ``warm_start`` have none.

        Any number of threads may predict meanwhile, each by the model of before the
        call or of after it. But only one at a time may learn: of several that do, the
        last one to end leaves what it has learned, and the others leave nothing.

        With ``scoring``, the rows are judged before they are learned, which takes a
        prediction of them: see ``validation_scores_`` and ``running_score_``.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            The next rows of the stream.
        y : array-like of shape (n_samples,)
            Their labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that the stream will hold. Needed in the first call. If given
            again, it must hold all known ones, of the same kind, and others are added:
            their outputs start at zero, the known ones are told apart as before, and
            ``average`` begins anew. For several labels a row, ``range`` of their number
            adds labels at the end.
        sample_weight : array-like of shape (n_samples,), default=None
            What each row counts, 0 or more, used as given: the mean over the whole
            stream is unknown. Where no row counts, no step is taken; before the first
            step, that notes no more than the classes and the columns of X.
            class_weight="balanced" multiplies them by n / (c n_k), for n rows seen so
            far, these among them, and after ``fit`` its own; n_k are of the row's
            class, and c is the number of classes seen, for others are as if they had
            not been named. Rows seen before "balanced" was asked for are not counted.

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
        return self._partial_fit(X, y, classes, sample_weight)

    def _check_stream(
        self, y: ArrayLike, classes: ArrayLike | None, ranks: Ranks
    ) -> ArrayLike | None:
        """Return the classes on the host, or raise ValueError likewise."""
        classes = super()._check_stream(y, classes, ranks)
        shape = getattr(y, "shape", None) or np.shape(y)
        several_labels = len(shape) == 2 and shape[1] > 1
        if classes is None and not hasattr(self, "classes_") and not several_labels:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        on_the_host: ArrayLike | None = on_host("classes", classes)
        return on_the_host

    @of_one_state
    def decision_function(self, X: ArrayLike) -> Array:
        """Return the raw predictions, before the sigmoid or softmax.

        Those of an ensemble are such that its probabilities follow from them in the
        same way: the logit, or logarithm, of their mean, and with "modified_huber"
        2 p - 1. With a loss that has no probabilities they are means.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            Rows to predict.

        Returns
        -------
        scores : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            With two classes, a single score, positive for ``classes_[1]``; else one for
            every class or label.
        """
        z = like_input(self._raw_prediction(X)[0], X)
        return z[0] if self._has_one_score(z) else z.T

    @of_one_state
    def predict(self, X: ArrayLike) -> Array:
        """Predict the labels.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            Rows to predict.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_labels)
            The label of the highest score for each row; or 0 and 1 for each of several
            labels.
        """
        z = self._raw_prediction(X)[0]
        if self._classes().several_a_row:
            return labels_like_input(to_numpy(z.T > 0).astype(np.int64), X)
        # torch's argmax takes four to ten times as long as its maximum.
        numbers = z[0] > 0 if len(z) == 1 else z.max(dim=0).indices
        return labels_like_input(self.classes_[to_numpy(numbers).astype(np.intp)], X)

    def score(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return the accuracy of the predictions.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            Rows to predict.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Their labels.
        sample_weight : array-like of shape (n_samples,), default=None
            What each row counts.

        Returns
        -------
        score : float
            The share of rows whose label, or all of whose labels, are predicted.
        """
        return self._score_by(accuracy_score, X, y, sample_weight)

    @_OfProbabilities
    @of_one_state
    def predict_proba(self, X: ArrayLike) -> Array:
        """Return the probability of every class, or of each of several labels.

        Only with loss="log_loss" or "modified_huber".

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            Rows to predict.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes) or (n_samples, n_labels)
            Columns in the order of ``classes_``.
        """
        return like_input(self._probabilities(self._class_predictions(X))[0].T, X)

    @_OfProbabilities
    @of_one_state
    def predict_log_proba(self, X: ArrayLike) -> Array:
        """Return the logarithm of the probabilities, exact near 0 and 1.

        Only with loss="log_loss" or "modified_huber".

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            Rows to predict.

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, n_classes)
            Columns in the order of ``classes_``.
        """
        z = self._class_predictions(X)
        if self._is_one_against_rest():
            log_p = self._probabilities(z)[0].log()
        else:
            log_inverse_link = loss_of(self, self._classes()).log_inverse_link
            assert log_inverse_link is not None  # both losses have one
            log_p = log_inverse_link(z)[0]
        return like_input(log_p.T, X)

    def _raw_prediction(self, X: ArrayLike) -> Tensor:
        """Return scores (1, o, n): of an ensemble, as a model of its probabilities has.

        So labels, scores and probabilities follow from each other as those of one do.
        """
        z = self._raw_predictions(X)
        if len(z) == 1:
            return z
        loss = loss_of(self, self._classes())
        if loss.inverse_link is not None and self._is_one_against_rest():
            return self._probabilities(z).mean(0, keepdim=True) * 2 - 1
        return loss.joint(z)

    def _probabilities(self, z: Tensor) -> Tensor:
        """Return the probability of every class or label, (m, o, n)."""
        inverse_link = loss_of(self, self._classes()).inverse_link
        assert inverse_link is not None  # both losses with probabilities have one
        p = inverse_link(z)
        if not self._is_one_against_rest():
            return p
        total = p.sum(1, keepdim=True)  # where all of them are 0, all classes are alike
        return torch.where(total > 0, p / total, 1 / p.shape[1])

    def _is_one_against_rest(self) -> bool:
        """Return whether the probabilities of the outputs need not add up to 1."""
        return self._classes().is_one_against_rest(self.loss)

    def _class_predictions(self, X: ArrayLike) -> Tensor:
        """Return a raw prediction for every class or label, (1, o, n)."""
        z = self._raw_prediction(X)
        if self._has_one_score(z[0]):  # sigmoid(-z) is 1 - sigmoid(z), and exact
            return torch.cat([-z, z], dim=1)
        return z

    def _classes(self) -> Classes:
        """Return what was learnt of y."""
        classes = known_targets(self)
        assert isinstance(classes, Classes)
        return classes

    def _has_one_score(self, z: Tensor | Array) -> bool:
        """Return whether two classes share the one score of z, (o, n)."""
        return len(z) == 1 and not self._classes().several_a_row

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
