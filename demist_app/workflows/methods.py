"""The methods text of a run that trains: what a paper would say of it, from its settings."""

from collections.abc import Sequence

from bids_layout.pairing import Unit
from demist_app import __version__
from demist_app.model.presets import Preset
from demist_app.settings import DEFAULT_METHOD, Training
from demist_app.training.export import conditioning
from demist_app.training.methods import METHODS
from demist_app.workflows.participant import POSTAMBLE, PREAMBLE


def describe_training(
    preprocessing: str, preset: Preset, training: Training, units: Sequence[Unit]
) -> str:
    """Describe preparation, cross-validation and models.

    Parameters
    ----------
    preprocessing : str
        How the scans of a unit were prepared, as its graph tells (`visit_desc`).
    preset : Preset
    training : Training
    units : sequence of Unit
        With measured maps.

    Returns
    -------
    str
        Markdown with citation keys.
    """
    participants = len({unit.participant for unit in units})
    return (
        PREAMBLE.format(version=__version__)
        + preprocessing
        + f'Measured maps of the pool size ratio of {len(units)} scans of {participants} '
        'participants were brought to the same grid. '
        + _models(preset, training)
        + f'Evaluation was by {training.n_splits}-fold cross-validation grouped by participant and '
        'balanced by group [@sklearn]: every map that was scored comes from a model that had '
        'seen no scan of its participant. The maps are synthetic, not measured. '
        + POSTAMBLE.strip()
    )


def _models(preset: Preset, training: Training) -> str:
    text = ''
    if DEFAULT_METHOD in training.methods:
        origin = (
            'was taken from the MONAI model zoo (brats_mri_generative_diffusion)'
            if training.backbone
            else 'was trained without conditions on the PSR maps of the same participants'
        )
        stages = 'three' if preset.training.distill else 'two'
        text = (
            'A 3D latent diffusion model after DEMIST [@demist; @ldm; @ddpm] '
            f'(preset {preset.name}) was trained in {stages} stages with *PyTorch* [@pytorch] and '
            '*MONAI* [@monai; @monaigenerative]: first two KL-regularised autoencoders, of the PSR '
            'maps and of both images, and the alignment of their latents; then a denoiser, which '
            f'{origin}, was frozen, and {conditioning(preset)}. '
        )
        if preset.training.distill:
            text += (
                'In a third stage its conditioning learned to reach the map in '
                f'{preset.diffusion.sampling_steps} evaluation(s) from the estimate of the aligned '
                'latent [@indi]. '
            )
    if others := [METHODS[name].title for name in training.methods if name != DEFAULT_METHOD]:
        text += (
            f'Other methods that were trained on the same scans (preset {preset.name}): '
            f'{", ".join(others)}. '
        )
    return text
