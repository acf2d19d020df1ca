from __future__ import annotations

from clipvil.compare.results import Costs
from clipvil.compare.table import render_table
from tests.compare.builder import SCORES, build

SNAPSHOT = """\
vqa (accuracy, %, 95 % intervals, 2 seeds, n = 3600)

encoder          test              shifted yes/no number other params GFLOPs pics/s B/pic train
───────────────────────────────────────────────────────────────────────────────────────────────
mini/contrastive 71.3 [70.2, 72.4]    58.9   80.3   59.3  68.3   1.1M   0.21    412  9.0k   42s
mini/annotated   67.1 [66.0, 68.2]    57.8   76.1   55.1  64.1   1.1M   0.21    412  9.0k   42s
mini/random      50.0 [48.9, 51.1]    42.5   59.0   38.0  47.0   1.1M   0.21    412  9.0k   42s
question-only    41.2 [40.1, 42.3]    33.0   50.2   29.2  38.2      -      -      -     -   42s

differences on test (points, paired bootstrap over pictures):
  mini/contrastive - mini/annotated: +4.2 [2.7, 5.7]
  mini/contrastive - mini/random: +21.3 [19.8, 22.8]
  mini/contrastive - question-only: +30.1 [28.6, 31.6]
differences on shifted (points, paired bootstrap over pictures):
  mini/contrastive - mini/annotated: +1.1 [-0.4, 2.6]  (could be chance: the interval holds zero)
  mini/contrastive - mini/random: +16.4 [14.9, 17.9]
  mini/contrastive - question-only: +25.9 [24.4, 27.4]"""


def test_the_table_of_the_demo() -> None:
    assert render_table(build()) == SNAPSHOT


def test_long_names_get_two_tables_within_the_width() -> None:
    text = render_table(build({**SCORES, "timm/tf_efficientnet_lite0:offline": (71.1, 60.0)}))
    body = [line for line in text.splitlines() if not line.startswith("  ")]
    assert max(map(len, body)) <= 100
    assert sum(line.startswith("timm/") for line in body) == 2
    assert body[4].startswith("mini/contrastive") and body[5].startswith("timm/"), "best first, not the suite's order"


def test_labels_with_brackets_are_not_taken_for_markup() -> None:
    label = "open_clip/RN50:openai (layer=[red]4[/red])"
    assert label in render_table(build({label: (50.0, 40.0)}))


def test_unmeasured_costs_are_dashes_and_failures_are_listed() -> None:
    results = build({"a": (50.0, 40.0)}, costs={"a": Costs()})
    results.cells[0].status, results.cells[0].error = "failed", "out of paper"
    text = render_table(results)
    assert text.splitlines()[4].split()[-5:-1] == ["-"] * 4
    assert text.endswith("failed: a, vqa, seed 0: out of paper")


def test_nothing_finished_is_said_so() -> None:
    assert render_table(build({})) == "vqa: no run has finished"
