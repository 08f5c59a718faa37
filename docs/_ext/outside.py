"""Pages of the repository outside ``docs/``, links to them, and links to elsewhere.

In the repository a link leads from file to file, as a forge shows them. On the site
some of these files are pages of their own: they are copied to ``docs/project/``, and
every link to them leads there, as links to ``examples/`` lead to the gallery.
"""

import os
import re
import socket
from pathlib import Path

from sphinx.util import logging

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent
LOGGER = logging.getLogger(__name__)
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "SECURITY.md": "project/security.md",
    "benchmarks/README.md": "project/benchmarks.md",
    "benchmarks/results.md": "project/results.md",
}
OF_OTHERS = "arxiv.org"  # which tells whether there is a network
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")


def copied(app):
    """Copy the pages."""
    (DOCS / "project").mkdir(exist_ok=True)
    for file, page in PAGES.items():
        if page != "index.md":
            (DOCS / page).write_text((ROOT / file).read_text())


def links_led(app, docname, source):
    """Lead the links of a page to where their files are on the site."""
    page = f"{docname}.md"
    files = [
        file for file, copy in PAGES.items() if copy == page and copy != "index.md"
    ]
    origin = ROOT / files[0] if files else DOCS / page

    def led(link):
        file = (origin.parent / link[1]).resolve()
        if not file.is_relative_to(ROOT):
            return link[1]
        return os.path.relpath(
            DOCS / on_site(file.relative_to(ROOT)), (DOCS / page).parent
        )

    source[0] = LINK.sub(led, source[0])


def on_site(file):
    """Return where a file of the repository is on the site, from ``docs/``."""
    if str(file) == "examples":
        return "gallery/index.rst"
    if file.parent.name == "examples" and file.suffix == ".py":
        return f"gallery/{file.stem}.rst"
    return PAGES.get(str(file), os.path.relpath(file, "docs"))


def links_of_others(app):
    """Leave links to other sites out of ``-b linkcheck`` where there is no network."""
    if app.builder.name != "linkcheck":
        return
    try:
        socket.getaddrinfo(OF_OTHERS, 443)
    except OSError:
        LOGGER.info("no network: links to other sites are not checked")
        app.config.linkcheck_ignore.append("https?://")


def setup(app):
    app.connect("builder-inited", copied, priority=400)
    app.connect("source-read", links_led)
    app.connect("builder-inited", links_of_others)
    return {"parallel_read_safe": True}
