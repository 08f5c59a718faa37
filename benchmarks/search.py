"""The searches of ``search_against_peers``, its first works, as a section."""

from collections.abc import Iterator
from importlib.util import find_spec

from benchmarks.options import Options
from benchmarks.search_against_peers import KINDS, WORKS, race, short
from benchmarks.timing import table


def lines(options: Options) -> Iterator[str]:
    """Yield the table of searches."""
    works = [short(work) for work in WORKS[:1]] if options.quick else WORKS[:4]
    kinds = [name for name in KINDS if name != "skorch" or find_spec("skorch")]
    yield from (
        "",
        "## Search",
        "",
        "Seconds of a search, by `benchmarks/search_against_peers.py`, which also "
        "measures memory. The last columns are scikit-learn's search, `n_jobs=2`, over "
        "skgd, MLP and skorch; x: how many times as long as the vectorized search, "
        "with `n_jobs=2` / with `n_jobs=None`.",
    )
    yield from table(
        ["candidates x folds", *kinds, "skgd one by one finds"],
        (race(work, kinds, min(3, options.repeats), options.device) for work in works),
    )
