"""Loss curves, the loss around a model, scores over parameters. All that draws.

In the order of reading:

* ``axes``: what the displays share
* ``labels``: what they call candidates, and values of parameters
* ``curves``: loss curves of fits and searches
* ``surface``: the loss around a model, with its path
* ``rates``: what a few epochs come to at each of many learning rates
* ``searched``: the scores of a search over one or two of its parameters
"""
