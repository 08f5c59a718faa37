"""Every example runs, prints its table, draws its picture, and is right.

Each runs in this process with fewer epochs or rows than by default. What is asserted
are the numbers that the example is about; times are not.
"""

import importlib.util
import re
import runpy
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import pytest
from matplotlib.image import imread

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
HOUSING = ROOT.parent / "shared" / "data" / "california_housing.csv"
NUMBER = r"-?\d[\d,]*(?:\.\d+)?(?:e[+-]\d+)?|inf"


def load(name):
    """Return the example as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tmp_path, capsys):
    """Return a function that runs an example, checks its picture, returns its words."""

    def run_example(name, *options):
        load(name).main(["--output", str(tmp_path), *options])
        picture = tmp_path / f"{name}.png"
        printed = capsys.readouterr().out
        assert f"Picture: {picture}" in printed
        assert imread(picture).std() > 0.01  # it can be read, and is not blank
        return printed

    return run_example


def numbers(printed, label):
    """Return the numbers of the first line that starts with the label."""
    for line in printed.splitlines():
        if line.strip().startswith(label):
            found = re.findall(NUMBER, line.split(label, 1)[1])
            return [float(number.replace(",", "")) for number in found]
    raise AssertionError(f"no line starts with {label!r} in:\n{printed}")


@pytest.mark.parametrize(
    "path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem
)
def test_an_example_says_how_to_run_it(path):
    """The docstring of every example holds the command that runs it."""
    assert f"python examples/{path.name} --output out" in load(path.stem).__doc__


def test_an_example_runs_as_a_script_without_a_warning(tmp_path, monkeypatch, capsys):
    """The command of the docstring works, and nothing is written to stderr."""
    output = tmp_path / "new" / "folder"
    monkeypatch.setattr("sys.argv", ["descent_path.py", "--output", str(output)])
    runpy.run_path(str(EXAMPLES / "descent_path.py"), run_name="__main__")
    assert capsys.readouterr().err == ""
    assert (output / "descent_path.png").exists()


def test_quickstart_recognises_held_out_digits(run):
    """The grid is printed, and its winner is right about most digits."""
    printed = run("quickstart", "--epochs", "10")
    for batch_size in ("16", "64", "256"):
        assert len(numbers(printed, f"{batch_size} ")) == 3
    assert "Best: batch_size=" in printed
    assert numbers(printed, "Accuracy on 450 held-out digits:")[0] > 0.95


def test_descent_path_takes_the_steps_of_the_article(run):
    """Weights and losses of whole-batch descent are the published ones, down to 0."""
    printed = run("descent_path")
    path = [numbers(printed, f"{step}   ") for step in range(4)]
    weights, losses, mean_squares = zip(*path, strict=True)
    assert weights == pytest.approx([8, 7.38, 6.8240666, 6.3255796], abs=1e-6)
    assert mean_squares[:3] == pytest.approx([186.0, 149.54607, 120.236694], rel=1e-6)
    assert mean_squares == pytest.approx([2 * loss for loss in losses], rel=1e-6)
    assert numbers(printed, "50   ")[0] == pytest.approx(2.0257, abs=1e-4)

    # Smaller batches are nearer to the end, and training stops there by itself.
    whole, mini, stochastic = numbers(printed, "10   ")
    assert 2 < stochastic < mini < whole < 8
    loss, epochs, weight = numbers(printed, "Stopped at a loss of")
    assert loss < 1e-15
    assert epochs < 1000
    assert weight == 2


def test_data_parallel_is_one_process_without_torchrun(run):
    """The only rank reads all files, and the network is nearly as good as can be."""
    printed = run(
        *("data_parallel", "--rows", "64000", "--epochs", "4", "--batch-size", "512")
    )
    assert numbers(printed, "Rank 0 of 1 has trained on") == [64_000]
    assert numbers(printed, "Accuracy on 10,000 other rows:")[0] > 0.9


def test_a_dask_collection_is_trained_on_by_its_workers(run):
    """Nearly all of the error on other days is that of the noise."""
    pytest.importorskip("distributed")
    printed = run(*("dask_collection", "--threads", "--rows", "64000", "--epochs", "4"))
    assert numbers(printed, "2 workers,")[0] == 64_000
    error, noise = numbers(printed, "Error on other days:")
    assert noise < error < 1.3 * noise


def test_xor_is_learned_by_every_kind_of_batch(run):
    """All four rows are right, whole-batch, in mini-batches and one by one."""
    printed = run("xor_network", "--epochs", "4")
    for name in ("whole-batch (4)", "mini-batch (2)", "stochastic (1)"):
        *_, right, rows = numbers(printed, name)
        assert right == rows == 4
    # The log of a larger fit has a line an epoch, in which both losses fall.
    log = [numbers(printed, f"{epoch}   ") for epoch in range(1, 5)]
    train, validation, *accuracies = zip(*log, strict=True)
    assert sorted(train, reverse=True) == list(train)
    assert sorted(validation, reverse=True) == list(validation)
    assert min(accuracy[-1] for accuracy in accuracies) > 0.85


def test_irises_are_classified_in_mini_batches(run):
    """Both tasks end with a low cost and few mistakes on the flowers held out."""
    printed = run("iris_network", "--epochs", "500")
    for task in ("3 species, softmax", "2 species, sigmoid"):
        *_, cost, accuracy = numbers(printed.split(task)[1], "mini-batches of 32")
        assert cost < 0.2
        assert accuracy > 0.9


def test_logistic_gradient_is_the_same_in_both_ways_and_in_skgd(run):
    """Loop, einsum and a step of skgd agree, and huge scores have finite losses."""
    printed = run("logistic_gradient", "--rows", "3000", "--columns", "40")
    for size in ("1,000      100", "3,000       40"):
        *_, difference = numbers(printed, size)
        assert difference < 1e-5
    assert numbers(printed, "A step of skgd")[-1] < 1e-7
    assert numbers(printed, "-10,000") == [0, 0, float("inf"), 1e4]


def test_logistic_gradient_takes_the_rows_that_fit_in_memory(monkeypatch, capsys):
    """With little memory, fewer rows are used, and this is said."""
    example = load("logistic_gradient")
    monkeypatch.setattr(example, "free_memory", lambda: 1_000_000)
    assert example.rows_that_fit(5_000, n_columns=100) == 1_250
    assert "1,250 of the 5,000 rows" in capsys.readouterr().out
    assert example.rows_that_fit(500, n_columns=100) == 500
    assert capsys.readouterr().out == ""


def test_a_stream_is_learned_chunk_by_chunk(run):
    """The accuracy on the next chunk rises, and the peak memory is printed."""
    printed = run("streaming", "--rows", "300000")
    assert numbers(printed, "220,000")[0] > numbers(printed, "20,000")[0] + 0.05
    before, after = numbers(printed, "Peak memory:")
    assert 0 < before <= after


def test_files_are_trained_on_as_arrays_are(run):
    """The error of the next month is that of the noise, and the memory is printed."""
    printed = run("parquet_files", "--rows", "60000")
    error, noise = numbers(printed, "Error of the next month:")
    assert noise < error < 1.3 * noise
    before, after = numbers(printed, "Peak memory:")
    assert 0 < before <= after


def test_a_stream_that_drifts_is_seen_to(run):
    """The score falls with each change and comes back, of three classes too."""
    printed = run("drift")
    score = {first: numbers(printed, f"{first}-")[1] for first in (140, 150, 290, 300)}
    assert score[140] > 0.9
    assert score[150] < 0.3
    assert score[290] > 0.9
    assert 0.6 < score[300] < numbers(printed, "440-")[1]


def test_class_weights_find_more_of_the_rare_digit(run):
    """Both networks stop early and rank well; the weighted one finds more eights."""
    printed = run("class_imbalance")
    recalls = []
    for name in ("all rows alike", "class_weight='balanced'"):
        epochs, best, average_precision, recall, *_ = numbers(printed, name)
        assert best < epochs < 200
        assert average_precision > 0.9
        recalls.append(recall)
    assert recalls[1] > recalls[0] + 0.1


def test_several_outputs_are_drawn_better_than_by_ridge(run):
    """The network's pixels are nearer to the true ones than those of linear models."""
    printed = run("several_outputs", "--epochs", "20")
    names = "the mean", "Ridge", "skgd"
    errors, r2s = zip(*(numbers(printed, name) for name in names), strict=True)
    assert sorted(errors, reverse=True) == list(errors)
    assert errors[2] < 0.9 * errors[1]
    assert sorted(r2s) == list(r2s)


