"""The equations: what one step computes. torch and NumPy; no time, no data.

In the order of reading:

* ``contraction``: an einsum equation becomes one bound matrix product
* ``activations``: value, and derivative in terms of the value
* ``losses``: value, gradient and inverse link of each loss
* ``network``: layers for many models at once: forward and backward
* ``initialisers``: the weights that training begins with
* ``schedules``: the learning rate as a function of the step
* ``optimizers``: a gradient becomes a step; the penalties' shrink steps
"""
