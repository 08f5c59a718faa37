"""The package as a whole: what it exports, who may import whom, what its docs say."""

import ast
import inspect
import re
import tomllib
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

import skgd

PACKAGE = Path(skgd.__file__).parent
ROOT = Path(__file__).parent.parent

# From the bottom up. A package may import from those before it, and a room from those
# before it in its package, whose docstring has them in the order of reading.
PACKAGES = [
    "_machine",
    "_equations",
    "_compiled",
    "_training",
    "_estimators",
    "_search",
    "_onnx",
    "_displays",
]
KNOW_SCIKIT_LEARN = {"_estimators", "_search", "_onnx", "_displays"}
PRIVATE_NAMES_OF_OTHERS = {
    # of scikit-learn's searches, scorers and callbacks
    *("_checked_cv_orig", "_format_results", "_kwargs", "_score_func", "_scorers"),
    "_response_method",
    *("_children_map", "_init_callback_context", "_sign", "_skl_callbacks"),
    # of numba's functions and caches
    *("_cache", "_getvalue", "_index_key", "_locator_classes"),
    # of torch's groups of gloo, which choose no address otherwise
    *("_devices", "_timeout"),
    # of torch's names of groups, which a second one of the same ranks would have again
    *("_hash_ranks_to_str", "_world"),
    # of named tuples
    *("_asdict", "_fields", "_replace"),
}

# The one room that imports private names of a package.
PRIVATE_IMPORTS = {
    "sklearn": "_estimators.sklearn_private",
    "skl2onnx": "_onnx.converters",
}


def order_of_reading(package):
    """Return the rooms that the docstring of a package lists."""
    tree = ast.parse((PACKAGE / package / "__init__.py").read_text())
    return re.findall(r"^\* ``(\w+)``: ", ast.get_docstring(tree), re.M)


IN_ORDER = [
    f"{package}.{room}" for package in PACKAGES for room in order_of_reading(package)
]
ROOMS = sorted(
    f"{path.parent.name}.{path.stem}"
    for path in PACKAGE.glob("_*/*.py")
    if path.stem != "__init__"
)


def file_of(room):
    return PACKAGE / f"{room.replace('.', '/')}.py"


@cache
def tree_of(room):
    return ast.parse(file_of(room).read_text())


def imports_of(room, *, at_once=False):
    """Return the modules that a room imports, whenever that is or with itself."""
    names = set()
    tree = tree_of(room)
    for node in tree.body if at_once else ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            whole = node.module.removeprefix("skgd.") in PACKAGES  # rooms by name
            rooms = [f"{node.module}.{alias.name}" for alias in node.names]
            names.update(rooms if whole else [node.module])
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return names


def test_every_room_is_listed_by_its_package():
    """A new module has its place in the order of reading."""
    assert sorted(IN_ORDER) == ROOMS


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_downwards(room):
    """No room imports from one that is read after it."""
    for name in imports_of(room):
        if name.startswith("skgd."):
            other = name.removeprefix("skgd.")

            assert IN_ORDER.index(other) < IN_ORDER.index(room), (
                f"{room} imports {other}, which is read after it. Move what both need "
                "to a room before them, or pass it as an argument."
            )


@pytest.mark.parametrize(
    "room", [r for r in ROOMS if r.partition(".")[0] not in KNOW_SCIKIT_LEARN]
)
def test_the_engine_does_not_know_scikit_learn(room):
    """The engine knows torch and NumPy only."""
    assert not [name for name in imports_of(room) if name.startswith("sklearn")]


# What these import is imported when something is exported.
MAKE_GRAPHS = {"_onnx.nodes", "_onnx.equations", "_onnx.converters"}


@pytest.mark.parametrize("room", [room for room in ROOMS if room not in MAKE_GRAPHS])
def test_skgd_is_imported_without_onnx(room):
    """Neither onnx, skl2onnx, pyarrow, nor what needs them, until it is asked for."""
    late = {"onnx", "skl2onnx", "pyarrow", *(f"skgd.{other}" for other in MAKE_GRAPHS)}
    names = imports_of(room, at_once=True)
    assert not late & {*names, *(name.partition(".")[0] for name in names)}


@pytest.mark.parametrize("room", ROOMS)
def test_gradients_are_written_by_hand(room):
    """No autograd, module or optimizer of torch's is in the package."""
    code = file_of(room).read_text()
    forbidden = r"autograd|\.backward\(|requires_grad|nn\.Module|import torch\.optim"

    assert not re.search(forbidden, code)


