import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demist_app.settings import Execution, Inputs, Processing, Settings, SettingsError

paths = st.text(min_size=1).map(lambda text: Path('/') / text.replace('\0', ''))
words = st.lists(st.text(), max_size=3).map(tuple)
settings = st.builds(
    Settings,
    inputs=st.builds(
        Inputs,
        bids_dir=paths,
        out_dir=paths,
        participant_label=words,
        session_label=words,
        bids_filters=st.dictionaries(
            st.sampled_from(['t1w', 'flair']),
            st.dictionaries(st.text(), st.none() | st.text() | st.integers()),
        ),
        derivatives=st.dictionaries(st.text(), paths, max_size=2),
        bids_database_dir=st.none() | paths,
    ),
    processing=st.builds(Processing, random_seed=st.integers(), output_spaces=words),
    execution=st.builds(
        Execution,
        work_dir=paths,
        nprocs=st.integers(1),
        omp_nthreads=st.integers(1),
        memory_gb=st.floats(1, 1e6),
        plugin_file=st.none() | paths,
        low_mem=st.booleans(),
    ),
    run_uuid=st.text(),
)


@given(settings)
def test_json_round_trip(given_settings):
    assert Settings.from_json(given_settings.to_json()) == given_settings


@pytest.fixture
def minimal() -> Settings:
    return Settings(
        inputs=Inputs(Path('/bids'), Path('/out')),
        processing=Processing(),
        execution=Execution(Path('/work'), nprocs=2, omp_nthreads=1, memory_gb=4.0),
        run_uuid='x',
    )


@pytest.mark.parametrize(
    ('group', 'field', 'value'),
    [
        ('execution', 'nprocs', 'two'),
        ('execution', 'nprocs', 2.5),
        ('execution', 'low_mem', 1),
        ('processing', 'no_such_field', 1),
        ('inputs', 'bids_dir', None),
    ],
)
def test_wrong_fields_are_refused(minimal, group, field, value):
    document = json.loads(minimal.to_json())
    document[group][field] = value
    with pytest.raises(SettingsError, match='not the settings of a demist run'):
        Settings.from_json(json.dumps(document))


@pytest.mark.parametrize('text', ['', '[]', '{}', 'null', '{"inputs": 1}'])
def test_other_files_are_refused(text):
    with pytest.raises(SettingsError):
        Settings.from_json(text)


def test_settings_cannot_be_changed(minimal):
    with pytest.raises(dataclasses.FrozenInstanceError):
        minimal.execution.nprocs = 3
