"""How commands print."""

import json
from datetime import date

from mlc_hooks.console import print_json, print_table


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
