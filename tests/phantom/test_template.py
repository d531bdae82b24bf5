import numpy as np
import pytest

from demist_app.phantom.labels import BRAIN, Label
from demist_app.phantom.template import TISSUES, load_template


def test_labels_below_twenty_are_brain():
    assert all((0 < label < 20) == (label in BRAIN) for label in Label)


def test_priors_are_probabilities():
    priors = load_template().priors.values
    assert priors.min() >= 0
    np.testing.assert_allclose(priors.sum(0).numpy(), 1, atol=1e-3)


@pytest.mark.parametrize(
    ('label', 'position'),
    [
        (Label.THALAMUS, (12, -18, 8)),
        (Label.PUTAMEN, (-27, 4, 2)),
        (Label.PALLIDUM, (19, -4, -1)),
        (Label.CAUDATE, (-12, 14, 8)),
        (Label.CSF_VENTRICLE, (-9, 0, 20)),
        (Label.CORPUS_CALLOSUM, (2, -8, 25)),
        (Label.BRAINSTEM, (0, -26, -34)),
        (Label.CEREBELLAR_GM, (36, -62, -44)),
        (Label.WM, (28, -20, 28)),
        (Label.CORTICAL_GM, (-4, 42, 10)),
    ],
)
def test_structures_lie_where_atlases_have_them(label, position):
    point = np.array(position, np.float32)[:, None, None, None]
    assert TISSUES[int(load_template().priors.at(point)[:-1].argmax())] == label


def test_skull_cavity_holds_the_brain():
    template = load_template()
    priors = template.priors
    brain = np.argwhere(priors.values[-1, ::4, ::4, ::4].numpy() < 0.1).T
    points = (np.asarray(priors.origin)[:, None] + 4 * brain).astype(np.float32)
    assert template.skull.at(points[:, :, None, None]).max() < 1.5
