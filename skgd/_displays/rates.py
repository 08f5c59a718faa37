"""The learning-rate range test: what a few epochs come to at each of many rates."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from skgd._displays.axes import DECADE, axes_and_figure, legend_above, thin_ticks
from skgd._estimators.blocks import check_in_memory
from skgd._estimators.checks import check_given
from skgd._estimators.classifier import MiniBatchClassifier
from skgd._estimators.landscape import objectives_at
from skgd._estimators.parallel import check_alone
from skgd._estimators.parameters import check_parameters
from skgd._estimators.regressor import MiniBatchRegressor
from skgd._estimators.weights import flat_weights
from skgd._machine.arrays import Floats
from skgd._machine.modes import numpy_as_usual
from skgd._search.pipelines import last_step
from skgd._search.stacks import Outcome, TrainingSplit, fit_together

# Four rates a decade, from where hardly any model moves to where most diverge.
_LOWEST, _HIGHEST, _N_RATES = 1e-5, 10.0, 25

# Losses so many times that of the lowest rate, which hardly moves, leave the picture.
_FAR_UP = 10.0

# Below the lowest loss, so much of what the axes span is left free.
_MARGIN = 0.05


class LearningRateDisplay:
    """Learning-rate range test: the objective after a few epochs at each of many rates.

    Make it by ``from_estimator``. Every rate has a model of its own, and all of them
    begin with the same weights, see the same rows in the same order and are trained
    together. In the test of Smith (2017) a single model is trained at a rate that grows
    from step to step, so what a rate shows is also the work, or the damage, of those
    before it; here no rate knows of another.

    Parameters
    ----------
    lrs : ndarray of shape (n_rates,)
        The learning rates, in ascending order.
    losses : ndarray of shape (n_rates,)
        What each comes to: the objective over all rows after training, ``inf`` where
        training diverged.
    max_iter : int, default=None
        The epochs that were trained for, which a label tells.

    Attributes
    ----------
    best_lr_ : float or None
        The rate of the lowest loss, for so few epochs; None if all have diverged.
    ax_ : matplotlib Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        The figure of ``ax_``.
    line_ : matplotlib Line2D
        The losses.
    best_ : matplotlib Line2D or None
        The mark of ``best_lr_``.
    diverged_ : matplotlib Line2D or None
        The marks, at the upper edge, of the rates at which training diverged.

    See Also
    --------
    SearchDisplay : Scores of unseen rows over the rates of a search.
    LossCurveDisplay : The loss epoch by epoch.

    Notes
    -----
    The rate of the lowest loss is best for so few epochs on these rows, and no more is
    claimed for it: longer training often does better at a lower rate, and at one near
    those that diverge a little less luck is enough to diverge. So take it for the upper
    end of a search, or go somewhat below it.

    References
    ----------
    Smith, "Cyclical learning rates for training neural networks", WACV 2017,
    https://arxiv.org/abs/1506.01186, section 3.3.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skgd import LearningRateDisplay, MiniBatchClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MiniBatchClassifier(optimizer="sgd", random_state=0)
    >>> display = LearningRateDisplay.from_estimator(
    ...     model, X, y, lrs=[1e-4, 1e-2, 1e2]
    ... )
    >>> display.best_lr_
    0.01
    """

    __module__ = "skgd"  # its name in pickles and in what is printed

    def __init__(
        self, *, lrs: Floats, losses: Floats, max_iter: int | None = None
    ) -> None:
        self.lrs = lrs
        self.losses = losses
        self.max_iter = max_iter

    @classmethod
    @numpy_as_usual
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike,
        *,
        lrs: ArrayLike | None = None,
        max_iter: int = 5,
        sample_weight: ArrayLike | None = None,
        ax: Any = None,
        **line_kw: Any,
    ) -> Self:
        """Train a clone at every rate for a few epochs, all together, and draw.

        All of X is trained on for all of the epochs: there is no early stopping, and
        no rule, clock or callback ends the training. A schedule that spans a fit, such
        as "one_cycle", spans these epochs. Of an ensemble, its first model is trained.
        The estimator is left as it is.

        Parameters
        ----------
        estimator : estimator
            A MiniBatchRegressor or MiniBatchClassifier, fitted or not, or a Pipeline
            that ends in one, whose other steps are fitted on all of X first.
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            The rows to train on.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Their targets, or labels.
        lrs : array-like of shape (n_rates,), default=None
            The rates, numbers above zero. None takes 25 from 1e-5 to 10, four a decade.
        max_iter : int >= 1, default=5
            Epochs for each of them. More tell better which rate is best in the end, and
            take longer.
        sample_weight : array-like of shape (n_samples,), default=None
            What each row counts, as in ``fit``, for the last step of a Pipeline.
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.
        **line_kw : dict
            Passed on to ``Axes.plot``.

        Returns
        -------
        display : LearningRateDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If a parameter or the data are not what they must be, or if training
            diverges at every rate.
        """
        check_alone("LearningRateDisplay")
        check_given("X", X)
        check_given("y", y)
        check_in_memory("X", X)
        rates = _checked_rates(lrs)
        last = _trainee(estimator, max_iter)
        rows = _before_last(estimator, X, y)
        outcomes = _outcomes(last, rates, rows, y, sample_weight)
        losses = _losses(outcomes, rows, y, sample_weight)
        if not np.isfinite(losses).any():
            msg = (
                "lrs must hold a rate at which training does not diverge. Got "
                f"{len(rates)} from {rates[0]:.3g} to {rates[-1]:.3g}, and all "
                "diverged; try lower ones, and standardise X."
            )
            raise ValueError(msg)
        display = cls(lrs=rates, losses=losses, max_iter=max_iter)
        return display.plot(ax, line_kw=line_kw)

    @numpy_as_usual
    def plot(self, ax: Any = None, *, line_kw: Mapping[str, Any] | None = None) -> Self:
        """Draw the losses over the rates.

        Losses that are far above that of the lowest rate leave the axes at the top.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.
        line_kw : dict, default=None
            Passed on to ``Axes.plot``.

        Returns
        -------
        self : LearningRateDisplay
            The display.
        """
        self.ax_, self.figure_ = axes_and_figure("LearningRateDisplay", ax)
        trained = np.isfinite(self.losses)
        losses = np.where(trained, self.losses, np.nan)
        style = {"marker": "o", "markersize": 4, "linewidth": 1.8}
        [self.line_] = self.ax_.plot(self.lrs, losses, **style | dict(line_kw or {}))
        self.ax_.set_xscale("log")
        low, high = _limits(losses[trained])
        if 0 < DECADE * low <= high:
            self.ax_.set_yscale("log")
        self.best_lr_: float | None = None
        self.best_ = self.diverged_ = None
        if trained.any():
            self._mark_the_best(int(np.nanargmin(losses)))
            self._cut_off_above(low, high)
        if not trained.all():
            self._mark_the_diverged(self.lrs[~trained])
        if self.ax_.get_yscale() == "log":
            thin_ticks(self.ax_)
        epochs = "" if self.max_iter is None else f"\nafter {self.max_iter} epochs"
        self.ax_.set(xlabel="learning rate, lr", ylabel=f"training objective{epochs}")
        self.ax_.grid(alpha=0.3)
        legend_above(self.ax_)
        return self

    def _mark_the_best(self, n: int) -> None:
        """Mark the rate of the lowest loss."""
        self.best_lr_ = float(self.lrs[n])
        star = {"marker": "*", "markersize": 14, "color": "gold", "linestyle": "none"}
        [self.best_] = self.ax_.plot(
            self.best_lr_,
            self.losses[n],
            label=f"lowest, lr={self.best_lr_:.3g}",
            markeredgecolor="black",
            zorder=3,
            **star,
        )

    def _cut_off_above(self, low: float, high: float) -> None:
        """Let losses beyond a height leave the axes at the top, which end below low."""
        if np.max(self.losses, where=np.isfinite(self.losses), initial=high) > high:
            is_log = self.ax_.get_yscale() == "log"
            below = low * (low / high) ** _MARGIN if is_log else low - _MARGIN * high
            self.ax_.set_ylim(min(below, low), high)

    def _mark_the_diverged(self, lrs: Floats) -> None:
        """Mark rates at the upper edge, which belong to no height."""
        cross = {"marker": "x", "color": "tab:red", "linestyle": "none"}
        [self.diverged_] = self.ax_.plot(
            lrs,
            np.ones(len(lrs)),
            transform=self.ax_.get_xaxis_transform(),
            clip_on=False,
            label="diverged",
            zorder=3,
            **cross,
        )


def _checked_rates(lrs: ArrayLike | None) -> Floats:
    """Return the rates in ascending order, or raise ValueError."""
    if lrs is None:
        return np.geomspace(_LOWEST, _HIGHEST, _N_RATES)
    try:
        rates = np.sort(np.asarray(lrs, dtype=np.float64))
    except (TypeError, ValueError):
        rates = np.empty(0)
    if rates.ndim != 1 or not len(rates) or not np.all((rates > 0) & (rates < np.inf)):
        msg = (
            "lrs must be a list of finite numbers above zero. Got "
            f"{np.array2string(np.asarray(lrs, dtype=object), threshold=6)}."
        )
        raise ValueError(msg)
    return rates


def _trainee(estimator: Any, max_iter: int) -> Any:
    """Return a clone of the last step that trains for so many epochs, or raise."""
    _, last = last_step(estimator)
    if type(last) not in (MiniBatchClassifier, MiniBatchRegressor):
        msg = (
            "estimator must be a MiniBatchRegressor or MiniBatchClassifier, or a "
            f"Pipeline that ends in one. Got {type(last).__name__}."
        )
        raise TypeError(msg)
    if last.lr_schedule == "optimal":
        msg = (
            "estimator must train at the rate lr. Got lr_schedule='optimal', which "
            "takes none; give another."
        )
        raise ValueError(msg)
    of_test = {"max_iter": max_iter, "tol": None, "early_stopping": False}
    trainee = clone(last).set_params(n_models=1, **of_test)
    check_parameters(trainee)
    return trainee


def _before_last(estimator: Any, X: ArrayLike, y: ArrayLike) -> Any:
    """Return what the last step gets to see of X, all steps before it being fitted."""
    while type(estimator) is Pipeline:
        if len(estimator) > 1:
            X = clone(estimator[:-1]).fit_transform(X, y)
        estimator = estimator[-1]
    return X


def _outcomes(
    settings: Any, rates: Floats, X: Any, y: ArrayLike, sample_weight: ArrayLike | None
) -> list[Outcome]:
    """Return what has come of an estimator at each of the rates, in their order."""
    candidates = [clone(settings).set_params(lr=lr) for lr in rates.tolist()]
    split = TrainingSplit(X, y, sample_weight, None, asked=list)
    trained = fit_together(
        candidates, [split], watching=lambda models, data, shared: nullcontext()
    )
    outcomes = sorted(trained, key=lambda outcome: outcome.candidate)
    for outcome in outcomes:
        if outcome.error is not None and not outcome.history.diverged:
            raise outcome.error
    return outcomes


def _losses(
    outcomes: list[Outcome], X: Any, y: ArrayLike, sample_weight: ArrayLike | None
) -> Floats:
    """Return the objective of each model over all rows, inf where it has diverged."""
    losses = np.full(len(outcomes), np.inf)
    kept = [n for n, outcome in enumerate(outcomes) if outcome.error is None]
    if kept:
        weights = np.stack([flat_weights(outcomes[n].estimator) for n in kept])
        found = objectives_at(
            outcomes[kept[0]].estimator,
            X,
            y,
            sample_weight,
            origin=np.zeros(weights.shape[1]),
            directions=weights.astype(np.float64),
            coordinates=np.eye(len(kept)),
        )
        losses[kept] = np.where(np.isfinite(found), found, np.inf)
    return losses


def _limits(losses: Floats) -> tuple[float, float]:
    """Return the lowest loss, and the height at which others leave the picture."""
    if not len(losses):
        return 0.0, 0.0
    first = losses[0]
    far_up = first + (_FAR_UP - 1) * abs(first)
    return float(losses.min()), float(min(losses.max(), far_up))
