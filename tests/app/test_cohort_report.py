"""The group level of a cohort whose participants are not all done."""

import csv
import shutil
import subprocess
import sysconfig
from pathlib import Path

from browsing import IMAGE, SCRIPT, browse, foreign
from running import COMMAND


def test_aggregate_reports_on_what_is_there(finished, phantom, tmp_path):
    bids, out = tmp_path / 'bids', tmp_path / 'out'
    shutil.copytree(phantom, bids, ignore=shutil.ignore_patterns('derivatives'))
    people = f'participant_id\tgroup\n01\t{IMAGE}\n02\t{SCRIPT}\n03\tcontrol\n04\tpatient\n'
    (bids / 'participants.tsv').write_text(people)
    shutil.copytree(finished.out, out, symlinks=True)
    command = [*COMMAND, str(bids), str(out), 'group', '--aggregate', '-w', str(tmp_path / 'work')]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '4 units: 2 done, 2 not started; see ' in done.stdout
    with (out / 'group_qc.tsv').open(encoding='utf-8') as file:
        rows = list(csv.DictReader(file, delimiter='\t'))
    assert [row['status'] for row in rows] == ['done', 'done', 'not started', 'not started']
    assert [row['group'] for row in rows] == [IMAGE, SCRIPT, 'control', 'patient']
    first = rows[0]
    assert 1000 < float(first['brain_volume_ml']) < 1900
    assert 0 < float(first['flair_shift_mm']) < 10
    assert (first['draws'], first['model'].split()[0]) == ('1', 'linear')
    with (out / 'group_psr_lesions.tsv').open(encoding='utf-8') as file:
        lesions = list(csv.DictReader(file, delimiter='\t'))
    assert {row['method'] for row in lesions} == {'synthetic', 'FLAIR', 'T1w'}
    assert {row['participants'] for row in lesions} == {'2'}
    assert (out / first['report']).exists()
    assert f'href="{first["report"]}"' in (out / 'group.html').read_text('utf-8')
    validator = Path(sysconfig.get_path('scripts')) / 'bids-validator-deno'
    checked = subprocess.run([validator, out], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout

    document = browse(out / 'group.html', tmp_path / 'profile')
    assert '<title>Cohort of 4 units' in document
    assert foreign(document) == []
    assert 'class="sort"' in document  # the page's own script did run
