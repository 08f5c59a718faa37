"""The two estimators: from a caller's arrays to fitted state and back.

In the order of reading:

* ``versions``: what a pickle says of the version that wrote it
* ``peers``: what parameters of other estimators are called here
* ``parameters``: what each parameter must be, and the sentence said when it is not
* ``checks``: what data must be, likewise
* ``inputs``: rows and targets in, predictions out: arrays, frames, sparse, tensors
* ``weights``: weights in scikit-learn's shapes, into the network and out of it
* ``callbacks``: a fit as scikit-learn's callbacks see it
* ``base``: what the two estimators share
* ``regressor``: MiniBatchRegressor
* ``classifier``: MiniBatchClassifier
"""
