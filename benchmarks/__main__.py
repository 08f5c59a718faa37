"""Measure skgd against its peers, and write a table and a picture of it.

python -m benchmarks [--quick] [--only NAME] [--sections fits growth]
"""

import argparse
import sys
import warnings
from pathlib import Path

from sklearn.exceptions import ConvergenceWarning

from benchmarks import (
    descents,
    fits,
    growth,
    memory,
    quality,
    search,
    small_calls,
    typed_searches,
)
from benchmarks.options import Options
from benchmarks.picture import draw
from benchmarks.timing import header
from benchmarks.works import WORKS

SECTIONS = (
    *("fits", "calls", "descent", "memory", "growth", "quality", "searches"),
    "search",
)


def main(arguments: list[str] | None = None) -> None:
    """Take the measurements, print them, and write results.md and results.png."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="in under two minutes")
    parser.add_argument("--repeats", type=int, help="runs of each (5, or 1 if quick)")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[""],
        metavar="NAME",
        help="fits and calls with one of these in their name",
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    args = parser.parse_args(arguments)
    names = [str(work) for work in WORKS] + [work.name for work in small_calls.WORKS]
    names.append(descents.NAME)
    unknown = [part for part in args.only if not any(part in name for name in names)]
    if unknown:
        parser.error(f"there is no work with {unknown[0]!r} in its name")
    warnings.simplefilter("ignore", ConvergenceWarning)  # the epochs are set

    repeats = args.repeats or (1 if args.quick else 5)
    options = Options(args.quick, repeats, tuple(args.only), args.device)
    points: list[growth.Point] = []
    curves: list[quality.Curve] = []
    sections = {
        "fits": fits.lines(options),
        "calls": small_calls.lines(options),
        "descent": descents.lines(options),
        "memory": memory.lines(options),
        "growth": growth.lines(options, points),
        "quality": quality.lines(options, curves),
        "searches": typed_searches.lines(options),
        "search": search.lines(options),
    }
    args.output.mkdir(parents=True, exist_ok=True)
    with open(args.output / "results.md", "w") as results:
        parts = [sections[name] for name in args.sections]
        for part in (header(args.device, args.quick), *parts):
            for line in part:
                print(line, flush=True)
                print(line, file=results, flush=True)
    if points or curves:
        draw(points, curves, args.output / "results.png")
        print(f"Picture: {args.output / 'results.png'}")


if __name__ == "__main__":
    main(sys.argv[1:])
