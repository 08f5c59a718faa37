"""The loss around a model, drawn, with the way of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from skgd._displays.axes import axes_and_figure, check_choice, transform_and_model
from skgd._estimators.callbacks import Trajectory, WeightTrajectory
from skgd._estimators.classifier import MiniBatchClassifier
from skgd._estimators.landscape import objectives_at
from skgd._estimators.regressor import MiniBatchRegressor
from skgd._estimators.weights import flat_weights
from skgd._machine.arrays import Array
from skgd._machine.modes import numpy_as_usual


class LossSurfaceDisplay:
    """The loss over a plane through the weights of a model, and its way down.

    The loss is the objective that the estimator minimises, penalty included, over all
    of the given data. Make it by ``from_estimator``.

    Parameters
    ----------
    xx0, xx1 : ndarray of shape (n, n)
        Coordinates of the grid, as of ``numpy.meshgrid``.
    loss : ndarray of shape (n, n)
        The loss there.
    fitted : tuple of two floats
        Where the fitted model is.
    path : ndarray of shape (n_records, 2), default=None
        The way of its weights, from the start to the end.
    labels : tuple of two str, default=("", "")
        Labels of the axes.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        The figure of ``ax_``.
    surface_ : matplotlib artist
        The surface: contours or a mesh.
    path_line_ : matplotlib Line2D or None
        The path.
    start_, end_ : matplotlib Line2D or None
        The marks of its start, and of its end or of the fitted model.

    See Also
    --------
    WeightTrajectory : Records the path of a fit.
    LossCurveDisplay : The loss epoch by epoch.

    References
    ----------
    Li et al., "Visualizing the loss landscape of neural nets", NeurIPS 2018,
    https://arxiv.org/abs/1712.09913.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.preprocessing import scale
    >>> from skgd import LossSurfaceDisplay, MiniBatchRegressor, WeightTrajectory
    >>> X, y = load_diabetes(return_X_y=True)
    >>> X, y = scale(X[:, 2:4]), scale(y)
    >>> recorder = WeightTrajectory()
    >>> model = MiniBatchRegressor(max_iter=5, tol=None).set_callbacks(recorder)
    >>> display = LossSurfaceDisplay.from_estimator(
    ...     model.fit(X, y), X, y,
    ...     trajectory=recorder.trajectories_[-1], coefficients=(0, 1),
    ... )
    >>> display.path.shape
    (6, 2)
    """

    __module__ = "skgd"  # its name in pickles and in what is printed

    def __init__(
        self,
        *,
        xx0: Array,
        xx1: Array,
        loss: Array,
        fitted: tuple[float, float],
        path: Array | None = None,
        labels: tuple[str, str] = ("", ""),
    ) -> None:
        self.xx0 = xx0
        self.xx1 = xx1
        self.loss = loss
        self.fitted = fitted
        self.path = path
        self.labels = labels

    @classmethod
    @numpy_as_usual
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        trajectory: Trajectory | None = None,
        coefficients: tuple[int | str, int | str] | None = None,
        span: Any = "auto",
        grid_resolution: int = 60,
        plot_method: str = "contourf",
        ax: Any = None,
        **surface_kw: Any,
    ) -> Self:
        """Compute the loss over a plane, and draw it.

        Parameters
        ----------
        estimator : estimator
            A fitted MiniBatchRegressor or MiniBatchClassifier, a pipeline that ends in
            one, which then transforms X, or a search whose best estimator is either.
        X : array-like of shape (n_samples, n_features)
            The data that the loss is computed on.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Their targets.
        sample_weight : array-like of shape (n_samples,), default=None
            What each row counts, as in ``fit``.
        trajectory : Trajectory, default=None
            The recorded path of the fit, from ``WeightTrajectory``.
        coefficients : tuple of two, default=None
            The plane of two weights of a linear model, the others as fitted. An int
            counts through ``coef_``, row by row; "intercept" is the intercept of a
            model with one output. None takes, with a trajectory, its first two
            principal components, in a plane through its end; else (0, 1), or
            (0, "intercept") where there is a single coefficient.
        span : "auto" or sequence of two (low, high), default="auto"
            What part of the plane to draw, in the units of the axes. "auto" surrounds
            the path, or else zero and the fitted weights.
        grid_resolution : int, default=60
            Points of the grid along each axis.
        plot_method : {"contourf", "contour", "pcolormesh"}, default="contourf"
            How to draw the surface.
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.
        **surface_kw : dict
            Passed on to that method of the Axes.

        Returns
        -------
        display : LossSurfaceDisplay
            The display, drawn.
        """
        transform, model = transform_and_model(estimator)
        if not isinstance(model, MiniBatchRegressor | MiniBatchClassifier):
            msg = (
                "estimator must be a MiniBatchRegressor or MiniBatchClassifier, or end "
                f"in one. Got {type(model).__name__}."
            )
            raise TypeError(msg)
        check_is_fitted(model)
        model = copy(model)  # which may be learning on
        _check_is_one(model)
        weights = flat_weights(model).astype(float)
        path = None if trajectory is None else _checked_path(trajectory, weights)
        if path is not None and coefficients is None:
            plane = _principal_plane(path)
        else:
            plane = _plane_of_coefficients(model, weights, coefficients)
        fitted = (weights - plane.origin) @ plane.directions.T
        if path is not None:
            path = (path - plane.origin) @ plane.directions.T
        sides = _sides(fitted, path) if span == "auto" else span
        xx0, xx1 = np.meshgrid(
            *[np.linspace(low, high, grid_resolution) for low, high in sides]
        )
        loss = objectives_at(
            model,
            X if transform is None else transform.transform(X),
            y,
            sample_weight,
            origin=plane.origin,
            directions=plane.directions,
            coordinates=np.stack([xx0.ravel(), xx1.ravel()], axis=1),
        )
        display = cls(
            xx0=xx0,
            xx1=xx1,
            loss=loss.reshape(xx0.shape),
            fitted=tuple(fitted.tolist()),
            path=path,
            labels=plane.labels,
        )
        return display.plot(ax, plot_method=plot_method, surface_kw=surface_kw)

    @numpy_as_usual
    def plot(
        self,
        ax: Any = None,
        *,
        plot_method: str = "contourf",
        surface_kw: Mapping[str, Any] | None = None,
        path_kw: Mapping[str, Any] | None = None,
        colorbar: bool = True,
    ) -> Self:
        """Draw the surface and the path.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.
        plot_method : {"contourf", "contour", "pcolormesh"}, default="contourf"
            How to draw the surface. The levels are narrow near the lowest loss.
        surface_kw : dict, default=None
            Passed on to that method of the Axes.
        path_kw : dict, default=None
            Passed on to ``Axes.plot`` for the path.
        colorbar : bool, default=True
            Whether a bar tells what loss a colour is.

        Returns
        -------
        self : LossSurfaceDisplay
            The display.
        """
        check_choice("plot_method", plot_method, ("contourf", "contour", "pcolormesh"))
        self.ax_, self.figure_ = axes_and_figure("LossSurfaceDisplay", ax)
        kw = _shades(self.loss)
        if plot_method == "pcolormesh":
            kw.pop("levels")
        if plot_method == "contour":  # pale lines are lost on white
            kw["cmap"] = "viridis"
        kw |= surface_kw or {}
        draw = getattr(self.ax_, plot_method)
        self.surface_ = draw(self.xx0, self.xx1, np.ma.masked_invalid(self.loss), **kw)
        if colorbar:
            self.figure_.colorbar(
                self.surface_, ax=self.ax_, label="loss", format="%.3g"
            )
        self._draw_path(path_kw or {})
        self.ax_.set(xlabel=self.labels[0], ylabel=self.labels[1])
        self.ax_.legend(fontsize="small")
        return self

    def _draw_path(self, path_kw: Mapping[str, Any]) -> None:
        """Draw the path, and mark its start and end."""
        self.path_line_ = self.start_ = None
        mark = {"linestyle": "none", "markeredgecolor": "black", "zorder": 3}
        if self.path is not None:
            line = {"color": "tab:red", "linewidth": 1.2, "label": "path"}
            kw = {**line, "marker": ".", "markersize": 4, **path_kw}
            [self.path_line_] = self.ax_.plot(*self.path.T, **kw)
            white = {"marker": "o", "markersize": 8, "color": "white"}
            [self.start_] = self.ax_.plot(*self.path[0], label="start", **white, **mark)
        label = "fitted" if self.path is None else "end"
        star = {"marker": "*", "markersize": 14, "color": "gold"}
        [self.end_] = self.ax_.plot(*self.fitted, label=label, **star, **mark)


class _Plane(NamedTuple):
    """A plane in the space of the weights."""

    origin: Array  # (n_weights,)
    directions: Array  # (2, n_weights), orthonormal
    labels: tuple[str, str]


def _principal_plane(path: Array) -> _Plane:
    """Return the plane through the end of a path along which it varies most."""
    if path.shape[1] < 2:
        raise ValueError("A plane needs a model of two weights or more. Got one.")
    _, scales, directions = np.linalg.svd(path - path.mean(axis=0), full_matrices=False)
    shares = np.square(scales) / max(np.square(scales).sum(), np.finfo(float).tiny)
    # a direction points towards the start, whatever sign the decomposition gave it
    signs = np.where((path[0] - path[-1]) @ directions[:2].T < 0, -1, 1)
    labels = [
        f"{which} principal component ({share:.1%} of the variance)"
        for which, share in zip(("first", "second"), shares, strict=False)
    ]
    return _Plane(
        path[-1], signs[:, np.newaxis] * directions[:2], (labels[0], labels[1])
    )


def _plane_of_coefficients(
    model: Any, weights: Array, coefficients: tuple[int | str, int | str] | None
) -> _Plane:
    """Return the plane of two weights of a linear model."""
    if not hasattr(model, "coef_"):
        msg = (
            "The loss of a network is drawn in the plane of its path; pass the "
            "trajectory that WeightTrajectory recorded, without coefficients."
        )
        raise ValueError(msg)
    if coefficients is None:
        coefficients = (0, 1) if model.coef_.size > 1 else (0, "intercept")
    first, second = (_place(model, coefficient) for coefficient in coefficients)
    if first == second:
        msg = f"coefficients must be two different ones. Got {coefficients!r}."
        raise ValueError(msg)
    origin, directions = weights.copy(), np.zeros((2, len(weights)))
    origin[[first, second]] = 0.0  # so coordinates are the weights themselves
    directions[[0, 1], [first, second]] = 1.0
    return _Plane(origin, directions, (_label(model, first), _label(model, second)))


def _place(model: Any, coefficient: int | str) -> int:
    """Return the place of a coefficient, or of the intercept, among all weights."""
    size: int = model.coef_.size
    if coefficient == "intercept" and len(model.intercept_) == 1:
        return size
    if not isinstance(coefficient, str) and -size <= coefficient < size:
        return int(coefficient) % size
    msg = (
        f"coefficients must be ints below {size}, counted through coef_, or "
        f"'intercept' of a model with one output. Got {coefficient!r}."
    )
    raise ValueError(msg)


def _label(model: Any, place: int) -> str:
    """Return what an axis calls a weight."""
    if place == model.coef_.size:
        return "intercept"
    *output, feature = np.unravel_index(place, model.coef_.shape)
    names = getattr(model, "feature_names_in_", None)
    of = f"feature {feature}" if names is None else names[feature]
    several = len(np.atleast_2d(model.coef_)) > 1
    return f"weight of {of}" + (f" for output {output[0]}" if several else "")


def _check_is_one(model: Any) -> None:
    """Refuse an ensemble, whose models have weights of their own."""
    if hasattr(model, "estimators_"):
        msg = (
            "estimator must be one model. Got an ensemble of "
            f"{len(model.estimators_)}; pass one of its estimators_."
        )
        raise ValueError(msg)


def _checked_path(trajectory: Any, weights: Array) -> Array:
    """Return the weights of a trajectory of this model."""
    if isinstance(trajectory, WeightTrajectory):
        msg = (
            "trajectory must be that of one fit. Got a WeightTrajectory, which has "
            f"recorded {len(trajectory.trajectories_)} fits; pass .trajectories_[-1] "
            "of it for the last one."
        )
        raise TypeError(msg)
    path = np.asarray(getattr(trajectory, "weights", np.empty((0, 0))), dtype=float)
    if path.ndim != 2 or len(path) < 2 or path.shape[1] != len(weights):
        msg = (
            f"trajectory must hold two or more records of the {len(weights)} weights "
            f"of this model, as those of WeightTrajectory.trajectories_. Got "
            f"{type(trajectory).__name__} of shape {path.shape}."
        )
        raise ValueError(msg)
    return path


def _sides(fitted: Array, path: Array | None) -> list[tuple[float, float]]:
    """Return the part of a plane that surrounds the path, or zero and the weights."""
    if path is None:
        half = np.where(fitted == 0, 1.0, 1.5 * np.abs(fitted))
        low, high = fitted - half, fitted + half
    else:
        points = np.vstack([path, fitted])
        low, high = points.min(axis=0), points.max(axis=0)
        lengths = high - low
        margin = 0.2 * np.maximum(lengths, 0.25 * lengths.max())
        margin[margin == 0] = 1.0
        low, high = low - margin, high + margin
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _shades(loss: Array) -> dict[str, Any]:
    """Return levels and colours that are finer near the lowest loss.

    Their distances grow evenly, so the contours of a bowl are equally far apart.
    """
    from matplotlib.colors import PowerNorm

    low, high = np.nanmin(loss), np.nanmax(loss)
    if not low < high:
        return {"levels": 1, "cmap": "Blues_r"}
    levels = low + (high - low) * np.linspace(0, 1, 26) ** 2
    return {
        "levels": levels,
        "norm": PowerNorm(0.5, vmin=low, vmax=high),
        "cmap": "Blues_r",
    }
