"""Without numba, these modules are skipped with a word: they import it."""

import pytest

from skgd._training.engines import is_installed


class _Skipped(pytest.Module):
    def collect(self):
        pytest.skip("no numba on this machine")


def pytest_pycollect_makemodule(module_path, parent):
    """Collect no module that cannot be imported."""
    if not is_installed():
        return _Skipped.from_parent(parent, path=module_path)
    return None
