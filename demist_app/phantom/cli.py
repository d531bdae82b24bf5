"""The command `demist-phantom`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def _at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'{text} is not a whole number above zero')
    return value


def _millimetres(text: str) -> float:
    value = float(text)
    if not 0.5 <= value <= 6:
        raise argparse.ArgumentTypeError(f'{text} mm is outside 0.5 to 6')
    return value


def get_parser() -> argparse.ArgumentParser:
    """Build the parser of `demist-phantom`."""
    parser = argparse.ArgumentParser(
        prog='demist-phantom',
        description='Write a cohort of digital heads as BIDS: T1w, FLAIR, measured-like PSR maps '
        'and the truth behind them. The same seed gives the same data.',
    )
    parser.add_argument('out', type=Path, metavar='OUT', help='a new or empty folder')
    parser.add_argument(
        '--participants', type=_at_least_one, default=6, metavar='N', help='how many (default 6)'
    )
    parser.add_argument('--seed', type=int, default=0, help='root of all randomness (default 0)')
    parser.add_argument(
        '--resolution',
        type=_millimetres,
        default=1.0,
        metavar='MM',
        help='voxel size of the T1w; 2 makes small data in seconds (default 1)',
    )
    parser.add_argument(
        '--shape',
        type=_at_least_one,
        nargs=3,
        metavar=('X', 'Y', 'Z'),
        help='voxels of the T1w to the right, front and top (default: 184 x 232 x 232 mm)',
    )
    parser.add_argument(
        '--sessions',
        type=int,
        choices=(1, 2, 3),
        default=1,
        help='sessions of each participant, a year apart (default 1)',
    )
    parser.add_argument(
        '--thick-flair',
        action='store_true',
        help='4 mm FLAIR slices at both sites (else 3D at site A, 3 mm slices at site B)',
    )
    parser.add_argument(
        '--nprocs', type=_at_least_one, default=1, metavar='N', help='processes (default 1)'
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `demist-phantom`; return 0, or 2 where the folder cannot be used."""
    options = get_parser().parse_args(argv)
    # torch and friends load only once the command line is known to be sound.
    from demist_app.phantom.cohort import write_cohort

    try:
        write_cohort(
            options.out,
            options.participants,
            options.seed,
            options.resolution,
            shape=tuple(options.shape) if options.shape else None,
            sessions=options.sessions,
            thick_flair=options.thick_flair,
            nprocs=options.nprocs,
            progress=lambda line: print(line, flush=True),
        )
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        print(f'demist-phantom: {error}', file=sys.stderr)
        return 2
    print(f'Wrote {options.participants} participant(s) to {options.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
