"""The `mlc` command."""

import importlib.metadata
import json

import pytest

from mlc_hooks.cli import main

COMMANDS = """
from mlc_hooks import hookimpl

@hookimpl
def mlc_commands():
    return {"bake": make_bake, "burn": make_burn}

def make_bake():
    '''Bake a cake.

    With nuts.
    '''
    from acme.commands import bake
    return bake

def make_burn():
    '''Burn it.'''
    import click
    from mlc_hooks import MlcError

    def burn():
        raise MlcError("it is [black]")

    return click.Command("burn", callback=burn)
"""


JSON_COMMANDS = """
import click

from mlc_hooks import MlcError, hookimpl
from mlc_hooks.console import json_option


class BurntError(MlcError):
    pass


@click.command()
@json_option
def burn(as_json):
    raise BurntError("it is black")


@click.command()
@json_option
def leave(as_json):
    raise click.exceptions.Exit(3)


@hookimpl
def mlc_commands():
    return {"burn": lambda: burn, "leave": lambda: leave}
"""


@pytest.fixture
def mlc(site, plugins, monkeypatch, capsys):
    """Run `mlc` in this process, among what the test installs, and return status, output and errors."""
    monkeypatch.setattr("mlc_hooks.plugins._make_shared", lambda: plugins)

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        printed = capsys.readouterr()
        return caught.value.code or 0, printed.out, printed.err

    return run


@pytest.fixture
def bakery_commands(site):
    """An installed plugin with two commands."""
    site.install("acme", COMMANDS)
    (site.path / "acme" / "commands.py").write_text(
        "import click\n\n@click.command()\ndef bake():\n    click.echo('baked')\n"
    )


def test_chosen_command_runs(mlc, bakery_commands):
    """A plugin's command is a command of `mlc`, also under its full name."""
    assert (0, "baked\n", "") == mlc("bake") == mlc("acme:bake")


def test_help_shows_summaries(mlc, bakery_commands):
    """One line per command, from its factory, in order."""
    status, out, _ = mlc("-h")

    assert 0 == status
    assert ["bake     Bake a cake.", "burn     Burn it."] == [line.strip() for line in out.splitlines()[-3:-1]]
    assert out.splitlines()[-1].startswith("  plugins  List the plugins")


def test_help_loads_no_command(site, bakery_commands):
    """Help imports neither the module of a command nor anything heavy."""
    code = """
        import json, sys
        from mlc_hooks.cli import mlc
        mlc.main(["--help"], standalone_mode=False)
        print(json.dumps(sorted(sys.modules)))
    """
    process = site.run_python(code)
    modules = json.loads(process.stdout.splitlines()[-1])

    assert "acme.hooks" in modules
    assert [] == sorted({"acme.commands", "mlc_hooks.listing", "numpy", "rich", "torch"}.intersection(modules))


def test_unknown_command_says_what_is_close(mlc, bakery_commands):
    """It is a usage error."""
    status, out, err = mlc("bakc")

    assert (2, "") == (status, out)
    assert "Error: Unknown command 'bakc'. Did you mean 'bake'? Known: bake, burn, plugins." in err


def test_unknown_command_tells_of_broken_plugins(mlc, site):
    """The command may be that of a plugin that was set aside."""
    site.install("acme-bad", "1 / 0")
    status, _, err = mlc("bake")

    assert 2 == status
    assert "A plugin that might offer it is broken: acme-bad (acme-bad 1.0): ZeroDivisionError: division by zero" in err


def test_ambiguous_command_is_a_usage_error(mlc, site):
    """Both spellings are named, and each works in help and on the command line."""
    site.install("acme", COMMANDS)
    site.install("zeta", COMMANDS)
    status, _, err = mlc("burn")

    assert 2 == status
    assert "Error: command 'burn' is offered more than once; say 'acme:burn' or 'zeta:burn'" in err
    assert 1 == mlc("zeta:burn")[0]
    assert "zeta:burn" in mlc("--help")[1]


def test_error_is_json_where_json_was_asked_for(mlc, site):
    """One line with its kind and its message, of ours and of usage; the status is the same."""
    site.install("acme", JSON_COMMANDS)
    for arguments, status, kind in ((("burn", "--json"), 1, "BurntError"), (("burn", "x", "--json"), 2, "UsageError")):
        found, out, err = mlc(*arguments)
        said = json.loads(err)["error"]
        assert (status, "", kind) == (found, out, said["kind"])
    assert "unexpected extra argument" in said["message"]
    assert (3, "", "") == mlc("leave", "--json")
    assert "Error: it is black\n" == mlc("burn")[2]


