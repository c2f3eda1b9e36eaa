"""How numbers, times and settings are said to people."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["duration", "moment", "number", "setting"]


def number(value: float | None) -> str:
    """Return *value* in four digits; what is no number is a dash."""
    if value is None:
        return "–"
    digits, _, power = f"{value:#.4g}".partition("e")
    return f"{digits.rstrip('.')}e{int(power)}" if power else digits.rstrip(".")


def duration(seconds: float | None) -> str:
    """Return *seconds* as `42 s`, `3 min 12 s`, `2 h 05 min` or `3 d 4 h`; what is not known is a dash."""
    if seconds is None:
        return "–"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def moment(at: str | None) -> str:
    """Return the time *at*, as a journal or a manifest has it, to the second."""
    return "–" if at is None else at[:19].replace("T", " ")


def setting(value: Any) -> str:
    """Return the *value* of a setting as a configuration file has it."""
    return "not set" if value is None else json.dumps(value, ensure_ascii=False, default=str)
