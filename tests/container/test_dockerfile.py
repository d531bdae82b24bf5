"""What of the Dockerfile has to agree with other files."""

import re
from pathlib import Path

from demist_app import __version__

DOCKERFILE = Path(__file__).resolve().parents[2] / 'Dockerfile'


def test_the_version_on_the_label_is_the_package_s():
    assert re.findall(r'^ARG VERSION=(.*)$', DOCKERFILE.read_text(), re.MULTILINE) == [__version__]
