"""Loss curves, and the loss around a model, drawn. The only package that draws.

In the order of reading:

* ``axes``: what the displays share
* ``curves``: loss curves of fits and searches
* ``surface``: the loss around a model, with its path
"""
