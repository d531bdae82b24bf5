"""The options of the command line, in fMRIPrep's spelling.

Only the standard library is imported here, so that ``--help`` and ``--version`` answer at once.
"""

import argparse
import re
from pathlib import Path
from typing import NoReturn

from demist_app import __version__
from demist_app.cli.verdict import BAD_USAGE
from demist_app.engine.resources import parse_memory


class _Parser(argparse.ArgumentParser):
    """Bad usage ends in one sentence and exit code 2, without the page of options."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_USAGE, f'demist: error: {message} (see demist --help)\n')


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; `demist_app.cli.arguments.parse` checks options against each other."""
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
        help='participant: synthesise PSR maps; group: train on the measured PSR maps of the data '
        'set, if there are any, and join the tables of all finished units',
    )
    parser.add_argument('--version', action='version', version=f'demist {__version__}')
    parser.set_defaults(config_filters={})
    _add_selection(parser.add_argument_group('selecting the scans'))
    _add_processing(parser.add_argument_group('processing'))
    _add_training(parser.add_argument_group('training (group level)'))
    _add_resources(parser.add_argument_group('resources'))
    _add_modes(parser.add_argument_group('modes and traces'))
    _add_cluster(parser.add_argument_group('cluster'))
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
        '--model', metavar='NAME|PATH', help='shipped model or bundle folder (default: small)'
    )
    group.add_argument(
        '--n-samples', type=_positive, metavar='N',
        help='draws averaged into the map by models that sample (default: 8; '
        'after --distill there is one map and nothing to draw)',
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


def _add_training(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        '--method', nargs='+', default=(), metavar='NAME',
        help='methods to train and score on the same folds, of mean, linear, boosting, unet, '
        'klgan, vqvae, ftldm, cwdm, ftldm+controlnet, ftldm+lora, demist-tokens and demist; the '
        'final model is of the first one alone (default: demist)',
    )  # fmt: skip
    group.add_argument(
        '--preset', metavar='NAME|FILE',
        help='sizes and budgets of the model: tiny, small, paper, or a JSON file (default: small)',
    )  # fmt: skip
    group.add_argument(
        '--streams', type=_names, metavar='A,B',
        help='conditioning of the method demist, of semantic, spatial and adaptive (default: as in '
        'the preset)',
    )  # fmt: skip
    group.add_argument(
        '--distill', action='store_true',
        help='train a third stage, after which latent diffusion models need one evaluation of '
        'the denoiser for a map instead of many',
    )  # fmt: skip
    group.add_argument(
        '--backbone', type=_existing, metavar='PATH',
        help='pretrained denoiser: folder of the MONAI bundle brats_mri_generative_diffusion, or '
        'its weights (default: train one)',
    )  # fmt: skip
    group.add_argument(
        '--n-splits', type=_positive, metavar='N',
        help='folds of the cross-validation; a participant is in one fold only (default: 5)',
    )  # fmt: skip
    group.add_argument(
        '--fold', type=_positive, metavar='K',
        help='train the fold K (from 1) alone, as one job of an array; a run without --fold then '
        'trains the final model',
    )  # fmt: skip
    group.add_argument(
        '--prepare', action='store_true', help='prepare the scans and draw the folds; train nothing'
    )
    group.add_argument(
        '--aggregate', action='store_true', help='train nothing; join the results that exist'
    )
    group.add_argument(
        '--resume', action=argparse.BooleanOptionalAction,
        help='go on from where an earlier run with the same settings was stopped (default: yes)',
    )  # fmt: skip
    group.add_argument(
        '--final', action=argparse.BooleanOptionalAction,
        help='after all folds, train a model on all units (default: yes)',
    )  # fmt: skip
    group.add_argument(
        '--devices', type=_positive, metavar='N',
        help='GPUs, or processes without a GPU, on each node (default: 1)',
    )  # fmt: skip
    group.add_argument(
        '--num-nodes', type=_positive, metavar='N', help='nodes of the training (default: 1)'
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
    group.add_argument(
        '--low-mem', action='store_true', help='one step at a time, on one processor'
    )
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
        '--clean-workdir', action='store_true',
        help='first remove what earlier runs left in the work folder of what this run processes',
    )  # fmt: skip
    group.add_argument(
        '--notrack', action='store_true', help='accepted and ignored: demist never sends anything'
    )
    group.add_argument(
        '-v', '--verbose', dest='verbosity', action='count', help='say more; -vv for debugging'
    )


def _add_cluster(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        '--write-slurm', type=Path, metavar='DIR',
        help='process nothing; write this command as jobs for SLURM: a task for each participant, '
        'or the scans, folds and final model of a training',
    )  # fmt: skip
    group.add_argument(
        '--container', metavar='IMAGE',
        help='with --write-slurm: run this Apptainer image in the jobs (default: the demist that '
        'writes them)',
    )  # fmt: skip


def _derivative(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition('=')
    if not separator:  # fMRIPrep also takes a bare path
        name, path = Path(text).name, text
    folder = Path(path).absolute()
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f'{text}: {folder} is not a folder')
    return name, folder


def _existing(text: str) -> Path:
    if not (path := Path(text).absolute()).exists():
        raise argparse.ArgumentTypeError(f'{text} does not exist')
    return path


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for part in text.split(',') if (name := part.strip()))


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
