"""The scripts of ``examples/`` as sphinx-gallery takes them.

A script stays a plain one: it begins with a sentence, prints, and saves its picture as
``out/NAME.png``. Here it is given a title, and the picture is fetched.
"""

import ast
import re
from pathlib import Path

HEADER = """\
Examples
========

Each is a script, which prints a table and saves a picture:
``python examples/NAME.py --output out``.
"""
DATA = Path(__file__).parents[3] / "shared" / "data" / "california_housing.csv"
OPTIONS = {
    "logistic_gradient": ["--rows", "10000"],  # else half of the memory that there is
    "dask_collection": ["--threads"],  # other processes would run this one's main
}
if DATA.exists():
    OPTIONS["california_housing"] = ["--data", str(DATA)]  # else it is downloaded


def with_titles(folder, docs):
    """Write the scripts of a folder with titles, and return where they are."""
    written = docs / "_build" / "examples"
    written.mkdir(parents=True, exist_ok=True)
    (written / "GALLERY_HEADER.rst").write_text(HEADER)
    scripts = sorted(folder.glob("*.py"))
    for old in set(written.glob("*.py")) - {written / path.name for path in scripts}:
        old.unlink()
    for path in scripts:
        (written / path.name).write_text(as_page(path.stem, path.read_text()))
    return written


def as_page(name, script):
    """Return a script whose docstring is a page: title, text, commands."""
    told = ast.parse(script).body[0]
    doc = told.value.value
    commands = re.compile(r"^(?= {4}\S)((?: {4}.*\n?)+)", re.M)
    title = name.replace("_", " ").capitalize().replace("Xor", "XOR")
    page = f"{title}\n{'=' * len(title)}\n\n{commands.sub(as_code, doc)}"
    code = "\n".join(script.splitlines()[told.end_lineno :])
    # sphinx-gallery takes the docstring away
    code = code.replace("__doc__.splitlines()[0]", repr(doc.splitlines()[0]))
    return f'"""\n{page}"""\n{code}\n'


def as_code(indented):
    """Return indented lines as a block of commands."""
    return f".. code-block:: bash\n\n{indented[0]}"


class AsInTheGuide:
    """The order of the table in the guide, by which the main job comes first."""

    def __init__(self, folder):
        self.guide = (Path(__file__).parents[1] / "guide.md").read_text()

    def __call__(self, name):
        return self.guide.index(f"`examples/{name}`")


def arguments(gallery_conf, script_vars):
    """Return the options that a script is run with."""
    return OPTIONS.get(Path(script_vars["src_file"]).stem, [])


def saved_picture(block, block_vars, gallery_conf):
    """Move the picture that a script has saved to the gallery, if it has by now."""
    from sphinx_gallery.scrapers import figure_rst  # which tests do without

    script = Path(block_vars["src_file"])
    saved = script.parent / "out" / f"{script.stem}.png"
    if not saved.exists():
        return ""
    picture = Path(next(block_vars["image_path_iterator"]))
    saved.replace(picture)
    return figure_rst(
        [str(picture)], gallery_conf["src_dir"], f"The picture of {script.name}"
    )
