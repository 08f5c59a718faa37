"""The package as a whole: what it exports, who may import whom, what its docs say."""

import ast
import inspect
import re
import tomllib
from pathlib import Path

import pytest

import skgd

PACKAGE = Path(skgd.__file__).parent
ROOT = Path(__file__).parent.parent

# Rooms from top to bottom. A room may import from rows below its own, and no others.
ROWS = [
    ["_search", "_displays"],
    ["_evaluation"],
    ["_grouping"],
    ["_estimators", "_stacks"],
    ["_base"],
    ["_training", "_callbacks", "_inputs"],
    ["_affine", "_constants"],
    ["_steps", "_weights"],
    ["_targets"],
    ["_network", "_losses", "_optimizers", "_schedules", "_batches", "_stopping"],
    ["_sparse"],
    ["_activations", "_contraction", "_peers", "_tensors", "_validation", "_versions"],
]
KNOW_SCIKIT_LEARN = {
    "_search",
    "_displays",
    "_evaluation",
    "_grouping",
    "_estimators",
    "_base",
    "_callbacks",
    "_inputs",
    "_validation",
}
ROOMS = sorted(path.stem for path in PACKAGE.glob("_*.py") if path.stem != "__init__")


def imports_of(room):
    """Return the modules that a room imports."""
    tree = ast.parse((PACKAGE / f"{room}.py").read_text())
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names.add(node.module)
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return names


def row_of(room):
    return next(i for i, row in enumerate(ROWS) if room in row)


def test_every_room_has_a_row():
    """A new module has its place among the rows."""
    assert set(ROOMS) <= {room for row in ROWS for room in row}


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_downwards(room):
    """No room imports from its own row or one above."""
    for name in imports_of(room):
        if name.startswith("skgd."):
            other = name.removeprefix("skgd.")

            assert row_of(other) > row_of(room), (
                f"{room} imports {other}, which stands beside or above it. Move what "
                "both need to a lower row, or pass it as an argument."
            )


@pytest.mark.parametrize("room", [r for r in ROOMS if r not in KNOW_SCIKIT_LEARN])
def test_the_engine_does_not_know_scikit_learn(room):
    """The engine knows torch and NumPy only."""
    assert not [name for name in imports_of(room) if name.startswith("sklearn")]


@pytest.mark.parametrize("room", ROOMS)
def test_gradients_are_written_by_hand(room):
    """No autograd, module or optimizer of torch's is in the package."""
    code = (PACKAGE / f"{room}.py").read_text()
    forbidden = r"autograd|\.backward\(|requires_grad|nn\.Module|import torch\.optim"

    assert not re.search(forbidden, code)


def test_what_is_exported_is_what_is_public():
    """__all__ names all that a user meets."""
    public = {name for name in vars(skgd) if not name.startswith("_")}

    assert set(skgd.__all__) == public


def test_the_version_is_the_projects():
    """It stands in pyproject.toml and nowhere else."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert skgd.__version__ == project["version"]


def documented():
    """Return the public classes and their public methods that skgd itself defines."""
    for name in skgd.__all__:
        cls = getattr(skgd, name)
        yield name, cls
        for method, function in inspect.getmembers(cls, inspect.isfunction):
            if not method.startswith("_") and function.__module__.startswith("skgd."):
                yield f"{name}.{method}", function


@pytest.mark.parametrize(("name", "thing"), list(documented()))
def test_docstrings_are_numpydocs(name, thing):
    """One sentence, and sections for all parameters and for what is returned."""
    doc = inspect.getdoc(thing)
    parameters = set(inspect.signature(thing).parameters) - {"self"}
    entries = re.findall(r"^\**([\w, ]+) : ", doc.split("Attributes\n---")[0], re.M)
    described = {entry.strip() for line in entries for entry in line.split(",")}

    assert doc.splitlines()[0].endswith(".")
    assert parameters <= described
    if inspect.isclass(thing):
        assert ">>>" in doc
    else:
        assert "Returns\n-------" in doc


@pytest.mark.parametrize(
    ("folder", "pattern", "entry"),
    [("skgd", "_[a-z]*.py", "| `{stem}` |"), ("examples", "*.py", "| `{path}` |")],
)
def test_the_readme_lists_every_file(folder, pattern, entry):
    """Every room and every example has its line in a table."""
    readme = (ROOT / "README.md").read_text()
    paths = sorted((ROOT / folder).glob(pattern))
    assert paths
    for path in paths:
        assert entry.format(stem=path.stem, path=path.relative_to(ROOT)) in readme


def test_the_readmes_links_lead_somewhere():
    """What it links to in the repository is there."""
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", (ROOT / "README.md").read_text())
    assert links
    for link in links:
        assert (ROOT / link).exists()


def python_of_the_readme():
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)


@pytest.mark.parametrize("code", python_of_the_readme())
def test_the_readmes_code_runs(code, tmp_path, monkeypatch):
    """What a reader pastes works."""
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})


def test_the_readme_has_code():
    """The test above has something to run."""
    assert python_of_the_readme()


def parameters_of(cls):
    """Return the text of every parameter of a class, by its heading."""
    text = inspect.getdoc(cls).split("Attributes\n---")[0].split("Parameters\n---")[1]
    headings = re.split(r"^(\w+ : .*)$", text, flags=re.M)[1:]
    return dict(zip(headings[::2], headings[1::2], strict=True))


def test_searches_say_the_same_of_a_parameter():
    """What two of them have in common, with the same default, has one text."""
    searches = [getattr(skgd, name) for name in skgd.__all__ if "Search" in name]
    assert len(searches) == 4
    said = {}
    for heading, text in (
        pair for cls in searches for pair in parameters_of(cls).items()
    ):
        if not heading.startswith("random_state"):  # of candidates, or of rows
            assert said.setdefault(heading, text.strip()) == text.strip(), heading
