"""What is fitted: data, a model for them, and how many times as fast it should be."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

Data = tuple[Any, np.ndarray]  # X, an array or a CSR matrix, and y

ENTRIES_OF_A_TEXT = 100


class Work(NamedTuple):
    """Data, a model that is trained on them, and for how long."""

    name: str
    n_rows: int
    n_features: int
    hidden: tuple[int, ...]
    n_classes: int | None  # None for regression
    batch_size: int
    epochs: int
    goals: dict[str, float] = {}  # noqa: RUF012 (a constant) their time over ours
    at_most: dict[str, float] = {}  # noqa: RUF012 our time over a floor
    optimizer: str = "sgd"
    momentum: float = 0.0
    lr: float = 0.01
    sparse: bool = False
    as_typed: bool = False  # with default parameters, until each one stops by itself
    few: int | None = None  # epochs, of those that take very long

    @property
    def n_outputs(self) -> int:
        """One for a regression, and for two classes."""
        return self.n_classes if self.n_classes and self.n_classes > 2 else 1

    @property
    def sizes(self) -> tuple[int, ...]:
        """The units of all layers, from the features to the outputs."""
        return self.n_features, *self.hidden, self.n_outputs

    @property
    def few_epochs(self) -> int:
        """The epochs of those that take very long."""
        return min(self.epochs, self.few or self.epochs)

    @property
    def steps(self) -> int:
        """The steps of an epoch."""
        return -(-self.n_rows // self.batch_size)

    def __str__(self) -> str:
        layers = " -> ".join(f"{size:,}" for size in self.sizes)
        rule = "Adam, " if self.optimizer == "adam" else ""
        rule += f"momentum {self.momentum}, " if self.momentum else ""
        kind = "CSR, " if self.sparse else ""
        goal = f"{self.n_classes} classes" if self.n_classes else "regression"
        how = f"{rule}batch {self.batch_size:,}"
        if self.as_typed:
            how = "default parameters, a whole fit"
        return f"{self.name}: {self.n_rows:,} x {layers}, {goal}, {kind}{how}"


LINEAR = Work("linear", 20_640, 8, (), None, 80, epochs=20)
NETWORK = Work("64-64", 20_640, 8, (64, 64), None, 64, epochs=5)
COVERTYPE = Work("100", 100_000, 54, (100,), 7, 256, epochs=2)
CLASSES = LINEAR._replace(name="3 classes", n_classes=3)
TEXT = Work("text", 10_000, 2**18, (), 2, 256, epochs=10, sparse=True)

OF_ONE_OUTPUT = {"torch loop": 10, "skorch": 30}
OF_A_SMALL_NETWORK = {"torch loop": 6, "skorch": 12}

WORKS = [
    Work(
        "iris",
        *(100, 4, (10,), 3, 32),
        epochs=500,
        goals={"MLP": 25, "torch loop": 7, "skorch": 20},
    ),
    Work("XOR", *(4, 3, (4,), 2, 1), epochs=15_000, few=1_500, goals={"MLP": 80}),
    LINEAR._replace(batch_size=1, few=1, goals={"SGD": 1.6}),
    LINEAR._replace(batch_size=8, few=1, goals={"SGD": 2.2}),
    LINEAR._replace(goals=OF_ONE_OUTPUT | {"SGD": 3}),
    LINEAR._replace(batch_size=256, epochs=30, goals=OF_ONE_OUTPUT),
    LINEAR._replace(batch_size=1024, epochs=40, goals=OF_ONE_OUTPUT | {"SGD": 3}),
    CLASSES._replace(batch_size=1, few=1, goals={"SGD": 3}),
    CLASSES._replace(goals=OF_ONE_OUTPUT | {"SGD": 7}),
    CLASSES._replace(batch_size=256, epochs=30, goals=OF_ONE_OUTPUT | {"SGD": 7}),
    CLASSES._replace(batch_size=1024, epochs=40, goals={"SGD": 7}),
    CLASSES._replace(batch_size=32, optimizer="adam", goals={"SGD": 4.5}),
    NETWORK._replace(goals=OF_A_SMALL_NETWORK | {"MLP": 8}),
    COVERTYPE._replace(goals={"MLP": 4.2, "torch loop": 4, "skorch": 10}),
    Work(
        "images",
        *(60_000, 784, (256, 128), 10, 128),
        epochs=1,
        goals={"MLP": 2.2, "torch loop": 2, "skorch": 2.5},
        at_most={"products": 1.25},
    ),
    Work(
        "wide",
        *(20_000, 2_000, (), 2, 256),
        epochs=5,
        goals={"SGD": 6, "torch loop": 8, "skorch": 10},
        at_most={"reads": 2},
    ),
    TEXT._replace(batch_size=1, few=1, goals={"SGD": 1.3}),
    TEXT._replace(batch_size=32, few=1, goals={"SGD": 1.6}),
    TEXT._replace(goals={"SGD": 1.8}),
    TEXT._replace(optimizer="adam", goals={"SGD": 0.6}),
    TEXT._replace(
        name="text as typed",
        as_typed=True,
        batch_size=32,
        optimizer="adam",
        epochs=1,
        goals={"SGD": 0.33},
    ),
    CLASSES._replace(batch_size=256, epochs=20, optimizer="adam"),
    NETWORK._replace(optimizer="adam", goals=OF_A_SMALL_NETWORK | {"MLP": 7}),
    COVERTYPE._replace(optimizer="adam"),
    CLASSES._replace(batch_size=256, epochs=20, momentum=0.9),
    NETWORK._replace(momentum=0.9),
    COVERTYPE._replace(momentum=0.9),
]


def chosen(names: Sequence[str], quick: bool) -> list[Work]:
    """Return the works with one of these in their name; if quick, short ones."""
    works = [work for work in WORKS if any(name in str(work) for name in names)]
    return [shorter(work) for work in works if work.goals] if quick else works


def shorter(work: Work) -> Work:
    """Return the work with fewer rows and epochs."""
    n_rows = min(work.n_rows, 20_640)
    return work._replace(n_rows=n_rows, epochs=max(1, work.epochs // 5))


def tenth(work: Work) -> Work:
    """Return the work for a tenth of the time, about: to warm up, and to choose by."""
    few = None if work.few is None else max(1, work.few // 10)
    return work._replace(epochs=max(1, work.epochs // 10), few=few, as_typed=False)


def data_of(work: Work) -> Data:
    """Return standard normal rows, or texts, and what a linear rule makes of them."""
    rng = np.random.default_rng(0)
    X = texts(work, rng) if work.sparse else normal(work, rng)
    rule = rng.standard_normal((work.n_features, work.n_outputs), dtype=np.float32)
    scores = X @ rule
    if work.n_classes is None:
        return X, scores[:, 0] / np.float32(work.n_features**0.5)
    return X, scores.argmax(axis=1) if work.n_outputs > 1 else 1 * (scores[:, 0] > 0)


def normal(work: Work, rng: np.random.Generator) -> np.ndarray:
    """Return rows of standard normal numbers."""
    return rng.standard_normal((work.n_rows, work.n_features), dtype=np.float32)


def texts(work: Work, rng: np.random.Generator) -> csr_matrix:
    """Return rows of few entries, some columns far commoner than others."""
    shape = work.n_rows, ENTRIES_OF_A_TEXT
    columns = (work.n_features * rng.random(shape) ** 4).astype(np.int32)
    values = np.full(columns.size, ENTRIES_OF_A_TEXT**-0.5, dtype=np.float32)
    starts = np.arange(0, columns.size + 1, ENTRIES_OF_A_TEXT, dtype=np.int32)
    X = csr_matrix(
        (values, columns.ravel(), starts), shape=(work.n_rows, work.n_features)
    )
    X.sum_duplicates()
    return X
