"""participants.tsv as people write it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_layout.participants import groups, read_participants
from bids_layout.query import QueryError

LABELS = ['01', '02', 'ms3']
TABLE = (
    'participant_id\tage\tgroup\nsub-01\t30\tpatient\nsub-02\tn/a\tcontrol\nsub-ms3\t41\tpatient\n'
)


@pytest.mark.parametrize(
    'content',
    [
        TABLE.encode(),
        TABLE.encode('utf-8-sig'),
        TABLE.encode('utf-16'),
        TABLE.replace('\n', '\r\n').encode(),
        TABLE.replace('sub-', '').encode(),
        TABLE.replace('sub-0', '').encode(),
        TABLE.replace('\t', ',').encode(),
        TABLE.replace('\t', ';').encode(),
        TABLE.replace('participant_id', ' Participant_ID ').encode(),
        TABLE.replace('patient', '"patient"').encode(),
        TABLE.replace('30', 'größer').encode('cp1252'),
        (TABLE + 'sub-09\t"\tpatient\n\n').encode(),
        TABLE.replace('\tn/a\tcontrol', '\t\t control').encode(),
    ],
)
def test_groups(tmp_path: Path, content: bytes) -> None:
    (tmp_path / 'participants.tsv').write_bytes(content)
    found = groups(tmp_path, [*LABELS, '99'])
    assert found == {'01': 'patient', '02': 'control', 'ms3': 'patient', '99': None}
    assert 'age' not in read_participants(tmp_path, LABELS)['02']


def test_no_file_is_no_fault(tmp_path: Path) -> None:
    assert read_participants(tmp_path, LABELS) == {}
    assert groups(tmp_path, LABELS) == dict.fromkeys(LABELS)


def test_zeros_are_forgiven_only_where_one_row_is_meant(tmp_path: Path) -> None:
    (tmp_path / 'participants.tsv').write_text('participant_id\tgroup\n1\ta\n001\tb\n2\tc\n')
    assert groups(tmp_path, ['01', '001', '02']) == {'01': None, '001': 'b', '02': 'c'}


@pytest.mark.parametrize('content', ['', 'id\tgroup\n01\tpatient\n'])
def test_missing_column(tmp_path: Path, content: str) -> None:
    (tmp_path / 'participants.tsv').write_text(content)
    with pytest.raises(QueryError, match=r'participants\.tsv has no column "participant_id"'):
        groups(tmp_path, LABELS)


def test_two_rows_for_one_participant(tmp_path: Path) -> None:
    (tmp_path / 'participants.tsv').write_text(TABLE + 'sub-01\t30\tcontrol\n')
    assert groups(tmp_path, ['02']) == {'02': 'control'}
    with pytest.raises(QueryError, match='more than one row for sub-01'):
        groups(tmp_path, LABELS)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp('bids')
    (folder / 'participants.tsv').write_bytes(b'participant_id\tgroup\n' + content)
    try:
        found = groups(folder, LABELS)
    except QueryError:
        return
    assert set(found) == set(LABELS)
