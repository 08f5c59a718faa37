"""The documentation site: every public name has its page, and every example is shown.

That it builds without a warning is for ``.ci/run``; what is read here needs no Sphinx.
"""

import importlib.util
import re
from pathlib import Path

import skgd

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def test_every_public_name_has_a_page_of_the_reference():
    """docs/api.md lists all of them, each once, and nothing else."""
    listed = re.findall(r"^   (\w+)$", (DOCS / "api.md").read_text(), re.M)
    assert sorted(listed) == sorted(skgd.__all__)


def test_every_page_is_in_a_table_of_contents():
    """A reader comes to all of them from the start page."""
    contents = re.findall(
        r"```\{toctree\}\n:hidden:\n\n(.*?)```",
        "".join(page.read_text() for page in DOCS.glob("*.md")),
        re.S,
    )
    listed = [name for lines in contents for name in lines.split()]
    pages = [*DOCS.glob("*.md"), *DOCS.glob("guide/*.md")]
    names = {str(page.relative_to(DOCS).with_suffix("")) for page in pages}
    assert {
        name for name in listed if not name.startswith(("project/", "gallery/"))
    } == (names - {"index"})
    assert len(listed) == len(set(listed))


def test_the_citation_has_the_version():
    """What is copied from the page is what is installed."""
    assert f"version = {{{skgd.__version__}}}" in (DOCS / "faq.md").read_text()


def test_the_versions_that_are_told_are_those_that_are_run():
    """What the page on installing says of both ends is what .ci/run takes there."""
    page = (DOCS / "guide" / "getting_started.md").read_text()
    rows = re.findall(r"^\| ([A-Za-z, -]+) \| ([\d., ]+) \| ([\d., ]+) \|$", page, re.M)
    assert len(rows) == 4
    for names, *ends in rows:
        for end, told in zip(("oldest", "newest"), ends, strict=True):
            run = (ROOT / ".ci" / f"{end}.txt").read_text().lower()
            run = re.sub(r"(?<=python) (?=3)", "==", run)  # of the heading
            versions = zip(names.lower().split(", "), told.split(", "), strict=True)
            for name, version in versions:
                assert re.search(rf"\b{name}=={version}\b", run), (end, name)


def pages_of_examples():
    """Return the module that makes pages of the examples."""
    spec = importlib.util.spec_from_file_location("site", DOCS / "_ext" / "examples.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_in_the_gallery(tmp_path):
    """Each is a page with a title, its commands as code, and a place in the order."""
    examples = pages_of_examples()
    folder = examples.with_titles(ROOT / "examples", tmp_path)
    order = examples.AsInTheGuide(folder)
    scripts = sorted((ROOT / "examples").glob("*.py"))
    assert sorted(path.name for path in folder.glob("*.py")) == [
        p.name for p in scripts
    ]
    assert len({order(path.name) for path in scripts}) == len(scripts)
    for path in scripts:
        page = (folder / path.name).read_text()
        title, line = page.removeprefix('"""\n').splitlines()[:2]
        assert line == "=" * len(title)
        command = f".. code-block:: bash\n\n    python examples/{path.name}"
        assert command in page
        assert "__doc__" not in page  # sphinx-gallery takes it away
