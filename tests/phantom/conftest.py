"""One coarse head, shared by the phantom's tests."""

import numpy as np
import pytest

from demist_app.phantom.head import Head, sample_head


@pytest.fixture(scope='session')
def head() -> Head:
    return sample_head(np.random.default_rng(7), resolution=3.0)
