"""The equations: what one step computes. torch and NumPy; no time, no data.

In the order of reading:

* ``contraction``: an einsum equation becomes one bound matrix product
* ``tape``: what a step computes, recorded once and replayed
* ``activations``: value, and derivative in terms of the value
* ``losses``: value, gradient and inverse link of each loss
* ``network``: layers for many models at once: forward and backward
* ``initialisers``: the weights that training begins with
* ``schedules``: the learning rate as a function of the step
* ``optimizers``: a gradient becomes a step; the penalties' shrink steps

Dimension key, of all rooms here and above; one with more letters says so itself. An
array is told by its letters: ``w`` (moi) has the shape (m, o, i).

m : models trained together (1 for a single estimator)
i : units coming into a layer; of the first one, the features
o : units going out of it; of the last one, the outputs
b : samples of the mini-batch
n : samples, all of them
f : folds: models that see the same batch are one
c : the models of a fold; they lie side by side, so (f, c) is a view of m
t : steps, counted from 1
r : parts in which a loss is told: one, or one for each output

Three arrays take part in the products of a layer: its weights ``w`` (moi), its input
``x`` (mib) and its output ``z`` (mob). Each product contracts two of them, or their
gradients, and has the letters of the third:

    forward                     z  = moi,mib->mob (w, x) + bias
    gradient of the weights     dw = mob,mib->moi (dz, x)
    gradient of the input       dx = moi,mob->mib (w, dz)

Where all models see the same batch x is (ib), and m is no letter of it.
"""
