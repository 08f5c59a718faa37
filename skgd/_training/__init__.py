"""Training over time: m models, epoch by epoch. torch and NumPy.

In the order of reading:

* ``target_scale``: targets on a scale of their own, and what that makes of a penalty
* ``hyperparameters``: what models trained together share, and what is each one's own
* ``models``: the models in training
* ``stopping``: when a model has settled, diverged, or was ended
* ``csr``: the rows of a sparse matrix
* ``first_layer``: a first layer whose steps cost the entries of wide sparse rows
* ``batches``: which rows each step sees; folds
* ``sources``: rows become batches
* ``constants``: the loss of the best constant prediction, which any model must beat
* ``steps``: what happens to a batch: forward, loss, backward, update
* ``composed``: many steps of linear least squares at once
* ``loop``: epochs, mini-batches, validation: the only loop over time
"""