def test_error_of_ours_is_one_line(mlc, bakery_commands):
    """No traceback, on standard error, status 1."""
    assert (1, "", "Error: it is [black]\n") == mlc("burn")


def test_impossible_choice_is_one_line(site):
    """Before any command runs, in a process of its own."""
    process = site.run("plugins", MLC_PLUGINS="a,-b")

    assert 1 == process.returncode
    expected = "Error: MLC_PLUGINS='a,-b' mixes names to use with names to leave out; give one kind\n"
    assert ("", expected) == (process.stdout, process.stderr)


def test_strict_broken_plugin_stops_the_program(site):
    """`MLC_PLUGINS_STRICT=1` turns the shrug into an error."""
    site.install("acme-bad", "1 / 0")
    process = site.run("plugins", MLC_PLUGINS_STRICT="1")

    assert 1 == process.returncode
    assert process.stderr.startswith("Error: plugin ")
    assert "Traceback" not in process.stderr


def test_version_is_that_of_the_distribution(mlc):
    """`mlc --version` is what pip says."""
    assert (0, f"mlc, version {importlib.metadata.version('mlc-hooks')}\n", "") == mlc("--version")


def test_shell_completes_commands(site, bakery_commands):
    """A plugin's command is completed like one of ours."""
    process = site.run(_MLC_COMPLETE="bash_complete", COMP_WORDS="mlc b", COMP_CWORD="1")

    assert ["plain,bake", "plain,burn"] == process.stdout.split()


def test_module_is_the_command(site, bakery_commands):
    """`python -m mlc_hooks` is the `mlc` of exactly this interpreter."""
    process = site.run_module("mlc_hooks", "bake")

    assert (0, "baked\n") == (process.returncode, process.stdout)


def test_plugins_lists_who_takes_part(mlc, bakery_commands):
    """With distribution, hooks and offers; all is well, so the status is 0."""
    status, out, err = mlc("plugins")
    rows = [line.split() for line in out.splitlines()]

    assert (0, "") == (status, err)
    assert ["acme", "acme", "1.0", "mlc_commands", "bake,", "burn"] in rows
    assert "Set aside" not in out


def test_plugins_lists_who_was_set_aside(mlc, site):
    """Also one that fails only when it is asked, one that answers nothing, and hooks that nobody defines."""
    site.install("acme-bad", "from mlc_hooks import hookimpl\n@hookimpl\ndef mlc_commands():\n    return 1 / 0\n")
    site.install("acme-idle", "")
    site.install("acme-odd", "from mlc_hooks import hookimpl\n@hookimpl\ndef mlc_teas():\n    return {}\n")
    site.install("acme-two", COMMANDS + "\n@hookimpl\ndef mlc_coffees():\n    return {}\n")
    status, out, _err = mlc("plugins")
    rows = [line.split() for line in out.splitlines()]

    assert 1 == status
    assert ["acme-bad", "acme-bad", "1.0", "ZeroDivisionError:", "division", "by", "zero"] in rows
    assert ["acme-idle", "acme-idle", "1.0"] in rows
    assert ["acme-odd", "acme-odd", "1.0", "mlc_teas", "(unknown)"] in rows
    assert ["mlc_coffees", "(unknown)"] in rows


def test_plugins_lists_who_was_left_out(site):
    """`MLC_PLUGINS` hides nobody from the list, for people and for programs."""
    site.install("acme", COMMANDS)

    assert "Left out by MLC_PLUGINS" in site.run("plugins", MLC_PLUGINS="").stdout
    assert "acme" in json.loads(site.run("plugins", "--json", MLC_PLUGINS="-acme").stdout)["left_out"]


def test_plugins_for_programs(mlc, site):
    """JSON tells the same."""
    site.install("acme-bad", "1 / 0")
    status, out, _ = mlc("plugins", "--json")
    found = json.loads(out)

    assert 1 == status
    bad = {"name": "acme-bad", "distribution": "acme-bad 1.0", "reason": "ZeroDivisionError: division by zero"}
    assert [bad] == found["broken"]
    assert ["mlc-hooks"] == [one["name"] for one in found["plugins"]]
    assert {"mlc_commands": ["plugins"]} == found["plugins"][0]["offers"]
