"""Train on the collections of Dask where their partitions lie.

``fit`` of an estimator does so by Dask's default client; ``fit`` here is told which.
"""

from __future__ import annotations

from typing import Any, TypeVar

from skgd._estimators.cluster import TIMEOUT, Access, by_way_of
from skgd._estimators.collections import is_collection

__all__ = ["fit"]

Model = TypeVar("Model")


def fit(
    model: Model,
    X: Any,
    y: Any,
    sample_weight: Any = None,
    *,
    client: Any = None,
    timeout: float = TIMEOUT,
    **fit_params: Any,
) -> Model:
    """Train a model on the workers that hold the partitions of X.

    Each worker that holds rows trains on them, and all together train one model, which
    comes back as the plain estimator that it was. See ``data_parallel`` for what is the
    same as in one process; a worker is a rank, and a partition of X one of that rank's.

    Parameters
    ----------
    model : MiniBatchRegressor or MiniBatchClassifier
        What is trained. A Pipeline trains by its own ``fit`` and the default client, if
        its other steps take collections, as those of dask-ml do.
    X : dask.array.Array of shape (n_samples, n_features) or dask.dataframe.DataFrame
        Training data. Partitions without rows are left out.
    y : dask.array.Array, dask.dataframe.Series or DataFrame
        Targets or labels, cut into the same partitions.
    sample_weight : dask.array.Array or dask.dataframe.Series, default=None
        What each row counts, likewise. None counts all rows alike.
    client : distributed.Client, default=None
        By whom the workers are reached. None is Dask's default client.
    timeout : float, default=300
        Seconds after which a worker that does not answer is given up, above 0. It must
        be longer than any worker needs to check its rows, or to get a thread free.
    **fit_params : dict
        What ``fit`` takes besides. ``X_val``, ``y_val`` and ``sample_weight_val`` are
        collections as well, or in memory.

    Returns
    -------
    model : object
        The model, fitted.

    Raises
    ------
    RuntimeError
        If a worker is lost. The model is then as it was.
    TypeError
        If X is no collection.
    ValueError
        If there is no client, the timeout is no number above 0, or what ``fit`` refuses
        on any of the workers.
    KeyboardInterrupt
        After Ctrl-C, when all workers have ended and the model is stored.

    See Also
    --------
    skgd.data_parallel : The same for processes that you start.

    Examples
    --------
    >>> import dask.array as da
    >>> import skgd.dask
    >>> from distributed import Client
    >>> from skgd import MiniBatchRegressor
    >>> client = Client(processes=False, dashboard_address=None)
    >>> X = da.random.default_rng(0).normal(size=(1000, 3), chunks=(250, 3))
    >>> y = X @ [1.0, -2.0, 0.5]
    >>> model = skgd.dask.fit(MiniBatchRegressor(random_state=0), X, y, client=client)
    >>> model.coef_.round(2).tolist()
    [1.0, -2.0, 0.5]
    >>> model.predict(X).mean().compute() < 1  # lazily, partition by partition
    np.True_
    >>> client.shutdown()
    """
    if not is_collection(X):
        msg = (
            "X must be a Dask array or data frame. Got "
            f"{type(X).__name__}; call the model's own fit."
        )
        raise TypeError(msg)
    if not 0 < timeout < 1e9:
        raise ValueError(f"timeout must be seconds above 0. Got {timeout!r}.")
    if client is None:
        from distributed import default_client

        client = default_client()
    with by_way_of(Access(client, timeout)):
        model.fit(X, y, sample_weight=sample_weight, **fit_params)  # type: ignore[attr-defined]
    return model
