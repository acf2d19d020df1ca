from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from clipvil.compare import sections
from clipvil.compare.report import render, write_report
from clipvil.compare.results import Cell, Costs, Results
from clipvil.compare.table import render_table
from tests.compare.builder import SCORES, build

HOSTILE = "</title></style><script>alert(1)</script><img src=x onerror=alert(2)>\"'`--> $style {out} \u202e"
VOID = {"meta", "img", "input", "br", "hr"}


class Page(HTMLParser):
    """Checks nesting as it reads, and keeps tags, attributes, ids and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.ids: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render(build()))


def test_the_page_is_well_formed_and_ids_are_unique(page: Page) -> None:
    assert page.tags[:2] == ["html", "head"] and len(page.ids) == len(set(page.ids)) > 0


def test_the_page_holds_every_part(page: Page) -> None:
    said = " ".join(page.text)
    headings = ("How well each encoder serves", "What it costs", "Where the encoders differ", "How the runs learned")
    for heading in (*headings, "What they answered", "Method", "Protocol", "Hardware", "clipvil compare mini --out"):
        assert heading in said
    assert "mini/contrastive scores 71.3 % [70.2, 72.4] on the test split" in said
    assert "not distinguishable from mini/annotated (difference +1.1" in said
    assert page.tags.count("img") == 16


def test_nothing_is_loaded_from_anywhere() -> None:
    text = render(build())
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    names = ("src", "href", "srcset", "action", "data", "poster", "xlink:href")
    loading = [value or "" for name, value in page.attributes if name in names]
    assert loading and all(value.startswith("data:image/jpeg;base64,") for value in loading)
    without_pictures = re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search(r"(?i)https?:|//[a-z]|url\(|@import|\son[a-z]+=", without_pictures)
    assert "default-src 'none'" in text


def test_every_picture_and_plot_has_a_text_alternative(page: Page) -> None:
    text = render(build())
    for image in re.findall(r"<img [^>]*>", text):
        assert re.search(r'alt="[^"]+"', image)
    for svg in re.findall(r"<svg [^>]*>(?:<title>[^<]+</title>)?", text):
        assert 'aria-hidden="true"' in svg or ('role="img"' in svg and "<title>" in svg)


def test_hostile_text_stays_text() -> None:
    """Question, answers, labels, errors, title and command come from outside; none may become markup."""
    results = build({HOSTILE: (50.0, 40.0), "b": (40.0, 30.0), "question-only": (30.0, 20.0)}, prompt=HOSTILE)
    results.title = results.command = results.protocol[0] = results.tasks[0].data = HOSTILE
    results.environment["platform"] = HOSTILE
    results.tasks[0].fingerprints["train"] = HOSTILE
    results.tasks[0].recipe = {HOSTILE: HOSTILE}
    results.cells.append(Cell(encoder=HOSTILE, task=HOSTILE, seed=3, path="x", status="failed", error=HOSTILE))
    results.rows[0].breakdowns["question_type"][HOSTILE] = results.rows[0].mean
    group = results.gallery[0]
    group.title = HOSTILE
    entry = group.entries[0]
    entry.image_id = entry.references[0].answer = entry.answers[0].answer = HOSTILE
    entry.thumbnail = '"><script>'
    text = render(results)
    page = Page(text)
    plain = Page(render(build()))
    assert set(page.tags) <= set(plain.tags) | {"aside", "li"}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert HOSTILE in "".join(page.text)
    assert "".join(page.text).count(HOSTILE) > 10
    assert "picture not available" in text


def test_failed_and_missing_runs_stand_before_the_numbers() -> None:
    results = build()
    results.cells[0].status, results.cells[0].error = "failed", "no weights here"
    results.cells[1].status = "pending"
    text = render(results)
    assert "Not finished: 6 of 8 runs are done" in text and "no weights here" in text
    assert text.index("no weights here") < text.index("How well each encoder serves")


@pytest.mark.parametrize(
    "results",
    [
        build({}),
        build({"only": (50.0,)}, splits=("test",)),
        build({"a": (50.0, 50.0), "b": (50.0, 50.0)}),
        build({f"e{i}": (10.0 * i, 5.0) for i in range(11)}),
        build(SCORES, costs={label: Costs() for label in SCORES}),
    ],
    ids=["nothing", "one encoder", "equal scores", "eleven encoders", "no costs"],
)
def test_unusual_results_still_make_a_page(results: Results) -> None:
    text = render(results)
    Page(text)
    assert not re.search(r"\b(nan|inf|None)\b", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text.split("<body>")[1]))


def test_costs_that_differ_are_drawn_apart_and_equal_ones_are_said_to_be_equal() -> None:
    assert "All encoders cost the same here (0.21)" in render(build())
    costs = {label: Costs(gflops=10.0**i, parameters=10**i) for i, label in enumerate(SCORES)}
    text = render(build(costs=costs))
    assert "All encoders cost the same here (0.21)" not in text and "1,000" in text


def test_the_report_replaces_the_old_one_whole(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("old")
    write_report(build(), tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == render(build())
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_metrics_that_have_no_room_stand_in_a_table_of_their_own() -> None:
    """On a page of 1200 pixels nothing lies beyond the edge of its box; the numbers were measured in a browser."""
    results = build({"mini/contrastive": (71.3, 58.9), "mini/annotated": (67.1, 57.8)})
    task = results.tasks[0]
    for row in results.rows:
        row.breakdowns = {"metric": dict.fromkeys(("OSR", "SPL", "nDTW", "sDTW", "CLS"), row.mean)}
    results.tasks = [task.model_copy(update={"metric": "success rate"})]
    html = str(sections.score_table(results, results.tasks[0]))
    scores, beside = html.split("<table")[1:]
    assert 'scope="col" class="num"' not in scores
    assert all(name in beside for name in ("OSR", "SPL", "nDTW", "sDTW", "CLS"))
    assert "Success rate, per cent" in scores and "bootstrap over paths" in scores
    # With one split they have room beside the score.
    results.tasks[0].splits = ["test"]
    assert str(sections.score_table(results, results.tasks[0])).count("<table") == 1


def test_an_encoder_without_a_score_is_said_to_be_unfinished_or_failed() -> None:
    results = build()
    gone = {"mini/random": "pending", "question-only": "failed"}
    results.rows = [row for row in results.rows if row.encoder not in gone]
    for cell in results.cells:
        if cell.encoder in gone:
            cell.status = gone[cell.encoder]  # type: ignore[assignment]
    html = str(sections.score_table(results, results.tasks[0]))
    for label, said in (("mini/random", "not finished"), ("question-only", "failed")):
        row = next(part for part in html.split("<tr") if f">{label}<" in part or f"{label}</span>" in part)
        assert f">{said}</td>" in row
        assert re.search(rf"{label} +.*{said}", render_table(results))
