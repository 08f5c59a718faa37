"""What parameters of other estimators are called here: the table of docs/porting.md.

Who comes from ``SGDClassifier`` or skorch meets errors before the page: they say what
it says. Names that mean the same there and here are not in this table. So it is told of
arguments of ours that are given to another method than theirs.
"""

from collections.abc import Callable, Iterable, Mapping
from inspect import signature
from typing import Any

_NETWORK = "hidden_layer_sizes, activation, negative_slope, init, dropout and "
_NETWORK += "fit_intercept describe the network here"
_PENALTY = "penalty='l2' is l1_ratio=0 here, 'l1' is l1_ratio=1, 'elasticnet' is the "
_PENALTY += "same l1_ratio, and None is alpha=0"
_RULES = "lr_schedule, decay, max_grad_norm, max_time, tol, n_iter_no_change and "
_RULES += (
    "early_stopping do here what such callbacks do, and set_callbacks takes others"
)

PEERS: Mapping[str, str] = {
    "C": "C=c is alpha=1 / (c * n) here, for n rows",
    "callbacks": _RULES,
    "criterion": "criterion is loss here",
    "criterion__weight": "criterion__weight is class_weight here",
    "epochs": "epochs is max_iter here",
    "eta0": "eta0 is lr here",
    "eval_set": "eval_set=[(X, y)] is X_val=X, y_val=y of fit here",
    "iterator_train__batch_size": "iterator_train__batch_size is batch_size here",
    "iterator_train__drop_last": "iterator_train__drop_last is last_batch='drop' here",
    "iterator_train__shuffle": "iterator_train__shuffle is shuffle here",
    "learning_rate": "learning_rate is lr here if it is a number, else lr_schedule",
    "learning_rate_init": "learning_rate_init is lr here",
    "max_epochs": "max_epochs is max_iter here",
    "max_fun": "max_fun has no counterpart here, for it is of the solver 'lbfgs'",
    "module": _NETWORK,
    "n_estimators": "n_estimators is n_models here",
    "n_jobs": "n_jobs has no counterpart here, for all classes are one model",
    "nesterovs_momentum": "nesterovs_momentum is nesterov here",
    "optimizer__betas": "optimizer__betas is beta_1 and beta_2 here",
    "optimizer__eps": "optimizer__eps is epsilon here",
    "optimizer__momentum": "optimizer__momentum is momentum here",
    "optimizer__nesterov": "optimizer__nesterov is nesterov here",
    "optimizer__weight_decay": "optimizer__weight_decay is alpha here",
    "output_type": "output_type has no counterpart here, for predictions are arrays",
    "penalty": _PENALTY,
    "predict_nonlinearity": "predict_nonlinearity has no counterpart here, for the "
    "loss has its own",
    "quantile_alpha": "quantile_alpha is quantile here",
    "quantiles": "quantiles is quantile here, which may be a list",
    "solver": "solver is optimizer here",
    "train_split": "train_split is validation_fraction here, with early_stopping=True",
    "tweedie_variance_power": "tweedie_variance_power is power here",
}

# Arguments of ours that are asked for where they are none.
OF_OTHER_METHODS: Mapping[str, str] = {
    name: f"{name} is an argument of fit"
    for name in ("checkpoint", "checkpoint_seconds", "X_val", "y_val")
} | {
    "return_std": "return_std is an argument of MiniBatchRegressor.predict; how sure "
    "a classifier is, its predict_proba tells",
}


def of_peers(method: str, names: Iterable[str]) -> str:
    """Return the sentence on the names that others have a meaning for, or ""."""
    meanings = {**PEERS, **OF_OTHER_METHODS}
    known = [name for name in names if name in meanings]
    if not known:
        return ""
    given = " and no ".join(repr(name) for name in known)
    return f"{method} takes no {given}: {'; '.join(meanings[name] for name in known)}."


def check_no_others(method: str, others: Mapping[str, Any]) -> None:
    """Raise TypeError for arguments that a method does not know."""
    if others:
        first = next(iter(others))
        unknown = f"{method}() got an unexpected keyword argument {first!r}"
        raise TypeError(of_peers(method, others) or unknown)


def check_call(
    name: str, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Raise TypeError for a call of a constructor that a peer's would have taken.

    What its own signature takes passes, and what no peer takes is left to Python.
    """
    peers = of_peers(name, kwargs)
    if not (args or peers):
        return
    try:
        signature(method).bind(None, *args, **kwargs)
    except TypeError:
        if not peers:
            first = args[0]
            word = "loss" if isinstance(first, str) else "hidden_layer_sizes"
            peers = (
                f"{name} takes no arguments without a name. Got {first!r}; write, say, "
                f"{word}={first!r}."
            )
        raise TypeError(peers) from None
