import dataclasses
import logging
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from demist_app.model import synthesis
from demist_app.model.bundle import BundleError, write_bundle
from demist_app.model.demist import Demist
from demist_app.model.memory import ShortOfMemoryError, noting_shortage, predicted_gb
from demist_app.model.predictor import load_predictor
from demist_app.model.presets import load_preset
from demist_app.model.synthesis import DiffusionPredictor
from demist_app.model.windows import decoding_bytes

NO_MEMORY = (
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"
)
LONG = (192, 32, 32)
"""Needs more than one of the smallest windows, 64 voxels wide."""


def untrained(preset, fill):
    torch.manual_seed(0)
    return fill(Demist(preset))


@pytest.fixture
def model(tiny, fill):
    return untrained(tiny, fill)


@pytest.fixture
def predictor(model):
    return DiffusionPredictor(model)


@pytest.fixture
def write(tmp_path, tiny, fill):
    """Return a function that writes a bundle whose preset may be another than its weights'."""

    def write(preset, **more):
        metadata = {
            'name': 'mine', 'network': 'demist', 'version': '1', 'preset': preset.as_dict(), **more
        }  # fmt: skip
        weights = untrained(tiny, fill).tensors(torch.float32)
        return write_bundle(tmp_path / 'mine', metadata, weights, '# card')

    return write


def brain(shape=(48, 32, 32), seed=0):
    rng = np.random.default_rng(seed)
    images = gaussian_filter(rng.standard_normal((2, *shape)), (0, 4, 4, 4))
    images = (images - images.min()) / (images.max() - images.min())
    mask = np.ones(shape, bool)
    mask[:3] = mask[:, -5:] = False
    return images.astype(np.float32), mask


def predict(predictor, shape=(48, 32, 32), n_samples=1, seed=3, device='cpu', **more):
    return predictor.predict(*brain(shape), n_samples=n_samples, seed=seed, device=device, **more)


@pytest.fixture
def scarce(monkeypatch):
    """No memory is free: the smallest windows are planned."""
    monkeypatch.setattr(synthesis, 'free_bytes', lambda *_: 0.0)


def test_a_bundle_becomes_this_predictor(write, tiny, predictor):
    found = load_predictor(write(tiny))
    np.testing.assert_array_equal(predict(found).mean, predict(predictor).mean)


def test_linear_does_without_torch():
    program = (
        'import sys\n'
        'from demist_app.model.bundle import find_bundle, load_bundle\n'
        'from demist_app.model.predictor import load_predictor\n'
        'load_predictor(load_bundle(find_bundle("linear")))\n'
        'sys.exit("torch" in sys.modules)'
    )
    assert subprocess.run([sys.executable, '-c', program], check=False).returncode == 0


@pytest.mark.parametrize(
    'change',
    [
        {'psr_scale': 'twenty'},
        {'streams': dataclasses.replace(load_preset('tiny').streams, active=('semantic',))},
    ],
)
def test_a_bundle_that_does_not_fit_is_refused(write, tiny, change):
    with pytest.raises(BundleError, match='mine was written by demist 1 and this version cannot'):
        load_predictor(write(dataclasses.replace(tiny, **change)))


def test_percent_inside_the_mask_and_zero_outside(predictor, tiny):
    _, mask = brain()
    found = predict(predictor, n_samples=2)
    for volume in (found.mean, found.sd):
        assert volume.dtype == np.float32
        assert not volume[~mask].any()
    assert found.mean.min() >= 0
    assert 1 < found.mean.max() <= tiny.psr_scale
    assert found.sd[mask].mean() > 0


def test_same_seed_same_bits_and_another_seed_another_map(predictor):
    first, again, other = (predict(predictor, seed=seed).mean for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).mean() > 0.1


