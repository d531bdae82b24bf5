"""Arguments of the command line, checked against each other and the machine, as `Settings`.

Like `demist_app.cli.parser`, nothing heavy is imported here.
"""

import argparse
import json
import os
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from demist_app.cli.parser import build_parser
from demist_app.engine.resources import Resources, available
from demist_app.settings import Execution, Inputs, Processing, Settings, SettingsError, Training


def parse(arguments: Sequence[str]) -> tuple[Settings, argparse.Namespace]:
    """Turn command-line arguments into settings.

    Parameters
    ----------
    arguments : sequence of str
        Without the name of the program.

    Returns
    -------
    settings : Settings
    actions : argparse.Namespace
        The modes that end before any image is read: ``dry_run``, ``boilerplate_only``,
        ``md_only_boilerplate``, ``reports_only``, ``write_slurm``.

    Raises
    ------
    SystemExit
        With code 2 and one sentence on standard error, for bad usage; with 0 after ``--help``
        or ``--version``.
    """
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.config_file:
        parser.set_defaults(**_defaults_from(options.config_file, parser))
        options = parser.parse_args(arguments)
    try:
        settings = _settings(options, available())
    except SettingsError as error:
        parser.error(str(error))
    return settings, options


def _settings(options: argparse.Namespace, machine: Resources) -> Settings:
    """Check the options against each other and against the machine."""
    bids_dir, out_dir = options.bids_dir.absolute(), options.out_dir.absolute()
    work_dir = (options.work_dir or Path('work')).absolute()
    _check_folders(bids_dir, out_dir, work_dir)
    _check_derivatives(dict(options.derivatives), out_dir, work_dir)
    _check_cluster(options)
    if (memory_gb := options.mem or machine.memory_gb) < 1:
        raise SettingsError(
            f'--mem is {memory_gb:.3g} GB, too little for any step; '
            'give the unit, e.g. --mem 8G (a bare number is in megabytes)'
        )
    nprocs = 1 if options.low_mem else options.nprocs or machine.cpus
    return Settings(
        inputs=Inputs(
            bids_dir=bids_dir,
            out_dir=out_dir,
            analysis_level=options.analysis_level,
            participant_label=_labels(options.participant_label, 'sub-'),
            session_label=_labels(options.session_label, 'ses-'),
            bids_filters=_filters(options.bids_filter_file) or options.config_filters,
            derivatives=dict(options.derivatives),
            bids_database_dir=options.bids_database_dir and options.bids_database_dir.absolute(),
            skip_bids_validation=options.skip_bids_validation,
        ),
        processing=Processing(
            model=options.model or Processing.model,
            n_samples=options.n_samples,
            random_seed=Processing.random_seed
            if options.random_seed is None
            else options.random_seed,
            device=options.device or Processing.device,
            skull_strip=options.skull_strip or Processing.skull_strip,
            output_spaces=tuple(
                dict.fromkeys(('T1w', *(options.output_spaces or ())))  # native space always
            ),
            sloppy=options.sloppy,
            anat_only=options.anat_only,
        ),
        execution=Execution(
            work_dir=work_dir,
            nprocs=nprocs,
            omp_nthreads=min(options.omp_nthreads or 4, nprocs),
            memory_gb=memory_gb,
            n_gpu_procs=options.n_gpu_procs or Execution.n_gpu_procs,
            low_mem=options.low_mem,
            plugin_file=options.use_plugin and options.use_plugin.absolute(),
            stop_on_first_crash=options.stop_on_first_crash,
            clean_workdir=options.clean_workdir,
            resource_monitor=options.resource_monitor,
            write_graph=options.write_graph,
            verbosity=options.verbosity or 0,
        ),
        run_uuid=f'{datetime.now(UTC):%Y%m%d-%H%M%S}_{uuid.uuid4()}',
        training=_training(options),
    )


