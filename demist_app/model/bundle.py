"""The folder a model is kept in: MONAI bundle layout, safetensors only, every file checked.

::

    <bundle>/configs/metadata.json      what the model is, and the sha256 of every file
    <bundle>/models/model.safetensors   weights
    <bundle>/docs/README.md             model card
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

METADATA = Path('configs/metadata.json')
WEIGHTS = Path('models/model.safetensors')
CARD = Path('docs/README.md')
FORMAT = 'demist-bundle-1'
FACTS = ('name', 'network', 'version')
"""What the metadata of every bundle say."""


class BundleError(ValueError):
    """The folder is not a bundle that demist can trust."""


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Attributes
    ----------
    path : Path
    metadata : dict
        Content of ``configs/metadata.json``.
    sha256 : str
        Digest of ``configs/metadata.json``, which holds those of all other files: one number
        that names the model.
    """

    path: Path
    metadata: dict[str, Any]
    sha256: str

    @property
    def name(self) -> str:
        """Name under which the model was published."""
        return str(self.metadata['name'])

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Read the weights."""
        return load_file(self.path / WEIGHTS)


def shipped() -> dict[str, Path]:
    """Return the bundles inside the package by name."""
    folder = Path(str(resources.files('demist_app'))) / 'data' / 'bundles'
    return {path.parents[1].name: path.parents[1] for path in sorted(folder.glob(f'*/{METADATA}'))}


def find_bundle(model: str) -> Path:
    """Return the folder of a shipped model's name or of a path.

    Raises
    ------
    BundleError
        If `model` is neither.
    """
    names = shipped()
    if model in names:
        return names[model]
    if (path := Path(model).absolute()).is_dir():
        return path
    raise BundleError(
        f'model {model} is neither a shipped model ({", ".join(names)}) nor a bundle folder'
    )


def _shown(path: Path, name: str) -> str:
    """Name a file of a bundle on one line, whatever its name."""
    return str(path / (name if name.isprintable() else repr(name)))


def load_bundle(path: Path) -> Bundle:
    """Verify a bundle, file by file.

    Parameters
    ----------
    path : Path
        The bundle's folder. Hidden files, which file browsers leave behind, are not looked at.

    Raises
    ------
    BundleError
        If a file is missing, was changed or added since the bundle was written, or is of another
        format.
    """
    try:
        content = (path / METADATA).read_bytes()
        metadata = json.loads(content)
    except OSError as error:
        raise BundleError(f'{path} is not a model bundle: {METADATA} cannot be read') from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f'{path / METADATA} is not valid JSON: fetch the bundle anew') from error
    if not isinstance(metadata, dict) or metadata.get('format') != FORMAT:
        raise BundleError(f'{path} is not a demist bundle (its format is not {FORMAT!r})')
    for fact in FACTS:
        if not (isinstance(text := metadata.get(fact), str) and text.isprintable()):
            raise BundleError(f'{path / METADATA} states no {fact}: fetch the bundle anew')
    digests = metadata.get('sha256')
    if not isinstance(digests, dict) or not {str(WEIGHTS), str(METADATA)} <= set(digests):
        raise BundleError(f'{path / METADATA} lacks checksums: fetch the bundle anew')
    names = [file.relative_to(path) for file in path.rglob('*') if file.is_file()]
    found = {str(n) for n in names if not any(part.startswith('.') for part in n.parts)}
    if added := sorted(found - set(digests)):
        raise BundleError(f'{_shown(path, added[0])} is no part of the bundle: remove it')
    if missing := sorted(set(digests) - found):  # also what a name like "../x" or "/x" points to
        raise BundleError(f'{_shown(path, missing[0])} is missing: fetch the bundle anew')
    for name, expected in digests.items():
        file = path / name
        if not file.resolve().is_relative_to(path.resolve()):
            raise BundleError(f'{file} is a link out of the bundle: fetch the bundle anew')
        digest = _sha256_of_facts(metadata) if file == path / METADATA else _sha256(file)
        if digest != expected:
            raise BundleError(
                f'{file} was changed or cut short (sha256 {digest[:12]}…, '
                f'not {str(expected)[:12]}…): fetch the bundle anew'
            )
    try:
        with safe_open(path / WEIGHTS, 'numpy'):
            pass
    except SafetensorError as error:
        raise BundleError(f'{path / WEIGHTS} is not a safetensors file: {error}') from error
    return Bundle(path=path, metadata=metadata, sha256=hashlib.sha256(content).hexdigest())


@contextmanager
def understood(bundle: Bundle) -> Iterator[None]:
    """Build a network in this context, from what a verified bundle says.

    Raises
    ------
    BundleError
        If this version of demist does not understand its settings, or the weights do not fit.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise BundleError(
            f'{bundle.path} was written by demist {bundle.metadata["version"]} and this version '
            f'cannot run it ({error}): update demist'
        ) from error


def write_bundle(
    path: Path,
    metadata: Mapping[str, Any],
    tensors: Mapping[str, NDArray[Any]],
    card: str,
) -> Bundle:
    """Write a bundle, whole or not at all, in place of any earlier one.

    Parameters
    ----------
    path : Path
        Folder to write; replaced if it is a bundle already.
    metadata : mapping
        JSON-able facts; ``format`` and ``sha256`` are added.
    tensors : mapping
        Names to arrays.
    card : str
        Model card, Markdown.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f'.{path.name}-', dir=path.parent))
    try:
        umask = os.umask(0)
        os.umask(umask)
        aside.chmod(0o777 & ~umask)
        for file in (METADATA, WEIGHTS, CARD):
            (aside / file).parent.mkdir()
        save_file({name: np.ascontiguousarray(t) for name, t in tensors.items()}, aside / WEIGHTS)
        (aside / CARD).write_text(card, encoding='utf-8')
        facts = dict(metadata) | {
            'format': FORMAT,
            'sha256': {str(file): _sha256(aside / file) for file in (WEIGHTS, CARD)},
        }
        facts['sha256'][str(METADATA)] = _sha256_of_facts(facts)
        (aside / METADATA).write_text(_as_json(facts), encoding='utf-8')
        (aside / WEIGHTS).chmod(0o666 & ~umask)  # safetensors writes for the owner alone
        load_bundle(aside)
        if (path / METADATA).exists():
            shutil.rmtree(path)
        aside.replace(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return load_bundle(path)


def _sha256(file: Path) -> str:
    with file.open('rb') as stream:
        return hashlib.file_digest(stream, 'sha256').hexdigest()


def _sha256_of_facts(metadata: Mapping[str, Any]) -> str:
    """Digest of the metadata without that digest itself."""
    digests = {name: d for name, d in metadata['sha256'].items() if name != str(METADATA)}
    return hashlib.sha256(
        _as_json(dict(metadata) | {'sha256': digests}).encode(errors='surrogatepass')
    ).hexdigest()


def _as_json(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, indent=2, sort_keys=True, ensure_ascii=False) + '\n'
