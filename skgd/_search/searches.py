"""The searches: scikit-learn's, but for how candidates are trained.

What is searched, and how the best is chosen, is inherited from scikit-learn's classes;
``evaluation`` has what is done to the candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from os import PathLike
from time import perf_counter
from typing import Any, ClassVar, Self
from warnings import warn

import numpy as np
from numpy.typing import ArrayLike
from sklearn import get_config
from sklearn.base import clone, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import (
    GridSearchCV,
    ParameterGrid,
    ParameterSampler,
    RandomizedSearchCV,
    check_cv,
)
from sklearn.utils import indexable
from sklearn.utils.metadata_routing import UNUSED

from skgd._estimators.blocks import check_in_memory
from skgd._estimators.callbacks import (
    has_callbacks,
    propagated_of,
    with_more_callbacks,
    without_callbacks_,
)
from skgd._estimators.checks import check_given, checked_targets
from skgd._estimators.classifier import MiniBatchClassifier
from skgd._estimators.inputs import for_scikit_learn, in_its_shape
from skgd._estimators.parallel import check_alone
from skgd._estimators.parameters import check_max_bytes
from skgd._estimators.regressor import MiniBatchRegressor
from skgd._estimators.sklearn_private import (
    BaseSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    MultimetricScorer,
    check_method_params,
    fit_context,
    num_samples,
)
from skgd._estimators.versions import of_this_version, with_version
from skgd._machine.modes import numpy_as_usual
from skgd._search.evaluation import Evaluation
from skgd._search.fingerprints import fingerprint_of_request
from skgd._search.grouping import Group
from skgd._search.kept import directory_at, file_of_refit
from skgd._search.pipelines import last_step
from skgd._search.request import GivenUp, Request


class _VectorizedSearch(BaseSearchCV):
    """``fit`` of scikit-learn's searches, by way of ``Evaluation``.

    A search inherits from this class first, so that its ``fit`` counts; one that halves
    does so last, for its ``fit`` in scikit-learn calls that of the base.
    """

    max_bytes: int | None
    groups_: list[Group]
    loss_curves_: list[list[Any]]

    # The search's own: it is neither asked for nor handed on as metadata.
    __metadata_request__fit: ClassVar = {"checkpoint": UNUSED}

    @numpy_as_usual
    @fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        checkpoint: str | PathLike[str] | None = None,
        **params: Any,
    ) -> Self:
        """Train all candidates on all splits, and the best one on all of the data.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets, or labels of classes.
        checkpoint : str or path-like, default=None
            A directory, made if it is missing, in which the results of each job are
            kept as soon as it is done. A search that was killed goes on when the same
            call is made again: it reads what is there, and does the rest. Results
            belong to a candidate, a split, the estimator, the data, the scorers and the
            versions of what computes; of anything else, files are let be. See Notes.
            None keeps nothing.
        **params : dict
            Passed on to ``fit`` of the estimator, to the splitter (``groups``) and to
            the scorer (``sample_weight``), as scikit-learn's searches do. What has the
            length of X is split like X.

        Returns
        -------
        self : object
            The fitted search.

        Raises
        ------
        ValueError
            If a parameter is not what it must be, or all fits fail. Single ones that
            fail get ``error_score``, and a FitFailedWarning counts them.
        TypeError, OSError
            If ``checkpoint`` is no path, or no directory that can be written to, or the
            disk is full.

        Notes
        -----
        With a checkpoint, ``cv_results_`` of a search that went on is that of one that
        was left alone, to the bit, with the times of the first run, if every
        ``random_state`` is an integer, with as many workers. ``n_jobs``, ``max_bytes``,
        ``verbose`` and ``refit`` may be others: then scores are the same but for
        rounding. Halving keeps every round, with the states that the next goes on from.
        Failed fits are kept as such. The last fit, of the best candidate, goes on where
        it was, as by ``checkpoint`` of the estimator's ``fit``; that of an ensemble, of
        another library's estimator, or of a Pipeline under metadata routing, is made
        anew.

        A function, such as a scorer, counts by its name, its instructions, constants
        and defaults, a class and a callback by their names: after a change of what
        these call, take another directory. Callbacks see what is done, and not what is
        read. Nothing is ever deleted. A file is a tree without code, and damage to it
        is found: a warning names the file, and its models are trained anew.

        Where compiled loops train, a group makes at least 32 jobs, so that a kill costs
        little; on torch, one for each split. Where a worker process is killed, what is
        under way is done anew, and a warning tells of it: joblib ends the others, too.
        """
        check_max_bytes(self.max_bytes)
        check_alone(type(self).__name__)
        check_in_memory("X", X)
        scorers, refit_metric = self._get_scorers()
        y = for_scikit_learn("y", in_its_shape("y", y))
        _check_given(self.estimator, X, y)
        X, y = indexable(in_its_shape("X", X), y)
        params = check_method_params(X, params=_without_tensors(params))
        routed = self._get_routed_params_for_fit(params)
        split_params = routed.splitter.split
        weight = params.get("sample_weight")
        told = {
            "estimator": self,
            "X": X,
            "y": y,
            "metadata": None if weight is None else {"sample_weight": weight},
        }
        propagated = propagated_of(self)
        with with_more_callbacks(self, propagated):
            context = self._init_callback_context(
                max_subtasks=1 + (self.refit is not False)
            )
        context.call_on_fit_task_begin(**told)
        self._checked_cv_orig = check_cv(
            self.cv, y, classifier=is_classifier(self.estimator)
        )
        self._check_input_parameters(X=X, y=y, split_params=split_params)
        self.n_splits_ = self._checked_cv_orig.get_n_splits(X, y, **split_params)
        base = clone(self.estimator)
        without_callbacks_(base, propagated)
        _, last = last_step(base)
        looked_at = bool(has_callbacks(self) or propagated or has_callbacks(last))
        request = self._request(X, y, scorers, routed, looked_at)
        kept = None
        if checkpoint is not None:
            kept = directory_at(checkpoint), fingerprint_of_request(request, base)
        resource = getattr(self, "resource", None)
        evaluation = Evaluation(self, base, request, split_params, resource, kept)
        tells = "callback_ctx" in signature(self._run_search).parameters
        self._run_search(evaluation, **({"callback_ctx": context} if tells else {}))
        concern = evaluation.endings_in_words()
        if concern:
            warn(concern, ConvergenceWarning, stacklevel=4)
        self._keep(evaluation, scorers, refit_metric)
        if self.refit:
            self._refit(base, X, y, routed.estimator.fit, context, told, kept)
        context.call_on_fit_task_end(**told)
        return self

    def score(self, X: ArrayLike, y: ArrayLike | None = None, **params: Any) -> float:
        """Return the score of the best estimator, by the scorer that chose it.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            Rows to predict.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Their targets, or labels of classes.
        **params : dict
            Passed on to the scorer, if metadata routing is enabled.

        Returns
        -------
        score : float
            The score.
        """
        y, params = for_scikit_learn("y", y), _without_tensors(params)
        score: float = super().score(X, y, **params)
        return score

    def __getstate__(self) -> dict[str, Any]:
        return with_version(super().__getstate__())

    def __setstate__(self, pickled: Mapping[str, Any]) -> None:
        super().__setstate__(of_this_version(type(self), pickled))

    def _request(
        self, X: Any, y: Any, scorers: Any, routed: Any, looked_at: bool
    ) -> Request:
        """Return what all evaluations have in common."""
        return Request(
            X,
            y,
            scorers,
            routed.estimator.fit,
            routed.scorer.score,
            self.return_train_score,
            self.error_score,
            self.max_bytes,
            self.verbose,
            caller=self if looked_at else None,
            given_up=GivenUp(),
        )

    def _keep(self, evaluation: Evaluation, scorers: Any, refit_metric: Any) -> None:
        """Keep what has come of all candidates, and which of them is the best."""
        results = evaluation.results
        scores = evaluation.fits[0]["test_scores"]
        self.multimetric_ = isinstance(scores, dict)
        if callable(self.scoring) and self.multimetric_:
            self._check_refit_for_multimetric(scores)
            refit_metric = self.refit
        if self.refit or not self.multimetric_:
            self.best_index_ = self._select_best_index(
                self.refit, refit_metric, results
            )
            if not callable(self.refit):
                means = results[f"mean_test_{refit_metric}"]
                self.best_score_ = means[self.best_index_]
            self.best_params_ = results["params"][self.best_index_]
        several = isinstance(scorers, MultimetricScorer)
        self.scorer_ = scorers._scorers if several else scorers
        self.cv_results_ = results
        n, curves = self.n_splits_, [fit["loss_curve"] for fit in evaluation.fits]
        self.loss_curves_ = [curves[i : i + n] for i in range(0, len(curves), n)]
        self.groups_ = evaluation.groups

    def _refit(
        self,
        base: Any,
        X: ArrayLike,
        y: ArrayLike | None,
        fit_params: dict[str, Any],
        context: Any,
        told: dict[str, Any],
        kept: tuple[str, str] | None,
    ) -> None:
        """Fit the best candidate to all of the data."""
        best = clone(base).set_params(**clone(self.best_params_, safe=False))
        if kept is not None:
            file = file_of_refit(*kept, self.best_params_)
            fit_params = {**fit_params, **_to_keep_in(file, best)}
        self.best_estimator_ = best
        refit = context.subcontext("refit-with-best-params")
        with refit.propagate_callback_context(best):
            refit.call_on_fit_task_begin(**told)
            began = perf_counter()
            targets = () if y is None else (y,)
            best.fit(X, *targets, **fit_params)
            self.refit_time_ = perf_counter() - began
        if hasattr(best, "feature_names_in_"):
            self.feature_names_in_ = best.feature_names_in_
        refit.call_on_fit_task_end(**told)


def _to_keep_in(file: str, estimator: Any) -> dict[str, Any]:
    """Return what tells ``fit`` to keep itself in a file; nothing where it cannot.

    A Pipeline hands on what is told to its last step, but not by metadata routing.
    """
    path, last = last_step(estimator)
    routes = path and get_config()["enable_metadata_routing"]
    of_ours = type(last) in (MiniBatchClassifier, MiniBatchRegressor)
    if routes or not of_ours or last.n_models > 1:
        return {}
    return {f"{path}checkpoint": file}


def _check_given(estimator: Any, X: Any, y: Any) -> None:
    """Refuse what no fit of ours takes, where a splitter would say it without a name.

    Numbers are left to the fits, for not every split need have all of them.
    """
    check_given("X", X)
    _, last = last_step(estimator)
    if y is None or not isinstance(last, MiniBatchClassifier | MiniBatchRegressor):
        return
    numbers = getattr(getattr(y, "dtype", None), "kind", "O") in "biuf"
    if not numbers and num_samples(y) == num_samples(X) > 0:
        checked_targets(y, num_samples(X), numeric=False)


def _without_tensors(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what comes with X and y for scikit-learn; rows stay where they lie."""
    return {
        name: value if name == "X_val" else for_scikit_learn(name, value)
        for name, value in params.items()
    }


