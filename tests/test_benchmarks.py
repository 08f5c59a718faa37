"""The benchmarks run and name every competitor; what they measure is not asserted."""

import re
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _from_this_project(monkeypatch):
    """Let the package of benchmarks be found, from wherever the tests are started."""
    monkeypatch.syspath_prepend(ROOT)


def cells(lines, column):
    """Return the cells of a column, of the first table of the lines that has it."""
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    n = next(n for n, row in enumerate(rows) if column in row)
    return [row[rows[n].index(column)] for row in rows[n + 1 : n + 2]]


def test_a_work_is_timed_for_every_competitor(tmp_path, capsys):
    """The table of results holds a number for each, and is what is printed."""
    from benchmarks.__main__ import main

    main(["--quick", "--only", "iris", "--sections", "fits", "--output", str(tmp_path)])
    written = (tmp_path / "results.md").read_text()
    assert capsys.readouterr().out == written
    engines = ["torch, ms an epoch"]
    engines += ["numba, ms an epoch"] * bool(find_spec("numba"))
    rivals = ["MLP", "torch loop", *["skorch"] * bool(find_spec("skorch"))]
    for name in (
        "us a step",
        "products, ms an epoch",
        "calls a step",
        *rivals,
        *engines,
    ):
        for cell in cells(written.splitlines(), name):
            assert re.search(r"\d", cell), f"{name}: {cell!r}"


def test_a_work_that_is_not_there_is_an_error(capsys):
    """The name is said."""
    from benchmarks.__main__ import main

    with pytest.raises(SystemExit):
        main(["--only", "iris", "nothing"])
    assert "no work with 'nothing'" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_that_a_call_holds_for_a_moment_is_found():
    """The peak is that of an array which is gone when the call ends."""
    from benchmarks.memory import peak_added

    def hold():
        array = np.ones(5_000_000)
        time.sleep(0.1)
        return array.sum()

    assert 30e6 < peak_added(hold) < 80e6


def test_growth_is_measured(monkeypatch):
    """Each series has a number for each size."""
    from benchmarks import growth
    from benchmarks.options import Options

    small = growth.WORKS["units"][4]._replace(n_rows=512, epochs=1)
    monkeypatch.setattr(growth, "WORKS", {"units": {4: small}})
    points: list[growth.Point] = []
    told = list(growth.lines(Options(True, 1, ("",), "cpu"), points))
    [point] = points
    expected = set(growth.SERIES) - ({"numba"} if not find_spec("numba") else set())
    assert point.microseconds.keys() == expected
    assert min(point.microseconds.values()) > 0
    assert told[-1].startswith("| 4 | ")


def test_growth_and_quality_are_drawn(tmp_path):
    """The picture can be read, and is not blank."""
    from benchmarks.growth import SERIES, TITLES, Point
    from benchmarks.picture import draw
    from benchmarks.quality import TASKS, Curve

    times = dict.fromkeys(SERIES, 20.0)
    points = [Point(panel, size, times) for panel in TITLES for size in (1, 10)]
    curves = [Curve(task, "skgd", [0.1, 0.2], [0.5, 0.99]) for task in TASKS]
    draw(points, curves, tmp_path / "results.png")
    assert imread(tmp_path / "results.png").std() > 0.01


def test_defaults_are_set_beside_the_peers_on_the_data_that_are_there(
    tmp_path, monkeypatch, capsys
):
    """Text and gaps are taken, every contest is summed up, and what lacks is said."""
    from benchmarks import out_of_the_box

    monkeypatch.setattr(out_of_the_box, "BUNDLED", {})
    (tmp_path / "tabular").mkdir()
    rows = [f"{n % 7},{'a' if n % 2 else ''},{n % 2}" for n in range(60)]
    for kind in ("class", "reg"):
        path = tmp_path / "tabular" / f"parity.{kind}.csv"
        path.write_text("\n".join(["f0,f1,target", *rows]))
    out_of_the_box.main(["--data", str(tmp_path)])
    told = capsys.readouterr().out
    assert "Without california_housing.csv" in told
    assert [told.count(f"parity ({kind})") for kind in ("accuracy", "R2")] == [3, 4]
    assert told.count("skgd is better by") == len(out_of_the_box.CONTESTS)


def test_ensembles_are_timed_and_compared(monkeypatch, capsys):
    """By both engines, and with one model on the data that there are."""
    from benchmarks import ensembles, out_of_the_box

    monkeypatch.setattr(ensembles, "SIZES", [(40, 3, 1)])
    iris = {"iris": out_of_the_box.BUNDLED["iris"]}
    monkeypatch.setattr(out_of_the_box, "BUNDLED", iris)
    monkeypatch.setattr(ensembles, "N_MODELS", 2)
    ensembles.main(["--repeats", "1"])
    told = capsys.readouterr().out
    assert told.count("| 40 x 3 |") == 2
    assert "| iris (accuracy) | 150 x 4 |" in told
    assert re.search(r"better on [01] of 1, by 0.005 or more on [01]; worse", told)