def _training(options: argparse.Namespace) -> Training:
    """Check what concerns the group level alone."""
    parts = [name for name in ('fold', 'aggregate', 'prepare') if getattr(options, name)]
    if options.analysis_level == 'participant' and parts:
        raise SettingsError(
            f'--{parts[0]} belongs to the group level; give "group" for "participant"'
        )
    if options.analysis_level == 'group' and (options.boilerplate_only or options.reports_only):
        option = '--boilerplate-only' if options.boilerplate_only else '--reports-only'
        raise SettingsError(f'{option} belongs to the participant level')
    if options.fold and options.clean_workdir:
        raise SettingsError(
            '--clean-workdir with --fold would remove what the jobs of other folds work on; '
            'give --no-resume to start this fold anew'
        )
    if len(parts) > 1:
        raise SettingsError(
            f'--{parts[0]} and --{parts[1]} are different parts of the work; give one of them'
        )
    training = Training(
        preset=options.preset or Training.preset,
        methods=_methods(options.method),
        streams=options.streams or (),
        distill=options.distill,
        backbone=options.backbone,
        n_splits=options.n_splits or Training.n_splits,
        fold=options.fold,
        aggregate=options.aggregate,
        prepare=options.prepare,
        resume=options.resume is not False,
        final=options.final is not False,
        devices=options.devices or Training.devices,
        num_nodes=options.num_nodes or Training.num_nodes,
    )
    if training.n_splits < 2:
        raise SettingsError('--n-splits must be at least 2: one fold is held out, others train')
    if training.fold and training.fold > training.n_splits:
        raise SettingsError(
            f'--fold {training.fold} is beyond --n-splits {training.n_splits}; folds count from 1'
        )
    if options.analysis_level == 'group' and (options.device or '').startswith('cuda:'):
        raise SettingsError(
            f'--device {options.device} cannot be used for training; '
            'give --device cuda, and choose GPUs with CUDA_VISIBLE_DEVICES'
        )
    return training


def _methods(names: Sequence[str]) -> tuple[str, ...]:
    if not names:
        return Training.methods
    from demist_app.training.methods import METHODS

    if unknown := [name for name in names if name not in METHODS]:
        raise SettingsError(f'--method {unknown[0]} is none of {", ".join(METHODS)}')
    return tuple(dict.fromkeys(names))


def _check_cluster(options: argparse.Namespace) -> None:
    """Refuse what contradicts the writing of scripts, or their resubmission."""
    if not options.write_slurm:
        if options.container:
            raise SettingsError('--container is for the jobs that --write-slurm DIR writes')
        return
    other_modes = ('dry_run', 'boilerplate_only', 'reports_only', 'fold', 'aggregate', 'prepare')
    for name in other_modes:
        if getattr(options, name):
            raise SettingsError(f'--{name.replace("_", "-")} cannot go with --write-slurm')
    for option, given in (
        ('--clean-workdir', options.clean_workdir),
        ('--no-resume', options.resume is False),
    ):
        if given:
            raise SettingsError(
                f'{option} cannot go with --write-slurm: a job that is submitted again would not '
                'go on'
            )


def _check_folders(bids_dir: Path, out_dir: Path, work_dir: Path) -> None:
    """Refuse folders that would write into the input, or delete it."""
    if not bids_dir.is_dir():
        raise SettingsError(f'{bids_dir} is not a folder; give the root of a BIDS data set')
    bids, out, work = (Path(os.path.realpath(folder)) for folder in (bids_dir, out_dir, work_dir))
    if out == bids:
        raise SettingsError(
            f'out_dir is the data set itself ({bids_dir}); use {bids_dir / "derivatives/demist"}'
        )
    if out.is_relative_to(bids) and not out.is_relative_to(bids / 'derivatives'):
        raise SettingsError(
            f'out_dir {out_dir} lies inside the data set, where it would break it; '
            f'use a folder elsewhere or {bids_dir / "derivatives/demist"}'
        )
    if bids.is_relative_to(out):
        raise SettingsError(f'out_dir {out_dir} holds the data set itself; use another folder')
    if work.is_relative_to(bids) or bids.is_relative_to(work):
        raise SettingsError(
            f'work_dir {work_dir} and the data set overlap; give another folder with -w'
        )
    if out.is_relative_to(work):
        raise SettingsError(
            f'out_dir {out_dir} lies inside work_dir {work_dir}, which may be emptied; '
            'give another folder with -w'
        )
    for folder, option in ((out_dir, 'out_dir'), (work_dir, 'work_dir')):
        if folder.exists() and not folder.is_dir():
            raise SettingsError(f'{option} {folder} is a file; give a folder')