def test_mean_and_sd_are_those_of_draws_that_do_not_depend_on_their_number(predictor):
    one, two, three = (predict(predictor, n_samples=n) for n in (1, 2, 3))
    draws = [one.mean, 2 * two.mean - one.mean, 3 * three.mean - 2 * two.mean]
    for found, n in ((two, 2), (three, 3)):
        expected = np.sqrt(1 + 1 / n) * np.std(draws[:n], axis=0, ddof=1)
        np.testing.assert_allclose(found.sd, expected, atol=1e-4)
    assert np.abs(draws[0] - draws[1]).mean() > 0.1


def test_less_than_full_strength_starts_from_the_estimate_of_the_encoder(tiny, fill):
    """At the smallest strength, and with a denoiser that removes no noise, little else is left."""
    diffusion = dataclasses.replace(tiny.diffusion, sampling_steps=1, strength=0.001)
    model = untrained(dataclasses.replace(tiny, diffusion=diffusion), fill)
    for name, value in (
        ('psr_shift', 0.5),
        ('psr_scale', 2.0),
        ('cond_shift', -1),
        ('cond_scale', 3),
    ):
        getattr(model, name).fill_(value)
    images, mask = brain()
    with torch.no_grad():
        estimate = model.psr.decode(model.cond.encode(torch.from_numpy(images * mask)[None])[0])
    expected = 20 * estimate[0, 0].clamp(0, 1).numpy()
    model.denoiser.forward = lambda noisy, *_: torch.zeros_like(noisy)
    near = DiffusionPredictor(model).predict(images, mask, n_samples=1, seed=0, device='cpu').mean
    assert np.abs(near - expected)[mask].mean() < 0.25 * expected[mask].std()
    far = dataclasses.replace(diffusion, strength=1.0)
    model.preset = dataclasses.replace(tiny, diffusion=far)
    other = DiffusionPredictor(model).predict(images, mask, n_samples=1, seed=0, device='cpu').mean
    assert np.abs(other - expected)[mask].mean() > 0.75 * expected[mask].std()


def test_a_bundle_that_knows_its_errors_states_them(write, tiny, predictor):
    learned = {'sd_scale': 1.5, 'draws': 8, 'units': 2, 'voxels': 40_000}
    found = predict(load_predictor(write(tiny, uncertainty=learned)), n_samples=2)
    raw = predict(predictor, n_samples=2)
    np.testing.assert_array_equal(found.mean, raw.mean)
    np.testing.assert_allclose(found.sd, 1.5 * raw.sd, rtol=1e-6)
    assert found.facts['SDScale'] == 1.5


def test_a_bundle_for_single_draws_states_the_sd_of_its_errors(write, tiny):
    learned = {'residual_sd': [2.0] * 25, 'draws': 1, 'units': 2, 'voxels': 40_000}
    found = predict(load_predictor(write(tiny, uncertainty=learned)), n_samples=1)
    assert (found.sd[brain()[1]] == 2).all()
    assert found.facts['SDCalibrated']


@pytest.fixture
def plain(tiny, fill):
    """A predictor whose autoencoders have no group norms, like the shipped one."""
    autoencoder = dataclasses.replace(tiny.autoencoder, norm_groups=0)
    return DiffusionPredictor(untrained(dataclasses.replace(tiny, autoencoder=autoencoder), fill))


def widened(images, mask, n):
    return np.pad(images, [(0, 0)] + [(n, n)] * 3), np.pad(mask, [(n, n)] * 3)


def test_what_z_c_is_like_depends_on_the_scans_alone(plain, monkeypatch):
    scans = brain((160, 24, 24))
    narrow = widened(*scans, 8)  # demist leaves 4 mm at least
    made = plain.predict(*narrow, n_samples=1, seed=0, device='cpu')
    seen = plain.describe(*narrow)
    assert seen.shape == (2 * plain.preset.autoencoder.latent_channels,)
    np.testing.assert_array_equal(made.latent, seen)
    other = np.abs(plain.describe(*widened(*brain((160, 24, 24), seed=1), 8)) - seen).max()
    assert np.abs(plain.describe(*widened(*scans, 24)) - seen).max() < 0.5 * other
    smallest = plain._choices((44, 10, 10), 0.0)['encoding'][-1]
    assert max(smallest) < 44
    monkeypatch.setattr(plain, '_choices', lambda *_: {'encoding': (smallest,)})
    assert np.abs(plain.describe(*narrow) - seen).max() < 0.5 * other


