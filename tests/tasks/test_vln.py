"""The task `navigation` and its speaker, from files to scores, walks and submissions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clipvil.cli.main import main
from clipvil.datasets.connectivity import Graphs
from clipvil.errors import CheckpointError, DataError, RecipeError, UsageError
from clipvil.features.blind import BlindSource
from clipvil.records import Episode
from clipvil.tasks.base import Prediction
from clipvil.tasks.navigation_results import score_walks
from clipvil.tasks.registry import create_task
from clipvil.tasks.vln import Navigation
from clipvil.tasks.vln_speaker import NavigationSpeaker
from clipvil.training.inputs import load_datasets
from clipvil.training.run import evaluate, train
from clipvil.training.run_files import read_predictions, read_run
from tests.tasks.navigation_corpus import MODEL, SCAN, recipe, write_corpus
from tests.training.stopping import stopped_after


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write_corpus(tmp_path_factory.mktemp("grid"))


@pytest.fixture(scope="module")
def runs(data: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A follower, a speaker that started from it, and back-translation that started from both."""
    folder = tmp_path_factory.mktemp("runs")
    train(recipe(data), folder / "follower", quiet=True)
    start = f"init.run={folder / 'follower'}"
    train(recipe(data, start, task="navigation_speaker", longest=9), folder / "speaker", quiet=True)
    both = recipe(data, f"init.run={folder / 'speaker'}", back_translation=True, min_hops=2, max_hops=3)
    train(both, folder / "both", quiet=True)
    return folder


def ready(data: dict[str, Any], **settings: Any) -> tuple[Navigation, list[Episode]]:
    task = create_task("navigation", {"min_word_count": 1, "max_steps": 5, **settings})
    assert isinstance(task, Navigation)
    datasets = load_datasets(data)
    task.attach(datasets, BlindSource())
    records = list(datasets["train"].records)
    task.prepare(records)
    return task, records


def test_a_follower_that_reads_learns_its_way(data: dict[str, Any], tmp_path: Path) -> None:
    done = train(
        recipe(data, "schedule.steps=60", "training.evaluate_every=60", "training.batch_size=32",
               imitation_weight=1.0, minibatches="same"),
        tmp_path, quiet=True,
    )  # fmt: skip
    before = score_walks(
        [Prediction(r.episode_id, r.image_id, r.path[0], 1.0) for r in load_datasets(data)["test"].records],
        load_datasets(data)["test"].records,
        Graphs(Path(data["root"]) / "connectivity"),
    )
    assert before.overall.value == 0.0
    assert done.scores["test"].overall.value > 30.0


def test_scores_hold_every_metric_and_cluster_by_path(runs: Path, data: dict[str, Any]) -> None:
    scores = read_run(runs / "follower").scores["test"]
    assert scores.metric == "success rate"
    assert scores.breakdowns["metric"].keys() == {"OSR", "SPL", "nDTW", "sDTW", "CLS"}
    assert scores.breakdowns["metres"].keys() == {"PL", "NE", "OE"}
    assert scores.overall.n == len(scores.per_record) == 2 * len(set(scores.images.values()))
    for prediction, _ in read_predictions(runs / "follower", "test"):
        assert prediction.output.split()[0].startswith("r")
        assert 0 <= prediction.confidence <= 1
    again = evaluate(runs / "follower", "test", quiet=True)
    assert again is not None
    assert again.overall == scores.overall


def test_back_translation_keeps_the_speaker_as_it_was(runs: Path) -> None:
    from safetensors.torch import load_file

    spoke, both = load_file(runs / "speaker" / "best.safetensors"), load_file(runs / "both" / "best.safetensors")
    first = load_file(runs / "follower" / "best.safetensors")
    for name, tensor in spoke.items():
        if name.startswith("speaker."):
            assert torch.equal(both[name], tensor)
        else:
            assert torch.equal(first[name], tensor)
    assert any(not torch.equal(both[name], tensor) for name, tensor in first.items())
    assert read_run(runs / "both").result["init"]["taken"] == "speaker and follower"
    assert read_run(runs / "speaker").result["metric"] == "BLEU-4"
    evaluate(runs / "both", "val", quiet=True)


def test_the_interval_of_a_speaker_stays_on_its_scale() -> None:
    task = NavigationSpeaker({"min_word_count": 1})
    # Each path alone scores far more than the corpus, whose value the interval is moved to.
    said = ["go east then stop here .", "a", "b", "c"]
    records = task.units([Episode(f"{n}_0", "s", said[0], (str(n), "z"), path_id=str(n)) for n in range(4)])
    spoken = [Prediction(r.episode_id, r.image_id, text, 1.0) for r, text in zip(records, said, strict=True)]
    overall = task.score(spoken, records).overall
    assert 0.0 <= overall.low <= overall.value <= overall.high <= 100.0


@pytest.mark.parametrize("kind", ["follower", "both"])
def test_ten_steps_and_ten_more_are_twenty(
    kind: str, runs: Path, data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = (f"init.run={runs / 'speaker'}",) if kind == "both" else ()
    settings = {"back_translation": True, "min_hops": 2, "max_hops": 3} if kind == "both" else {}
    chosen = recipe(data, "schedule.steps=20", "training.evaluate_every=10", *more, **settings)
    train(chosen, tmp_path / "once", quiet=True)
    with stopped_after(monkeypatch, 10):
        train(chosen, tmp_path / "twice", quiet=True)
    train(chosen, tmp_path / "twice", resume=True, quiet=True)
    for name in ("best.safetensors", "predictions_test.jsonl", "checkpoints/checkpoint-20/model.safetensors"):
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "twice" / name).read_bytes(), name


