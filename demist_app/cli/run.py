"""One run, from arguments to exit code."""

import logging
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bids_layout.text import printable
from demist_app.cli.arguments import parse
from demist_app.cli.verdict import ALL_DONE, BAD_USAGE, INTERNAL_FAULT, SOME_FAILED
from demist_app.engine.environment import exit_on_sigterm, prepare
from demist_app.settings import Settings, SettingsError

if TYPE_CHECKING:  # heavy imports wait until the arguments are known to be good
    from argparse import Namespace

    from rich.console import Console

    from bids_layout.pairing import Pairing
    from demist_app.model.bundle import Bundle

LOGGER = logging.getLogger('demist')


class _UserError(Exception):
    """Something the user can mend; its text is one sentence."""


def run(arguments: Sequence[str]) -> int:
    """Run demist.

    Parameters
    ----------
    arguments : sequence of str
        Of the command line, without the program's name.

    Returns
    -------
    int
        Exit code: 0 all done, 1 some unit failed, 2 bad usage or input, 70 internal fault;
        128 + n after signal n.
    """
    settings, options = parse(arguments)
    exit_on_sigterm()
    try:
        if options.dry_run or options.write_slurm:  # libraries want a writable folder even so
            with tempfile.TemporaryDirectory() as aside:
                return _dispatch(settings, options, Path(aside), arguments)
        return _dispatch(settings, options, settings.execution.work_dir, arguments)
    except _UserError as error:
        print(f'demist: error: {printable(str(error))}', file=sys.stderr)
        return BAD_USAGE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception:
        LOGGER.exception('demist ended: internal fault; please report the lines above')
        return INTERNAL_FAULT


def _dispatch(
    settings: Settings, options: 'Namespace', scratch: Path, arguments: Sequence[str]
) -> int:
    with _user_errors():
        prepare(
            scratch,
            omp_nthreads=settings.execution.omp_nthreads,
            templates=settings.processing.output_spaces != ('T1w',),
        )
    from rich.console import Console

    console = Console(soft_wrap=True)
    if settings.inputs.analysis_level == 'group':
        return _group(settings, options, console, arguments)
    with _user_errors():
        _check_templates(settings)
        bundle = _load_model(settings)
        pairing = _find_units(settings, keep_index=not options.dry_run)
    if options.dry_run:
        from demist_app.cli.plan import describe_plan

        print(describe_plan(settings, pairing, bundle))
        return ALL_DONE
    if not pairing.units:
        reasons = '; '.join(f'{skip.label}: {skip.reason}' for skip in pairing.skipped)
        raise _UserError(f'{settings.inputs.bids_dir} has nothing to process: {reasons}')
    if options.write_slurm:
        from demist_app.cli.slurm import Scripts

        with _user_errors():
            labels = dict.fromkeys(unit.participant for unit in pairing.units)
            print(Scripts(arguments, settings).of_participants(tuple(labels)))
        for skip in pairing.skipped:
            print(f'skipped {skip.label}: {skip.reason}')
        return ALL_DONE
    from demist_app.cli.execute import Execution

    with _user_errors():
        execution = Execution(settings, pairing, bundle, console)
        execution.write_dataset()
    if options.boilerplate_only:
        execution.write_boilerplate(markdown_only=options.md_only_boilerplate)
        return ALL_DONE
    if options.reports_only:
        return execution.write_reports()
    return execution.process(markdown_only=options.md_only_boilerplate)


def _group(
    settings: Settings, options: 'Namespace', console: 'Console', arguments: Sequence[str]
) -> int:
    from demist_app.cli.aggregate import aggregate, join_what_is_there
    from demist_app.workflows.group import report_cohort

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False)

    joining = f'would join the results in {settings.inputs.out_dir}'
    if settings.training.aggregate and options.dry_run:
        say(joining)
        return ALL_DONE
    if settings.training.aggregate:
        with _user_errors():
            together = aggregate(settings)
            if not together:
                say('no folds were drawn here: joining what the participant level left')
                say(report_cohort(settings.inputs))
                return ALL_DONE
        for unit, reason in together.missing.items():
            say(f'{unit}: {reason}')
        say(together.words)
        say(join_what_is_there(settings))
        return SOME_FAILED if together.missing else ALL_DONE
    from demist_app.cli.cohort import find_cohort

    with _user_errors():
        cohort = find_cohort(settings, keep_index=not options.dry_run)
        if cohort is None and (settings.training.fold or options.prepare or options.write_slurm):
            raise SettingsError(
                f'{settings.inputs.bids_dir} has no measured PSR maps to train on; give the data '
                'set that holds them with -d NAME=PATH'
            )
    if cohort is None:
        say('no measured PSR maps (give the data set that holds them with -d): nothing to train')
        if options.dry_run:
            say(joining)
            return ALL_DONE
        with _user_errors():
            say(report_cohort(settings.inputs))
        return ALL_DONE
    if options.dry_run:
        from demist_app.cli.training_plan import describe_training

        print(describe_training(cohort))
        return ALL_DONE
    if options.write_slurm:
        from demist_app.cli.slurm import Scripts

        with _user_errors():
            print(Scripts(arguments, settings).of_training(len(cohort.units)))
        return ALL_DONE
    from demist_app.cli.group import GroupRun

    try:
        return GroupRun(cohort, console).process()
    except SettingsError as error:
        raise _UserError(str(error)) from error


def _load_model(settings: Settings) -> 'Bundle':
    from demist_app.model.bundle import find_bundle, load_bundle

    return load_bundle(find_bundle(settings.processing.model))


def _check_templates(settings: Settings) -> None:
    from demist_app.imaging.templates import Template

    for space in settings.processing.output_spaces:
        if space != 'T1w':
            Template.find(space)


def _find_units(settings: Settings, *, keep_index: bool) -> 'Pairing':
    from bids_layout.pairing import find_units
    from bids_layout.query import index

    inputs = settings.inputs
    layout = index(
        inputs.bids_dir,
        derivatives=inputs.derivatives,
        database_dir=inputs.bids_database_dir if keep_index else None,
        validate=not inputs.skip_bids_validation,
    )
    return find_units(
        layout,
        participants=inputs.participant_label or None,
        sessions=inputs.session_label or None,
        filters=inputs.bids_filters,
    )


@contextmanager
def _user_errors() -> Iterator[None]:
    """Turn what the user can mend into one sentence."""
    from bids_layout.query import QueryError
    from demist_app.imaging.templates import TemplateError
    from demist_app.model.bundle import BundleError

    try:
        yield
    except (QueryError, BundleError, TemplateError, SettingsError) as error:
        raise _UserError(str(error)) from error
    except OSError as error:
        raise _UserError(
            f'{error.filename}: {error.strerror}' if error.filename else str(error)
        ) from error
