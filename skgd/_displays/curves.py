"""Displays: loss curves, and the loss surface around a model with its way down.

In the manner of scikit-learn's: a display is made from computed data only, ``plot``
draws it and keeps the artists, and the class methods compute from fitted estimators.
matplotlib is imported when something is drawn, and not before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from skgd._displays.axes import (
    DECADE,
    axes_and_figure,
    check_choice,
    thin_ticks,
    transform_and_model,
)
from skgd._displays.labels import (
    differing,
    is_number,
    names_of,
    short_keys,
    short_value,
)
from skgd._machine.arrays import Array
from skgd._machine.modes import numpy_as_usual

# What the horizontal axis may count: the curve of an estimator, and its label.
_X = {
    "epoch": (None, "epochs"),
    "step": ("step_curve_", "steps"),
    "time": ("time_curve_", "seconds of training"),
}

# More lines than these take their colours from a scale, and have no legend.
_MOST_COLOURS, _MOST_NAMES = 10, 15

# A legend of more lines stands beside the picture, for it would hide curves.
_MOST_INSIDE = 4

# A curve is cut off that goes so many times so many beyond where most begin.
_FAR_UP = 30.0

# What the curves are: the objective is of the batches before their steps.
_TRAINING, _HELD_OUT = "training, with penalty", "unseen rows, without"

# Of the scores of many candidates, this share is as bad as the worst colour says.
_WORST_SHARE = 0.1


class LossCurveDisplay:
    """Loss curves of one or several fits.

    Make it by ``from_estimator`` or ``from_search``.

    Parameters
    ----------
    x : list of ndarray
        Where the losses of each line stand.
    losses : list of ndarray
        Losses of each line, of the same lengths.
    validation_losses : list of (ndarray or None), default=None
        Losses on validation data, for the lines that have them.
    bands : list of (tuple of two ndarrays), default=None
        Lowest and highest losses around each line.
    names : list of str, default=None
        What the legend calls the lines.
    x_label : str, default="epochs"
        Label of the horizontal axis.
    kept : list of (int or None), default=None
        For each line the epoch whose weights early stopping kept, 1 for the first.
    best : int, default=None
        The line that is drawn on top of the others.
    color_values : list, default=None
        What the colour of each line tells: numbers, which have a colour bar, or else
        values that the legend names.
    color_label : str, default=""
        What these values are.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        The figure of ``ax_``.
    lines_ : list of matplotlib Line2D
        The curves.
    validation_lines_ : list of (matplotlib Line2D or None)
        The curves on validation data, dashed.
    kept_ : list of (matplotlib Line2D or None)
        The marks of the epochs whose weights were kept.
    bands_ : list of matplotlib artist
        The bands; of many lines, that of the best only.
    colorbar_ : matplotlib Colorbar or None
        What the colours tell, if they are of numbers.

    See Also
    --------
    LossSurfaceDisplay : The loss around a model, and its way down.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skgd import LossCurveDisplay, MiniBatchClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> models = [
    ...     MiniBatchClassifier(lr=lr, max_iter=5, tol=None).fit(X, y)
    ...     for lr in (0.001, 0.1)
    ... ]
    >>> display = LossCurveDisplay.from_estimator(models, x="step")
    >>> [line.get_label() for line in display.lines_]
    ['lr=0.001', 'lr=0.1']
    """

    __module__ = "skgd"  # its name in pickles and in what is printed

    def __init__(
        self,
        *,
        x: Sequence[Array],
        losses: Sequence[Array],
        validation_losses: Sequence[Array | None] | None = None,
        bands: Sequence[tuple[Array, Array]] | None = None,
        names: Sequence[str] | None = None,
        x_label: str = "epochs",
        kept: Sequence[int | None] | None = None,
        best: int | None = None,
        color_values: Sequence[Any] | None = None,
        color_label: str = "",
    ) -> None:
        self.x = x
        self.losses = losses
        self.validation_losses = validation_losses
        self.bands = bands
        self.names = names
        self.x_label = x_label
        self.kept = kept
        self.best = best
        self.color_values = color_values
        self.color_label = color_label

    @classmethod
    @numpy_as_usual
    def from_estimator(
        cls,
        estimator: Any,
        *,
        x: str = "epoch",
        names: Sequence[str] | None = None,
        ax: Any = None,
        log_scale: bool | str = "auto",
        **line_kw: Any,
    ) -> Self:
        """Draw the loss curves of fitted estimators.

        That of training is ``loss_curve_``, the objective, penalty included, of the
        batches before their steps; that of unseen rows ``validation_loss_curve_``,
        without penalty: of the held-out rows after the epoch, or of the next rows of a
        stream with ``scoring``, a call of which counts as an epoch. A dot marks
        ``best_iter_``, the epoch whose weights early stopping kept.

        Parameters
        ----------
        estimator : estimator or list of estimators
            Fitted ones; of a pipeline its last step counts, of a search its best
            estimator.
        x : {"epoch", "step", "time"}, default="epoch"
            What the horizontal axis counts: epochs, steps, or seconds of training.
        names : list of str, default=None
            What the legend calls them. None names the parameters in which they differ.
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.
        log_scale : bool or "auto", default="auto"
            Whether the losses have a log scale. "auto" chooses one where all are above
            zero and span a factor of ten or more.
        **line_kw : dict
            Passed on to ``Axes.plot``.

        Returns
        -------
        display : LossCurveDisplay
            The display, drawn.
        """
        check_choice("x", x, _X)
        models = estimator if isinstance(estimator, list | tuple) else [estimator]
        if not models:
            raise ValueError("estimator must be fitted estimators. Got an empty list.")
        if names is not None and len(names) != len(models):
            msg = f"names must be {len(models)}, one for each. Got {len(names)}."
            raise ValueError(msg)
        curve, x_label = _X[x]
        models = [_fitted_model(model, x, curve or "loss_curve_") for model in models]
        if names is None and len(models) > 1:
            names = names_of([model.get_params() for model in models])
        losses = [np.asarray(model.loss_curve_) for model in models]
        xs = [np.arange(1, len(loss) + 1) for loss in losses]
        if curve is not None:
            xs = [np.asarray(getattr(model, curve)) for model in models]
        display = cls(
            x=xs,
            losses=losses,
            validation_losses=[_held_out_losses(model) for model in models],
            names=names,
            x_label=x_label,
            kept=[getattr(model, "best_iter_", None) for model in models],
        )
        return display.plot(ax, log_scale=log_scale, line_kw=line_kw)

    @classmethod
    @numpy_as_usual
    def from_search(
        cls,
        search: Any,
        *,
        names: Sequence[str] | None = None,
        color_by: str | None = None,
        ax: Any = None,
        log_scale: bool | str = "auto",
        **line_kw: Any,
    ) -> Self:
        """Draw the mean loss curve of every candidate of a search, over its splits.

        A band goes from the lowest to the highest loss of the splits; of more than ten
        candidates, it is drawn for the best one only. Splits that stopped earlier count
        with their last loss. The best candidate is drawn on top.

        Parameters
        ----------
        search : VectorizedGridSearchCV or another search of skgd
            A fitted one.
        names : list of str, default=None
            What the legend calls them. None names the parameters in which they differ.
        color_by : str, default=None
            What the colours tell: a parameter by its name, with or without what comes
            before the last "__", or "score", the mean test score. None gives up to ten
            candidates colours of their own; of more, the colours tell the parameter in
            which they differ, if it is a single one of numbers, and else the score.
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.
        log_scale : bool or "auto", default="auto"
            Whether the losses have a log scale. "auto" chooses one where all are above
            zero and span a factor of ten or more.
        **line_kw : dict
            Passed on to ``Axes.plot``.

        Returns
        -------
        display : LossCurveDisplay
            The display, drawn.
        """
        check_is_fitted(search)
        if not hasattr(search, "loss_curves_"):
            msg = (
                "search must have loss_curves_, as the searches of skgd do. Got "
                f"{type(search).__name__}; use VectorizedGridSearchCV."
            )
            raise ValueError(msg)
        params = search.cv_results_["params"]
        names = names_of(params) if names is None else names
        values, label = _told_by_colour(search, color_by)
        # Fits that failed, or of other estimators, have no curve.
        of_candidates = [
            [curve for curve in curves if len(curve)] for curves in search.loss_curves_
        ]
        drawn = [n for n, curves in enumerate(of_candidates) if curves]
        if not drawn:
            msg = (
                "search must have candidates with loss curves. Got none; its groups_ "
                "say how they were trained."
            )
            raise ValueError(msg)
        candidates = [_filled(of_candidates[n]) for n in drawn]
        best = getattr(search, "best_index_", None)
        display = cls(
            x=[np.arange(1, curves.shape[1] + 1) for curves in candidates],
            losses=[curves.mean(axis=0) for curves in candidates],
            bands=[(curves.min(axis=0), curves.max(axis=0)) for curves in candidates],
            names=[names[n] for n in drawn] if len(params) > 1 else None,
            best=drawn.index(best) if best in drawn else None,
            color_values=None if values is None else [values[n] for n in drawn],
            color_label=label,
        )
        return display.plot(ax, log_scale=log_scale, line_kw=line_kw)

    @numpy_as_usual
    def plot(
        self,
        ax: Any = None,
        *,
        log_scale: bool | str = "auto",
        line_kw: Mapping[str, Any] | None = None,
        validation_line_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.
        log_scale : bool or "auto", default="auto"
            Whether the losses have a log scale. "auto" chooses one where all are above
            zero and span a factor of ten or more.
        line_kw : dict, default=None
            Passed on to ``Axes.plot``, for all lines.
        validation_line_kw : dict, default=None
            The same for those on validation data only.

        Returns
        -------
        self : LossCurveDisplay
            The display.
        """
        self.ax_, self.figure_ = axes_and_figure("LossCurveDisplay", ax)
        self.lines_: list[Any] = []
        self.validation_lines_: list[Any] = []
        self.bands_: list[Any] = []
        self.kept_: list[Any] = []
        self.colorbar_ = None
        colours, scale = _colours(len(self.losses), self.color_values, self.color_label)
        for n, colour in enumerate(colours[: len(self.losses)]):
            style = self._style(n, colour) | dict(line_kw or {})
            line = self._draw_line(n, style)
            line_val = self._draw_held_out(n, line, style, validation_line_kw or {})
            epoch = self.kept[n] if self.kept else None
            self.kept_.append(self._mark(line_val or line, epoch))
        drawn = [line for line in self.validation_lines_ if line is not None]
        if log_scale is True or (log_scale == "auto" and self._spans_a_decade()):
            self.ax_.set_yscale("log")
            thin_ticks(self.ax_)
        self._cut_off_what_diverged()
        if all(np.issubdtype(np.asarray(x).dtype, np.integer) for x in self.x):
            self.ax_.xaxis.get_major_locator().set_params(integer=True)
        y_label = "loss" if drawn else "training objective"
        self.ax_.set(xlabel=self.x_label, ylabel=y_label)
        self.ax_.grid(alpha=0.3)
        if scale is not None:
            extend = "min" if self.color_label.startswith(_SCORE) else "neither"
            self.colorbar_ = self.figure_.colorbar(
                scale, ax=self.ax_, label=self.color_label, extend=extend
            )
        self._add_legend(drawn, colours)
        return self

    def _style(self, n: int, colour: Any) -> dict[str, Any]:
        """Return how a line is drawn."""
        style = {
            "color": colour,
            "label": _TRAINING if self.names is None else self.names[n],
            "linewidth": 1.0 if len(self.losses) > _MOST_COLOURS else 1.8,
        }
        if len(self.x[n]) == 1:
            style["marker"] = "o"  # a line of one point is nothing to see
        return style | self._of_the_best(n)

    def _draw_line(self, n: int, style: dict[str, Any]) -> Any:
        """Draw the losses of training of a line, with its band if it has one."""
        [line] = self.ax_.plot(self.x[n], self.losses[n], **style)
        self.lines_.append(line)
        many = len(self.losses) > _MOST_COLOURS
        if self.bands is not None and (n == self.best or not many):
            low, high = self.bands[n]
            band = self.ax_.fill_between(
                self.x[n], low, high, color=line.get_color(), alpha=0.2, linewidth=0
            )
            self.bands_.append(band)
        return line

    def _draw_held_out(
        self, n: int, line: Any, style: dict[str, Any], own: Mapping[str, Any]
    ) -> Any:
        """Draw the losses of held-out rows beside a line; None if there are none."""
        losses = self.validation_losses[n] if self.validation_losses else None
        drawn = None
        if losses is not None:
            names = self.names or [_TRAINING] * len(self.losses)
            alone = len(self.losses) == 1
            label = _HELD_OUT if alone else f"{names[n]}, unseen rows"
            dashed = {"color": line.get_color(), "linestyle": "--", "label": label}
            [drawn] = self.ax_.plot(self.x[n], losses, **style | dashed | dict(own))
        self.validation_lines_.append(drawn)
        return drawn

    def _of_the_best(self, n: int) -> dict[str, Any]:
        """Return how the best line is drawn, if it is the one: above, and outlined."""
        if n != self.best or len(self.losses) == 1:
            return {}
        from matplotlib.patheffects import withStroke

        outline = [withStroke(linewidth=4.5, foreground="black")]
        return {"linewidth": 2.5, "path_effects": outline, "zorder": 3}

    def _mark(self, line: Any, epoch: int | None) -> Any:
        """Mark an epoch of a line; None if there is none, or it is the start."""
        if epoch is None or not 1 <= epoch <= len(line.get_xdata()):
            return None
        place = [line.get_xdata()[epoch - 1]], [line.get_ydata()[epoch - 1]]
        dot = {"marker": "o", "markersize": 8, "markeredgecolor": "black"}
        dot |= {"linestyle": "none", "color": line.get_color(), "zorder": 4}
        [mark] = self.ax_.plot(*place, label="weights kept", **dot)
        return mark

    def _cut_off_what_diverged(self) -> None:
        """Let curves that go far beyond where most begin leave the axes at the top."""
        begun = [losses[0] for losses in self.losses if len(losses)]
        highest = _FAR_UP * np.median(begun) if len(begun) > 1 else np.inf
        ends = [np.nanmax(losses) for losses in self.losses if len(losses)]
        if highest > 0 and max(ends, default=0.0) > _FAR_UP * highest:
            lowest = min(np.nanmin(losses) for losses in self.losses if len(losses))
            self.ax_.set_ylim(bottom=lowest / 1.5 if lowest > 0 else None, top=highest)

    def _spans_a_decade(self) -> bool:
        """Return whether all losses are above zero, and far apart."""
        validation = [v for v in self.validation_losses or [] if v is not None]
        values = np.concatenate([*self.losses, *validation])
        values = values[np.isfinite(values)]
        return bool(
            len(values) and values.min() > 0 and values.max() > DECADE * values.min()
        )

    def _add_legend(self, validation_lines: list[Any], colours: Sequence[Any]) -> None:
        """Name the colours, and once what is dashed and what is marked."""
        from matplotlib.lines import Line2D

        def grey(**kw: Any) -> Any:
            return Line2D([], [], **{"color": "0.4", "linewidth": 1.8, **kw})

        handles = self._handles_of_lines(validation_lines, colours, grey)
        if validation_lines and self.names is not None:
            handles.append(grey(label=_TRAINING))
            handles.append(grey(label=_HELD_OUT, linestyle="--"))
        marks = [mark for mark in self.kept_ if mark is not None]
        if len(marks) == 1:
            handles += marks
        elif marks:
            dot = {"marker": "o", "markersize": 8, "markeredgecolor": "black"}
            handles.append(grey(label="weights kept", linestyle="none", **dot))
        if not handles:
            return
        title = self.color_label if self.colorbar_ is None else None
        place: dict[str, Any] = {}
        if len(handles) == 1 and self.color_values is not None:  # the best: above
            place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "frameon": False}
        elif (
            len(handles) > _MOST_INSIDE or len(self.lines_) > _MOST_COLOURS
        ) and self.figure_.get_layout_engine():
            place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1)}
        self.ax_.legend(handles=handles, fontsize="small", title=title, **place)

    def _handles_of_lines(
        self,
        validation_lines: list[Any],
        colours: Sequence[Any],
        grey: Callable[..., Any],
    ) -> list[Any]:
        """Return what stands for the lines in a legend, the best of them first."""
        handles = []
        if self.color_values is not None:
            if self.colorbar_ is None:  # a colour for every word
                words = map(short_value, self.color_values)
                of_words = dict(zip(words, colours, strict=True))
                handles = [grey(color=c, label=word) for word, c in of_words.items()]
            if self.best is not None and self.names is not None:
                handles.append(self._named_best())
        elif self.names is not None and len(self.lines_) <= _MOST_NAMES:
            handles = list(self.lines_)
            if self.best is not None:
                del handles[self.best]
                handles.insert(0, self._named_best())
        elif len(self.lines_) == 1 and validation_lines:
            handles = self.lines_ + validation_lines
        return handles

    def _named_best(self) -> Any:
        """Return what stands for the best line in a legend."""
        from matplotlib.lines import Line2D

        line, names = self.lines_[self.best or 0], self.names or [""]
        return Line2D(
            [],
            [],
            color=line.get_color(),
            linewidth=line.get_linewidth(),
            path_effects=line.get_path_effects(),
            label=f"best: {names[self.best or 0]}",
        )


