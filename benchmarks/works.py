"""What is fitted: data, a model for them, and how many times as fast it should be."""

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

    @property
    def n_outputs(self) -> int:
        """One for a regression, and for two classes."""
        return self.n_classes if self.n_classes and self.n_classes > 2 else 1

    @property
    def sizes(self) -> tuple[int, ...]:
        """The units of all layers, from the features to the outputs."""
        return self.n_features, *self.hidden, self.n_outputs

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
        return (
            f"{self.name}: {self.n_rows:,} x {layers}, {goal}, {kind}{rule}"
            f"batch {self.batch_size:,}"
        )


LINEAR = Work("linear", 20_640, 8, (), None, 80, epochs=20)
NETWORK = Work("64-64", 20_640, 8, (64, 64), None, 64, epochs=5)
COVERTYPE = Work("100", 100_000, 54, (100,), 7, 256, epochs=2)
CLASSES = LINEAR._replace(name="3 classes", n_classes=3)

ONE_80 = {"SGD": 0.25, "torch loop": 10, "skorch": 30}
SMALL_NETWORK = {"MLP": 4, "torch loop": 6, "skorch": 12}

WORKS = [
    Work(
        "iris",
        *(100, 4, (10,), 3, 32),
        epochs=500,
        goals={"MLP": 5, "torch loop": 7, "skorch": 20},
    ),
    LINEAR._replace(n_rows=5_000, batch_size=1, epochs=2),
    LINEAR._replace(goals=ONE_80),
    LINEAR._replace(batch_size=256, epochs=30, goals=ONE_80 | {"SGD": 0.7}),
    LINEAR._replace(batch_size=1024, epochs=40, goals=ONE_80 | {"SGD": 1.5}),
    CLASSES._replace(goals=ONE_80 | {"SGD": 1}),
    CLASSES._replace(batch_size=256, epochs=30, goals=ONE_80 | {"SGD": 2.5}),
    CLASSES._replace(batch_size=1024, epochs=40),
    NETWORK._replace(goals=SMALL_NETWORK),
    COVERTYPE._replace(goals={"MLP": 4, "torch loop": 4, "skorch": 10}),
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
        at_most={"reads": 4},
    ),
    Work(
        "text",
        *(10_000, 2**18, (), 2, 256),
        epochs=10,
        goals={"SGD": 0.5},
        sparse=True,
    ),
    CLASSES._replace(batch_size=256, epochs=20, optimizer="adam"),
    NETWORK._replace(optimizer="adam", goals=SMALL_NETWORK),
    COVERTYPE._replace(optimizer="adam"),
    CLASSES._replace(batch_size=256, epochs=20, momentum=0.9),
    NETWORK._replace(momentum=0.9),
    COVERTYPE._replace(momentum=0.9),
]


def chosen(name: str, quick: bool) -> list[Work]:
    """Return the works with this in their name; if quick, short ones with a goal."""
    works = [work for work in WORKS if name in str(work)]
    return [shorter(work) for work in works if work.goals] if quick else works


def shorter(work: Work) -> Work:
    """Return the work with fewer rows and epochs."""
    n_rows = min(work.n_rows, 20_640)
    return work._replace(n_rows=n_rows, epochs=max(1, work.epochs // 5))


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
