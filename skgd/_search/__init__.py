"""The searches: candidates x splits, trained as a few stacks of models.

In the order of reading:

* ``request``: what is asked of a search, and what is answered
* ``pipelines``: pipelines, taken apart at their last step
* ``grouping``: which candidates are trained together, and why others are not
* ``stacks``: several candidates on several splits, trained as a few stacks
* ``scores``: the scores of models, as scikit-learn's searches tell them
* ``progress``: who looks on at a stack: callbacks, and who reads the output
* ``fingerprints``: what names the results of a search
* ``kept``: results that are kept in a directory as they come, and read again
* ``jobs``: candidates of a group on some splits, or one fit
* ``workers``: who does the jobs: threads of this process, or other processes
* ``evaluation``: candidates x splits, evaluated: in groups, or one by one
* ``searches``: the four searches: scikit-learn's, but for how candidates are trained
"""
