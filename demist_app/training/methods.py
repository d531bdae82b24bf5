"""Every method that can be trained and compared: those of the paper's Table 1, and simpler ones.

This module imports no network, so that the command line can name the methods at once.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from demist_app.model.baselines import load_baselines
from demist_app.model.presets import Preset

if TYPE_CHECKING:
    from demist_app.model.bundle import Bundle
    from demist_app.training.course import Course
    from demist_app.training.examination import Examination


class Method(Protocol):
    """A way to learn PSR from T1w and FLAIR."""

    @property
    def name(self) -> str:
        """On the command line and on disk."""
        ...

    @property
    def title(self) -> str:
        """In tables: what the paper calls it."""
        ...

    @property
    def shares_stages(self) -> bool:
        """Whether the stages before the last are those of `demist`, in the same work folder.

        Without, `Course.work` is a folder of the method's own.
        """
        ...

    def recipe(self, preset: Preset) -> dict[str, Any]:
        """Return all that its weights are a function of, besides scans, seed and backbone.

        Parameters
        ----------
        preset : Preset

        Returns
        -------
        dict
            JSON-able.

        Raises
        ------
        PresetError
            If the preset's settings of the baselines cannot be read.
        """
        ...

    def train(self, course: 'Course') -> dict[str, Any]:
        """Run the stages that are not done yet; every process of a distributed training calls it.

        Returns
        -------
        dict
            Stage to its facts: updates, seconds, parameters, device and more.

        Raises
        ------
        TrainingError
            If training cannot go on.
        """
        ...

    def fit(self, course: 'Course', out: Path, facts: Mapping[str, Any]) -> 'Bundle':
        """Train, going on from where an earlier call stopped, and write the bundle.

        Parameters
        ----------
        course : Course
        out : Path
            Folder of the bundle; its name becomes the model's.
        facts : mapping
            What `demist_app.training.export.export` takes, but for ``stages``.

        Raises
        ------
        TrainingError
            If training cannot go on.
        """
        ...


@dataclass(frozen=True)
class _Latent:
    """A latent diffusion model, which shares all stages but the last with `demist`.

    Attributes
    ----------
    name, title
        See `Method`.
    streams : tuple of str or None
        Conditioning; None leaves it to the preset.
    finetune : bool
        The backbone trains as well.
    """

    name: str
    title: str
    streams: tuple[str, ...] | None = None
    finetune: bool = False
    shares_stages: bool = True

    def preset(self, preset: Preset) -> Preset:
        """Return the preset of this method."""
        if self.streams is None:
            return preset
        training = replace(preset.training, finetune=self.finetune)
        return replace(preset.with_streams(self.streams), training=training)

    def recipe(self, preset: Preset) -> dict[str, Any]:
        own = self.preset(preset).as_dict()
        del own['baselines']
        if not own['training']['distill']:  # then nothing of it matters
            for key in [key for key in own['training'] if key.startswith('distill')]:
                del own['training'][key]
        return {'preset': own}

    def train(self, course: 'Course') -> dict[str, Any]:
        from demist_app.training.run import train_course

        return train_course(replace(course, preset=self.preset(course.preset)))

    def fit(self, course: 'Course', out: Path, facts: Mapping[str, Any]) -> 'Bundle':
        from demist_app.training.export import export

        stages = self.train(course)
        told = {**facts, 'method': self.name, 'stages': stages}
        return export(
            course.work,
            self.preset(course.preset),
            out,
            facts=told,
            examination=_examination(course),
        )


@dataclass(frozen=True)
class _Baseline:
    """A method with a single stage of its own.

    Attributes
    ----------
    name, title
        See `Method`.
    description : str
        Of the model, with citations, for the methods of a paper.
    network : str
        For `demist_app.model.predictor.load_predictor`.
    step : callable
        From a course and its folder to the weights and the facts of the stage.
    """

    name: str
    title: str
    description: str
    network: str
    step: 'Callable[[Course, Path], tuple[Mapping[str, Any], dict[str, Any]]]'
    shares_stages: bool = False

    def recipe(self, preset: Preset) -> dict[str, Any]:
        settings = getattr(load_baselines(preset.baselines), self.name, None)
        training = {key: getattr(preset.training, key) for key in _COMMON}
        return {
            'method': self.name,
            'psr_scale': preset.psr_scale,
            'settings': asdict(settings) if settings else {},
            'training': training if self.network not in ('linear', 'boosting') else {},
        }

    def train(self, course: 'Course') -> dict[str, Any]:
        from demist_app.training.course import run_stage

        fingerprint = course.fingerprint(**self.recipe(course.preset))
        return {self.name: run_stage(course, course.work / self.name, fingerprint, self.step)}

    def fit(self, course: 'Course', out: Path, facts: Mapping[str, Any]) -> 'Bundle':
        from demist_app.training.baselines import write_baseline

        told = {
            **facts,
            'method': self.name,
            'title': self.title,
            'description': self.description,
            'network': self.network,
            'settings': self.recipe(course.preset)['settings'],
            'stages': self.train(course),
        }
        return write_baseline(
            course.work / self.name,
            course.preset,
            out,
            facts=told,
            examination=_examination(course),
        )


def _examination(course: 'Course') -> 'Examination':
    from demist_app.training.examination import Examination

    return Examination(course.training, course.validation, course.seed, course.machine)


_COMMON = ('ema', 'validate_every', 'patience')


def _mean(course: 'Course', folder: Path) -> tuple[Mapping[str, Any], dict[str, Any]]:
    from demist_app.training.voxelwise import fit_mean

    return fit_mean(course, folder)


def _linear(course: 'Course', folder: Path) -> tuple[Mapping[str, Any], dict[str, Any]]:
    from demist_app.training.voxelwise import fit_linear

    return fit_linear(course, folder)


def _boosting(course: 'Course', folder: Path) -> tuple[Mapping[str, Any], dict[str, Any]]:
    from demist_app.training.boosting import fit_boosting

    return fit_boosting(course, folder)


def _unet(course: 'Course', folder: Path) -> tuple[Mapping[str, Any], dict[str, Any]]:
    from demist_app.training.translation import train_unet

    return train_unet(course, folder)


def _klgan(course: 'Course', folder: Path) -> tuple[Mapping[str, Any], dict[str, Any]]:
    from demist_app.training.translation import train_klgan

    return train_klgan(course, folder)


def _vqvae(course: 'Course', folder: Path) -> tuple[Mapping[str, Any], dict[str, Any]]:
    from demist_app.training.translation import train_vqvae

    return train_vqvae(course, folder)


def _cwdm(course: 'Course', folder: Path) -> tuple[Mapping[str, Any], dict[str, Any]]:
    from demist_app.training.wavelet import train_cwdm

    return train_cwdm(course, folder)


_ALL: tuple[Method, ...] = (
    _Baseline(
        'mean',
        'Mean',
        'the mean PSR of the training scans at every voxel of the brain.',
        'linear',
        _mean,
    ),
    _Baseline(
        'linear',
        'Linear',
        'a voxelwise linear regression of PSR on both normalised intensities [@sisco2022].',
        'linear',
        _linear,
    ),
    _Baseline(
        'boosting',
        'Gradient boosting',
        'gradient boosting of PSR on the neighbourhood of a voxel in both images and on its place '
        'in the brain, with scikit-learn [@sklearn].',
        'boosting',
        _boosting,
    ),
    _Baseline(
        'unet',
        'Regression UNet',
        'a 3D UNet [@unet3d] of MONAI [@monai] that was trained to give PSR by its absolute error.',
        'unet',
        _unet,
    ),
    _Baseline(
        'klgan',
        'KL-GAN',
        'a 3D KL autoencoder with an adversarial loss [@monaigenerative] that decodes PSR from the '
        'latent of both images.',
        'klgan',
        _klgan,
    ),
    _Baseline(
        'vqvae',
        'VQ-VAE',
        'a 3D vector-quantised autoencoder [@vqvae] of MONAI [@monaigenerative] that decodes PSR '
        'from the codes of both images.',
        'vqvae',
        _vqvae,
    ),
    _Baseline(
        'cwdm',
        'cWDM',
        'a conditional wavelet diffusion model [@cwdm; @ddpm] of PSR, with both images '
        'concatenated.',
        'cwdm',
        _cwdm,
    ),
    _Latent('ftldm', 'FT-LDM', ('semantic',), finetune=True),
    _Latent('ftldm+controlnet', 'FT-LDM + ControlNet', ('semantic', 'spatial')),
    _Latent('ftldm+lora', 'FT-LDM + LoRA', ('semantic', 'adaptive')),
    _Latent('demist-tokens', 'DEMIST, semantic stream alone', ('semantic',)),
    _Latent('demist', 'DEMIST'),
)
METHODS: dict[str, Method] = {method.name: method for method in _ALL}
"""By name, in the order of tables."""
