"""The picture of growth and of quality."""

from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.growth import SERIES, TITLES, Point
from benchmarks.quality import Curve

# Blue is ours, orange the rival, and the floors are grey.
STYLES: dict[str, dict[str, Any]] = {
    "numba": {"color": "#1f5fa8", "marker": "o", "linewidth": 2},
    "torch": {"color": "#7fb2e5", "marker": "o", "linewidth": 2},
    "torch loop": {"color": "#d9772b", "marker": "o", "linewidth": 1.5},
    "products": {"color": "0.35", "linestyle": "--"},
    "calls": {"color": "0.6", "linestyle": ":"},
}
LABELS = {
    "numba": "skgd, compiled loops",
    "torch": "skgd on torch",
    "torch loop": "hand-written torch loop",
    "products": "bare matrix products",
    "calls": "bare calls",
}


def draw(points: list[Point], curves: list[Curve], path: Path) -> None:
    """Write a picture with a panel for each size that grows and for each task."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    tasks = [(task, list(some)) for task, some in groupby(curves, lambda c: c.task)]
    with plt.rc_context(
        {
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 9.5,
            "axes.titlelocation": "left",
            "legend.frameon": False,
            "lines.markersize": 4,
        }
    ):
        figure = plt.figure(figsize=(13, 7), layout="constrained")
        above, below = figure.subfigures(2, 1)
        if points:
            draw_growth(points, above)
        if tasks:
            draw_quality(tasks, below)
        figure.savefig(path, dpi=130)
        plt.close(figure)


def draw_growth(points: list[Point], figure: Any) -> None:
    """Draw the microseconds of a step against each size."""
    figure.suptitle("A step on torch costs its calls until the products outgrow them")
    axes = figure.subplots(1, len(TITLES), sharey=True)
    for (panel, title), ax in zip(TITLES.items(), axes, strict=True):
        some = [point for point in points if point.panel == panel]
        sizes = [point.size for point in some]
        for name in [name for name in SERIES if name in points[0].microseconds]:
            times = [point.microseconds[name] for point in some]
            ax.plot(sizes, times, label=LABELS.get(name, name), **STYLES[name])
        ax.set(xscale="log", yscale="log", xlabel=panel)
        ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
        ax.minorticks_off()
        ax.set_title(title.split("(")[1].rstrip(")"))
        ax.grid(alpha=0.2)
    axes[0].set_ylabel("microseconds a step")
    axes[0].legend(fontsize=8)


def draw_quality(tasks: list[tuple[Any, list[Curve]]], figure: Any) -> None:
    """Draw the held-out score against the seconds of training."""
    from matplotlib.ticker import LogLocator, NullFormatter

    figure.suptitle("Score on held-out rows")
    axes = figure.subplots(1, len(tasks), squeeze=False)[0]
    for (task, curves), ax in zip(tasks, axes, strict=True):
        for curve in curves:
            ours = curve.name.startswith("skgd")
            ax.plot(
                curve.seconds,
                curve.scores,
                color=STYLES["numba" if ours else "torch loop"]["color"],
                linestyle="--" if "default" in curve.name else "-",
                marker=".",
                label=curve.name,
            )
        ax.axhline(task.target, color="0.35", linewidth=0.8, linestyle=":")
        best = max(max(curve.scores) for curve in curves)
        above = 0.15 * (best - task.target) + 1e-3
        ax.set_ylim(task.target - 3 * (best - task.target) - 1e-3, best + above)
        ax.set(xscale="log", xlabel="seconds of training", ylabel=task.score)
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_title(task.name)
        ax.grid(alpha=0.2)
        ax.legend(fontsize=8, loc="lower right")
