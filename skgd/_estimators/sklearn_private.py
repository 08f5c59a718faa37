"""scikit-learn's private helpers, all that are used, each by a name of its own here.

What another release moves or changes is mended in this room; ``tests/test_package.py``
holds that no other one imports such a name. As of scikit-learn 1.9.
"""

from sklearn.base import _fit_context as fit_context
from sklearn.metrics._scorer import _BaseScorer as BaseScorer
from sklearn.metrics._scorer import _MultimetricScorer as MultimetricScorer
from sklearn.metrics._scorer import _PassthroughScorer as PassthroughScorer
from sklearn.metrics._scorer import _Scorer as Scorer
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._search_successive_halving import (
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
)
from sklearn.model_selection._validation import _fit_and_score as fit_and_score
from sklearn.model_selection._validation import (
    _insert_error_scores as insert_error_scores,
)
from sklearn.model_selection._validation import _score as score_of
from sklearn.model_selection._validation import (
    _warn_or_raise_about_fit_failures as warn_or_raise_about_fit_failures,
)
from sklearn.utils.metaestimators import _safe_split as safe_split
from sklearn.utils.validation import _check_method_params as check_method_params
from sklearn.utils.validation import _check_sample_weight as check_sample_weight
from sklearn.utils.validation import _check_y as check_y
from sklearn.utils.validation import _num_samples as num_samples

__all__ = [
    "BaseScorer",
    "BaseSearchCV",
    "HalvingGridSearchCV",
    "HalvingRandomSearchCV",
    "MultimetricScorer",
    "PassthroughScorer",
    "Scorer",
    "check_method_params",
    "check_sample_weight",
    "check_y",
    "fit_and_score",
    "fit_context",
    "insert_error_scores",
    "num_samples",
    "safe_split",
    "score_of",
    "warn_or_raise_about_fit_failures",
]
