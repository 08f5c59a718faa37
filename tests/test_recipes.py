"""docs/recipes.md: its code runs as it stands there, and does what the text says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sklearn
from conftest import frozen, layers_of
from sklearn.datasets import load_diabetes

from skgd import MiniBatchRegressor

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "recipes.md").read_text()
RECIPES = {
    title: re.findall(r"```python\n(.*?)```", text, re.S)
    for title, text in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
}


def run(title):
    """Return what the code of a recipe prints, and its names."""
    [code] = RECIPES[title]
    names = {"__name__": "recipe"}
    with sklearn.config_context():  # which puts back what the code sets
        exec(compile(code, "recipes.md", "exec"), names)
    return names


def test_a_frame_with_words_and_gaps(capsys):
    """The network learns what the words and the numbers say together."""
    run("A frame with words and gaps")
    assert float(capsys.readouterr().out) > 0.85


def test_a_target_in_dollars(capsys):
    """Scale and shift of the target do not matter."""
    names = run("A target in dollars")
    r2, dollars = re.findall(r"[\d.,]+\d", capsys.readouterr().out)
    assert float(r2) > 0.45
    assert float(dollars.replace(",", "")) < 50_000
    plain = sklearn.clone(names["model"]).fit(names["X"][:300], names["y"][:300])
    score = plain.score(names["X"][300:], names["y"][300:])
    assert score == pytest.approx(float(r2), abs=0.01)


def test_saving_and_going_on_in_another_process(tmp_path, monkeypatch):
    """Two processes do to the bit what one does."""
    monkeypatch.chdir(tmp_path)
    saves, goes_on = RECIPES["Saving, and going on in another process"]
    exec(compile(saves, "recipes.md", "exec"), {"__name__": "recipe"})
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", goes_on],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    X, y = load_diabetes(return_X_y=True)
    alone = MiniBatchRegressor(random_state=0)
    alone.partial_fit(X[:200], y[:200]).partial_fit(X[200:], y[200:])
    saved = MiniBatchRegressor.load(tmp_path / "model.skgd")
    assert done.stdout == f"{alone.t_} steps\n"
    assert frozen(layers_of(saved)) == frozen(layers_of(alone))
    assert saved.loss_curve_ == alone.loss_curve_
    assert saved.note_ == {"rows": len(X)}


def test_a_model_that_predicts_without_python(tmp_path, monkeypatch, capsys):
    """The runtime says of a row what the model says of it."""
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    rent = run("A model that predicts without Python")["rent"][0]
    of_graph, of_model = capsys.readouterr().out.split()
    assert of_graph == of_model
    assert float(of_graph) == pytest.approx(rent, abs=30)


def test_a_callback_of_your_own(capsys):
    """It stops the fit at the first epoch that is good enough."""
    model = run("A callback of your own")["model"]
    *tens, epochs = capsys.readouterr().out.splitlines()
    assert epochs == f"{len(model.loss_curve_)} epochs"
    assert len(tens) == len(model.loss_curve_) // 10
    assert [loss < 0.1 for loss in model.loss_curve_] == [False] * (
        model.n_iter_ - 1
    ) + [True]


def test_a_validation_set_of_your_own():
    """The model is judged by scaled rows, so that even its first loss is small."""
    names = run("A validation set of your own, in a Pipeline")
    scaled = names["pipeline"][0].transform(names["X_val"])
    score = names["model"].score(scaled, names["y_val"])
    assert score == names["model"].best_validation_score_ > 0.95
    assert np.max(names["model"].validation_loss_curve_) < 1


def test_every_recipe_has_a_test():
    """None is only read."""
    tests = [name for name in globals() if name.startswith("test_")]
    assert len(tests) == len(RECIPES) + 1
    assert all(RECIPES.values())
