"""Latents are made once, and of what they say they are made of."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from demist_app.model.demist import Demist
from demist_app.training.latents import LatentCache, LatentPatches, whole


@pytest.fixture
def cache(tmp_path, micro):
    torch.manual_seed(0)
    return LatentCache(tmp_path, Demist(micro), 2, 0, torch.device('cpu'))


def test_the_second_time_nothing_is_encoded(cache, examples, monkeypatch):
    cache.fill(examples[:2])
    made = {path: path.stat().st_mtime_ns for path in cache.folder.rglob('*.npz')}
    assert len(made) == 4

    def encode(self, images):
        raise AssertionError('encoded again')

    monkeypatch.setattr(Demist, 'encode_cond', encode)
    cache.fill(examples[:2])
    assert {path: path.stat().st_mtime_ns for path in cache.folder.rglob('*.npz')} == made


def test_other_weights_or_another_image_have_other_files(cache, examples, micro, tmp_path):
    torch.manual_seed(1)
    other = LatentCache(tmp_path, Demist(micro), 2, 0, torch.device('cpu'))
    paths = {c.path(e, v) for c in (cache, other) for e in examples for v in (0, 1)}
    assert len(paths) == 2 * len(examples) * 2
    edited = replace(examples[0], digest='0' * 64)
    assert cache.path(edited, 0) not in paths


def test_a_crop_of_latents_knows_where_it_was_and_what_psr_it_shows(cache, examples, micro):
    cache.fill(examples[:1])
    patches = LatentPatches(cache, examples[:1], 16, seed=0, with_psr=True)
    seen = set()
    for index in range(30):
        item = patches[index]
        assert item['z_y'].shape == item['z_c'].shape == (8, 4, 4, 4)
        assert item['psr'].shape == (1, 16, 16, 16)
        start = (item['origin'] / 4 + 4).round().int().tolist()
        assert item['origin'].tolist() == [4.0 * (s - 4) for s in start]
        box = tuple(slice(4 * s, 4 * s + 16) for s in start)
        turned = [
            np.flip(examples[0].psr, axes)[box]
            for version in (0, 1)
            for axes in [tuple(whole(examples[0], version, 0)[1])]
        ]
        shown = item['psr'][0].numpy() * 20
        assert any(np.allclose(shown, t.astype(np.float32), atol=0.01) for t in turned)
        seen.add(tuple(start))
    assert len(seen) > 10
