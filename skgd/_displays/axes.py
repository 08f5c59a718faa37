"""What the displays share: the axes they draw on, and what they are given."""

from __future__ import annotations

from typing import Any

# A log scale helps from here on, as the ratio of the largest number to the smallest.
DECADE = 10.0


def transform_and_model(estimator: Any) -> tuple[Any, Any]:
    """Return what transforms the data, or None, and the model at the end."""
    estimator = getattr(estimator, "best_estimator_", estimator)
    if not hasattr(estimator, "steps"):
        return None, estimator
    return (estimator[:-1] if len(estimator) > 1 else None), estimator[-1]


def check_choice(name: str, value: Any, choices: Any) -> None:
    """Refuse a word that is none of those there are."""
    if value not in choices:
        words = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"{name} must be one of {words}. Got {value!r}.")


def axes_and_figure(display: str, ax: Any) -> tuple[Any, Any]:
    """Return the axes to draw on, new ones for None, and their figure."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        msg = f'{display} draws with matplotlib: pip install "skgd[plot]".'
        raise ImportError(msg) from None
    if ax is None:
        _, ax = plt.subplots(layout="constrained")
    return ax, ax.figure


def legend_above(ax: Any) -> None:
    """Name what has a label above the axes, where it hides nothing."""
    if ax.get_legend_handles_labels()[1]:
        ax.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1),
            borderpad=0.1,
            borderaxespad=0.6,
            handletextpad=0.4,
            labelspacing=0.4,
            frameon=False,
            fontsize="small",
        )


def thin_ticks(ax: Any) -> None:
    """Label few places of a log scale, by plain numbers where it is a short one."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    low, high = ax.get_ylim()
    if high < DECADE**2 * low:
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