def _check_derivatives(derivatives: dict[str, Path], out_dir: Path, work_dir: Path) -> None:
    """Refuse folders inside a data set that is read."""
    for name, folder in derivatives.items():
        for place, option in ((out_dir, 'out_dir'), (work_dir, 'work_dir')):
            if Path(os.path.realpath(folder)) in Path(os.path.realpath(place)).parents:
                raise SettingsError(
                    f'{option} {place} lies inside the data set "{name}" ({folder}), which is only '
                    'read; use a folder elsewhere'
                )


def _labels(values: Sequence[str], prefix: str) -> tuple[str, ...]:
    # one argument may hold several labels, as scripts often quote them together
    labels = [label.removeprefix(prefix) for value in values for label in value.split()]
    return tuple(dict.fromkeys(labels))


def _filters(path: Path | None) -> dict[str, dict[str, Any]]:
    if path is None:
        return {}
    try:
        filters = json.loads(path.read_text('utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f'--bids-filter-file {path} is not valid JSON: {error}') from error
    if not isinstance(filters, dict) or not all(isinstance(v, dict) for v in filters.values()):
        raise SettingsError(
            f'--bids-filter-file {path} must map t1w, flair or psr to a dictionary of entities'
        )
    return filters


def _defaults_from(path: Path, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Read an earlier run's settings as defaults of the command line."""
    try:
        settings = Settings.from_json(path.read_text('utf-8'))
    except (OSError, UnicodeDecodeError, SettingsError) as error:
        parser.error(f'--config-file {path} cannot be used: {error}')
    inputs, processing, execution = settings.inputs, settings.processing, settings.execution
    training = settings.training
    defaults = {
        'config_filters': inputs.bids_filters,
        'participant_label': inputs.participant_label,
        'session_label': inputs.session_label,
        'derivatives': tuple(inputs.derivatives.items()),
        'bids_database_dir': inputs.bids_database_dir,
        'skip_bids_validation': inputs.skip_bids_validation,
        'model': processing.model,
        'n_samples': processing.n_samples,
        'random_seed': processing.random_seed,
        'device': processing.device,
        'skull_strip': processing.skull_strip,
        'output_spaces': processing.output_spaces,
        'sloppy': processing.sloppy,
        'anat_only': processing.anat_only,
        'preset': training.preset,
        'method': training.methods,
        'streams': training.streams,
        'distill': training.distill,
        'backbone': training.backbone,
        'n_splits': training.n_splits,
        'resume': training.resume,
        'final': training.final,
        'devices': training.devices,
        'num_nodes': training.num_nodes,
        'work_dir': execution.work_dir,
        'nprocs': execution.nprocs,
        'omp_nthreads': execution.omp_nthreads,
        'mem': execution.memory_gb,
        'low_mem': execution.low_mem,
        'use_plugin': execution.plugin_file,
        'n_gpu_procs': execution.n_gpu_procs,
        'stop_on_first_crash': execution.stop_on_first_crash,
        'resource_monitor': execution.resource_monitor,
        'write_graph': execution.write_graph,
    }
    try:
        for action in parser._actions:
            _check_default(parser, action, defaults.get(action.dest))
    except argparse.ArgumentError as error:
        parser.error(f'--config-file {path} cannot be used: {error}')
    return defaults


def _check_default(parser: argparse.ArgumentParser, action: argparse.Action, value: Any) -> None:
    """Check a default as argparse checks what is typed: it takes defaults as they come.

    Raises
    ------
    argparse.ArgumentError
    """
    for item in value if isinstance(value, tuple) else (value,):
        if type(item) in (int, str):
            parser._check_value(action, parser._get_value(action, str(item)))
