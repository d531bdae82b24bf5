"""The model card: what a bundle's metadata says, in words."""

from collections.abc import Iterable, Mapping
from typing import Any

from demist_app.model.presets import BRIDGE, Preset

_STREAMS = {
    'semantic': 'cross-attention to tokens of their latent',
    'spatial': 'a ControlNet branch between zero-initialised gates',
    'adaptive': 'low-rank updates of every attention projection',
}
_STAGES = {
    '1a-psr': 'autoencoder of PSR',
    '1a-cond': 'autoencoder of T1w and FLAIR',
    '1b-align': 'alignment of their latents',
    '1c-backbone': 'unconditional denoiser',
    '2-conditional': 'conditioning streams',
    '3-distilled': 'the same, for few evaluations',
}
_PARTS = (
    'autoencoder of PSR', 'autoencoder of T1w and FLAIR', 'backbone', 'semantic stream',
    'spatial stream', 'adaptive stream',
)  # fmt: skip
_LIBRARIES = 'Python', 'torch', 'monai', 'lightning', 'numpy'
_METRICS = 'PSNR', 'SSIM', 'MSE', 'MAE'
_MAPS = 'this model', 'measured', 'FLAIR alone', 'T1w alone'
_REGIONS = 'brain', 'CSF', 'grey matter', 'white matter', 'lesions'
_UNITS = {'PSNR': ' (dB)', 'MAE': ' (percentage points)'}


def model_card(metadata: Mapping[str, Any]) -> str:
    """Write the card of a diffusion model.

    Parameters
    ----------
    metadata : mapping
        As `demist_app.training.export.export` assembles it: the card says nothing else, in an order
        of its own.

    Returns
    -------
    str
        Markdown.
    """
    preset = metadata['preset']
    diffusion = preset['diffusion']
    streams = preset['streams']['active']
    return _CARD.format(
        name=metadata['name'],
        description='; '.join(_STREAMS[stream] for stream in streams) or 'none',
        scale=preset['psr_scale'],
        factor=Preset.from_dict(preset).autoencoder.factor,
        latent=preset['autoencoder']['latent_channels'],
        prediction=diffusion['prediction'],
        steps=diffusion['steps'],
        sampling=_sampling(diffusion),
        data=metadata['training_data'],
        held_out=len(metadata['validation_units']),
        kind='Fine-tuned' if preset['training']['finetune'] else 'Frozen',
        backbone=metadata['backbone'],
        seed=metadata['seed'],
        preset=preset['name'],
        version=metadata['version'],
        libraries=', '.join(f'{k} {v}' for k, v in _ordered(metadata['libraries'], _LIBRARIES)),
        parameters='\n'.join(
            f'| {k} | {n:,} |' for k, n in _ordered(metadata['parameters'], _PARTS)
        ),
        share=100 * metadata['trainable_share'],
        stages='\n'.join(_stage(*stage) for stage in _ordered(metadata['stages'], _STAGES)),
        metrics=scores_text(metadata['metrics'], metadata['scored_on']) + quality_text(metadata),
        spread=spread_text(metadata),
        alarm=alarm_text(metadata),
    )


def _ordered(facts: Mapping[str, Any], names: Iterable[str]) -> list[tuple[str, Any]]:
    """Return what is known in this order: a bundle that was read has that of the alphabet."""
    first = [name for name in names if name in facts]
    return [(name, facts[name]) for name in (*first, *sorted(set(facts) - set(first)))]


def _sampling(diffusion: Mapping[str, Any]) -> str:
    sampler, steps = diffusion['sampler'], diffusion['sampling_steps']
    if sampler == BRIDGE:
        return (
            f'distilled: the map takes {steps} evaluation(s) of the denoiser, without noise, from '
            'the latent of both images'
        )
    start = 'from noise alone'
    if diffusion['strength'] < 1:
        start = (
            f'from the latent of both images, noised to {diffusion["strength"]:.0%} of the steps'
        )
    return f'sampled by {sampler} in {steps} steps, {start}'


def _stage(name: str, facts: Mapping[str, Any]) -> str:
    return (
        f'| {name}: {_STAGES[name]} | {facts["updates"]:,} | {facts["validation_loss"]:.4g} '
        f'| {facts["seconds"] / 3600:.2f} | {facts["peak_memory_gb"]:.1f} | {facts["device"]} |'
    )


def scores_text(metrics: Mapping[str, Any], scored_on: str) -> str:
    """Tell how a model scores, or that it was not scored."""
    if not metrics:
        return (
            'None: this model was not scored. How models trained in the same way do on '
            'participants they were not trained on is what a cross-validation measures '
            '(`demist … group`).\n'
        )
    rows = '\n'.join(
        f'| {name}{_UNITS.get(name, "")} | {mean:.4g} ± {sd:.2g} |'
        for name, (mean, sd) in _ordered(metrics, _METRICS)
    )
    return (
        f'{scored_on[:1].upper()}{scored_on[1:]}; mean ± SD over scans, inside the brain '
        '(definitions in `demist_app.evaluation.metrics`).\n\n'
        f'| metric | value |\n|---|---|\n{rows}\n'
    )


