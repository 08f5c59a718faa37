r"""Docstrings on their pages: formulas typeset, attributes told by their class.

In ``help()`` an objective is best read as plain text, ``J(w) = mean_n( ... )``; on its
page it is set in type. What is written one way here is written the other way there, and
a formula that is in no docstring any more is a warning. The browser draws it (MathML),
so nothing has to be fetched for it.
"""

import inspect

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml
from numpydoc.docscrape_sphinx import SphinxDocString
from sphinx.util import logging
from sphinx.util.inspect import stringify_signature

FORMULAS = {
    """\
    J(w) = mean_n( s_n loss(y_n, f(x_n)) )
           + alpha * ( (1 - l1_ratio)/2 |w|_2^2 + l1_ratio |w|_1 )
""": r"J(w) = \frac{1}{N} \sum_{n=1}^{N} s_n\, \mathrm{loss}(y_n, f(x_n))"
    r" + \mathrm{alpha} \left( \frac{1 - \mathrm{l1\_ratio}}{2}\, \|w\|_2^2"
    r" + \mathrm{l1\_ratio}\, \|w\|_1 \right)",
}
LOGGER = logging.getLogger(__name__)


def typeset(app, what, name, obj, options, lines):
    """Typeset the formulas of a docstring."""
    text = "\n".join(lines)
    for plain, tex in FORMULAS.items():
        if plain in text:
            text = text.replace(plain, f".. math:: {tex}\n")
            app.env.typeset_formulas = {*known(app.env), plain}
    lines[:] = text.split("\n")


def known(env):
    """Return the formulas that docstrings have had so far, in earlier builds too."""
    return getattr(env, "typeset_formulas", set())


def warn_of_unused(app, env):
    """Warn of a formula that is in no docstring."""
    for plain in FORMULAS.keys() - known(env):
        LOGGER.warning("this formula is in no docstring: %s", plain)


def as_mathml(as_block):
    """Return a visitor that writes a formula for the browser to draw."""

    def visit(translator, node):
        drawn = tex2mathml(node.astext(), as_block=as_block)
        drawn = drawn.replace("<mo>‖", '<mo stretchy="false">‖')
        tag = "div" if as_block else "span"
        translator.body.append(f'<{tag} class="formula">{drawn}</{tag}>')
        raise SkipNode

    return visit


def told_by_init(app, what, name, obj, options, signature, returned):
    """Return the signature of a class: scikit-learn's mixins have a ``__new__``."""
    if what == "class":
        return stringify_signature(inspect.signature(obj), show_annotation=False), ""
    return None


def as_the_class_says(process):
    """Return numpydoc's function, without the text of properties that are inherited."""

    def processed(docstring, name, description, fake_autosummary):
        return process(docstring, name, description, False)

    return processed


SphinxDocString._process_param = as_the_class_says(SphinxDocString._process_param)


def setup(app):
    """Tell Sphinx."""
    app.connect("autodoc-process-docstring", typeset, priority=400)  # before numpydoc's
    app.connect("autodoc-process-signature", told_by_init)
    app.connect("env-check-consistency", warn_of_unused)
    visitors = (as_mathml(False), None), (as_mathml(True), None)
    app.add_html_math_renderer("mathml", *visitors)
    return {"parallel_read_safe": True}
