"""What one run was asked to do: immutable, passed explicitly, written to disk as JSON."""

import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

DEFAULT_METHOD = 'demist'
"""What the group level trains where no method is named."""


class SettingsError(ValueError):
    """The settings contradict each other or the file that holds them is not usable."""


@dataclass(frozen=True)
class Inputs:
    """Where the scans are and which of them to take."""

    bids_dir: Path
    out_dir: Path
    analysis_level: str = 'participant'
    participant_label: tuple[str, ...] = ()
    session_label: tuple[str, ...] = ()
    bids_filters: dict[str, dict[str, Any]] = field(default_factory=dict)
    derivatives: dict[str, Path] = field(default_factory=dict)
    bids_database_dir: Path | None = None
    skip_bids_validation: bool = False


@dataclass(frozen=True)
class Processing:
    """What is computed from the scans; everything here changes the maps or their number."""

    model: str = 'small'
    n_samples: int | None = None
    random_seed: int = 0
    device: str = 'auto'
    skull_strip: str = 'auto'
    output_spaces: tuple[str, ...] = ('T1w',)
    sloppy: bool = False
    anat_only: bool = False


@dataclass(frozen=True)
class Execution:
    """How the run uses the machine; nothing here changes a voxel."""

    work_dir: Path
    nprocs: int
    omp_nthreads: int
    memory_gb: float
    n_gpu_procs: int = 1
    low_mem: bool = False
    plugin_file: Path | None = None
    stop_on_first_crash: bool = False
    clean_workdir: bool = False
    resource_monitor: bool = False
    write_graph: bool = False
    verbosity: int = 0


@dataclass(frozen=True)
class Training:
    """What the group level trains, and which part of it this run does.

    Attributes
    ----------
    preset : str
        Name of a preset of the package, or a JSON file.
    streams : tuple of str
        Conditioning streams in use by ``demist``; empty for those of the preset.
    distill : bool
        Diffusion models of one backbone get a stage 3.
    backbone : Path or None
        Pretrained denoiser; None has one trained.
    n_splits : int
        Folds of the cross-validation.
    fold : int or None
        The one fold (from 1) to train; None for all, and the final model.
    aggregate : bool
        Train nothing, join what is there.
    prepare : bool
        Train nothing, prepare the scans and draw the folds.
    resume : bool
        Go on from what an earlier run left in the work folder.
    final : bool
        Train the final model on all units.
    devices, num_nodes : int
        Devices (GPUs, or processes on a CPU) of each node, and nodes.
    methods : tuple of str
        Names of the methods to train, as in `demist_app.training.methods`; the first one gets the
        final model.
    """

    preset: str = 'small'
    streams: tuple[str, ...] = ()
    distill: bool = False
    backbone: Path | None = None
    n_splits: int = 5
    fold: int | None = None
    aggregate: bool = False
    prepare: bool = False
    resume: bool = True
    final: bool = True
    devices: int = 1
    num_nodes: int = 1
    methods: tuple[str, ...] = (DEFAULT_METHOD,)


@dataclass(frozen=True)
class Settings:
    """One run of demist.

    Attributes
    ----------
    inputs, processing, execution
        The three questions a run answers: on what, what, and how.
    run_uuid : str
        Names the folder ``logs/<run_uuid>`` that holds the traces of this run.
    training
        What the group level does beyond joining tables.
    """

    inputs: Inputs
    processing: Processing
    execution: Execution
    run_uuid: str
    training: Training = field(default_factory=Training)

    @property
    def log_dir(self) -> Path:
        """Folder for everything this run says of itself."""
        return self.inputs.out_dir / 'logs' / self.run_uuid

    def to_json(self) -> str:
        """Serialise; `from_json` returns an equal object."""
        return json.dumps(dataclasses.asdict(self), default=str, indent=2, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises
        ------
        SettingsError
            If the text is not JSON or has unknown, missing or mistyped fields.
        """
        try:
            return typing.cast(Self, _build(cls, json.loads(text)))
        except (TypeError, ValueError, AttributeError, RecursionError) as error:
            raise SettingsError(f'not the settings of a demist run: {error}') from error


def _build(kind: Any, value: Any) -> Any:
    """Turn parsed JSON into the annotated type `kind`."""
    if dataclasses.is_dataclass(kind):
        fields = typing.get_type_hints(kind)
        if unknown := set(value) - set(fields):
            raise SettingsError(f'unknown field {sorted(unknown)[0]!r}')
        return kind(**{name: _build(fields[name], item) for name, item in value.items()})  # type: ignore[operator]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return None if value is None else _build(arguments[0], value)
    if origin is tuple:
        if not isinstance(value, list):  # the letters of a word are no list of words
            raise SettingsError(f'{value!r} is not a list')
        return tuple(_build(arguments[0], item) for item in value)
    if origin is dict:
        return {key: _build(arguments[1], item) for key, item in value.items()}
    if kind is Any:
        return value
    if kind is Path:
        return Path(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise SettingsError(f'{value!r} is not of type {kind.__name__}')
    return value