class VectorizedGridSearchCV(_VectorizedSearch, GridSearchCV):
    """Grid search that trains candidates x splits together, a group at a time.

    scikit-learn's GridSearchCV, with the same parameters, attributes and results. Any
    parameter of the estimator may be searched; candidates that differ in numbers only,
    such as ``lr`` and ``alpha``, are trained together.

    Parameters
    ----------
    estimator : estimator
        A MiniBatchRegressor or MiniBatchClassifier, or a Pipeline that ends in one. Any
        other estimator is searched as scikit-learn does, one fit at a time.
    param_grid : dict or list of dict
        Values to try of every parameter, all combinations of them; or several such
        grids.
    scoring : str, callable, list, tuple or dict, default=None
        What models are judged by: a scorer of scikit-learn, several of them, or a
        function of a fitted estimator, X and y. None is the score of the estimator.
    n_jobs : int or None, default=None
        Workers of joblib among which the models are divided; -1 is one for each core.
        None is 1. They are threads of this process where compiled loops train (see
        Notes), and other processes elsewhere; a ``joblib.parallel_config`` that names a
        backend, such as "loky" or "dask", has the last word. On CUDA, one process
        trains all models, whatever is asked for.
    refit : bool, str or callable, default=True
        Whether the best candidate is fitted to all of the data. With several scorers,
        the name of the one that says which is best; or a function that returns the best
        index, given ``cv_results_``.
    cv : int, splitter or iterable, default=None
        The splits of the rows: a number of folds, stratified for a classifier, a
        splitter of scikit-learn, or pairs of training and test rows.
    verbose : int, default=0
        What is printed: from 1 on, how many fits there are, and whether they make many
        groups; from 2 on, how many models are trained so far; from 3 on, how far each
        stack is, every few seconds and at its end. Fits one at a time print what
        scikit-learn does.
    pre_dispatch : int or str, default="2*n_jobs"
        Jobs that are handed to the workers in advance, as in joblib.
    error_score : "raise" or float, default=nan
        Score of a fit that fails, as one that diverges does; a FitFailedWarning counts
        them. "raise" raises the error.
    return_train_score : bool, default=False
        Whether ``cv_results_`` has the scores of the training rows too.
    max_bytes : int or None, default=None
        Bytes that the arrays of the models of a stack may take, about; more models are
        trained stack by stack. Each worker has a stack. None is what a cache holds, 12
        MiB, and on CUDA 0.4 of the free memory. A smaller one makes smaller stacks.

    Attributes
    ----------
    cv_results_ : dict of ndarray
        Parameters, scores, ranks and times of all candidates, in the form of
        scikit-learn. The time of a fit is that of its stack divided by its models,
        without the steps before the last; the time of a score is without predictions
        that were made for many models at once.
    best_estimator_ : estimator
        The best candidate, fitted to all of the data. Only with ``refit``.
    best_score_, best_params_, best_index_ : float, dict, int
        Mean score, parameters and place in ``cv_results_`` of the best candidate.
    groups_ : list of named tuples
        How the candidates were trained: for every group their places in
        ``cv_results_`` (``candidates``), the parameters searched that they share, as
        the first of them sets them (``params``), whether they were trained
        ``together``, and if not the ``reason``, and by which ``engine``: "numba",
        compiled loops, or "torch". Of halving, those of all iterations, one after
        another.
    loss_curves_ : list of list of ndarray
        The objective of every epoch, for every candidate and split; empty where a fit
        of scikit-learn's has none.
    scorer_ : callable or dict
        What models are judged by.
    n_splits_ : int
        Number of splits.
    refit_time_ : float
        Seconds of the last fit. Only with ``refit``.
    multimetric_ : bool
        Whether there are several scorers.
    classes_ : ndarray of shape (n_classes,)
        Labels of the classes. Only with ``refit``, of a classifier.
    n_features_in_ : int
        Features seen in ``fit``. Only with ``refit``.
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Their names. Only with ``refit``, if X had names, all of them strings.

    See Also
    --------
    VectorizedRandomizedSearchCV : Candidates drawn at random.
    VectorizedHalvingGridSearchCV : Trains the better candidates for longer.
    LossCurveDisplay : Draws the loss curves of the candidates.

    Notes
    -----
    Candidates that differ in ``lr``, ``alpha``, ``l1_ratio``, ``momentum``, ``beta_1``,
    ``beta_2``, ``epsilon`` and ``random_state`` alone are a group, which is trained on
    all splits together. On a CPU with numba, compiled loops do it, one model after the
    other in each of ``n_jobs`` threads; those of a job share checked rows and
    the order of their batches. Elsewhere they are a stack on torch, whose models take
    each step at once: on CUDA, with ``dropout``, with large batches and layers, of wide
    sparse rows with hidden layers, without numba, and with ``engine="torch"``. All
    else, such as ``batch_size`` or ``hidden_layer_sizes``, makes groups of its own,
    each trained in turn. Steps before the last of a pipeline are fitted once for each
    split and distinct setting of their own parameters. Left to one fit at a time are
    ensembles, estimators with ``max_time`` or callbacks, and fits given more than
    ``sample_weight``.
    Callbacks that scikit-learn propagates, such as its ``ProgressBar``, watch the
    search whether they are set on it or on the estimator.

    With an integer ``random_state``, the scores are those of GridSearchCV over the same
    estimator and splits, but for rounding: products of other shapes are rounded
    otherwise. In float64, weights agree to 1e-8. Where training is chaotic, as that of
    a network at a large ``lr`` is, or in float32 over many steps, a last digit grows
    until predictions differ, as they would on another machine. With
    ``random_state=None``, models of a group on a split share one random stream.

    References
    ----------
    Models of one architecture trained as one tensor program: HFTA, Wang et al. (2021),
    https://arxiv.org/abs/2102.02344; ParallelMLPs, Farias et al. (2022),
    https://arxiv.org/abs/2206.08369; Whitney, "Parallelizing neural networks on one GPU
    with JAX" (2021). pytabkit stacks the folds of a model, himalaya the penalties and
    folds of a ridge regression, h2o4gpu those of an elastic net.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skgd import MiniBatchClassifier, VectorizedGridSearchCV
    >>> X, y = load_digits(return_X_y=True)
    >>> model = MiniBatchClassifier(max_iter=5, tol=None, random_state=0)
    >>> grid = {"lr": [1e-4, 1e-3, 1e-2], "alpha": [1e-4, 1e-2]}
    >>> search = VectorizedGridSearchCV(model, grid).fit(X / 16, y)
    >>> search.best_params_["lr"]
    0.01
    >>> [(len(group.candidates), group.together) for group in search.groups_]
    [(6, True)]
    """

    __module__ = "skgd"  # its name in pickles and in what is printed

    def __init__(
        self,
        estimator: Any,
        param_grid: Any,
        *,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: int | str = "2*n_jobs",
        error_score: float | str = np.nan,
        return_train_score: bool = False,
        max_bytes: int | None = None,
    ) -> None:
        super().__init__(
            estimator,
            param_grid,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.max_bytes = max_bytes

    def _run_search(
        self, evaluate_candidates: Any, *, callback_ctx: Any = None
    ) -> None:
        evaluate_candidates(ParameterGrid(self.param_grid), callback_ctx=callback_ctx)


class VectorizedRandomizedSearchCV(_VectorizedSearch, RandomizedSearchCV):
    """Randomized search that trains candidates x splits together, a group at a time.

    scikit-learn's RandomizedSearchCV, with the same candidates and results.

    Parameters
    ----------
    estimator : estimator
        A MiniBatchRegressor or MiniBatchClassifier, or a Pipeline that ends in one. Any
        other estimator is searched as scikit-learn does, one fit at a time.
    param_distributions : dict or list of dict
        What every parameter is drawn from: a list, or a distribution such as
        ``scipy.stats.loguniform``; or several such mappings.
    n_iter : int, default=10
        Candidates that are drawn; more of them search more closely.
    scoring : str, callable, list, tuple or dict, default=None
        What models are judged by: a scorer of scikit-learn, several of them, or a
        function of a fitted estimator, X and y. None is the score of the estimator.
    n_jobs : int or None, default=None
        Workers of joblib among which the models are divided; -1 is one for each core.
        None is 1. They are threads of this process where compiled loops train (see
        Notes), and other processes elsewhere; a ``joblib.parallel_config`` that names a
        backend, such as "loky" or "dask", has the last word. On CUDA, one process
        trains all models, whatever is asked for.
    refit : bool, str or callable, default=True
        Whether the best candidate is fitted to all of the data. With several scorers,
        the name of the one that says which is best; or a function that returns the best
        index, given ``cv_results_``.
    cv : int, splitter or iterable, default=None
        The splits of the rows: a number of folds, stratified for a classifier, a
        splitter of scikit-learn, or pairs of training and test rows.
    verbose : int, default=0
        What is printed: from 1 on, how many fits there are, and whether they make many
        groups; from 2 on, how many models are trained so far; from 3 on, how far each
        stack is, every few seconds and at its end. Fits one at a time print what
        scikit-learn does.
    pre_dispatch : int or str, default="2*n_jobs"
        Jobs that are handed to the workers in advance, as in joblib.
    random_state : int, RandomState instance or None, default=None
        Seed of what is drawn.
    error_score : "raise" or float, default=nan
        Score of a fit that fails, as one that diverges does; a FitFailedWarning counts
        them. "raise" raises the error.
    return_train_score : bool, default=False
        Whether ``cv_results_`` has the scores of the training rows too.
    max_bytes : int or None, default=None
        Bytes that the arrays of the models of a stack may take, about; more models are
        trained stack by stack. Each worker has a stack. None is what a cache holds, 12
        MiB, and on CUDA 0.4 of the free memory. A smaller one makes smaller stacks.

    Attributes
    ----------
    cv_results_ : dict of ndarray
        Parameters, scores, ranks and times of all candidates, in the form of
        scikit-learn. The time of a fit is that of its stack divided by its models,
        without the steps before the last; the time of a score is without predictions
        that were made for many models at once.
    best_estimator_ : estimator
        The best candidate, fitted to all of the data. Only with ``refit``.
    best_score_, best_params_, best_index_ : float, dict, int
        Mean score, parameters and place in ``cv_results_`` of the best candidate.
    groups_ : list of named tuples
        How the candidates were trained: for every group their places in
        ``cv_results_`` (``candidates``), the parameters searched that they share, as
        the first of them sets them (``params``), whether they were trained
        ``together``, and if not the ``reason``, and by which ``engine``: "numba",
        compiled loops, or "torch". Of halving, those of all iterations, one after
        another.
    loss_curves_ : list of list of ndarray
        The objective of every epoch, for every candidate and split; empty where a fit
        of scikit-learn's has none.
    scorer_ : callable or dict
        What models are judged by.
    n_splits_ : int
        Number of splits.
    refit_time_ : float
        Seconds of the last fit. Only with ``refit``.
    multimetric_ : bool
        Whether there are several scorers.
    classes_ : ndarray of shape (n_classes,)
        Labels of the classes. Only with ``refit``, of a classifier.
    n_features_in_ : int
        Features seen in ``fit``. Only with ``refit``.
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Their names. Only with ``refit``, if X had names, all of them strings.

    See Also
    --------
    VectorizedGridSearchCV : All candidates of a grid.
    VectorizedHalvingRandomSearchCV : Trains the better candidates for longer.

    Notes
    -----
    Candidates that differ in ``lr``, ``alpha``, ``l1_ratio``, ``momentum``, ``beta_1``,
    ``beta_2``, ``epsilon`` and ``random_state`` alone are a group, which is trained on
    all splits together. On a CPU with numba, compiled loops do it, one model after the
    other in each of ``n_jobs`` threads; those of a job share checked rows and
    the order of their batches. Elsewhere they are a stack on torch, whose models take
    each step at once: on CUDA, with ``dropout``, with large batches and layers, of wide
    sparse rows with hidden layers, without numba, and with ``engine="torch"``. All
    else, such as ``batch_size`` or ``hidden_layer_sizes``, makes groups of its own,
    each trained in turn. Steps before the last of a pipeline are fitted once for each
    split and distinct setting of their own parameters. Left to one fit at a time are
    ensembles, estimators with ``max_time`` or callbacks, and fits given more than
    ``sample_weight``.
    Callbacks that scikit-learn propagates, such as its ``ProgressBar``, watch the
    search whether they are set on it or on the estimator.

    With an integer ``random_state``, the scores are those of RandomizedSearchCV over
    the same estimator and splits, but for rounding: products of other shapes are
    rounded otherwise. In float64, weights agree to 1e-8. Where training is chaotic, as
    that of a network at a large ``lr`` is, or in float32 over many steps, a last digit
    grows until predictions differ, as they would on another machine. With
    ``random_state=None``, models of a group on a split share one random stream.

    References
    ----------
    Models of one architecture trained as one tensor program: HFTA, Wang et al. (2021),
    https://arxiv.org/abs/2102.02344; ParallelMLPs, Farias et al. (2022),
    https://arxiv.org/abs/2206.08369; Whitney, "Parallelizing neural networks on one GPU
    with JAX" (2021). pytabkit stacks the folds of a model, himalaya the penalties and
    folds of a ridge regression, h2o4gpu those of an elastic net.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_diabetes
    >>> from skgd import MiniBatchRegressor, VectorizedRandomizedSearchCV
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = MiniBatchRegressor(optimizer="sgd", tol=None, random_state=0)
    >>> drawn = {"lr": loguniform(1e-4, 1e-1), "max_iter": [20]}
    >>> search = VectorizedRandomizedSearchCV(model, drawn, random_state=0)
    >>> print(search.fit(X * 21, y).best_score_.round(1))
    0.5
    """

    __module__ = "skgd"  # its name in pickles and in what is printed

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        n_iter: int = 10,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: int | str = "2*n_jobs",
        random_state: Any = None,
        error_score: float | str = np.nan,
        return_train_score: bool = False,
        max_bytes: int | None = None,
    ) -> None:
        super().__init__(
            estimator,
            param_distributions,
            n_iter=n_iter,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            random_state=random_state,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.max_bytes = max_bytes

    def _run_search(
        self, evaluate_candidates: Any, *, callback_ctx: Any = None
    ) -> None:
        sampler = ParameterSampler(
            self.param_distributions, self.n_iter, random_state=self.random_state
        )
        evaluate_candidates(sampler, callback_ctx=callback_ctx)


class _Halving(BaseSearchCV):
    """``fit`` of a search that halves: scikit-learn's, and in it that of the base."""

    __metadata_request__fit: ClassVar = {"checkpoint": UNUSED}

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        checkpoint: str | PathLike[str] | None = None,
        **params: Any,
    ) -> Self:
        super().fit(X, y, checkpoint=checkpoint, **params)
        return self

    fit.__doc__ = _VectorizedSearch.fit.__doc__


