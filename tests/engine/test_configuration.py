import nipype

from demist_app.engine.configuration import configure


def test_folders_with_a_percent_sign(monkeypatch):
    monkeypatch.setattr(nipype.config, '_config', nipype.utils.config.NipypeConfig()._config)
    configure({'execution': {'crashdump_dir': '/data/100% %(cwd)s'}})
    assert nipype.config.get('execution', 'crashdump_dir') == '/data/100% %(cwd)s'