def quality_text(metadata: Mapping[str, Any]) -> str:
    """Tell how right a model is in lesions and in what it states as its SD; empty if unknown.

    Parameters
    ----------
    metadata : mapping
        ``lesions``: ``count``, ``participants``; ``auc``, of means of lesions and of combined NAWM,
        by map, with its interval; ``truth``, the agreement of the former with the truth.
        ``coverage``: ``levels``, and in ``regions`` the share of voxels in each interval.
    """
    text = ''
    if lesions := metadata.get('lesions'):
        areas = ', '.join(
            f'{name} {area:.3f} ({lower:.3f} to {upper:.3f})'
            for name, (area, lower, upper) in _ordered(lesions['auc'], _MAPS)
        )
        text += '\n' + _LESIONS.format(areas=areas, **lesions, **lesions['truth'])
    if coverage := metadata.get('coverage'):
        names = ' | '.join(f'{level:.0%}'.replace('%', ' %') for level in coverage['levels'])
        rows = '\n'.join(
            f'| {region} | ' + ' | '.join(f'{100 * share:.0f} %' for share in shares) + ' |'
            for region, shares in _ordered(coverage['regions'], _REGIONS)
        )
        rule = '|---' * (len(coverage['levels']) + 1) + '|'
        text += f'\n{_COVERAGE}\n| interval | {names} |\n{rule}\n{rows}\n'
    return text


def spread_text(metadata: Mapping[str, Any]) -> str:
    """Tell what the standard deviation of a model is worth.

    Parameters
    ----------
    metadata : mapping
        ``network``, and ``uncertainty`` where the SD was compared with errors.
    """
    if metadata['network'] not in ('demist', 'cwdm'):
        return _RESIDUALS
    found = metadata.get('uncertainty')
    if not found:
        return _UNKNOWN
    return (_TABLED if 'residual_sd' in found else _LEARNED).format(**found)


def alarm_text(metadata: Mapping[str, Any]) -> str:
    """Tell whether scans unlike those of the training raise an alarm, and how often others do.

    Parameters
    ----------
    metadata : mapping
        ``outliers``, where there are training scans enough.
    """
    found = metadata.get('outliers')
    if not found:
        return _NO_ALARM
    return _ALARM.format(units=found['units'], percent=100 * found['false_alarm_rate'])


_LESIONS = """\
{count} lesions of {participants} of them against normal-appearing white matter (AUC of their means,
95 % interval): {areas}.
Mean PSR of a lesion against the truth: r {r:.2f}, CCC {ccc:.2f}, bias {bias:+.2f} percentage
points, limits of agreement {lower:+.2f} to {upper:+.2f}.
"""
_COVERAGE = """\
How often the noise-free value lies in the interval that the standard deviation states:
"""
_ALARM = """\
- Scans unlike the {units} it was trained on raise an alarm in the report and in the sidecar;
  the threshold is set for at most {percent:.1f} % of scans that are like them.
  Not every unlike scan does."""
_NO_ALARM = """\
- It was trained on too few participants to tell scans unlike theirs by more than the spread of
  their intensities."""
_RESIDUALS = """\
- The standard deviation of a regression is that of its residuals where it predicted the same PSR:
  it describes single voxels."""
_TABLED = """\
- The standard deviation is that of its errors on {units} scans kept from training ({voxels:,}
  voxels in all) where it predicted the same PSR: it describes single voxels, and scans like those
  it was trained on."""
_LEARNED = """\
- The standard deviation is that over draws times √(1 + 1 / draws), times {sd_scale:.2f}. This one
  factor makes its mean square that of the errors on {units} scans kept from training ({draws}
  draws, {voxels:,} voxels in all). It holds on average over a brain and for scans like those it was
  trained on: not for every tissue, and not for lesions."""
_UNKNOWN = """\
- The standard deviation over draws is the model's own doubt; it was never compared with the
  errors of this model, which may be far larger."""

_CARD = """\
# Model card: {name}

Synthesises maps of the macromolecular-to-free pool size ratio (PSR = M0r/M0f, percent) from T1w
and FLAIR scans: a 3D latent diffusion model after DEMIST (Wang et al., arXiv 2511.12396).
**Its maps are synthetic, not measured.**

- **Input**: T1w and FLAIR on a 1 mm RAS grid, N4-corrected, scaled so that the 99.5th percentile
  inside the brain is 1.
- **Output**: PSR in percent; {scale:g} % is the largest value it can give, for every scan.
- **Latent**: {latent} channels at 1/{factor} of the resolution.
- **Diffusion**: prediction of {prediction}, {steps} steps;
  {sampling}.
- **Conditioning on T1w and FLAIR**: {description}.

## Training
- **Trained on**: {data}; of these, {held_out} units were kept for early stopping.
- **{kind} backbone**: {backbone}.
- Preset `{preset}`, seed {seed}, demist {version}, {libraries}.

| stage | updates | validation loss | hours | peak memory (GiB) | hardware |
|---|---|---|---|---|---|
{stages}

| part | parameters |
|---|---|
{parameters}

Of the denoiser's parameters, {share:.1f} % were trained in the conditional stage.

## Measured
{metrics}
## Limits
- Not for diagnosis, treatment, or any conclusion on the myelin of one person.
- T1w and FLAIR determine PSR only in part. What they do not show, the model fills in with what was
  usual in its training data; this holds for lesions above all, and for differences between people.
{spread}
{alarm}
- PSR depends on how it is fitted: compare its maps only with maps made as those it learned from.
- That lesions can be told from normal-appearing white matter is no evidence that their myelin is
  right: FLAIR alone tells them apart.
"""