class VectorizedHalvingGridSearchCV(_Halving, HalvingGridSearchCV, _VectorizedSearch):
    """Successive halving over a grid that goes on training what survives.

    scikit-learn's HalvingGridSearchCV, with the same results.

    Parameters
    ----------
    estimator : estimator
        A MiniBatchRegressor or MiniBatchClassifier, or a Pipeline that ends in one. Any
        other estimator is searched as scikit-learn does, one fit at a time.
    param_grid : dict or list of dict
        Values to try of every parameter, all combinations of them; or several such
        grids.
    factor : int or float, default=3
        One in so many candidates survives an iteration, and is given so many times the
        resources in the next.
    resource : str, default="n_samples"
        What grows: rows, or a parameter of the estimator, "max_iter", or
        "mlp__max_iter" of a pipeline's step. With the latter, training goes on from
        iteration to iteration.
    max_resources : int or "auto", default="auto"
        Resources of a candidate at the most. "auto" is all rows; a number is needed
        where ``resource`` is a parameter.
    min_resources : int, "exhaust" or "smallest", default="exhaust"
        Resources of a candidate in the first iteration. "exhaust" makes them as large
        as lets the last one use all, "smallest" small.
    aggressive_elimination : bool, default=False
        Whether the first iteration is repeated until so few candidates are left that
        the last one ends with fewer than ``factor``.
    cv : int, splitter or iterable, default=5
        The splits of the rows: a number of folds, stratified for a classifier, a
        splitter of scikit-learn, or pairs of training and test rows.
    scoring : str, callable or None, default=None
        What models are judged by: a scorer of scikit-learn, or a function of a fitted
        estimator, X and y. None is the score of the estimator.
    refit : bool or callable, default=True
        Whether the best candidate is fitted to all of the data, with the resources of
        the last iteration, which may be fewer than ``max_resources``.
    error_score : "raise" or float, default=nan
        Score of a fit that fails, as one that diverges does; a FitFailedWarning counts
        them. "raise" raises the error.
    return_train_score : bool, default=True
        Whether ``cv_results_`` has the scores of the training rows too.
    random_state : int, RandomState instance or None, default=None
        Seed of the rows that are drawn, where they are the resource.
    n_jobs : int or None, default=None
        Workers of joblib among which the models are divided; -1 is one for each core.
        None is 1. They are threads of this process where compiled loops train (see
        Notes), and other processes elsewhere; a ``joblib.parallel_config`` that names a
        backend, such as "loky" or "dask", has the last word. On CUDA, one process
        trains all models, whatever is asked for.
    verbose : int, default=0
        What is printed: from 1 on, how many fits there are, and whether they make many
        groups; from 2 on, how many models are trained so far; from 3 on, how far each
        stack is, every few seconds and at its end. Fits one at a time print what
        scikit-learn does.
    max_bytes : int or None, default=None
        Bytes that the arrays of the models of a stack may take, about; more models are
        trained stack by stack. Each worker has a stack. None is what a cache holds, 12
        MiB, and on CUDA 0.4 of the free memory. A smaller one makes smaller stacks.

    Attributes
    ----------
    cv_results_ : dict of ndarray
        Parameters, scores, ranks and times of all candidates, in the form of
        scikit-learn. The time of a fit is that of its stack divided by its models,
        without the steps before the last; the time of a score is without predictions
        that were made for many models at once.
    best_estimator_ : estimator
        The best candidate, fitted to all of the data. Only with ``refit``.
    best_score_, best_params_, best_index_ : float, dict, int
        Mean score, parameters and place in ``cv_results_`` of the best candidate.
    groups_ : list of named tuples
        How the candidates were trained: for every group their places in
        ``cv_results_`` (``candidates``), the parameters searched that they share, as
        the first of them sets them (``params``), whether they were trained
        ``together``, and if not the ``reason``, and by which ``engine``: "numba",
        compiled loops, or "torch". Of halving, those of all iterations, one after
        another.
    loss_curves_ : list of list of ndarray
        The objective of every epoch, for every candidate and split; empty where a fit
        of scikit-learn's has none.
    scorer_ : callable or dict
        What models are judged by.
    n_splits_ : int
        Number of splits.
    refit_time_ : float
        Seconds of the last fit. Only with ``refit``.
    multimetric_ : bool
        Whether there are several scorers.
    classes_ : ndarray of shape (n_classes,)
        Labels of the classes. Only with ``refit``, of a classifier.
    n_features_in_ : int
        Features seen in ``fit``. Only with ``refit``.
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Their names. Only with ``refit``, if X had names, all of them strings.
    n_resources_, n_candidates_ : list of int
        Resources of a candidate, and candidates, of every iteration.
    n_remaining_candidates_ : int
        Candidates left after the last one.
    min_resources_, max_resources_ : int
        Resources of a candidate in the first iteration, and at the most.
    n_iterations_, n_required_iterations_, n_possible_iterations_ : int
        Iterations that there were, that it takes to be left with fewer than ``factor``
        candidates, and that the resources allow.

    See Also
    --------
    VectorizedGridSearchCV : Trains all candidates to the end.
    VectorizedHalvingRandomSearchCV : Candidates drawn at random.

    Notes
    -----
    Every iteration trains its candidates as VectorizedGridSearchCV does. With
    ``resource="max_iter"``, survivors go on from their weights, the state of their
    optimizers and their random streams: a candidate is trained for as many epochs in
    all as its last iteration asks for, where scikit-learn's search begins anew at each.
    The scores are the same. Candidates that stop early by held-out rows, or whose
    learning rate is laid out over ``max_iter`` ("cosine", "one_cycle"), are trained
    anew, for a longer training of theirs is another one.

    References
    ----------
    Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter
    optimization" (2016), https://arxiv.org/abs/1502.07943.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skgd import MiniBatchClassifier, VectorizedHalvingGridSearchCV
    >>> X, y = load_digits(return_X_y=True)
    >>> model = MiniBatchClassifier(tol=None, random_state=0)
    >>> grid = {"lr": [1e-4, 1e-3, 1e-2], "alpha": [1e-4, 1e-3, 1e-2]}
    >>> search = VectorizedHalvingGridSearchCV(
    ...     model, grid, resource="max_iter", max_resources=9
    ... )
    >>> _ = search.fit(X / 16, y)
    >>> search.n_candidates_, search.n_resources_
    ([9, 3, 1], [1, 3, 9])
    """

    __module__ = "skgd"  # its name in pickles and in what is printed

    def __init__(
        self,
        estimator: Any,
        param_grid: Any,
        *,
        factor: float = 3,
        resource: str = "n_samples",
        max_resources: int | str = "auto",
        min_resources: int | str = "exhaust",
        aggressive_elimination: bool = False,
        cv: Any = 5,
        scoring: Any = None,
        refit: Any = True,
        error_score: float | str = np.nan,
        return_train_score: bool = True,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
        max_bytes: int | None = None,
    ) -> None:
        super().__init__(
            estimator,
            param_grid,
            factor=factor,
            resource=resource,
            max_resources=max_resources,
            min_resources=min_resources,
            aggressive_elimination=aggressive_elimination,
            cv=cv,
            scoring=scoring,
            refit=refit,
            error_score=error_score,
            return_train_score=return_train_score,
            random_state=random_state,
            n_jobs=n_jobs,
            verbose=verbose,
        )
        self.max_bytes = max_bytes


