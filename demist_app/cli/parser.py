"""The command line, in fMRIPrep's spelling, turned into `Settings`.

Only the standard library is imported here, so that ``--help`` and ``--version`` answer at once.
"""

import argparse
import json
import os
import re
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from demist_app import __version__
from demist_app.engine.resources import Resources, available, parse_memory
from demist_app.settings import Execution, Inputs, Processing, Settings, SettingsError

USAGE_ERROR = 2


class _Parser(argparse.ArgumentParser):
    """Bad usage ends in one sentence and exit code 2, without the page of options."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f'demist: error: {message} (see demist --help)\n')


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
        ``md_only_boilerplate``, ``reports_only``.

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


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; `parse` adds what depends on the machine and on other options."""
    parser = _Parser(
        prog='demist',
        description='Quantitative myelin maps (pool size ratio, PSR) synthesised from '
        'T1w and FLAIR scans. The maps are synthetic, not measured.',
        epilog='Exit codes: 0 all done; 1 some unit failed, the others are complete; '
        '2 bad usage or input; 70 internal fault.',
        allow_abbrev=False,
    )
    parser.add_argument('bids_dir', type=Path, help='root folder of a BIDS data set')
    parser.add_argument(
        'out_dir', type=Path, help='folder for the results, e.g. derivatives/demist'
    )
    parser.add_argument(
        'analysis_level',
        choices=('participant', 'group'),
        help='participant: synthesise PSR maps; group: join the tables of all finished units',
    )
    parser.add_argument('--version', action='version', version=f'demist {__version__}')
    parser.set_defaults(config_filters={})
    _add_selection(parser.add_argument_group('selecting the scans'))
    _add_processing(parser.add_argument_group('processing'))
    _add_resources(parser.add_argument_group('resources'))
    _add_modes(parser.add_argument_group('modes and traces'))
    return parser


def _add_selection(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        '--participant-label', '--participant_label', nargs='+', default=(), metavar='LABEL',
        help='participants to process, with or without "sub-" (default: all)',
    )  # fmt: skip
    group.add_argument(
        '--session-label', '--session_label', nargs='+', default=(), metavar='LABEL',
        help='sessions to process, with or without "ses-" (default: all)',
    )  # fmt: skip
    group.add_argument(
        '--bids-filter-file', type=_existing_file, metavar='FILE',
        help='JSON file of pybids filters with the keys t1w, flair, psr',
    )  # fmt: skip
    group.add_argument(
        '-d', '--derivatives', nargs='+', default=(), type=_derivative, metavar='NAME=PATH',
        help='derivative data sets with brain masks, lesion masks or measured PSR maps',
    )  # fmt: skip
    group.add_argument(
        '--bids-database-dir', type=Path, metavar='PATH',
        help='keep the index of the data set here and reuse it',
    )  # fmt: skip
    group.add_argument(
        '--skip-bids-validation', '--skip_bids_validation', action='store_true',
        help='accept data sets that break BIDS rules demist does not depend on',
    )  # fmt: skip


def _add_processing(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        '--model', metavar='NAME|PATH', help='shipped model or bundle folder (default: linear)'
    )
    group.add_argument(
        '--n-samples', type=_positive, metavar='N',
        help='draws averaged into the map by models that sample (default: 8)',
    )  # fmt: skip
    group.add_argument(
        '--random-seed', type=int, metavar='N', help='seed of everything random (default: 0)'
    )
    group.add_argument(
        '--device', type=_device, metavar='{auto,cpu,cuda,cuda:N}',
        help='where the networks run (default: auto)',
    )  # fmt: skip
    group.add_argument(
        '--skull-strip', choices=('auto', 'skip', 'force'),
        help='auto: strip unless the scan is stripped already; skip: trust the scan; '
        'force: strip whatever the scan says (default: auto)',
    )  # fmt: skip
    group.add_argument(
        '--output-spaces', nargs='+', metavar='SPACE',
        help='T1w and/or names of TemplateFlow templates (default: T1w)',
    )  # fmt: skip
    group.add_argument(
        '--sloppy', action='store_true', help='fast and coarse, for tests of an installation only'
    )
    group.add_argument(
        '--anat-only', action='store_true', help='stop after the anatomical preprocessing'
    )


def _add_resources(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        '-w', '--work-dir', type=Path, metavar='PATH',
        help='folder for intermediate files; a rerun resumes from it (default: ./work)',
    )  # fmt: skip
    group.add_argument(
        '--nprocs', '--nthreads', '--n-cpus', '--n_cpus', type=_positive, metavar='N',
        help='processors used in all (default: what this process is allowed to use)',
    )  # fmt: skip
    group.add_argument(
        '--omp-nthreads', type=_positive, metavar='N', help='threads of one step (default: up to 4)'
    )
    group.add_argument(
        '--mem', '--mem-mb', '--mem_mb', type=_memory, metavar='SIZE',
        help='memory for the whole run with its unit, e.g. 12G or 1.5T; a bare number is in '
        'megabytes as in fMRIPrep (default: what this process is allowed to use)',
    )  # fmt: skip
    group.add_argument('--low-mem', action='store_true', help='one step at a time')
    group.add_argument(
        '--use-plugin', '--nipype-plugin-file', type=_existing_file, metavar='FILE',
        help='YAML or JSON file with the nipype plugin and its arguments',
    )  # fmt: skip
    group.add_argument(
        '--n-gpu-procs', type=_positive, metavar='N', help='steps on the GPU at a time (default: 1)'
    )


