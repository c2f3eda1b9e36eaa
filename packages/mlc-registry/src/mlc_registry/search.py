"""From what people look for, as in `dice>=0.9`, to the question that a store answers."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from mlc_registry.errors import InvalidNameError, InvalidQueryError
from mlc_registry.names import check_model, check_stage
from mlc_registry.records import Query
from mlc_registry.requirements import require_size, require_text, require_texts, show
from mlc_registry.tags import check_tags
from mlc_registry.words import list_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["MOST", "check_limit", "make_query", "read_metric"]

MOST = 1000
"""Versions of a page."""
MOST_CONDITIONS = 40
METRIC = re.compile(r"\s*(?P<name>[^<>=]*[^<>=\s])\s*(?P<sign><=|>=|==|=|<|>)\s*(?P<value>[^<>=\s]+)\s*")


def make_query(
    words: Iterable[str],
    *,
    model: str | None,
    tags: Mapping[str, str | None] | None,
    stage: str | None,
    metrics: Iterable[str],
    yanked: bool,
    **marks: str | None,
) -> Query:
    """Return the question for versions that hold all *words* and meet every condition that is given.

    Raises:
        InvalidQueryError: If a word holds nothing to look for, a metric is no comparison, or there is too much of it.
        InvalidNameError, InvalidTagError: If that cannot name a model or a stage, or be a tag.
    """
    for mark, value in marks.items():
        if value is not None:
            require_text(value, mark, error=InvalidQueryError)
    if stage is not None:
        require_text(stage, "stage", error=InvalidNameError)
    found = Query(
        words=tuple(one for text in words for one in _read_words(text)),
        model=None if model is None else check_model(model),
        tags=check_tags(tags),
        stage=None if stage is None else check_stage(stage.removeprefix("@")),
        metrics=tuple(map(read_metric, require_texts(metrics, "metrics", error=InvalidQueryError))),
        yanked=yanked,
        **marks,
    )
    count = len(found.words) + len(found.tags) + len(found.metrics)
    if count > MOST_CONDITIONS:
        msg = f"{count} words, tags and metrics are too many to search for; {MOST_CONDITIONS} are the limit"
        raise InvalidQueryError(msg)
    return found


def read_metric(text: str) -> tuple[str, Any, float]:
    """Return the name, the sign and the number of a comparison such as `dice>=0.9`.

    Raises:
        InvalidQueryError: If it is none.
    """
    match = METRIC.fullmatch(text)
    if "!=" in text:
        msg = (
            f"{show(text)} cannot be searched for: there is no !=, as most versions would meet it; "
            "ask for < and for > one after the other"
        )
        raise InvalidQueryError(msg)
    try:
        value = math.nan if match is None else float(match["value"])
    except ValueError:
        value = math.nan
    if match is None or not math.isfinite(value) or "\0" in text:
        msg = f"{show(text)} compares no metric with a number; write dice>=0.9, with one of: < <= == >= >"
        raise InvalidQueryError(msg)
    return match["name"], "==" if match["sign"] == "=" else match["sign"], value


def check_limit(limit: int) -> int:
    """Return *limit* if a page may hold so many.

    Raises:
        InvalidQueryError: If it may not.
    """
    return require_size(limit, "limit", least=1, most=MOST, way="ask for the next page with after=page.next")


def _read_words(text: str) -> list[str]:
    found = list_words(require_text(text, "a word", error=InvalidQueryError))
    if not found:
        msg = f"{show(text)} holds no letter and no digit to search for"
        raise InvalidQueryError(msg)
    return found
