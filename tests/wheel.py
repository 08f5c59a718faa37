"""What is installed is whole: it fits, saves, loads and searches, as ``.ci/run`` asks.

Run it outside of the sources, where the wheel is installed.
"""

import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from sklearn.datasets import load_iris

import skgd


def main():
    """Use what is installed, and say where it is."""
    place = Path(skgd.__file__).resolve()
    assert place.is_relative_to(Path(sys.prefix).resolve()), place
    assert (place.parent / "py.typed").exists()
    assert skgd.__version__ == version("skgd")

    X, y = load_iris(return_X_y=True)
    model = skgd.MiniBatchClassifier(max_iter=50, tol=None, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.9
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.skgd")
        loaded = skgd.MiniBatchClassifier.load(f"{folder}/model.skgd")
    assert (loaded.predict(X) == model.predict(X)).all()
    search = skgd.VectorizedGridSearchCV(model, {"lr": [0.01, 0.1]}).fit(X, y)
    print(f"skgd {skgd.__version__} from {place.parent}: {search.best_score_:.3f}")


if __name__ == "__main__":
    main()