def _held_out_losses(model: Any) -> Array | None:
    """Return the losses of held-out rows, if there are any."""
    losses = getattr(model, "validation_loss_curve_", None)
    return None if losses is None else np.asarray(losses)


def _fitted_model(estimator: Any, x: str, curve: str) -> Any:
    """Return a copy of the last step of a fitted estimator that has the curves."""
    _, model = transform_and_model(estimator)
    check_is_fitted(model)
    for attribute in ("loss_curve_", curve):
        if not hasattr(model, attribute):
            msg = f"x={x!r} needs an estimator with {attribute}. Got {model!r}."
            raise ValueError(msg)
    return copy(model)  # which may be learning on


# What colours tell that are no parameter's.
_SCORE = "mean test"


def _told_by_colour(
    search: Any, color_by: str | None
) -> tuple[Sequence[Any] | None, str]:
    """Return what colours tell of each candidate of a search, if so, and its name."""
    params = search.cv_results_["params"]
    keys = list(dict.fromkeys(key for some in params for key in some))
    if color_by is None:
        if len(params) <= _MOST_COLOURS:
            return None, ""
        told = differing(params)
        numbers = all(is_number(some.get(key)) for key in told for some in params)
        color_by = told[0] if len(told) == 1 and numbers else "score"
    short = short_keys(keys)
    for key in keys:
        if color_by in (key, short[key]):
            return [some.get(key) for some in params], short[key]
    if color_by != "score":
        words = ", ".join(repr(name) for name in [*short.values(), "score"])
        raise ValueError(f"color_by must be one of {words}. Got {color_by!r}.")
    refit = search.refit if isinstance(search.refit, str) else "score"
    means = [name for name in search.cv_results_ if name.startswith("mean_test_")]
    name = f"mean_test_{refit}" if f"mean_test_{refit}" in means else means[0]
    return search.cv_results_[name].tolist(), name.replace("_", " ")


