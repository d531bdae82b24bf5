"""A cohort as the participant level leaves it, without its images."""

import json
from pathlib import Path

import pytest

from demist_app.settings import Inputs

FIRST = '20260101-100000_first'


class CohortFiles:
    """Writes what group-level code reads."""

    def __init__(self, folder: Path) -> None:
        self.bids, self.out = folder / 'bids', folder / 'out'
        self.bids.mkdir()
        self.inputs = Inputs(bids_dir=self.bids, out_dir=self.out)

    def add(
        self, label, medians=None, *, run=FIRST, model='aa', volume=1400.0, warnings=(),
        lesions=None,
    ):  # fmt: skip
        """Write the results of one unit; without `medians`, those of an --anat-only run."""
        folder = self.out / label.replace('_', '/')
        provenance = {'demist': '1.0', 'Run': run}
        if medians is not None:
            provenance |= {'Model': 'small 1', 'Model sha256': model}
            lines = ['region\tvolume_ml\tpsr_mean\tpsr_sd\tpsr_median\tsynthsd_mean']
            for region, median in medians.items():
                numbers = 'n/a\t' * 3 + 'n/a' if median is None else f'9\t1\t{median}\t0.5'
                lines.append(f'{region}\t100\t{numbers}')
            sidecar = {
                'Draws': 8,
                'IntensityDistance': {'T1w': 1.25, 'FLAIR': 0.5},
                'Model': {'SHA256': model},
            }
            if lesions is not None:
                sidecar['LesionPairs'] = lesions
            self.write(folder / f'anat/{label}_desc-synth_psr.tsv', '\n'.join(lines) + '\n')
            name = f'anat/{label}_space-T1w_desc-synth_PSRmap.json'
            self.write(folder / name, json.dumps(sidecar))
        summary = {
            'facts': {'Brain mask': 'network', 'FLAIR voxel size (mm)': '1.00 × 1.00 × 3.00'},
            'measures': {'brain_volume_ml': volume, 'rotation_deg': 2.5, 'translation_mm': 0.75},
            'warnings': list(warnings),
            'provenance': provenance,
        }
        self.write(folder / f'figures/{label}_desc-summary_psr.json', json.dumps(summary))
        self.write(self.out / f'{label}.html', '')

    def end_run(self, run=FIRST, level='participant', **rows):
        """Write the log of a run; the verdict of a unit is `status` or `status: reason`."""
        settings = {'analysis_level': level, 'participant_label': [], 'session_label': []}
        self.write(self.out / 'logs' / run / 'settings.json', json.dumps({'inputs': settings}))
        text = 'unit\tstatus\tseconds\tstep\treason\treport\n'
        for label, verdict in rows.items():
            status, _, reason = verdict.partition(': ')
            step = 'wf.step' if status == 'failed' else 'n/a'
            unit = label.replace('sub', 'sub-').replace('ses', 'ses-')
            text += f'{unit}\t{status}\t1.0\t{step}\t{reason or "n/a"}\tn/a\n'
        if rows:
            self.write(self.out / 'logs' / run / 'status.tsv', text)

    @staticmethod
    def write(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding='utf-8')


@pytest.fixture
def cohort(tmp_path) -> CohortFiles:
    return CohortFiles(tmp_path)
