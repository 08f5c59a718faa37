"""The two estimators: from a caller's arrays to fitted state and back.

In the order of reading:

* ``sklearn_private``: scikit-learn's private helpers, all that are used
* ``versions``: what a pickle says of the version that wrote it
* ``peers``: what parameters of other estimators are called here
* ``parameters``: what each parameter must be, and the sentence said when it is not
* ``parallel``: several processes that train one model, and what they have alike
* ``collections``: collections of Dask: their partitions, and what is predicted of them
* ``blocks``: rows that are read piece by piece, from files or by functions
* ``checks``: what data must be, likewise
* ``inputs``: rows and targets in, predictions out: arrays, frames, sparse, tensors
* ``targets``: what is learnt of y: its classes, or its shape and scale
* ``examples``: rows with their targets and weights, checked
* ``surveys``: rows in blocks, and what one pass over their targets tells
* ``settings``: the parameters of an estimator, as the engine takes them
* ``weights``: weights in scikit-learn's shapes, into the network and out of it
* ``state``: what training leaves of one model, and goes on from
* ``members``: the models of an ensemble, each as an estimator, and all in one
* ``growth``: classes that become more between two calls of a stream
* ``predictions``: of networks, for rows of any kind, and those that a model knows
* ``metrics``: scores that follow from predictions
* ``scoring``: scores of rows that are held out, epoch by epoch
* ``endings``: how training ended, in words
* ``record``: how training went, as an estimator tells it
* ``fits``: the one way to fit, from folds of examples to trained models
* ``attributes``: whether fitted attributes are such as training leaves
* ``landscape``: the objective of an estimator at other weights than its own
* ``callbacks``: a fit as scikit-learn's callbacks see it
* ``saved``: what an estimator is as a tree, and an estimator of such a tree
* ``watch``: who looks on at a fit: callbacks, the clock and Ctrl-C
* ``checkpoints``: a fit under way as a file, from which it goes on
* ``remote``: what a worker of Dask does in a fit: it is one of the ranks
* ``cluster``: fits of collections by the workers of Dask, as the client sees them
* ``base``: what the two estimators share
* ``regressor``: MiniBatchRegressor
* ``classifier``: MiniBatchClassifier
"""
