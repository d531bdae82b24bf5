"""The run's own log file, and what nipype is told."""

import logging

from bids_layout.text import printable
from demist_app.engine.configuration import configure
from demist_app.settings import Settings

LIBRARIES = ('demist_app', 'nipype.workflow', 'nipype.interface', 'nipype.utils')
_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return '\n'.join(map(printable, super().format(record).expandtabs().split('\n')))


def start_logs(settings: Settings) -> None:
    """Log everything to ``demist.log``; to the console what ``-v`` asks for."""
    verbosity = settings.execution.verbosity
    logging.raiseExceptions = False  # a full disk must not bury its message under tracebacks
    to_file = logging.FileHandler(settings.log_dir / 'demist.log', encoding='utf-8')
    to_file.setFormatter(
        _Formatter('%(asctime)s %(levelname)s %(name)s: %(message)s', '%Y-%m-%dT%H:%M:%S')
    )
    to_console = logging.StreamHandler()
    to_console.setFormatter(_Formatter('%(message)s'))
    to_console.setLevel(_LEVELS[min(verbosity, 2)])
    own = logging.getLogger('demist')
    own.handlers = [to_file, to_console]
    own.setLevel(logging.DEBUG if verbosity > 1 else logging.INFO)
    own.propagate = False
    for name in LIBRARIES:
        library = logging.getLogger(name)
        # every node's start, end and traceback: on the console the progress display tells them
        library.handlers = [to_file, to_console] if verbosity else [to_file]
        library.setLevel(own.level)
        library.propagate = False


def configure_nipype(settings: Settings) -> None:
    """Set how nipype hashes, resumes and reports crashes."""
    configure(
        {
            'execution': {
                'crashdump_dir': str(settings.log_dir),
                'crashfile_format': 'txt',
                'hash_method': 'content',  # a touched or copied input is not a new input
                'poll_sleep_duration': '0.1',
                'stop_on_first_crash': str(settings.execution.stop_on_first_crash).lower(),
                'check_version': 'false',
                'remove_unnecessary_outputs': 'false',
            },
        }
    )
