import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from demist_app.model.wavelet import BANDS, haar, inverse_haar


@given(
    st.integers(0, 2**31),
    st.integers(1, 3),
    st.tuples(*[st.integers(1, 4).map(lambda half: 2 * half)] * 3),
)
def test_the_inverse_undoes_the_transform(seed, channels, shape):
    images = torch.randn(2, channels, *shape, generator=torch.Generator().manual_seed(seed))
    bands = haar(images)
    assert bands.shape == (2, BANDS * channels, *(n // 2 for n in shape))
    torch.testing.assert_close(inverse_haar(bands), images, rtol=0, atol=1e-5)


def test_it_is_orthonormal_but_for_the_coarse_band():
    torch.manual_seed(0)
    image = torch.randn(1, 1, 8, 6, 4)
    bands = haar(image)
    energy = (3 * bands[:, 0]).square().sum() + bands[:, 1:].square().sum()
    torch.testing.assert_close(energy, image.square().sum())


def test_bands_by_hand():
    ramp = torch.arange(2.0).view(1, 1, 1, 1, 2).expand(1, 1, 2, 2, 2)  # rises along z
    bands = haar(ramp).flatten()
    # mean 0.5 times √8, over 3; half the difference times √8, low minus high
    torch.testing.assert_close(
        bands, torch.tensor([0.5 * 8**0.5 / 3, -0.5 * 8**0.5, 0, 0, 0, 0, 0, 0])
    )


@pytest.mark.parametrize('image', range(3))
def test_the_bands_of_an_image_follow_each_other(image):
    torch.manual_seed(1)
    images = torch.randn(1, 3, 4, 4, 4)
    ours = haar(images)[:, BANDS * image : BANDS * (image + 1)]
    torch.testing.assert_close(ours, haar(images[:, image : image + 1]))