def _colours(
    n_lines: int, values: Sequence[Any] | None, label: str
) -> tuple[list[Any], Any]:
    """Return the colour of each line, and the scale of them if they tell numbers."""
    if values is None:
        return [_colour(n, n_lines) for n in range(n_lines)], None
    known = [value for value in values if value is not None]
    if not all(map(is_number, known)):
        words = list(dict.fromkeys(map(short_value, values)))
        return [_colour(words.index(short_value(v)), len(words)) for v in values], None
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm, Normalize

    numbers = np.array([np.nan if v is None else v for v in values], float)
    finite = numbers[np.isfinite(numbers)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    is_score = label.startswith(_SCORE)
    if is_score and len(finite):
        low = np.quantile(finite, _WORST_SHARE)
    in_decades = not is_score and low > 0 and high >= DECADE * low
    norm = (LogNorm if in_decades else Normalize)(low, high)
    scale = ScalarMappable(norm, cmap="viridis_r")  # the high ones are the dark ones
    return [scale.to_rgba(v) if np.isfinite(v) else "0.8" for v in numbers], scale


def _filled(curves: Sequence[ArrayLike]) -> Array:
    """Return the curves of the splits as (splits, epochs), each with its last loss."""
    finished = [np.asarray(curve, dtype=float) for curve in curves]
    finished = [curve[~np.isnan(curve)] for curve in finished]
    longest = max(len(curve) for curve in finished)
    return np.stack(
        [np.pad(curve, (0, longest - len(curve)), mode="edge") for curve in finished]
    )


def _colour(n: int, n_lines: int) -> Any:
    """Return the colour of a line: of the cycle, or of a scale if there are many."""
    if n_lines <= _MOST_COLOURS:
        return f"C{n}"
    from matplotlib import colormaps

    return colormaps["viridis"](n / (n_lines - 1))
