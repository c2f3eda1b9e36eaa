"""The page about a run."""

import base64
import math
import re
import string
from html.parser import HTMLParser

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_trainer import ExperimentManager
from mlc_trainer.charts import Chart, Line, ticks
from mlc_trainer.markup import Markup, plain, tag
from mlc_trainer.report import render_report
from mlc_trainer.report_charts import charts_of
from mlc_trainer.runs import read_run
from mlc_trainer.settings import settings_of
from mlc_trainer.timeline import Curve, EpochRecord, Restart, Timeline
from mlc_trainer.words import duration, number

VOID = {"meta", "img", "wbr", "br"}
TAGS = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "div", "span", "p", "b", "dl", "dt", "dd"}
TAGS |= {"small", "section", "figure", "figcaption", "svg", "g", "path", "line", "circle", "text", "img", "footer"}
TAGS |= {"table", "thead", "tbody", "tr", "th", "td", "details", "summary", "ul", "li", "wbr"}
HOSTILE = "</style></title><script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp;"
NUMBERS = st.none() | st.floats(allow_nan=False, allow_infinity=False)


class Page(HTMLParser):
    """Reads a page and holds it to the rules: every tag known and closed, nothing that runs or loads."""

    def __init__(self, text):
        super().__init__()
        self.open, self.found, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert [] == self.open

    def handle_starttag(self, name, attributes):
        """Look at the tag."""
        assert name in TAGS
        assert len(dict(attributes)) == len(attributes)
        for key, value in attributes:
            assert not key.startswith("on")
            assert key not in {"href", "srcset", "style"}
            assert key != "src" or value.startswith("data:image/png;base64,")
        self.found.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        """Be sure that it is the one that is open."""
        assert name == self.open.pop()

    def handle_data(self, data):
        """Keep what can be read."""
        if self.open and self.open[-1] != "style":
            self.text += data

    def all(self, name, **attributes):
        """Return the attributes of every *name* that has these."""
        return [one for tag, one in self.found if tag == name and attributes.items() <= one.items()]


# ---------------------------------------------------------------------- the page


def test_page_of_a_run(trained):
    """State, best metric, curves, epochs with the best marked, checkpoints, settings, environment."""
    run = read_run(trained)
    page = Page(render_report(run))

    assert 1 == len(page.all("span", **{"class": "state finished"}))
    assert f"best val_loss{number(run.best.metrics['val_loss'])}epoch {run.best.number}" in page.text
    assert all(one in page.text for one in ("Loss", "Parts of the loss", "val dice", "Learning rate", "★ best"))
    assert all(f"{one}" in page.text for one in ("Curves", "Epochs", "Checkpoints", "Configuration", "Environment"))
    assert 4 == len(page.all("svg", role="img"))
    assert 2 == len(page.all("tr", **{"class": "best"}))  # an epoch and its checkpoint
    assert sum(one.chosen for one in settings_of(run.config)) == len(page.all("tr", **{"class": "chosen"}))


def test_page_loads_nothing(trained):
    """No script, no address of anything elsewhere, and a policy that would forbid it."""
    text = render_report(read_run(trained))

    assert not re.search(r"<script|https?://|url\(|@import|<link|<iframe", text)
    assert "default-src 'none'" in text.replace("&#x27;", "'")


def test_restarts_are_marked_and_told(configure, tmp_path, killer, killed):
    """In each curve, and with what was not as it was."""
    with pytest.raises(killed):
        ExperimentManager(configure(), tmp_path / "run", observers=[killer(7)]).run()
    stopped = Page(render_report(read_run(tmp_path / "run")))
    ExperimentManager.from_run(tmp_path / "run").resume_training()
    page = Page(render_report(read_run(tmp_path / "run")))

    assert "Stopped in epoch 3, at step 7: Killed" in stopped.text
    assert [] == stopped.all("line", **{"class": "restart"})
    assert 4 == len(page.all("line", **{"class": "restart"}))
    assert "Resumed from epoch_2 in epoch 3 (first batch), at step 6" in page.text
    assert "Everything was as before." in page.text


def test_run_without_an_epoch_shows_its_steps(configure, tmp_path, killer, killed):
    """Loss and rate as far as they were logged; and nothing at all is a page too."""
    with pytest.raises(killed):
        ExperimentManager(configure(training={"log_every": 1}), tmp_path / "run", observers=[killer(2)]).run()
    page = Page(render_report(read_run(tmp_path / "run")))
    (tmp_path / "none" / "checkpoints").mkdir(parents=True)
    empty = Page(render_report(read_run(tmp_path / "none")))

    assert 2 == len(page.all("svg", role="img"))
    assert "not measured yet" in page.text
    assert 1 == len(empty.all("span", **{"class": "state damaged"}))
    assert "it has no config.json" in empty.text


def test_prediction_picture_is_in_the_page(trained_copy):
    """The PNG itself; what only calls itself one is left out."""
    picture = b"\x89PNG\r\n\x1a\n and so on"
    (trained_copy / "predictions.png").write_bytes(picture)
    (trained_copy / "old_predictions.png").write_bytes(b"<svg onload=alert(1)>")
    page = Page(render_report(read_run(trained_copy)))
    (image,) = page.all("img")

    assert picture == base64.b64decode(image["src"].partition(",")[2])


def test_long_run_is_folded(trained):
    """The best and the last epochs are seen at once, and all of them can be unfolded."""
    run = read_run(trained)
    epochs = [EpochRecord(number=i, step=i, metrics={"val_loss": abs(i - 20.0)}) for i in range(1, 100)]
    page = Page(render_report(attrs.evolve(run, timeline=attrs.evolve(run.timeline, epochs=epochs))))

    assert 1 == len(page.all("details"))
    assert "all 99 epochs" in page.text


