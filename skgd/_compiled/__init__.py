"""The compiled loops: the steps of one model on a CPU, by numba, in machine code.

The equations of ``_equations`` are the definition, and what this package is tested
against. Here they are told once more, for one number at a time, in tables that have the
same entries; loops over arrays and steps are built of them and compiled by numba. No
room imports torch, and nothing outside of ``_training.compiled`` imports a room of
these, for numba is an extra, and takes a fifth of a second to be imported. The models
of a search have a loop each (``_training.in_turn``), and threads run them side by side.

In the order of reading:

* ``jit``: how functions become machine code, and where that is kept
* ``arithmetic``: exp, expm1, log and log1p, many numbers at a time
* ``activations``: value and derivative of each activation, for one number
* ``losses``: value and gradient of each loss, for one number
* ``optimizers``: a step of each optimizer, for one weight
* ``scalars``: what each optimizer reads at each step
* ``entries``: the tables as functions of arrays, which loops call by address
* ``products``: matrix products, by loops or by the BLAS that SciPy has
* ``problem``: what a loop reads and writes
* ``steps``: what every step is made of but for its products
* ``network``: the loop of a network of any depth
* ``rows``: the loop of a linear model whose rows are read where they lie
* ``one_row``: the loops of a linear model that descends by one row at a time
* ``sparse``: a batch of sparse rows, at the cost of their entries
* ``owing``: plain descent on sparse rows, whose penalty can wait
* ``touched``: which columns a batch touches, in ascending order
* ``lazy``: steps on wide sparse rows that let be what a batch does not touch
* ``csr``: which linear models on sparse rows take these
* ``loops``: which loop takes which problem

Nothing is compiled before it is used. A loop knows no loss, activation or optimizer, so
that it is compiled once for all of them, and of the tables only what is used; those of
``one_row`` are an exception.

A literal would turn an equation of float32 into one of float64: it is written
``num(z, 0.5)``, half as a number of the kind of z.
"""
