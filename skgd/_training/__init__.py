"""Training over time: m models, epoch by epoch. torch and NumPy.

In the order of reading:

* ``target_scale``: targets on a scale of their own, and what that makes of a penalty
* ``hyperparameters``: what models trained together share, and what is each one's own
* ``models``: the models in training
* ``stopping``: when a model has settled, diverged, or was ended
* ``progress``: how far training is, at a whole step: all that it goes on from
* ``csr``: the rows of a sparse matrix
* ``shards``: rows that lie on several ranks, and which of them each batch sees
* ``batches``: which rows each step sees; folds
* ``sources``: rows become batches
* ``strips``: a batch that is larger than the cache, in strips of its rows
* ``scalars``: the rates and strengths that an optimizer reads at each step
* ``first_layer``: the layer that rows enter, be they arrays or wide and sparse
* ``constants``: the loss of the best constant prediction, which any model must beat
* ``steps``: what happens to a batch: forward, loss, backward, update
* ``objective``: what the models' losses come to over all rows, and in the units of y
* ``untrained``: what could be had without training, which losses are held against
* ``engines``: which engine trains: torch, or compiled loops
* ``takers``: who takes the steps of epochs; what they are given, and what they tell
* ``stepwise``: one step after the other, on torch
* ``compiled``: all steps of a model, by loops that numba compiles
* ``in_turn``: the models of a stack one after the other, by such loops
* ``windows``: an epoch of rows that do not lie in memory, window by window
* ``stack``: the models still in training
* ``epochs``: an epoch of a stack, and held-out rows after it
* ``loop``: epoch by epoch until all have stopped: the only loop over time
"""
