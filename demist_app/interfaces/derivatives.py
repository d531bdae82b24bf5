"""The one way results reach the output folder: BIDS names, sidecars, whole files or none."""

import errno
import shutil
import tempfile
from pathlib import Path

from nipype.interfaces.base import traits
from niworkflows.interfaces.bids import DerivativesDataSink as _DerivativesDataSink
from niworkflows.interfaces.bids import _DerivativesDataSinkInputSpec

from bids_layout.names import FILE_PATTERNS


class OutputError(OSError):
    """A result could not be written; the message names the folder and the remedy."""


class _InputSpec(_DerivativesDataSinkInputSpec):
    staging_dir = traits.Directory(mandatory=True, desc='on the file system of the outputs')


class DerivativesDataSink(_DerivativesDataSink):
    """niworkflows' sink, with the suffix ``PSRmap``, and atomic.

    The stock class writes in place. Here it writes into a folder aside, and the finished image
    and sidecar are renamed into place, the sidecar first: whoever sees the image can read what
    it is.
    """

    input_spec = _InputSpec
    out_path_base = ''
    _file_patterns = FILE_PATTERNS

    def _run_interface(self, runtime):
        final = Path(self.inputs.base_directory)
        staging = Path(self.inputs.staging_dir)
        try:
            staging.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(dir=staging))
        except OSError as error:
            raise _explain(error, final) from error
        self.inputs.base_directory = str(aside)
        try:
            runtime = super()._run_interface(runtime)
            for file in sorted(aside.rglob('*'), key=lambda file: file.suffix != '.json'):
                if file.is_file():
                    target = final / file.relative_to(aside)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    file.replace(target)
        except OSError as error:
            raise _explain(error, final) from error
        finally:
            self.inputs.base_directory = str(final)
            shutil.rmtree(aside, ignore_errors=True)
        moved = self._results['out_file']
        self._results['out_file'] = (
            [path.replace(str(aside), str(final), 1) for path in moved]
            if isinstance(moved, list)
            else moved.replace(str(aside), str(final), 1)
        )
        if 'out_meta' in self._results:
            self._results['out_meta'] = self._results['out_meta'].replace(str(aside), str(final), 1)
        return runtime


def _explain(error: OSError, folder: Path) -> OSError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(
            error.errno, f'no space left to write to {folder}: free some and run demist again'
        )
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return OutputError(
            error.errno, f'{folder} is not writable: give an output folder you may write to'
        )
    return error
