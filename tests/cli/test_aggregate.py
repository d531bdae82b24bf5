"""What the folds left, joined: any methods, in any state."""

import json

import numpy as np
import pytest

from demist_app.cli.aggregate import aggregate
from demist_app.model.bundle import write_bundle
from demist_app.settings import Execution, Inputs, Processing, Settings, SettingsError, Training
from demist_app.training.folds import Assignment, Splits, write
from demist_app.workflows.crossvalidation import model_name
from demist_app.workflows.examples import out_of_fold

UNITS = ('sub-01', 'sub-02', 'sub-03', 'sub-04')
FOLDS = (1, 1, 2, 2)


class Folder:
    """The output folder of a training."""

    def __init__(self, root):
        self.root = root
        assignments = [Assignment(u, u, 'patient', f) for u, f in zip(UNITS, FOLDS, strict=True)]
        write(Splits(tuple(assignments)), root / 'out' / 'models' / 'splits.tsv')

    def add(self, method, fold, psnr, *, scans='all', recipe='the same', draws=1):
        """Write the model of a fold, and what it left of its units."""
        metadata = {
            'name': f'fold-{fold}',
            'version': '0',
            'network': 'linear',
            'description': f'a {method} [@sisco2022].',
            'parameters': {'all': 3},
            'stages': {'fit': {'updates': 1, 'seconds': 90.0 * fold, 'device': 'CPU'}},
            'request': {'recipe': recipe, 'scans': f'{scans} but {fold}'},
            'training_units': [{}],
            'validation_units': [{}],
        }
        path = self.root / 'out' / 'models' / model_name(f'fold-{fold}', method)
        bundle = write_bundle(path, metadata, {'x': np.zeros(1)}, '')
        for unit in [unit for unit, of in zip(UNITS, FOLDS, strict=True) if of == fold]:
            sidecar = {
                'Fold': fold,
                'Model': {'SHA256': bundle.sha256},
                'Draws': draws,
                'Scores': {
                    'PSNR': psnr,
                    'SSIM': 0.8,
                    'SSIM_ERODED': 0.7,
                    'MSE': 0.01,
                    'NCC': 0.9,
                    'MAE': 1.0,
                },
            }
            anat = self.root / 'out' / unit / 'anat'
            anat.mkdir(parents=True, exist_ok=True)
            name = f'{unit}_space-T1w_desc-{out_of_fold(method)["desc"]}_PSRmap.json'
            (anat / name).write_text(json.dumps(sidecar))

    def aggregate(self, *methods, joining=True):
        settings = Settings(
            inputs=Inputs(self.root / 'bids', self.root / 'out', 'group'),
            processing=Processing(),
            execution=Execution(self.root / 'work', nprocs=1, omp_nthreads=1, memory_gb=4.0),
            run_uuid='x',
            training=Training(methods=methods or Training.methods, aggregate=joining, n_splits=2),
        )
        return aggregate(settings)

    def read(self, name):
        return (self.root / 'out' / name).read_text()


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def test_nothing_was_ever_drawn(tmp_path, folder):
    (tmp_path / 'out' / 'models' / 'splits.tsv').unlink()
    assert folder.aggregate() is None


def test_all_methods_there_are_stand_in_one_table(folder):
    for fold in (1, 2):
        folder.add('demist', fold, 24.0 + fold, draws=8)
        folder.add('linear', fold, 20.0 + fold)
    together = folder.aggregate()
    assert together.missing == {}
    assert together.methods['demist'].summary['PSNR'][0] == 25.5
    assert together.methods['linear'].summary['PSNR'][0] == 21.5
    rows = [line.split('\t') for line in folder.read('group_scores.tsv').splitlines()]
    header = rows.pop(0)
    methods = [row[header.index('method')] for row in rows]
    assert sorted(methods) == ['demist'] * 4 + ['linear'] * 4
    text = folder.read('models/README.md')
    assert '- `linear`: a linear.' in text
    assert '| linear | 2 | 2 | PSNR 22' in text
    assert '| **demist** | all | 4 | **PSNR 25.5' in text
    assert '| linear | 3 | 1 | 2.25 | CPU |' in text  # 1.5 and 3 minutes
    assert '`fold-1`' in text
    assert '`linear/fold-2`' in text
    page = folder.read('models/evaluation.html')
    assert 'Evaluation of 2 methods in 4 participants' in page
    assert 'differs from DEMIST' in page
    assert folder.root.joinpath('out/models/evaluation.html').as_posix() in together.words
    assert 'demist 8' in text
    assert 'linear 1' in text


def test_nobody_misses_a_method_that_was_never_trained(folder):
    for fold in (1, 2):
        folder.add('linear', fold, 20.0)
    assert folder.aggregate().missing == {}
    assert set(folder.aggregate('linear', joining=False).methods) == {'linear'}
    # a run that was to train one says that there is none
    assert set(folder.aggregate(joining=False).missing) == set(UNITS)


def test_what_is_not_trained_is_missing_method_by_method(folder):
    folder.add('demist', 1, 24.0)
    folder.add('linear', 1, 20.0)
    folder.add('linear', 2, 20.0)
    together = folder.aggregate()
    assert set(together.missing) == {'sub-03', 'sub-04'}
    folder.add('demist', 2, 24.0)
    (folder.root / 'out/sub-02/anat/sub-02_space-T1w_desc-outoffoldLinear_PSRmap.json').unlink()
    together = folder.aggregate()
    assert set(together.missing) == {'sub-02, linear'}
    assert 'linear, 3 unit(s)' in together.words
    assert '1 without a score' in together.words


def test_methods_that_learned_from_other_scans_are_not_compared(folder):
    for fold in (1, 2):
        folder.add('demist', fold, 24.0)
        folder.add('linear', fold, 20.0, scans='all' if fold == 1 else 'fewer')
    together = folder.aggregate()
    assert set(together.missing) == {'sub-03, linear', 'sub-04, linear'}
    assert 'linear/fold-2 learned from other scans' in together.missing['sub-03, linear']
    # whoever is asked for by name is right
    together = folder.aggregate('linear')
    assert set(together.missing) == {'sub-03', 'sub-04'}


def test_folds_of_one_method_with_several_recipes_say_nothing_together(folder):
    folder.add('demist', 1, 24.0)
    folder.add('demist', 2, 24.0)
    folder.add('linear', 1, 20.0, recipe='one')
    folder.add('linear', 2, 20.0, recipe='another')
    with pytest.raises(SettingsError, match=r'the folds of linear in .* different presets'):
        folder.aggregate()