# ---------------------------------------------------------------------- hostile names


TEXTS = st.sampled_from([HOSTILE, "]]>", "<!--", "\x00\ud800", "&lt;b&gt;"]) | st.text(max_size=12)


def test_a_rate_that_was_seldom_logged_is_drawn_over_epochs(trained):
    """Three epochs are three points; the one step that was logged would be a dot on an axis of its own."""
    run = read_run(trained)
    seldom = attrs.evolve(run.timeline, steps=run.timeline.steps[:1])
    (chart,) = (one for one in charts_of(attrs.evolve(run, timeline=seldom)) if one.title == "Learning rate")
    (often,) = (one for one in charts_of(run) if one.title == "Learning rate")

    assert [1.0, 2.0, 3.0] == [place for place, _ in chart.lines[0].curve.points]
    assert len(run.timeline.steps) == len(often.lines[0].curve.points)


def test_legend_names_only_marks_that_are_there():
    """A restart before the first point is not in the picture."""
    line = Line(curve=Curve("loss", [(1.0, 0.5), (2.0, 0.4)]), label="loss")
    charts = [Chart(title="Loss", lines=[line], marks=[(place, "from a checkpoint")]) for place in (0.5, 1.5)]

    assert [False, True] == ["resumed" in plain(chart.draw()) for chart in charts]


@given(
    model=TEXTS,
    metrics=st.dictionaries(TEXTS, NUMBERS, max_size=4),
    words=st.lists(TEXTS, min_size=4, max_size=4),
)
def test_no_text_becomes_markup(trained, model, metrics, words):
    """Whoever names a model, a metric, an error or a setting writes text, and the page stays whole."""
    run = read_run(trained)
    error, source, change, problem = words
    names = [*metrics, HOSTILE]
    epochs = [EpochRecord(number=i, step=i, metrics={**metrics, HOSTILE: float(i)}) for i in (1, 2)]
    restart = Restart(epoch=1, step=1, place=1.0, source=source, differences=[change], at=None)
    timeline = Timeline(
        epochs=epochs, restarts=[restart], error=error, steps=[(0.5, {**metrics, "lr": 1.0})], began_at=None
    )
    hostile = attrs.evolve(
        run,
        model_name=model,
        timeline=timeline,
        monitor=attrs.evolve(run.monitor, metric=names[0]),
        problems=[problem],
        id=error,
        config=attrs.evolve(run.config, model=attrs.evolve(run.config.model, factory=source, options={change: error})),
    )
    page = Page(render_report(hostile))

    assert HOSTILE.replace("_", "") in page.text.replace("_", "")
    assert not page.all("script")


@given(text=st.text())
def test_text_is_read_as_it_was_written(text):
    """In content and in attributes; what no document may hold is replaced."""
    found = []

    class Reader(HTMLParser):
        def handle_starttag(self, name, attributes):
            found.append(dict(attributes)["title"])

        def handle_data(self, data):
            found.append(data)

    Reader().feed(tag("p", text, title=text).text)
    expected = re.sub(
        "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\N{REPLACEMENT CHARACTER}", text
    )

    assert expected == found[0]
    assert expected == "".join(found[1:])


def test_markup_is_not_escaped_twice():
    """Elements stand in elements; None is nothing, and words of Python are spelled with an underscore."""
    assert (
        '<p class="a" hidden>1 &lt; 2<b>x</b></p>'
        == tag("p", "1 < 2", tag("b", "x"), None, class_="a", hidden=True).text
    )
    assert "<b>" == plain(Markup("<b>"))
    assert "<br>" == tag("br", id=None, hidden=False).text


# ---------------------------------------------------------------------- charts


@given(values=st.lists(NUMBERS, max_size=12), marks=st.lists(st.floats(-5, 20), max_size=2))
def test_chart_of_any_numbers(values, marks):
    """Nothing is drawn outside, nothing is no number, and gaps are gaps."""
    curve = Curve("x", [(float(i), value) for i, value in enumerate(values)])
    drawn = Chart(title="t", lines=[Line(curve=curve, label="x")], marks=[(one, "m") for one in marks]).draw().text
    page = Page(drawn)
    places = [
        float(one) for found in page.all("path", **{"class": "line c0"}) for one in re.findall(r"-?[\d.]+", found["d"])
    ]

    assert not re.search(r"\b(nan|inf)\b", drawn)
    assert all(-1 <= one <= 461 for one in places)
    assert len([one for one in curve.segments if len(one) > 1]) == len(page.all("path", **{"class": "line c0"}))
    assert (not curve.numbers) == ("no numbers yet" in page.text)


@given(low=st.floats(-1e300, 1e300), high=st.floats(-1e300, 1e300), count=st.integers(2, 8))
def test_ticks_are_within_and_in_order(low, high, count):
    """And not many."""
    low, high = sorted((low, high))
    found = ticks(low, high, count)
    room = 1e-6 * (high / 2 - low / 2) + 1e-12 * max(abs(low), abs(high))

    assert sorted(found) == list(found)
    assert len(found) <= 2 * count + 1
    assert all(low - room <= one <= high + room for one in found)


# ---------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "–"),
        (0, "0.0 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (192, "3 min 12 s"),
        (7500, "2 h 05 min"),
        (273600, "3 d 4 h"),
    ],
)
def test_durations(seconds, words):
    """In two units."""
    assert words == duration(seconds)


@given(value=st.floats(-1e300, 1e300))
def test_numbers_have_four_digits(value):
    """And are what they say."""
    assert math.isclose(float(number(value)), value, rel_tol=1e-3, abs_tol=1e-300)
    assert len(number(value).partition("e")[0].replace(".", "").lstrip("-0")) <= 4
    assert set(number(value)) <= set(string.digits + ".e-")
