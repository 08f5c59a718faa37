"""Sort text by its hashed words, learned chunk by chunk, against SGDClassifier.

The texts are the docstrings of five installed packages: which one is each from? Words
and pairs of words are hashed into 2^18 columns, so no vocabulary is kept, and a chunk
is a sparse matrix of some hundred numbers a row. The accuracy is that on other modules
than those learned from.

    python examples/hashed_text.py --output out
"""

import argparse
import ast
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import SGDClassifier

from skgd import MiniBatchClassifier

PACKAGES = ["matplotlib", "numpy", "scipy", "sklearn", "torch"]
FEWEST_WORDS = 20
CHUNK_ROWS = 250


def read_texts(n_modules):
    """Return texts and their packages, to learn from and of modules held out."""
    learned, held_out = [], []
    for package in PACKAGES:
        for n, path in enumerate(some_modules(package, n_modules)):
            rows = held_out if n % 4 == 0 else learned
            rows.extend((text, package) for text in docstrings(path, package))
    return [np.array(rows, object).T for rows in (learned, held_out)]


def some_modules(package, n_modules):
    """Return so many files of the package, or all, spread over its folders."""
    root = Path(find_spec(package).origin).parent
    paths = [
        path
        for path in sorted(root.rglob("*.py"))
        if "test" not in str(path.relative_to(root))
    ]
    places = np.linspace(0, len(paths), min(n_modules, len(paths)), endpoint=False)
    return [paths[place] for place in places.astype(int)]


def docstrings(path, package):
    """Yield the longer docstrings of a file, without the package's name in them."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            text = ast.get_docstring(node) or ""
            if len(text.split()) >= FEWEST_WORDS:
                yield re.sub(package, "", text, flags=re.IGNORECASE)


def learn(models, learned, held_out, n_columns):
    """Return the rows learned from and, for every model, the accuracy after so many."""
    vectorizer = HashingVectorizer(ngram_range=(1, 2), n_features=n_columns)
    texts, packages = learned
    order = np.random.default_rng(0).permutation(len(texts))
    X_test, y_test = vectorizer.transform(held_out[0]), held_out[1].astype(str)
    seen, accuracies = [], {name: [] for name in models}
    for start in range(0, len(order), CHUNK_ROWS):
        rows = order[start : start + CHUNK_ROWS]
        X, y = vectorizer.transform(texts[rows]), packages[rows].astype(str)
        seen.append(start + len(rows))
        for name, model in models.items():
            model.partial_fit(X, y, classes=PACKAGES)
            accuracies[name].append(model.score(X_test, y_test))
    n_entries = X_test.nnz / len(y_test)
    print(f"Of {n_columns:,} columns, a text fills {n_entries:.0f} on average.")
    return seen, accuracies


def print_accuracies(seen, accuracies, y_test):
    """Print the accuracies as the texts go by, and what the largest class would get."""
    print(f"\nAccuracy on {len(y_test):,} texts of modules held out")
    print(f"{'texts learned':>13}" + "".join(f"{name:>15}" for name in accuracies))
    for place in range(0, len(seen) - 1, max(1, len(seen) // 8)):
        row = "".join(f"{values[place]:15.3f}" for values in accuracies.values())
        print(f"{seen[place]:13,}{row}")
    final = "".join(f"{values[-1]:15.3f}" for values in accuracies.values())
    print(f"{'all':>13}{final}")
    print(f"Always the commonest package: {commonest(y_test):.3f}")


def commonest(y):
    """Return the share of the commonest label."""
    return np.unique(y.astype(str), return_counts=True)[1].max() / len(y)


def draw(seen, accuracies, y_test):
    """Return the picture: held-out accuracy against the texts learned from."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, values in accuracies.items():
        axes.plot(seen, values, ".-", label=name)
    axes.axhline(
        commonest(y_test), color="0.5", linestyle="--", label="the commonest package"
    )
    axes.set(
        title="Which package is a docstring from?",
        xlabel="texts learned from",
        ylabel="accuracy on modules held out",
        ylim=(0, 1),
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return figure


def main(argv=None):
    """Read the texts, learn, report, and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default="out", metavar="DIR")
    parser.add_argument("--modules", type=int, default=200, help="of every package")
    parser.add_argument("--columns", type=int, default=2**18)
    args = parser.parse_args(argv)

    models = {
        "skgd": MiniBatchClassifier(lr=0.03, alpha=1e-5, random_state=0),
        "SGDClassifier": SGDClassifier(loss="log_loss", alpha=1e-5, random_state=0),
    }
    learned, held_out = read_texts(args.modules)
    seen, accuracies = learn(models, learned, held_out, args.columns)
    print_accuracies(seen, accuracies, held_out[1])

    args.output.mkdir(parents=True, exist_ok=True)
    picture = args.output / "hashed_text.png"
    draw(seen, accuracies, held_out[1]).savefig(picture, dpi=150)
    print(f"Picture: {picture}")


if __name__ == "__main__":
    main()