@pytest.mark.parametrize("room", ROOMS)
def test_private_names_are_not_imported(room):
    """None of another room, and of scikit-learn and skl2onnx in one room only."""
    for node in ast.walk(tree_of(room)):
        if not isinstance(node, ast.ImportFrom):
            continue
        package, *modules = node.module.split(".")
        names = [alias.name for alias in node.names]
        if room != PRIVATE_IMPORTS.get(package, room):
            names += modules
        elif package != "skgd":
            continue

        assert not [name for name in names if name.startswith("_")]


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_keep_to_their_own_attributes(room):
    """No room reaches into an object of another room."""
    nodes = list(ast.walk(tree_of(room)))
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    own = {a.attr for a in attributes if getattr(a.value, "id", "") in ("self", "cls")}
    own |= {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    reached = {a.attr for a in attributes if re.fullmatch(r"_[a-z]\w*", a.attr)}

    assert not reached - own - PRIVATE_NAMES_OF_OTHERS


def functions_of(room):
    """Return the functions of a room but for the constructors of public classes."""
    nodes = list(ast.walk(tree_of(room)))
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    public = [part for cls in classes if cls.name in skgd.__all__ for part in cls.body]
    return [
        node
        for node in nodes
        if isinstance(node, ast.FunctionDef)
        and not (node.name == "__init__" and node in public)
    ]


def ways_added_by(node):
    """Return how many ways through its function a node adds."""
    match node:
        case ast.For() | ast.While():
            return 1 + bool(node.orelse)
        case ast.Try():
            return len(node.handlers) + bool(node.orelse)
        case ast.BoolOp():
            return len(node.values) - 1
        case ast.comprehension():
            return 1 + len(node.ifs)
        case ast.Match():
            last = node.cases[-1].pattern
            otherwise = isinstance(last, ast.MatchAs) and last.pattern is None
            return len(node.cases) - otherwise
        case ast.If() | ast.IfExp() | ast.Assert() | ast.Lambda() | ast.FunctionDef():
            return 1
    return 0


def lines_of_code(function, lines):
    """Return how many lines of a function are no docstring, comment or blank."""
    told = function.body[0] if ast.get_docstring(function) else None
    docstring = range(told.lineno, told.end_lineno + 1) if told else ()
    rest = [
        lines[number - 1].strip()
        for number in range(function.lineno, function.end_lineno + 1)
        if number not in docstring
    ]
    return sum(bool(line) and not line.startswith("#") for line in rest)


@pytest.mark.parametrize("room", ROOMS)
def test_functions_are_short_and_have_few_ways_through(room):
    """At most 60 lines and a cyclomatic complexity of 20, inner functions included."""
    lines = file_of(room).read_text().splitlines()
    for function in functions_of(room):
        ways = sum(map(ways_added_by, ast.walk(function)))

        assert ways <= 20, f"{room}.{function.name}"
        assert lines_of_code(function, lines) <= 60, f"{room}.{function.name}"


def test_what_is_exported_is_what_is_public():
    """__all__ names all that a user meets."""
    values = {k: v for k, v in vars(skgd).items() if not inspect.ismodule(v)}
    public = {name for name in values if not name.startswith("_")}

    assert set(skgd.__all__) == public


def test_the_version_is_the_projects():
    """It stands in pyproject.toml and nowhere else."""
    assert skgd.__version__ == project()["version"]


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins_of(end):
    """Return the versions that .ci/run takes at an end, by package."""
    lines = (ROOT / ".ci" / f"{end}.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_both_ends_of_what_is_claimed_are_run():
    """The oldest versions are the lower bounds, and the newest have the same names."""
    extras = project()["optional-dependencies"]
    claimed = [*project()["dependencies"], *extras["test"]]
    claimed += [*extras["numba"], *extras["parquet"], *extras["plot"]]
    claimed += [*extras["dask"], *extras["onnx"]]
    oldest, newest = pins_of("oldest"), pins_of("newest")
    for requirement in claimed:
        whole, bound = requirement.split(">=")
        name = whole.partition("[")[0]
        assert f"{oldest[name]}.".startswith(f"{bound}."), name
        assert name in newest, name


def test_the_workflow_and_the_badge_have_the_pythons_that_are_claimed():
    """The oldest and the newest of pyproject.toml; and the oldest torch, too."""
    versions = [
        text.rpartition(" ")[2] for text in project()["classifiers"] if "3." in text
    ]
    assert project()["requires-python"] == f">={versions[0]}"
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert f'{{python: "{versions[0]}", versions: oldest}}' in workflow
    assert f'{{python: "{versions[-1]}", versions: newest}}' in workflow
    badge = (ROOT / "docs" / "badges.svg").read_text()
    oldest = dict(one.split(">=") for one in project()["dependencies"])
    for text in (
        f">{versions[0]} to {versions[-1]}<",
        f">{oldest['torch']} or newer<",
        f">{oldest['scikit-learn']} or newer<",
        f">{project()['license']}<",
    ):
        assert text in badge
    readme = " ".join(PAGES["README.md"].split())
    assert (
        f"NumPy {oldest['numpy']}, scikit-learn {oldest['scikit-learn']} and torch "
        f"{oldest['torch']} are the oldest"
    ) in readme


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


def test_the_guide_lists_every_example():
    """Every example has its line in a table."""
    guide = (ROOT / "docs" / "guide.md").read_text()
    paths = sorted((ROOT / "examples").glob("*.py"))
    assert paths
    for path in paths:
        assert f"| `{path.relative_to(ROOT)}` |" in guide


def test_the_readme_is_short():
    """It is read in five minutes; what is longer has a page of its own."""
    assert len((ROOT / "README.md").read_text().split()) < 1000


PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "docs" / "guide").glob("*.md")),
        ROOT / "benchmarks" / "README.md",
    ]
}
TESTED_APART = {  # by test_recipes, and below
    "docs/recipes.md",
    "CONTRIBUTING.md",
}


