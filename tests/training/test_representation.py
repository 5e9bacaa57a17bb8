from training.representation import DECIDING, digest_sources


def test_digest_of_the_sources_follows_every_one_of_them(tmp_path):
    for name in DECIDING:
        (tmp_path / f"{name}.py").write_text(name)
    before = digest_sources(tmp_path, DECIDING)
    assert digest_sources(tmp_path, DECIDING) == before
    for name in DECIDING:
        (tmp_path / f"{name}.py").write_text(name + "# changed")
        assert digest_sources(tmp_path, DECIDING) != before
        (tmp_path / f"{name}.py").write_text(name)