def test_submissions_hold_every_turn_and_are_what_the_scorer_takes(
    runs: Path, data: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r2r.json"
    assert main(["submit", str(runs / "follower"), "--server", "r2r", "--out", str(out)]) == 0
    root, said = Path(data["root"]), tmp_path / "scores.json"
    command = ["score", "navigation", "--episodes", str(root / "test.json"), "--graphs", str(root / "connectivity")]
    assert main([*command, "--predictions", str(out), "--json", str(said)]) == 0
    rate = read_run(runs / "follower").scores["test"].overall.value
    assert 100 * json.loads(said.read_text())["mean"]["SR"] == pytest.approx(rate)
    assert all(len(step) == 3 for row in json.loads(out.read_text()) for step in row["trajectory"])
    lines = tmp_path / "rxr.jsonl"
    assert main(["submit", str(runs / "follower"), "--server", "rxr", "--out", str(lines)]) == 0
    assert set(json.loads(lines.read_text().splitlines()[0])) == {"instruction_id", "path"}
    assert main(["submit", str(runs / "follower"), "--server", "vqa2"]) == 2
    assert "whose servers are r2r and rxr" in capsys.readouterr().err


def test_next_minibatch_explores_what_was_not_imitated(data: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    import clipvil.tasks.vln as module

    seen: list[tuple[str, int]] = []
    walk = module.rollout

    def watching(model: Any, place: Any, journeys: Any, instruction: Any, choose: Any, **options: Any) -> Any:
        seen.append((choose.__name__, len(journeys)))
        return walk(model, place, journeys, instruction, choose, **options)

    monkeypatch.setattr(module, "rollout", watching)
    for kind, sizes in (("next", (3, 4)), ("same", (7, 7))):
        task, records = ready(data, minibatches=kind)
        model = task.build(MODEL, task._world().spec)
        seen.clear()
        task.loss(model, task.collate(records[:7], BlindSource())).backward()
        assert seen == [("follow_teacher", sizes[0]), ("follow_chance", sizes[1])]


def episode(**changes: Any) -> Episode:
    return Episode(**{"episode_id": "1_0", "scan": SCAN, "instruction": "go", "path": ("r00", "r01"), **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scan": "other"}, "episode 1_0: .*no scan 'other'"),
        ({"path": ("r00", "r99")}, "episode 1_0: scan grid has no viewpoint 'r99'"),
        ({"instruction": "?! ..."}, "episode 1_0: an instruction with no words"),
    ],
)
def test_episodes_that_cannot_be_are_one_line(data: dict[str, Any], changes: dict[str, Any], said: str) -> None:
    task, _ = ready(data)
    with pytest.raises(DataError, match=said):
        task.collate([episode(**changes)], BlindSource())


@pytest.mark.parametrize(
    ("walk", "said"),
    [
        ("r00 r22", "hidden jump"),
        ("r00 r99", "no viewpoint 'r99'"),
        ("r01 r00", "begins at r01"),
        (" ", "is empty"),
    ],
)
def test_walks_that_cannot_be_are_one_line(data: dict[str, Any], walk: str, said: str) -> None:
    task, _ = ready(data)
    with pytest.raises(DataError, match=said):
        task.score([Prediction("1_0", "x", walk, 1.0)], [episode()])


def test_settings_and_beginnings_that_cannot_be_are_refused(data: dict[str, Any], runs: Path, tmp_path: Path) -> None:
    for settings in ({"teacher": "nobody"}, {"minibatches": "last"}, {"min_hops": 4, "max_hops": 2}, {"gama": 0.5}):
        with pytest.raises(RecipeError, match="task_settings"):
            create_task("navigation", settings)
    with pytest.raises(RecipeError, match="needs a speaker"):
        train(recipe(data, back_translation=True), tmp_path / "a", quiet=True)
    with pytest.raises(RecipeError, match="needs a speaker"):
        train(recipe(data, f"init.run={runs / 'follower'}", back_translation=True), tmp_path / "b", quiet=True)
    with pytest.raises(CheckpointError, match="has a speaker already"):
        train(recipe(data, f"init.run={runs / 'both'}", task="navigation_speaker"), tmp_path / "c", quiet=True)
    without = {key: value for key, value in data.items() if key != "graphs"}
    with pytest.raises(DataError, match="names no navigation graphs"):
        train(recipe(without), tmp_path / "d", quiet=True)
    with pytest.raises(UsageError, match="walks through houses"):
        create_task("navigation", {}).collate([episode()], BlindSource())


def test_avoiding_visited_places_never_comes_back(data: dict[str, Any]) -> None:
    task, records = ready(data, avoid_visited=True)
    torch.manual_seed(0)
    model = task.build({**MODEL, "stop": "zero"}, task._world().spec).eval()
    said = task.predict(model, task.collate(records, BlindSource()), records)
    walks = [prediction.output.split() for prediction in said]
    assert all(len(set(walk)) == len(walk) for walk in walks)
    assert np.mean([len(walk) for walk in walks]) > 1


@pytest.mark.parametrize(
    ("path", "said"),
    [(["r00", "r11"], "no edge from r00 to r11"), (["r00", "r99"], "scan grid has no viewpoint 'r99'")],
)
def test_an_augmentation_path_that_leaves_its_graph_names_file_and_path(
    path: list[str], said: str, runs: Path, data: dict[str, Any], tmp_path: Path
) -> None:
    rows = [{"scan": SCAN, "path_id": 7, "path": path, "heading": 0.0}]
    (tmp_path / "aug.json").write_text(json.dumps(rows))
    paths = str(tmp_path / "aug.json")
    both = recipe(data, f"init.run={runs / 'speaker'}", back_translation=True, augmented_paths=paths)
    with pytest.raises(DataError, match=rf"aug\.json: path 7: {said}"):
        train(both, tmp_path / "run", quiet=True)