class VectorizedHalvingRandomSearchCV(
    _Halving, HalvingRandomSearchCV, _VectorizedSearch
):
    """Successive halving over random candidates that goes on training what survives.

    scikit-learn's HalvingRandomSearchCV, with the same candidates and results.

    Parameters
    ----------
    estimator : estimator
        A MiniBatchRegressor or MiniBatchClassifier, or a Pipeline that ends in one. Any
        other estimator is searched as scikit-learn does, one fit at a time.
    param_distributions : dict or list of dict
        What every parameter is drawn from: a list, or a distribution such as
        ``scipy.stats.loguniform``; or several such mappings.
    n_candidates : int or "exhaust", default="exhaust"
        Candidates of the first iteration; "exhaust" draws so many that the last one
        uses all resources.
    factor : int or float, default=3
        One in so many candidates survives an iteration, and is given so many times the
        resources in the next.
    resource : str, default="n_samples"
        What grows: rows, or a parameter of the estimator, "max_iter", or
        "mlp__max_iter" of a pipeline's step. With the latter, training goes on from
        iteration to iteration.
    max_resources : int or "auto", default="auto"
        Resources of a candidate at the most. "auto" is all rows; a number is needed
        where ``resource`` is a parameter.
    min_resources : int, "exhaust" or "smallest", default="smallest"
        Resources of a candidate in the first iteration. "exhaust" makes them as large
        as lets the last one use all, "smallest" small.
    aggressive_elimination : bool, default=False
        Whether the first iteration is repeated until so few candidates are left that
        the last one ends with fewer than ``factor``.
    cv : int, splitter or iterable, default=5
        The splits of the rows: a number of folds, stratified for a classifier, a
        splitter of scikit-learn, or pairs of training and test rows.
    scoring : str, callable or None, default=None
        What models are judged by: a scorer of scikit-learn, or a function of a fitted
        estimator, X and y. None is the score of the estimator.
    refit : bool or callable, default=True
        Whether the best candidate is fitted to all of the data, with the resources of
        the last iteration, which may be fewer than ``max_resources``.
    error_score : "raise" or float, default=nan
        Score of a fit that fails, as one that diverges does; a FitFailedWarning counts
        them. "raise" raises the error.
    return_train_score : bool, default=True
        Whether ``cv_results_`` has the scores of the training rows too.
    random_state : int, RandomState instance or None, default=None
        Seed of what is drawn.
    n_jobs : int or None, default=None
        Workers of joblib among which the models are divided; -1 is one for each core.
        None is 1. They are threads of this process where compiled loops train (see
        Notes), and other processes elsewhere; a ``joblib.parallel_config`` that names a
        backend, such as "loky" or "dask", has the last word. On CUDA, one process
        trains all models, whatever is asked for.
    verbose : int, default=0
        What is printed: from 1 on, how many fits there are, and whether they make many
        groups; from 2 on, how many models are trained so far; from 3 on, how far each
        stack is, every few seconds and at its end. Fits one at a time print what
        scikit-learn does.
    max_bytes : int or None, default=None
        Bytes that the arrays of the models of a stack may take, about; more models are
        trained stack by stack. Each worker has a stack. None is what a cache holds, 12
        MiB, and on CUDA 0.4 of the free memory. A smaller one makes smaller stacks.

    Attributes
    ----------
    cv_results_ : dict of ndarray
        Parameters, scores, ranks and times of all candidates, in the form of
        scikit-learn. The time of a fit is that of its stack divided by its models,
        without the steps before the last; the time of a score is without predictions
        that were made for many models at once.
    best_estimator_ : estimator
        The best candidate, fitted to all of the data. Only with ``refit``.
    best_score_, best_params_, best_index_ : float, dict, int
        Mean score, parameters and place in ``cv_results_`` of the best candidate.
    groups_ : list of named tuples
        How the candidates were trained: for every group their places in
        ``cv_results_`` (``candidates``), the parameters searched that they share, as
        the first of them sets them (``params``), whether they were trained
        ``together``, and if not the ``reason``, and by which ``engine``: "numba",
        compiled loops, or "torch". Of halving, those of all iterations, one after
        another.
    loss_curves_ : list of list of ndarray
        The objective of every epoch, for every candidate and split; empty where a fit
        of scikit-learn's has none.
    scorer_ : callable or dict
        What models are judged by.
    n_splits_ : int
        Number of splits.
    refit_time_ : float
        Seconds of the last fit. Only with ``refit``.
    multimetric_ : bool
        Whether there are several scorers.
    classes_ : ndarray of shape (n_classes,)
        Labels of the classes. Only with ``refit``, of a classifier.
    n_features_in_ : int
        Features seen in ``fit``. Only with ``refit``.
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Their names. Only with ``refit``, if X had names, all of them strings.
    n_resources_, n_candidates_ : list of int
        Resources of a candidate, and candidates, of every iteration.
    n_remaining_candidates_ : int
        Candidates left after the last one.
    min_resources_, max_resources_ : int
        Resources of a candidate in the first iteration, and at the most.
    n_iterations_, n_required_iterations_, n_possible_iterations_ : int
        Iterations that there were, that it takes to be left with fewer than ``factor``
        candidates, and that the resources allow.

    See Also
    --------
    VectorizedRandomizedSearchCV : Trains all candidates to the end.
    VectorizedHalvingGridSearchCV : All candidates of a grid.

    Notes
    -----
    Every iteration trains its candidates as VectorizedRandomizedSearchCV does. With
    ``resource="max_iter"``, survivors go on from their weights, the state of their
    optimizers and their random streams: a candidate is trained for as many epochs in
    all as its last iteration asks for, where scikit-learn's search begins anew at each.
    The scores are the same. Candidates that stop early by held-out rows, or whose
    learning rate is laid out over ``max_iter`` ("cosine", "one_cycle"), are trained
    anew, for a longer training of theirs is another one.

    References
    ----------
    Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter
    optimization" (2016), https://arxiv.org/abs/1502.07943.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_digits
    >>> from skgd import MiniBatchClassifier, VectorizedHalvingRandomSearchCV
    >>> X, y = load_digits(return_X_y=True)
    >>> search = VectorizedHalvingRandomSearchCV(
    ...     MiniBatchClassifier(tol=None, random_state=0),
    ...     {"lr": loguniform(1e-4, 1e-1)},
    ...     resource="max_iter",
    ...     max_resources=9,
    ...     random_state=0,
    ... )
    >>> search.fit(X / 16, y).n_candidates_
    [9, 3, 1]
    """

    __module__ = "skgd"  # its name in pickles and in what is printed

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        n_candidates: int | str = "exhaust",
        factor: float = 3,
        resource: str = "n_samples",
        max_resources: int | str = "auto",
        min_resources: int | str = "smallest",
        aggressive_elimination: bool = False,
        cv: Any = 5,
        scoring: Any = None,
        refit: Any = True,
        error_score: float | str = np.nan,
        return_train_score: bool = True,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
        max_bytes: int | None = None,
    ) -> None:
        super().__init__(
            estimator,
            param_distributions,
            n_candidates=n_candidates,
            factor=factor,
            resource=resource,
            max_resources=max_resources,
            min_resources=min_resources,
            aggressive_elimination=aggressive_elimination,
            cv=cv,
            scoring=scoring,
            refit=refit,
            error_score=error_score,
            return_train_score=return_train_score,
            random_state=random_state,
            n_jobs=n_jobs,
            verbose=verbose,
        )
        self.max_bytes = max_bytes