def test_short_memory_has_z_c_described_in_smaller_windows(plain, monkeypatch):
    images, mask = brain(LONG)
    seen, encode, sizes = plain.describe(images, mask), plain._encode, []

    def short(device, of, size):
        sizes.append(size)
        if len(sizes) == 1:
            raise ShortOfMemoryError('encoding', device)
        return encode(device, of, size)

    monkeypatch.setattr(plain, '_encode', short)
    np.testing.assert_allclose(plain.describe(images, mask), seen, atol=0.2)
    assert max(sizes[1]) < max(sizes[0])


def test_z_c_is_not_described_where_it_depends_on_windows(predictor):
    images, mask = brain()
    assert predictor.describe(images, mask) is None
    assert predictor.predict(images, mask, n_samples=1, seed=0, device='cpu').latent is None


def test_z_c_is_described_inside_the_brain(plain, monkeypatch):
    images, mask = brain((32, 32, 32))
    mask[:] = False
    mask[8:24, 8:24, 8:24] = True
    factor = plain.preset.autoencoder.factor
    flat = torch.zeros(1, 3, *(n // factor for n in mask.shape))
    box = slice(8 // factor, 24 // factor)
    flat[:, 0, box, box, box] = 2.0
    flat[:, 1] = torch.randn(flat.shape[2:], generator=torch.Generator().manual_seed(0))
    flat[:, 2] = 5.0
    monkeypatch.setattr(type(plain), '_encode', lambda *_: flat)
    seen = plain.describe(images, mask)
    inner = flat[0, 1, box, box, box].numpy()
    np.testing.assert_allclose(seen[:3], [2, inner.mean(), 5], rtol=1e-5)
    np.testing.assert_allclose(seen[4], np.log(inner.std()), rtol=1e-4)
    assert seen[3] < -10
    assert seen[5] < -10


def test_one_draw_has_no_sd(predictor):
    found = predict(predictor, n_samples=1)
    assert found.sd is None
    assert found.facts['Draws'] == 1


def test_scans_of_any_size_are_padded_evenly(predictor):
    images, mask = brain((48, 32, 32))
    mask[:] = False
    mask[3:44, 1:30, 2:31] = True
    box = np.s_[2:45, 1:31, :]  # 43 voxels lack 5: 2 before, 3 behind; 30 lack 1 and 1
    whole = predictor.predict(images, mask, n_samples=1, seed=0, device='cpu').mean
    part = predictor.predict(
        images[:, *box], mask[box], n_samples=1, seed=0, device='cpu'
    ).mean  # fmt: skip
    np.testing.assert_array_equal(part, whole[box])


def test_what_lies_outside_the_mask_or_the_range_does_not_matter(predictor):
    images, mask = brain()
    wild = images.copy()
    wild[:, ~mask] = 7
    bright = images[:, 20, 20, 20] = 1
    wild[:, 20, 20, 20] = 1.5 * bright
    maps = [
        predictor.predict(scans, mask, n_samples=1, seed=0, device='cpu').mean
        for scans in (images, wild)
    ]
    np.testing.assert_array_equal(*maps)


class Pointwise:
    """Networks without a receptive field, but for the voxels of one latent voxel."""

    def __init__(self, model):
        self.model = model
        self.origins = []

    def install(self, monkeypatch):
        latent = self.model.preset.autoencoder.latent_channels
        factor = self.model.preset.autoencoder.factor

        def encode(images):
            return functional.avg_pool3d(images, factor)[:, :1].expand(-1, latent, -1, -1, -1)

        def decode(z):
            shares = functional.interpolate(z.mean(1, keepdim=True), scale_factor=factor)
            return shares.sigmoid()

        def condition(z_c, origin_mm):
            self.origins.append(origin_mm[0].tolist())
            return z_c

        monkeypatch.setattr(self.model, 'encode_cond', encode)
        monkeypatch.setattr(self.model, 'decode', decode)
        monkeypatch.setattr(self.model.denoiser, 'condition', condition)
        monkeypatch.setattr(
            self.model.denoiser, 'forward', lambda z, t, c: torch.tanh(z - c + t[0] / 1000)
        )


def test_windows_give_what_the_whole_gives_for_networks_that_see_one_voxel(
    model, predictor, monkeypatch
):
    networks = Pointwise(model)
    networks.install(monkeypatch)
    whole = predict(predictor, LONG, n_samples=2)
    assert networks.origins == [[-96, -16, -16]]
    monkeypatch.setattr(synthesis, 'free_bytes', lambda *_: 0.0)
    windows = predict(predictor, LONG, n_samples=2)
    # where each window begins, mm from the centre: the codes of its tokens are those of the whole
    starts = [origin[0] for origin in networks.origins[1:]]
    assert starts == [-96, -64, -32, 0, 32]
    assert (whole.facts['Window'], windows.facts['Window']) == ('whole brain', '64 mm')
    np.testing.assert_allclose(windows.mean, whole.mean, atol=1e-3)
    np.testing.assert_allclose(windows.sd, whole.sd, atol=1e-3)


def test_no_seam_where_windows_end(predictor, scarce, monkeypatch):
    """Planes between latent voxels where a window ends are like other planes between them."""

    def excess(overlap, starts):
        monkeypatch.setattr(synthesis, 'OVERLAP', overlap)
        steps = np.abs(np.diff(predict(predictor, LONG).mean[:, :-5], axis=0)).mean((1, 2))
        ends = {s for s in starts if s} | {s + 16 for s in starts if s + 16 < 48}
        between = np.median(steps[3::4])
        return np.mean([steps[4 * end - 1] for end in ends]) / between

    assert excess(0.5, (0, 8, 16, 24, 32)) == pytest.approx(1, abs=0.1)
    assert excess(0.0, (0, 16, 32)) != pytest.approx(1, abs=0.3)


def short_above(monkeypatch, owner, name, size, error=NO_MEMORY):
    """Let a network run out of memory on tensors with more latent voxels along an axis."""
    network = getattr(owner, name)

    def limited(latent, *more):
        if max(latent.shape[2:]) > size:
            raise RuntimeError(error)
        return network(latent, *more)

    monkeypatch.setattr(owner, name, limited)


@pytest.mark.parametrize(
    ('part', 'fact', 'warned'),
    [('denoising', 'Window', 1), ('decoding', 'DecoderWindow', 4)],
)
def test_out_of_memory_falls_back_to_smaller_windows_and_says_so(
    model, predictor, monkeypatch, caplog, part, fact, warned
):
    owner, name = (model.denoiser, 'forward') if part == 'denoising' else (model, 'decode')
    short_above(monkeypatch, owner, name, 16)
    with caplog.at_level(logging.WARNING, 'demist'):
        found = predict(predictor, LONG)
    assert found.facts[fact] == '64 mm'
    assert found.facts[{'Window': 'DecoderWindow', 'DecoderWindow': 'Window'}[fact]] == (
        'whole brain'
    )
    assert len(found.warnings) == warned
    for warning, record in zip(found.warnings, caplog.records, strict=True):
        assert warning.startswith(f'The memory of the CPU does not suffice for {part}: went on in')
        assert warning[1:] == record.getMessage()[1:]
    assert found.warnings[-1].endswith('windows of 64 mm')
    assert found.mean.any()


def test_after_the_smallest_windows_it_is_an_error(model, predictor, monkeypatch):
    short_above(monkeypatch, model, 'decode', 4)
    with pytest.raises(ShortOfMemoryError, match='memory of the CPU does not suffice for decoding'):
        predict(predictor, LONG)


def test_other_faults_are_no_shortage_of_memory(model, predictor, monkeypatch):
    short_above(monkeypatch, model, 'decode', 4, 'mat1 and mat2 shapes cannot be multiplied')
    with pytest.raises(RuntimeError, match='mat1 and mat2'):
        predict(predictor, LONG)


def test_a_gpu_without_memory_hands_over_to_the_cpu(model, predictor, monkeypatch):
    expected = predict(predictor)

    def to(device):
        if device.type == 'cuda':
            raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 MiB.')

    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda _: 'Abacus 3000')
    monkeypatch.setattr(model, 'to', to)
    found = predict(predictor, device='cuda:1')
    assert found.warnings == [
        'The memory of the Abacus 3000 does not suffice for the networks: went on with the CPU'
    ]
    assert found.facts['Device'] == 'cpu'
    np.testing.assert_array_equal(found.mean, expected.mean)


def test_without_a_gpu_it_runs_on_the_cpu_and_says_so(predictor, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    found = predict(predictor, device='cuda')
    assert found.warnings == ['PyTorch finds no GPU for the device cuda: used the CPU']
    assert found.facts['Device'] == 'cpu'


@pytest.mark.parametrize(
    'error',
    [
        MemoryError(),
        RuntimeError(NO_MEMORY),
        RuntimeError('DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.'),
        torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.'),
        RuntimeError('CUDA error: out of memory'),
        RuntimeError('cuDNN error: CUDNN_STATUS_ALLOC_FAILED'),
    ],
)
def test_faces_of_a_shortage(error):
    with (
        pytest.raises(ShortOfMemoryError) as caught,
        noting_shortage('denoising', torch.device('cpu')),
    ):
        raise error
    assert caught.value.part == 'denoising'


def test_memory_that_was_granted_bounds_the_windows(predictor):
    generous = predict(predictor, LONG, memory_gb=1000.0).facts
    assert (generous['Window'], generous['DecoderWindow']) == ('whole brain', 'whole brain')
    tight = predict(predictor, LONG, memory_gb=0.1).facts  # less than the process holds already
    assert (tight['Window'], tight['DecoderWindow']) == ('64 mm', '64 mm')


def test_a_network_trained_on_patches_prefers_their_size(predictor, tiny):
    """Between the whole brain and the patches it knows, there is nothing to be gained."""
    training = tiny.training
    known = dataclasses.replace(training.conditional, patch=96)
    predictor.preset = dataclasses.replace(
        tiny, training=dataclasses.replace(training, conditional=known)
    )
    choices = predictor._choices((60, 60, 60), 1e18)
    assert choices['denoising'] == ((60,) * 3, (24,) * 3, (16,) * 3)
    assert choices['decoding'][:2] == ((60,) * 3, (56,) * 3)
    assert predictor._choices((60, 60, 60), 0)['denoising'] == ((16,) * 3,)


def test_threads_are_those_asked_for_and_given_back(model, predictor, monkeypatch):
    def encode(_):
        raise RuntimeError(f'{torch.get_num_threads()} threads')

    monkeypatch.setattr(model, 'encode_cond', encode)
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match=f'{before + 1} threads'):
        predict(predictor, threads=before + 1)
    assert torch.get_num_threads() == before


def test_facts_for_the_sidecar(predictor, tiny):
    facts = predict(predictor, n_samples=2).facts
    assert facts == {
        'Sampler': tiny.diffusion.sampler,
        'SamplingSteps': tiny.diffusion.sampling_steps,
        'SamplingStrength': 1.0,
        'Draws': 2,
        'SDScale': 1.0,
        'SDCalibrated': False,
        'SDMeaning': facts['SDMeaning'],
        'Window': 'whole brain',
        'DecoderWindow': 'whole brain',
        'Device': 'cpu',
        'Precision': facts['Precision'],
    }
    assert facts['Precision'] in ('float32', 'bfloat16, latents float32')


def test_memory_to_ask_for(write, tiny):
    """Twice the weights as wide as on disk, the decoder on a usual brain, the libraries."""
    bundle = write(tiny)
    decoder = 40 * 48 * 40 * decoding_bytes(tiny.autoencoder) / 1e9
    assert decoder < predicted_gb(bundle) < decoder + 1
