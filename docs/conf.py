"""The documentation site: ``python -m sphinx -W -b html docs docs/_build/html``.

Pages are Markdown that a forge shows as well. What is made beside them, and not kept,
is the reference in ``api/``, from docstrings, and the gallery in ``gallery/``, from the
scripts in ``examples/``, which are run; with ``-D plot_gallery=False`` they are not.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

import examples  # noqa: E402
import skgd  # noqa: E402


def methods(name, package):
    """Return the public methods of a class that a package defines, by their names."""
    cls = getattr(skgd, name)
    return [
        method
        for method in dir(cls)
        if not method.startswith("_")
        and getattr(getattr(cls, method, None), "__module__", "").startswith(package)
    ]


project = "skgd"
author = "the skgd developers"
copyright = "the skgd developers, BSD-3-Clause"
version = release = skgd.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "docstrings",
    "outside",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_ext", "_templates", "gallery/GALLERY_HEADER.rst"]

# Pages
myst_heading_anchors = 4  # links to headings, as a forge makes them
myst_enable_extensions = ["dollarmath"]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

smartquotes = False  # "adam" is code

# The reference
autosummary_context = {
    "methods_of_ours": {name: methods(name, "skgd.") for name in skgd.__all__},
    "methods_of_sklearn": {name: methods(name, "sklearn.") for name in skgd.__all__},
}
autodoc_typehints = "none"  # the docstrings tell the types
numpydoc_show_class_members = False  # the template lists them
numpydoc_class_members_toctree = False
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"
html_math_renderer = "mathml"

# The gallery
sphinx_gallery_conf = {
    "examples_dirs": [str(examples.with_titles(HERE.parent / "examples", HERE))],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"\.py$",
    "image_scrapers": ("examples.saved_picture",),
    "reset_argv": "examples.arguments",
    "within_subsection_order": "examples.AsInTheGuide",
    "backreferences_dir": "gallery/used",
    "doc_module": ("skgd",),
    "reset_modules": (),
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 1,
    "download_all_examples": False,
    "remove_config_comments": True,
}

# How it looks
html_theme = "pydata_sphinx_theme"
html_title = "skgd"
html_static_path = ["_static"]
html_css_files = ["skgd.css"]
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "skgd"},
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": {"**": ["page-toc"], "porting": []},  # a wide table
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
    "navigation_with_keys": False,
    "show_toc_level": 2,
}
html_sidebars = {"faq": []}  # which has no pages below it

# With `-b linkcheck`, links to other sites; those within are warnings of every build
linkcheck_ignore = []
linkcheck_timeout = 10
