"""What a model computes, as nodes of a graph: layers, activations, inverse links.

Here the batch comes first: ``x`` is (b, i) and ``z`` (b, o), as callers have them.

An equation is written in operators that ONNX Runtime has for float32 and float64, the
same for both: its ``Elu``, ``Gelu``, ``LeakyRelu``, ``Selu`` and ``Softplus`` are for
float32 only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt

import numpy as np
from onnx import TensorProto

from skgd._equations.losses import places_of
from skgd._machine.arrays import Array
from skgd._onnx.nodes import Node

Function = Callable[[Node, str], str]  # of z


def raw_prediction(
    node: Node, x: str, layers: Sequence[tuple[Array, Array]], activation: Function
) -> str:
    """Return z of the last of some layers, w (o, i) and bias (o,): bi,oi->bo."""
    first, *others = layers
    z = node("Gemm", x, *first, transB=1)
    for w, bias in others:
        z = node("Gemm", activation(node, z), w, bias, transB=1)
    return z


def _identity(node: Node, z: str) -> str:
    """z."""
    return z


def _relu(node: Node, z: str) -> str:
    """max(z, 0)."""
    return node("Relu", z)


def _tanh(node: Node, z: str) -> str:
    """tanh(z)."""
    return node("Tanh", z)


def _sigmoid(node: Node, z: str) -> str:
    """1 / (1 + exp(-z))."""
    return node("Sigmoid", z)


def _leaky_relu(negative_slope: float) -> Function:
    """max(z, ``negative_slope`` z), for a slope in [0, 1]."""
    return lambda node, z: node("Max", z, node("Mul", z, negative_slope))


def _elu(node: Node, z: str) -> str:
    """z above zero and exp(z) - 1 below."""
    below = node("Sub", node("Exp", node("Min", z, 0.0)), 1.0)
    return node("Add", node("Relu", z), below)


# As in ``_equations/activations``.
_SELU_SCALE = 1.0507009873554804934193349852946
_SELU_ALPHA = 1.6732632423543772848170429916717


def _selu(node: Node, z: str) -> str:
    """scale z above zero and scale alpha (exp(z) - 1) below."""
    below = node("Sub", node("Exp", node("Min", z, 0.0)), 1.0)
    above = node("Mul", node("Relu", z), _SELU_SCALE)
    return node("Add", above, node("Mul", below, _SELU_SCALE * _SELU_ALPHA))


def _softplus(node: Node, z: str) -> str:
    """log(1 + exp(z)), which is max(z, 0) + log(1 + exp(-|z|))."""
    small = node("Exp", node("Neg", node("Abs", z)))
    return node("Add", node("Relu", z), node("Log", node("Add", small, 1.0)))


def _silu(node: Node, z: str) -> str:
    """z sigmoid(z)."""
    return node("Mul", z, node("Sigmoid", z))


def _gelu(node: Node, z: str) -> str:
    """z (1 + erf(z / sqrt(2))) / 2; erf is float32's, for the runtime has no other."""
    scaled = node("Cast", node("Mul", z, sqrt(1 / 2)), to=TensorProto.FLOAT)
    erf = node("CastLike", node("Erf", scaled), z)
    return node("Mul", node("Mul", z, 0.5), node("Add", erf, 1.0))


def _mish(node: Node, z: str) -> str:
    """z tanh(softplus(z))."""
    return node("Mul", z, node("Tanh", _softplus(node, z)))


ACTIVATIONS: dict[str, Callable[[float], Function]] = {
    "elu": lambda negative_slope: _elu,
    "gelu": lambda negative_slope: _gelu,
    "identity": lambda negative_slope: _identity,
    "leaky_relu": _leaky_relu,
    "logistic": lambda negative_slope: _sigmoid,
    "mish": lambda negative_slope: _mish,
    "relu": lambda negative_slope: _relu,
    "selu": lambda negative_slope: _selu,
    "silu": lambda negative_slope: _silu,
    "softplus": lambda negative_slope: _softplus,
    "tanh": lambda negative_slope: _tanh,
}


def _exp(node: Node, z: str) -> str:
    """exp(z)."""
    return node("Exp", z)


def _softmax(node: Node, z: str) -> str:
    """exp(z), divided by its sum over o."""
    return node("Softmax", z, axis=1)


