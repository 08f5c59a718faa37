"""The searches: scikit-learn's, but for how candidates are trained.

What is searched, and how the best is chosen, is inherited from scikit-learn's classes;
``_evaluation`` has what is done to the candidates.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import _fit_context, clone, is_classifier
from sklearn.metrics._scorer import _MultimetricScorer
from sklearn.model_selection import (
    GridSearchCV,
    ParameterGrid,
    ParameterSampler,
    RandomizedSearchCV,
    check_cv,
)
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._search_successive_halving import (
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
)
from sklearn.utils import indexable
from sklearn.utils.validation import _check_method_params

from skgd._evaluation import Evaluation, Group, Task
from skgd._validation import check_max_bytes


class _VectorizedSearch(BaseSearchCV):
    """``fit`` of scikit-learn's searches, by way of ``Evaluation``."""

    max_bytes: int | None
    groups_: list[Group]
    loss_curves_: list[list[Any]]

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: ArrayLike, y: ArrayLike | None = None, **params: Any) -> Self:
        """Train all candidates on all splits, and the best one on all of the data.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets, or labels of classes.
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
        """
        check_max_bytes(self.max_bytes)
        scorers, refit_metric = self._get_scorers()
        X, y = indexable(X, y)
        params = _check_method_params(X, params=params)
        routed = self._get_routed_params_for_fit(params)
        split_params = routed.splitter.split
        weight = params.get("sample_weight")
        told = {
            "estimator": self,
            "X": X,
            "y": y,
            "metadata": None if weight is None else {"sample_weight": weight},
        }
        context = self._init_callback_context(
            max_subtasks=1 + (self.refit is not False)
        )
        context.call_on_fit_task_begin(**told)
        self._checked_cv_orig = check_cv(
            self.cv, y, classifier=is_classifier(self.estimator)
        )
        self._check_input_parameters(X=X, y=y, split_params=split_params)
        self.n_splits_ = self._checked_cv_orig.get_n_splits(X, y, **split_params)
        task = Task(
            X,
            y,
            scorers,
            routed.estimator.fit,
            routed.scorer.score,
            self.return_train_score,
            self.error_score,
            self.max_bytes,
            self.verbose,
            caller=self if getattr(self, "_skl_callbacks", []) else None,
        )
        evaluation = Evaluation(
            self, task, split_params, getattr(self, "resource", None)
        )
        self._run_search(evaluation, callback_ctx=context)
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
        if self.refit:
            self._refit(X, y, routed.estimator.fit, context, told)
        several = isinstance(scorers, _MultimetricScorer)
        self.scorer_ = scorers._scorers if several else scorers
        self.cv_results_ = results
        curves = iter(evaluation.fits)
        self.loss_curves_ = [
            [next(curves)["loss_curve"] for _ in range(self.n_splits_)]
            for _ in evaluation.candidates
        ]
        self.groups_ = evaluation.groups
        context.call_on_fit_task_end(**told)
        return self

    def _refit(
        self,
        X: ArrayLike,
        y: ArrayLike | None,
        fit_params: dict[str, Any],
        context: Any,
        told: dict[str, Any],
    ) -> None:
        """Fit the best candidate to all of the data."""
        best = clone(self.estimator).set_params(**clone(self.best_params_, safe=False))
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


class VectorizedGridSearchCV(GridSearchCV, _VectorizedSearch):
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


class VectorizedRandomizedSearchCV(RandomizedSearchCV, _VectorizedSearch):
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


class VectorizedHalvingGridSearchCV(HalvingGridSearchCV, _VectorizedSearch):
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


class VectorizedHalvingRandomSearchCV(HalvingRandomSearchCV, _VectorizedSearch):
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
