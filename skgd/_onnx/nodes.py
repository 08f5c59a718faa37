"""Nodes of a graph, made one by one.

An operator of ONNX is called by its name, with the names of what it reads, and gives
back the name of what it computes: ``node("Add", z, 1.0)``. Numbers and arrays are
stored in the graph as constants.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto, numpy_helper

from skgd._machine.arrays import Array

Node = Callable[..., str]


def nodes_in(scope: Any, container: Any, dtype: Any) -> Node:
    """Return the function that adds a node to a graph of skl2onnx.

    Floats, alone or in an array, become numbers of the dtype; ints and text stay what
    they are. ``output`` is the name of the result, where it has one already. Of some
    operators nothing reads all that they give: so many more are ``unread``.
    """

    def name_of(value: str | float | Array) -> str:
        if isinstance(value, str):
            return value
        array = np.asarray(value)
        name: str = scope.get_unique_variable_name("constant")
        if array.dtype.kind not in "biuf":
            text = [word.encode() for word in array]
            container.add_initializer(name, TensorProto.STRING, array.shape, text)
            return name
        if array.dtype.kind == "f":
            array = array.astype(dtype)
        tensor = numpy_helper.from_array(np.ascontiguousarray(array))
        container.add_initializer(name, None, array.shape, tensor)
        return name

    def node(
        operator: str,
        *inputs: str | float | Array,
        output: str | None = None,
        unread: int = 0,
        **attributes: Any,
    ) -> str:
        names = [name_of(value) for value in inputs]
        result: str = output or scope.get_unique_variable_name(operator.lower())
        others = [scope.get_unique_variable_name("unread") for _ in range(unread)]
        container.add_node(
            operator,
            names,
            [result, *others],
            name=scope.get_unique_operator_name(operator),
            **attributes,
        )
        return result

    return node
