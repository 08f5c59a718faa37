"""The computer: devices, threads, memory, signals, random streams, errors, files.

Nothing here knows of models. In the order of reading:

* ``arrays``: kinds of NumPy arrays, by name
* ``modes``: the modes of NumPy and torch while we compute, and while others do
* ``errors``: whose fault an error is, and what it is about
* ``devices``: device and dtype, NumPy and torch
* ``ranks``: several processes that work on one thing together
* ``generators``: random streams, made from a ``random_state``, and rows of an epoch
* ``trees``: values become bytes, and come back: checked, and without code
* ``files``: files that are whole at any moment
* ``fingerprints``: values are told apart, whatever they hold
* ``threads``: the threads of a computation, and of a forked child
* ``memory``: memory that is not there, in words
* ``interrupts``: Ctrl-C, put off until all is stored
"""
