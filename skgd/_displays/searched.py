"""The scores of a search over one or two of its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, NamedTuple, NoReturn, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skgd._displays.axes import DECADE, axes_and_figure, check_choice, legend_above
from skgd._displays.labels import differing, is_number, short_keys, short_value
from skgd._estimators.sklearn_private import BaseSearchCV
from skgd._machine.arrays import Array, Floats
from skgd._machine.modes import numpy_as_usual

# Of all scores, this share is as bad as the worst colour says.
_WORST_SHARE = 0.1

# A heat map has candidates in this share of its cells, at the least; fewer are points.
_FILLED = 0.5

# The width of a letter, as a part of the size of its font, on average.
_OF_A_LETTER = 0.65


class SearchDisplay:
    """Scores of a search over one or two of its parameters.

    Make it by ``from_search``. Over two parameters it is a heat map where the
    candidates are a grid, and else a point for each; over one, points with error bars.

    Parameters
    ----------
    x : list of length n_points
        The value of the first parameter, for each point.
    scores : ndarray of shape (n_points,)
        The score of each point, NaN where there is none.
    y : list of length n_points, default=None
        The value of the second parameter; None if there is one only.
    errors : ndarray of shape (n_points,), default=None
        What an error bar goes up and down, for a single parameter.
    x_label, y_label, score_label : str, default=""
        What the two parameters, and the score, are called.
    connected : bool, default=True
        Whether the points of a single parameter of numbers are joined by a line.
    best : int, default=None
        The point that is marked as the best. None marks that of the highest score.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        The figure of ``ax_``.
    artist_ : matplotlib artist
        What is drawn: a QuadMesh, a PathCollection, or an ErrorbarContainer.
    best_ : matplotlib Line2D or None
        The mark of the best point, None if there is no score.
    failed_ : matplotlib Line2D or None
        The marks of points without a score; in a heat map such a cell is grey.
    colorbar_ : matplotlib Colorbar or None
        What the colours tell, over two parameters.

    See Also
    --------
    LossCurveDisplay : The loss curves of the candidates, epoch by epoch.
    LearningRateDisplay : The objective after a few epochs at many rates.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skgd import MiniBatchClassifier, SearchDisplay, VectorizedGridSearchCV
    >>> model = MiniBatchClassifier(max_iter=5, tol=None, random_state=0)
    >>> grid = {"lr": [0.001, 0.01, 0.1], "alpha": [1e-4, 1e-2]}
    >>> search = VectorizedGridSearchCV(model, grid)
    >>> search = search.fit(*load_iris(return_X_y=True))
    >>> display = SearchDisplay.from_search(search, x="lr", y="alpha")
    >>> display.colorbar_.ax.get_ylabel()
    'mean test score'
    """

    __module__ = "skgd"  # its name in pickles and in what is printed

    def __init__(
        self,
        *,
        x: Sequence[Any],
        scores: Floats,
        y: Sequence[Any] | None = None,
        errors: Floats | None = None,
        x_label: str = "",
        y_label: str = "",
        score_label: str = "",
        connected: bool = True,
        best: int | None = None,
    ) -> None:
        self.x = x
        self.scores = scores
        self.y = y
        self.errors = errors
        self.x_label = x_label
        self.y_label = y_label
        self.score_label = score_label
        self.connected = connected
        self.best = best

    @classmethod
    @numpy_as_usual
    def from_search(
        cls,
        search: Any,
        x: str | None = None,
        y: str | None = None,
        *,
        score: str = "mean_test_score",
        ax: Any = None,
        **kw: Any,
    ) -> Self:
        """Draw the scores of a search over one or two of its parameters.

        Where candidates differ in other parameters as well, the best of them counts,
        and the label of the score says so: a point is ``max`` over all candidates that
        share its values. Candidates that do not set a parameter are left out. Of a
        search that halves, each candidate counts with its last round. A star marks what
        the search has chosen, or the highest score where it has chosen by another one.

        Parameters
        ----------
        search : search
            A fitted search of skgd or scikit-learn, or any other that has its
            parameters in ``cv_results_``.
        x, y : str, default=None
            The parameters of the horizontal and of the vertical axis, with or without
            what comes before the last "__". With ``x`` alone there is one. Without
            either, the first two in which the candidates differ.
        score : str, default="mean_test_score"
            Which mean of ``cv_results_``; "mean_test_r2", say, of several scorers. The
            error bars are the standard deviation over the splits.
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.
        **kw : dict
            Passed on to ``Axes.errorbar``, ``pcolormesh`` or ``scatter``.

        Returns
        -------
        display : SearchDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If there is no such parameter or score, or nothing in which the candidates
            differ.
        """
        if not hasattr(search, "cv_results_"):
            _refuse(search)
        results = search.cv_results_
        _check_score(score, results)
        rows, params = _last_rounds(search)
        axes, others = _axes_and_others(params, x, y)
        short = short_keys(list(dict.fromkeys(key for some in params for key in some)))
        label = score.replace("_", " ")
        if others:
            label += f",\nbest over {', '.join(short[key] for key in others)}"
        scores = np.asarray(results[score], dtype=float)[rows]
        points = _points(params, axes)
        ranked = np.where(np.isfinite(scores), scores, -np.inf)
        best = [max(few, key=lambda n: ranked[n]) for few in points]
        winner = _winner(search, score)
        errors = np.asarray(results[score.replace("mean", "std", 1)], dtype=float)[rows]
        of_axes = [[params[n][key] for n in best] for key in axes]
        labels = [short[key] for key in axes]
        display = cls(
            x=of_axes[0],
            scores=scores[best],
            y=of_axes[1] if len(axes) == 2 else None,
            errors=errors[best],
            x_label=labels[0],
            y_label=labels[-1] if len(axes) == 2 else "",
            score_label=label,
            connected=not others or 2 * len(best) <= len(params),
            best=next((n for n, few in enumerate(points) if winner in rows[few]), None),
        )
        return display.plot(ax, kw=kw)

    @numpy_as_usual
    def plot(self, ax: Any = None, *, kw: Mapping[str, Any] | None = None) -> Self:
        """Draw the scores.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.
        kw : dict, default=None
            Passed on to ``Axes.errorbar``, ``pcolormesh`` or ``scatter``.

        Returns
        -------
        self : SearchDisplay
            The display.
        """
        self.ax_, self.figure_ = axes_and_figure("SearchDisplay", ax)
        self.best_ = self.failed_ = self.colorbar_ = None
        if self.y is None:
            self._draw_points(kw or {})
        else:
            self._draw_colours(self.y, kw or {})
        legend_above(self.ax_)
        return self

    def _draw_points(self, kw: Mapping[str, Any]) -> None:
        """Draw the scores over a single parameter, with error bars."""
        x = _axis_of(self.x)
        order, scored = np.argsort(x.places, kind="stable"), np.isfinite(self.scores)
        order = order[scored[order]]
        joined = self.connected and x.labels is None
        style = {"marker": "o", "linestyle": "-" if joined else "none", "capsize": 3}
        self.artist_ = self.ax_.errorbar(
            x.places[order],
            self.scores[order],
            yerr=None if self.errors is None else self.errors[order],
            **style | dict(kw),
        )
        _write_axis(self.ax_, "x", x)
        self.ax_.set(xlabel=self.x_label, ylabel=self.score_label)
        self.ax_.grid(alpha=0.3)
        on_the_edge = self.ax_.get_xaxis_transform()
        failed = x.places[~scored]
        self._mark_failed(failed, np.zeros(len(failed)), transform=on_the_edge)
        self._mark_the_best(x.places, self.scores)

    def _draw_colours(self, y_values: Sequence[Any], kw: Mapping[str, Any]) -> None:
        """Draw the scores over two parameters, as cells or as points in colours."""
        x, y = _cells_of(self.x), _cells_of(y_values)
        in_cells = _are_a_grid(x, y)
        if not in_cells:
            x, y = _axis_of(self.x), _axis_of(y_values)
        scored = np.isfinite(self.scores)
        style = {"cmap": "viridis_r"}  # the high ones are the dark ones
        style |= _limits(self.scores[scored]) | dict(kw)
        if in_cells:
            self.artist_ = self._draw_cells(x, y, style)
        else:
            places = x.places[scored], y.places[scored]
            self.artist_ = self.ax_.scatter(*places, c=self.scores[scored], **style)
            self.ax_.grid(alpha=0.3)
            self._mark_failed(x.places[~scored], y.places[~scored])
        _write_axis(self.ax_, "x", x)
        _write_axis(self.ax_, "y", y)
        self.ax_.set(xlabel=self.x_label, ylabel=self.y_label)
        self.colorbar_ = self.figure_.colorbar(
            self.artist_, ax=self.ax_, label=self.score_label, extend="min"
        )
        self._mark_the_best(x.places, y.places)

    def _draw_cells(self, x: _Axis, y: _Axis, style: Mapping[str, Any]) -> Any:
        """Draw a heat map, grey where there is no score."""
        n_x, n_y = len(x.labels or ()), len(y.labels or ())
        grid = np.full((n_y, n_x), np.nan)
        grid[y.places.astype(int), x.places.astype(int)] = self.scores
        self.ax_.set_facecolor("0.8")
        edges = np.arange(n_x + 1) - 0.5, np.arange(n_y + 1) - 0.5
        return self.ax_.pcolormesh(*edges, np.ma.masked_invalid(grid), **style)

    def _mark_failed(self, x: Floats, y: Floats, **where: Any) -> None:
        """Mark points without a score."""
        if len(x):
            cross = {"marker": "x", "color": "tab:red", "linestyle": "none"}
            [self.failed_] = self.ax_.plot(
                x, y, label="no score", clip_on=False, **cross, **where
            )

    def _mark_the_best(self, x: Floats, y: Floats) -> None:
        """Mark the point of the highest score."""
        if not np.isfinite(self.scores).any():
            return
        n = int(np.nanargmax(self.scores)) if self.best is None else self.best
        star = {"marker": "*", "markersize": 14, "color": "gold", "linestyle": "none"}
        [self.best_] = self.ax_.plot(
            x[n],
            y[n],
            label=f"best, {self.scores[n]:.4g}",
            markeredgecolor="black",
            zorder=3,
            **star,
        )


class _Axis(NamedTuple):
    """Where the values of a parameter stand on an axis."""

    places: Floats  # (n_points,)
    labels: list[str] | None = None  # of the places 0, 1, ...; None is numbers
    log: bool = False


def _axis_of(values: Sequence[Any]) -> _Axis:
    """Return the places of values: numbers where they are, words one after the other.

    Numbers have a log scale where it spaces them more evenly.
    """
    if not all(map(is_number, values)):
        return _cells_of(values)
    places = np.array(values, dtype=float)
    return _Axis(places, log=_is_spaced_by_ratio(np.unique(places)))


def _cells_of(values: Sequence[Any]) -> _Axis:
    """Return the places of values one after the other, numbers first and ascending."""
    distinct = {repr(value): value for value in values}
    numbers = sorted(key for key, value in distinct.items() if is_number(value))
    numbers.sort(key=lambda key: distinct[key])
    keys = [*numbers, *(key for key in distinct if key not in numbers)]
    place = {key: n for n, key in enumerate(keys)}
    return _Axis(
        np.array([place[repr(value)] for value in values], dtype=float),
        [short_value(distinct[key]) for key in keys],
    )


def _is_spaced_by_ratio(ascending: Floats) -> bool:
    """Return whether numbers are more even on a log scale, and it helps."""
    low, *middle, high = ascending if len(ascending) > 1 else [1.0, 1.0]
    if low <= 0 or high < DECADE * low:
        return False
    if not middle:
        return True
    on_linear = np.mean((np.array(middle) - low) / (high - low))
    on_log = np.mean(np.log(np.array(middle) / low) / np.log(high / low))
    return bool(abs(on_log - 0.5) < abs(on_linear - 0.5))


def _write_axis(ax: Any, which: str, axis: _Axis) -> None:
    """Write the scale or the labels of an axis, as many as there is room for."""
    if axis.labels is None:
        ax.set(**{f"{which}scale": "log"} if axis.log else {})
        return
    n = len(axis.labels)
    letters, lines = _room_of(ax)
    turned = which == "x" and sum(map(len, axis.labels)) + 2 * n > letters
    room = letters / 2 if turned else lines if which == "y" else n
    ticks = range(0, n, ceil(n / max(room, 1)))
    labels = [axis.labels[tick] for tick in ticks]
    slope = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    getattr(ax, f"set_{which}ticks")(ticks, labels, **slope if turned else {})
    getattr(ax, f"set_{which}lim")(-0.5, n - 0.5)


def _room_of(ax: Any) -> tuple[float, float]:
    """Return how many letters the axes are wide, and how many lines they are high."""
    box = ax.get_window_extent()
    label = ax.xaxis.get_majorticklabels()[0]
    points = label.get_fontsize() * ax.figure.dpi / 72
    return box.width / (_OF_A_LETTER * points), box.height / (1.8 * points)


def _are_a_grid(x: _Axis, y: _Axis) -> bool:
    """Return whether so many cells of a heat map have candidates that it is one."""
    n_cells = len(x.labels or ()) * len(y.labels or ())
    return len(x.places) >= _FILLED * n_cells


def _limits(scores: Floats) -> dict[str, float]:
    """Return the scores of the lightest and the darkest colour."""
    if not len(scores):
        return {}
    return {"vmin": float(np.quantile(scores, _WORST_SHARE)), "vmax": scores.max()}


def _means(results: Mapping[str, Any]) -> list[str]:
    """Return the names of the mean scores in the results of a search."""
    return [name for name in results if name.startswith(("mean_test_", "mean_train_"))]


def _check_score(score: str, results: Mapping[str, Any]) -> None:
    """Refuse what is no mean score of a search, which has one for each scorer."""
    means = _means(results)
    if "mean_test_score" not in means and score not in means and means:
        msg = (
            "score must be named where a search has several scorers: one of "
            f"{', '.join(map(repr, means))}. Got {score!r}; pass score={means[0]!r}, "
            "say."
        )
        raise ValueError(msg)
    check_choice("score", score, means)


def _refuse(search: Any) -> NoReturn:
    """Raise the error for what is no fitted search."""
    if isinstance(search, BaseSearchCV):
        check_is_fitted(search, "cv_results_")
    msg = f"search must be a fitted search. Got {type(search).__name__}."
    raise TypeError(msg)


def _last_rounds(search: Any) -> tuple[Array, list[dict[str, Any]]]:
    """Return which rows of cv_results_ count, and their parameters.

    Of a search that halves, they are the last of each candidate, without the resource
    that grows from round to round.
    """
    params = [dict(some) for some in search.cv_results_["params"]]
    if "iter" not in search.cv_results_:
        return np.arange(len(params)), params
    last: dict[str, int] = {}
    for row, some in enumerate(params):
        some.pop(search.resource, None)
        last[repr(sorted(some.items()))] = row
    rows = list(last.values())
    return np.array(rows), [params[row] for row in rows]


def _axes_and_others(
    params: Sequence[Mapping[str, Any]], x: str | None, y: str | None
) -> tuple[list[str], list[str]]:
    """Return the parameters of the axes, and the others in which candidates differ."""
    told = differing(params)
    keys = list(dict.fromkeys(key for some in params for key in some))
    if x is None:
        if y is not None:
            raise ValueError(f"x must be given with y. Got x=None, y={y!r}.")
        if not told:
            msg = (
                "search must have candidates that differ in a parameter. Got "
                f"{len(params)} that differ in none; give x."
            )
            raise ValueError(msg)
        axes = told[:2]
    else:
        short = short_keys(keys)
        axes = []
        for argument, name in (("x", x), ("y", y)):
            if name is not None:
                check_choice(argument, name, dict.fromkeys([*short.values(), *keys]))
                axes += [key for key in keys if name in (key, short[key])][:1]
        if len(set(axes)) < len(axes):
            raise ValueError(f"y must be another parameter than x. Got {y!r} for both.")
    return axes, [key for key in told if key not in axes]


def _points(
    params: Sequence[Mapping[str, Any]], axes: Sequence[str]
) -> list[list[int]]:
    """Return which candidates share the values of the axes, if they set them."""
    alike: dict[tuple[str, ...], list[int]] = {}
    for n, some in enumerate(params):
        if all(key in some for key in axes):
            alike.setdefault(tuple(repr(some[key]) for key in axes), []).append(n)
    return list(alike.values())


def _winner(search: Any, score: str) -> int | None:
    """Return the row that the search has chosen, unless it was by another score."""
    refit = getattr(search, "refit", None)
    by = refit if isinstance(refit, str) else "score"
    chosen_by_it = callable(refit) or score == f"mean_test_{by}"
    return getattr(search, "best_index_", None) if chosen_by_it else None
