"""Fitted models as ONNX graphs. The only package that imports onnx and skl2onnx.

In the order of reading:

* ``nodes``: nodes of a graph, made one by one
* ``equations``: what a model computes, as nodes: layers, activations, inverse links
* ``converters``: the estimators and searches, as skl2onnx asks for them
* ``export``: to_onnx, and the registration of the converters

The first three are imported when something is exported, so that a plain import of skgd
needs neither of both packages.
"""