def _add_modes(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        '--dry-run', action='store_true',
        help='say what would be done and what it needs; write nothing',
    )  # fmt: skip
    group.add_argument(
        '--boilerplate-only', '--boilerplate_only', action='store_true',
        help='write only the description of the methods',
    )  # fmt: skip
    group.add_argument(
        '--md-only-boilerplate', action='store_true',
        help='write the description of the methods as Markdown only',
    )  # fmt: skip
    group.add_argument(
        '--reports-only', action='store_true',
        help='write the reports anew from results that exist',
    )  # fmt: skip
    group.add_argument(
        '--config-file', type=_existing_file, metavar='FILE',
        help='settings.json of an earlier run; options given here override it',
    )  # fmt: skip
    group.add_argument('--write-graph', action='store_true', help='draw the workflow (SVG and dot)')
    group.add_argument(
        '--resource-monitor', action='store_true',
        help='record time and peak memory of every step in resources.tsv',
    )  # fmt: skip
    group.add_argument(
        '--stop-on-first-crash', action='store_true', help='stop the whole run at the first failure'
    )
    group.add_argument(
        '--clean-workdir', action='store_true', help='empty the work folder before the run'
    )
    group.add_argument(
        '--notrack', action='store_true', help='accepted and ignored: demist never sends anything'
    )
    group.add_argument(
        '-v', '--verbose', dest='verbosity', action='count', help='say more; -vv for debugging'
    )


def _settings(options: argparse.Namespace, machine: Resources) -> Settings:
    """Check the options against each other and against the machine."""
    bids_dir, out_dir = options.bids_dir.absolute(), options.out_dir.absolute()
    work_dir = (options.work_dir or Path('work')).absolute()
    _check_folders(bids_dir, out_dir, work_dir)
    if (memory_gb := options.mem or machine.memory_gb) < 1:
        raise SettingsError(
            f'--mem is {memory_gb:.3g} GB, too little for any step; '
            'give the unit, e.g. --mem 8G (a bare number is in megabytes)'
        )
    nprocs = options.nprocs or machine.cpus
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
            n_samples=options.n_samples or Processing.n_samples,
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
        run_uuid=f'{_timestamp()}_{uuid.uuid4()}',
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


def _labels(values: Sequence[str], prefix: str) -> tuple[str, ...]:
    # one argument may hold several labels, as scripts often quote them together
    labels = [label.removeprefix(prefix) for value in values for label in value.split()]
    return tuple(dict.fromkeys(labels))


def _filters(path: Path | None) -> dict[str, dict[str, Any]]:
    if path is None:
        return {}
    try:
        filters = json.loads(path.read_text('utf-8'))
    except (OSError, ValueError) as error:
        raise SettingsError(f'--bids-filter-file {path} is not valid JSON: {error}') from error
    if not isinstance(filters, dict) or not all(isinstance(v, dict) for v in filters.values()):
        raise SettingsError(
            f'--bids-filter-file {path} must map t1w, flair or psr to a dictionary of entities'
        )
    if unknown := sorted(set(filters) - {'t1w', 'flair', 'psr'}):
        raise SettingsError(
            f'--bids-filter-file {path} has the key {unknown[0]!r}; '
            'only t1w, flair and psr are used'
        )
    return filters


def _defaults_from(path: Path, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Read an earlier run's settings as defaults of the command line."""
    try:
        settings = Settings.from_json(path.read_text('utf-8'))
    except (OSError, SettingsError) as error:
        parser.error(f'--config-file {path} cannot be used: {error}')
    inputs, processing, execution = settings.inputs, settings.processing, settings.execution
    return {
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


def _derivative(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition('=')
    if not separator:  # fMRIPrep also takes a bare path
        name, path = Path(text).name, text
    folder = Path(path).absolute()
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f'{text}: {folder} is not a folder')
    return name, folder


def _existing_file(text: str) -> Path:
    if not (path := Path(text)).is_file():
        raise argparse.ArgumentTypeError(f'{text} is not a file')
    return path


def _positive(text: str) -> int:
    try:
        if (number := int(text)) >= 1:
            return number
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f'{text!r} is not a whole number of at least 1')


def _memory(text: str) -> float:
    try:
        return parse_memory(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _device(text: str) -> str:
    if not re.fullmatch(r'auto|cpu|cuda(:\d+)?', text):
        raise argparse.ArgumentTypeError(f'{text!r} is none of auto, cpu, cuda, cuda:N')
    return text


def _timestamp() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).strftime('%Y%m%d-%H%M%S')
