import os
import subprocess
import sys
from pathlib import Path

import pytest

from kerasdiffusion.storage import places
from kerasdiffusion.storage.places import (
    expand_user,
    is_private,
    make_private,
    user_caches,
)

POSIX = pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners of files")


def test_a_home_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand_user("~/a") == tmp_path / "a" and expand_user("a/~") == Path("a/~")
    assert expand_user(tmp_path) == tmp_path


@pytest.mark.parametrize("path", ["~nobody-here/x", "~\0", "~" * 10**6])
def test_a_home_of_nobody_is_one_sentence(path):
    with pytest.raises(ValueError, match="a user who is known.*Received: ") as caught:
        expand_user(path)
    assert len(str(caught.value)) < 500


def test_caches_are_where_the_system_has_them(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_caches() == tmp_path
    monkeypatch.setenv("XDG_CACHE_HOME", "here")  # which the standard has ignored
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert user_caches().is_relative_to(tmp_path / "home")


@POSIX
def test_a_user_without_home_and_name_has_no_cache(monkeypatch):
    import pwd

    def unknown(*args):
        raise KeyError(args)

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert user_caches() is None
    with pytest.raises(ValueError, match="a user who is known"):
        expand_user("~/models")


@POSIX
def test_nobody_else_can_exchange_a_private_folder(tmp_path):
    folder = tmp_path / "a" / "b" / "c"
    assert make_private(folder)
    for place in (folder, folder.parent, folder.parents[1]):
        assert place.stat().st_mode & 0o777 == 0o700
        place.chmod(0o777)
        assert not is_private(folder) and not make_private(folder)
        place.chmod(0o1777)  # as /tmp: everyone's are their own
        assert is_private(folder)
        place.chmod(0o700)
    (tmp_path / "file").touch()
    assert not make_private(tmp_path / "file" / "a")


@POSIX
def test_a_link_in_a_folder_of_others_is_no_way(tmp_path):
    folder = tmp_path / "mine"
    assert make_private(folder)
    others = tmp_path / "others"
    others.mkdir()
    (others / "link").symlink_to(folder)
    others.chmod(0o777)
    assert not is_private(others / "link")


@POSIX
def test_a_group_may_write_if_it_is_the_users_own(tmp_path, monkeypatch):
    folder = tmp_path / "a"
    assert make_private(folder)
    folder.chmod(0o770)
    for own in (True, False):
        monkeypatch.setattr(places, "_is_own_group", lambda number, own=own: own)
        assert is_private(folder) == own
    import grp
    import pwd

    monkeypatch.undo()
    name = pwd.getpwuid(os.getuid()).pw_name
    for group, members, own in ((name, [], True), (name, ["x"], False), ("y", [], 0)):
        found = grp.struct_group((group, "x", 7, members))
        monkeypatch.setattr(grp, "getgrgid", lambda number, found=found: found)
        assert places._is_own_group(7) == own


@POSIX
def test_commands_run_without_a_home(tmp_path):
    """No folder named ~ is made, and no command ends because of a cache."""
    script = (
        "import pwd\n"
        "def unknown(*args): raise KeyError(args)\n"
        "pwd.getpwuid = unknown\n"
        "from kerasdiffusion.compute import compile_cache\n"
        "print(compile_cache.keep_programs('torch'))\n"
    )
    root = Path(__file__).parents[2]
    for switch in ("", "~nobody-here/x"):
        child = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={
                "PYTHONPATH": str(root),
                "KERASDIFFUSION_COMPILE_CACHE": switch,
                "PATH": os.environ.get("PATH", ""),
            },
        )
        assert child.stdout.strip() == "None", child.stderr
        assert ("No programs are kept" in child.stderr) == bool(switch)
        assert list(tmp_path.iterdir()) == []