def test_quantiles_hold_nine_of_ten_points(run):
    """They do so on the left and on the right, at a loss near the lowest."""
    printed = run("quantiles", "--epochs", "30", "--rows", "2000")
    *shares, loss = numbers(printed, "skgd")
    *true_shares, lowest = numbers(printed, "true quantiles")
    assert shares == pytest.approx([0.9] * 4, abs=0.03)
    assert true_shares == pytest.approx([0.9] * 4, abs=0.01)
    assert lowest < loss < 1.03 * lowest


def test_hashed_text_is_sorted(run):
    """Texts of modules that it has not seen are mostly put to their packages."""
    printed = run("hashed_text", "--modules", "20")
    assert numbers(printed, "Of")[0] == 2**18
    accuracy, _ = numbers(printed, "all")
    assert accuracy > numbers(printed, "Always the commonest package:")[0] + 0.1


def test_hashed_text_reads_packages_wherever_they_are(tmp_path, monkeypatch):
    """Tests are left out by their place in the package, not by that of the package."""
    root = tmp_path / "latest" / "package"
    (root / "tests").mkdir(parents=True)
    for name in ("__init__.py", "module.py", "tests/test_module.py"):
        (root / name).touch()
    example = load("hashed_text")
    found = SimpleNamespace(origin=root / "__init__.py")
    monkeypatch.setattr(example, "find_spec", lambda package: found)
    paths = [root / "__init__.py", root / "module.py"]
    assert example.some_modules("package", 9) == paths


