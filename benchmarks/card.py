"""Put what was measured of a shipped model into its bundle and its card: part of ``make quality``.

The weights stay as they are; the same figures leave the same bundle, bit for bit.
"""

import argparse
import json
from pathlib import Path

from demist_app.model.bundle import load_bundle, write_bundle
from demist_app.training.card import model_card

OWN = 'format', 'sha256'
"""What `write_bundle` writes itself."""


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog='python benchmarks/card.py')
    parser.add_argument('bundle', type=Path, help='of network demist; written anew')
    parser.add_argument('metrics', type=Path, help='what heldout, lesions and calibration found')
    options = parser.parse_args()
    old = load_bundle(options.bundle)
    found = json.loads(options.metrics.read_text('utf-8'))
    metadata = {key: value for key, value in old.metadata.items() if key not in OWN} | found
    new = write_bundle(options.bundle, metadata, old.tensors(), model_card(metadata))
    same = 'as before' if new.sha256 == old.sha256 else f'before {old.sha256}'
    print(f'{new.path}: sha256 {new.sha256}, {same}')


if __name__ == '__main__':
    main()