def _clipped(node: Node, z: str) -> str:
    """(z + 1) / 2, cut off at 0 and 1."""
    inside = node("Max", node("Min", z, 1.0), -1.0)
    return node("Mul", node("Add", inside, 1.0), 0.5)


def without_crossings(quantiles: tuple[float, ...]) -> Function:
    """z sorted over o, and given out in the order of the quantiles."""
    places = np.array(places_of(quantiles))

    def link(node: Node, z: str) -> str:
        n = np.array([len(places)])
        ascending = node("TopK", z, n, axis=1, largest=0, sorted=1, unread=1)
        return node("Gather", ascending, places, axis=1)

    return link


# By the entries of the table of losses; None is that of a loss without one.
INVERSE_LINKS: dict[str, Function | None] = {
    "absolute_error": _identity,
    "binary_log_loss": _sigmoid,
    "epsilon_insensitive": _identity,
    "gamma": _exp,
    "hinge": None,
    "huber": _identity,
    "modified_huber": _clipped,
    "multinomial_log_loss": _softmax,
    "perceptron": None,
    "poisson": _exp,
    "quantile": _identity,
    "squared_epsilon_insensitive": _identity,
    "squared_error": _identity,
    "squared_hinge": None,
    "tweedie": _exp,
}


def mean(node: Node, several: Sequence[str]) -> str:
    """The mean over some models; of one, what it is."""
    total, *others = several
    for one in others:
        total = node("Add", total, one)
    return node("Mul", total, 1 / len(several)) if others else total


def _log_mean_exp(node: Node, several: Sequence[str]) -> str:
    """The logarithm of the mean of exp(z), each over the highest of them."""
    highest = node("Max", *several)
    shares = [node("Exp", node("Sub", z, highest)) for z in several]
    return node("Add", node("Log", mean(node, shares)), highest)


def _log_sigmoid(node: Node, z: str) -> str:
    """-log(1 + exp(-z))."""
    return node("Neg", _softplus(node, node("Neg", z)))


def _logit_of_mean(node: Node, several: Sequence[str]) -> str:
    """log(p / (1 - p)) of the mean p of sigmoid(z)."""
    log_p = _log_mean_exp(node, [_log_sigmoid(node, z) for z in several])
    opposite = [_log_sigmoid(node, node("Neg", z)) for z in several]
    return node("Sub", log_p, _log_mean_exp(node, opposite))


def _log_of_mean_softmax(node: Node, several: Sequence[str]) -> str:
    """The logarithm of the mean of softmax(z)."""
    log_p = [node("LogSoftmax", z, axis=1) for z in several]
    return _log_mean_exp(node, log_p)


def _middle_of_clipped(node: Node, several: Sequence[str]) -> str:
    """2 p - 1 of the mean p of (z + 1) / 2, cut off at 0 and 1."""
    return mean(node, [node("Max", node("Min", z, 1.0), -1.0) for z in several])


# The scores of several models, of losses for classes; of all others, their mean.
JOINTS: dict[str, Callable[[Node, Sequence[str]], str]] = {
    "binary_log_loss": _logit_of_mean,
    "modified_huber": _middle_of_clipped,
    "multinomial_log_loss": _log_of_mean_softmax,
}


def with_both_classes(node: Node, z: str) -> str:
    """Return a raw prediction for each of two classes, (-z, z), of their one score."""
    return node("Concat", node("Neg", z), z, axis=1)


def shares(node: Node, p: str, n_classes: int) -> str:
    """p divided by its sum over o; where all of them are 0, all classes are alike."""
    total = node("MatMul", p, np.ones((n_classes, 1)))
    is_positive = node("Greater", total, 0.0)
    return node("Where", is_positive, node("Div", p, total), 1 / n_classes)


def label_of(node: Node, z: str, classes: Array, output: str) -> str:
    """Return the class of the highest raw prediction, (b,)."""
    highest = node("ArgMax", z, axis=1, keepdims=0)
    return node("Gather", classes, highest, output=output)


def labels_of(node: Node, z: str, output: str) -> str:
    """Return 0 or 1 for each of several labels, (b, o)."""
    is_positive = node("Greater", z, 0.0)
    return node("Cast", is_positive, to=TensorProto.INT64, output=output)
