import os
import stat

import pytest

from boilerplate.files import write_atomic


def test_replaces_the_whole_file(tmp_path):
    path = tmp_path / 'new' / 'page.html'
    write_atomic(path, 'long old content')
    assert write_atomic(path, 'µ') == path
    assert path.read_bytes() == 'µ'.encode()
    assert list(path.parent.iterdir()) == [path]


def test_obeys_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        path = write_atomic(tmp_path / 'page.html', '')
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_keeps_the_old_file_when_writing_fails(tmp_path):
    path = write_atomic(tmp_path / 'page.html', 'old')
    with pytest.raises(TypeError):
        write_atomic(path, b'new')
    assert path.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [path]


def test_names_that_are_not_utf8_are_escaped(tmp_path):
    text = b'sub-\xff'.decode(errors='surrogateescape')
    assert write_atomic(tmp_path / 'page.html', text).read_text('utf-8') == 'sub-\\udcff'
