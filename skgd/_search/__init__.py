"""The searches: candidates x splits, trained as a few stacks of models.

In the order of reading:

* ``pipelines``: pipelines, taken apart at their last step
* ``grouping``: which candidates are trained together, and why others are not
* ``stacks``: several candidates on several splits, trained as a few stacks
* ``evaluation``: candidates x splits, evaluated: in groups, or one by one
* ``searches``: the four searches: scikit-learn's, but for how candidates are trained
"""
