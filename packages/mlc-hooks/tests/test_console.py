"""How commands print."""

import json
from datetime import date

import pytest

from mlc_hooks.console import human_size, print_json, print_table, say


def test_table_shows_text_as_it_is(capsys):
    """Brackets in a title, a column or a cell are not markup, and None is nothing."""
    print_table("Cakes [b]", ("name [i]", "price"), [("[red]nut[/red]", 3), ("plain", None)])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]

    assert ["Cakes", "[b]"] in lines
    assert ["name", "[i]", "price"] in lines
    assert ["[red]nut[/red]", "3"] in lines
    assert ["plain"] in lines


def test_piped_table_is_wide(capsys):
    """What a pipe reads is not folded at 80 columns."""
    print_table("Cakes", ("name",), [("x" * 150,)])

    assert "x" * 150 in capsys.readouterr().out


def test_json_is_one_document(capsys):
    """Programs read back what was printed; what JSON does not know is text."""
    print_json({"day": date(2024, 2, 29), "names": ("nut", "plüm")})
    printed = capsys.readouterr().out

    assert {"day": "2024-02-29", "names": ["nut", "plüm"]} == json.loads(printed)
    assert "plüm" in printed


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (12_345_678, "12.3 MB"), (9.9e9, "9.9 GB"), (5e15, "5000.0 TB")],
)
def test_sizes_in_words(size, words):
    """As disks are sold."""
    assert words == human_size(size)


def test_json_has_no_words_that_parsers_refuse(capsys):
    """NaN and infinities, wherever they are, become null."""
    print_json({"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": -float("inf")}})

    assert {"a": None, "b": [None, 1.5], "c": {"d": None}} == json.loads(capsys.readouterr().out)


def test_nothing_that_is_printed_steers_the_terminal(capsys):
    """Control characters of whoever wrote the text are written out; lines and tabulators stay."""
    hostile = "a\x1b[2J\x9b31m\rb\x7f\n\tc"
    say(hostile)
    print_json({hostile: [hostile]})
    print_table(hostile, [hostile], [[hostile]])
    out, _ = capsys.readouterr()

    assert out.startswith("a\\u001b[2J\\u009b31m\\u000db\\u007f\n\tc\n")
    assert hostile in json.loads(out[out.index("{") : out.index("}") + 1])
    assert not [one for one in out if not one.isprintable() and one not in "\n\t"]