def python_of(page):
    return re.findall(r"```python\n(.*?)```", PAGES[page], re.S)


def anchors_of(page):
    """Return what the headings of a page are called in links, as on GitHub."""
    text = re.sub(r"^```.*?^```", "", PAGES[page], flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    """What a page links to in the repository is there, and so is the heading."""
    for link in re.findall(r"\]\((?!https?://)([^)]+)\)", PAGES[page]):
        name, _, anchor = link.partition("#")
        path = ((ROOT / page).parent / name).resolve() if name else ROOT / page
        assert path.exists(), link
        if anchor:
            assert anchor in anchors_of(str(path.relative_to(ROOT))), link


BLOCKS = [
    pytest.param(page, code, id=f"{page}-{number}")
    for page in sorted(PAGES.keys() - TESTED_APART)
    for number, code in enumerate(python_of(page))
]


@pytest.mark.parametrize(("page", "code"), BLOCKS)
def test_the_code_of_a_page_runs(page, code, tmp_path, monkeypatch):
    """What a reader pastes works."""
    monkeypatch.chdir(tmp_path)
    exec(compile(code, page, "exec"), {"__name__": "page"})


@pytest.mark.parametrize(
    "page", ["README.md", "docs/guide/streams.md", "docs/guide/search.md"]
)
def test_a_page_has_code(page):
    """The test above has something to run."""
    assert any(block.values[0] == page for block in BLOCKS)


def test_tests_that_are_shown_are_tests():
    """What CONTRIBUTING shows of tests stands in them."""
    tests = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    shown = python_of("CONTRIBUTING.md")
    assert shown
    for code in shown:
        assert any(code in text for text in tests)


def test_architecture_lists_every_room():
    """The page has all packages and rooms, each with a line of its own."""
    sections = re.split(r"^### `(\w+)`.*$", PAGES["docs/architecture.md"], flags=re.M)
    listed = {
        f"{package}.{room}"
        for package, text in zip(sections[1::2], sections[2::2], strict=True)
        for room in re.findall(r"^\| `(\w+)` \| ", text, re.M)
    }

    assert listed >= set(ROOMS)


OF_THE_INSIDE = ["CONTRIBUTING.md", "docs/architecture.md"]


@pytest.mark.parametrize("page", OF_THE_INSIDE)
def test_files_that_are_named_are_there(page):
    """Files and folders of the repository stand where a page says they are."""
    folders = r"`((?:skgd|tests|docs|benchmarks|examples|\.ci)/[\w/.*]*)`"
    named = re.findall(folders, PAGES[page])
    assert named
    for name in named:
        assert (ROOT / name).exists(), name


def names_in(room):
    """Return what a room has, with the attributes of its classes."""
    module = import_module(f"skgd.{room}")
    classes = [one for one in vars(module).values() if inspect.isclass(one)]
    fields = [getattr(one, "__annotations__", {}) for one in classes]
    names = [name for some in [*map(dir, classes), *fields] for name in some]
    return {*vars(module), *names}


@pytest.mark.parametrize("page", OF_THE_INSIDE)
def test_what_is_named_of_a_room_is_there(page):
    """Functions are named as they are in the code: ``room.function``."""
    rooms = {room.rpartition(".")[2]: room for room in ROOMS}
    named = re.findall(r"(?<![\w.])([a-z]\w*)\.(\w+)(?!\.py)", PAGES[page])
    of_rooms = {
        (room, name)
        for room, name in named
        if room in rooms and name not in ("py", "md")
    }
    assert of_rooms
    for room, name in of_rooms:
        assert name in names_in(rooms[room]), f"{room}.{name}"


def parameters_of(cls):
    """Return the text of every parameter of a class, by its heading."""
    text = inspect.getdoc(cls).split("Attributes\n---")[0].split("Parameters\n---")[1]
    headings = re.split(r"^(\w+ : .*)$", text, flags=re.M)[1:]
    return dict(zip(headings[::2], headings[1::2], strict=True))


def test_searches_say_the_same_of_a_parameter():
    """What two of them have in common, with the same default, has one text."""
    names = [name for name in skgd.__all__ if name.endswith("SearchCV")]
    searches = [getattr(skgd, name) for name in names]
    assert len(searches) == 4
    said = {}
    for heading, text in (
        pair for cls in searches for pair in parameters_of(cls).items()
    ):
        if not heading.startswith("random_state"):  # of candidates, or of rows
            assert said.setdefault(heading, text.strip()) == text.strip(), heading
