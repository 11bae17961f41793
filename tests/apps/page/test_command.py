"""`kerasdiffusion page`, and `serve --page`: their flags."""

import sys

import pytest

from kerasdiffusion.apps.page import command as page
from tests.apps.conftest import assets, command  # noqa: F401


@pytest.fixture
def served(monkeypatch, tmp_path):
    """What a command serves by, as it says where it is; nothing is."""
    import webbrowser

    from kerasdiffusion.apps.server import running

    seen, opened = [], []

    def serving(settings, host, port, say):
        seen.append((settings, host))
        say("http://127.0.0.1:7860")
        return 0

    monkeypatch.setattr(running, "serve", serving)
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr(page, "_apart", lambda function, *args: function(*args))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    seen.append(opened)
    return seen


def test_it_opens_a_page_that_only_this_machine_has(command, served, capsys, tmp_path):  # noqa: F811
    assert command("page") == 0
    opened, (settings, host) = served
    assert host == "127.0.0.1" and settings.page and not settings.users
    assert opened == ["http://127.0.0.1:7860/page/"]
    folder = tmp_path / "data/kerasdiffusion/pictures"
    assert settings.results == folder and folder.stat().st_mode & 0o777 == 0o700
    assert settings.keep == 3600 * page.KEEP
    out = capsys.readouterr().out
    assert "http://127.0.0.1:7860/page/" in out and str(folder) in out


def test_flags_of_the_server_hold(command, served, tmp_path):  # noqa: F811
    flags = f"--no-browser --results {tmp_path} --keep 2 --auth me:mine"
    command("page", *flags.split())
    opened, (settings, _) = served
    assert opened == [] and settings.results == tmp_path and settings.keep == 7200
    assert settings.users == ["me:mine"] and settings.hosts == ()


def test_sharing_is_by_choice_and_asks_for_a_password(
    command,  # noqa: F811
    served,
    monkeypatch,
    capsys,
):
    from gradio import networking

    def tunnel(host, port, token, *more):
        return f"https://{host}.{port}"

    monkeypatch.setattr(networking, "setup_tunnel", tunnel)
    command("page", "--share", "--no-browser")
    _, (settings, _) = served
    (user,) = settings.users
    assert user.startswith("guest:") and len(user) > 15
    assert settings.hosts == [page.TUNNELS]
    out = capsys.readouterr().out
    assert user.partition(":")[2] in out
    assert "Shared as https://127.0.0.1.7860/page/" in out


def test_a_server_has_no_page_but_where_it_is_asked_for(command, served, capsys):  # noqa: F811
    command("serve")
    assert not served[1][0].page and "/page/" not in capsys.readouterr().out
    command("serve", "--page")
    assert served[2][0].page and "/page/" in capsys.readouterr().out


def test_what_is_not_installed_is_said(command, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert command("page") == 1
    assert 'A page needs pip install ".[page]"' in capsys.readouterr().err