def test_house_prices_reach_the_weights_of_linear_regression(run):
    """Every batch size nears the lowest cost, and the settled weights are exact."""
    if not HOUSING.exists():
        pytest.skip(f"the data are not at {HOUSING}")
    printed = run("california_housing", "--data", str(HOUSING), "--epochs", "20")
    lowest = numbers(printed, "LinearRegression")[0]
    for size in ("1 ", "10 ", "1000 ", "None"):
        assert lowest <= numbers(printed, size)[-1] < 1.15 * lowest
    for last_batch, steps, rows in (
        ("keep", 21, 20_640),
        ("drop", 20, 20_000),
        ("fill", 21, 21_000),
    ):
        assert numbers(printed, f"1000        {last_batch}")[1:3] == [steps, rows]
    assert numbers(printed, "skgd, settled by 1,000 steps on all rows")[0] < 1e-6


def test_house_prices_end_with_a_sentence_without_data(monkeypatch, tmp_path):
    """Without file and network, the example says what to do and fails."""

    def unreachable(**options):
        raise URLError("no network")

    monkeypatch.setattr("sklearn.datasets.fetch_california_housing", unreachable)
    with pytest.raises(SystemExit, match=r"no network.*pass --data FILE"):
        load("california_housing").main(["--output", str(tmp_path)])


def test_both_searches_of_a_network_find_the_same_winner(run):
    """Learning rate and penalty of the two winners are printed, and equal."""
    printed = run("tune_a_network", "--candidates", "6", "--epochs", "3")
    _, *theirs, score = numbers(printed, "RandomizedSearchCV")
    _, *ours, our_score = numbers(printed, "VectorizedRandomizedSearchCV")
    assert ours == theirs
    assert our_score == pytest.approx(score, abs=0.003)  # of 1,797 digits, float32
    assert our_score > 0.8


def test_the_range_test_leads_to_a_rate_that_does_well(run):
    """Losses fall up to the rate that is told, and the search below it finds one."""
    printed = run("learning_rate", "--epochs", "10")
    [best] = numbers(printed, "Lowest at lr=")
    [hardly] = numbers(printed, "1e-05")
    [there] = numbers(printed, f"{best:.2g}  ")
    assert there < hardly / 10
    assert "diverged" in printed
    chosen, _ = numbers(printed, "Best of the search: lr=")
    assert chosen <= best
    assert numbers(printed, "Accuracy on 450 held-out digits:")[0] > 0.95
