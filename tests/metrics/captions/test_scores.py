from __future__ import annotations

import json
import shutil
from typing import Any

import numpy as np
import pytest

from clipvil.errors import DataError, UsageError
from clipvil.metrics.captions import NATIVE, TokenisedCorpus, caption_scores, java
from clipvil.metrics.captions.java import JavaError, spice_results
from clipvil.metrics.captions.scores import bleu_interval
from tests.shared import shared

NAMES = {
    "BLEU-1": "bleu1",
    "BLEU-2": "bleu2",
    "BLEU-3": "bleu3",
    "BLEU-4": "bleu4",
    "ROUGE-L": "rouge_l",
    "CIDEr-D": "cider_d",
    "CIDEr": "cider_plain",
    "METEOR": "meteor",
}


def pipeline() -> tuple[dict[str, Any], dict[str, str], dict[str, list[str]]]:
    want = json.loads(shared("fixtures", "caption_metrics", "pipeline.json").read_text(encoding="utf-8"))
    ids = [str(7 * i) for i in range(len(want["raw_hypotheses"]))]
    said = dict(zip(ids, want["raw_hypotheses"], strict=True))
    return want, said, dict(zip(ids, want["raw_references"], strict=True))


def check(want: dict[str, Any], found: dict[str, Any]) -> None:
    for name, score in found.items():
        assert score.value == pytest.approx(want["corpus"][NAMES[name]], abs=1e-9)
        assert list(score.per_image.values()) == pytest.approx(want["per_image"][NAMES[name]], abs=1e-9)
        assert score.low < score.value < score.high


def test_recorded_pipeline() -> None:
    want, said, references = pipeline()
    # The order of the predictions does not matter, that of the references does.
    found = caption_scores(dict(reversed(said.items())), references)
    assert list(found) == list(NATIVE)
    check(want, found)
    tokens = dict(zip(said, want["hypotheses"], strict=True)), dict(zip(said, want["references"], strict=True))
    check(want, caption_scores(*tokens, tokenised=True))


def test_recorded_meteor() -> None:
    pytest.importorskip("pycocoevalcap", reason="needs the extra [java]")
    if shutil.which("java") is None:
        pytest.skip("needs Java")
    want, said, references = pipeline()
    check(want, caption_scores(said, references, ["METEOR"]))


def test_bleu_interval_is_that_of_redrawn_corpora() -> None:
    corpus = TokenisedCorpus(["a b c d", "a x", "y z a b c"], [["a b c d"], ["a b"], ["y z b c d"]])
    counts = corpus.bleu()
    low, high = bleu_interval(counts, n=400, seed=3)
    generator = np.random.default_rng(3)
    values = []
    for picks in generator.integers(0, 3, size=(400, 3), dtype=np.int32):
        redrawn = TokenisedCorpus([corpus.hypotheses[i] for i in picks], [corpus.references[i] for i in picks])
        values.append(redrawn.bleu().corpus())
    np.testing.assert_allclose([low, high], np.quantile(values, [0.025, 0.975], axis=0), atol=1e-12)


def test_one_picture_has_no_interval() -> None:
    for name, score in caption_scores({"1": "a cat"}, {"1": ["a cat"]}).items():
        assert (score.low, score.high) == (0, 10 if name.startswith("CIDEr") else 1)


def test_faults_are_named() -> None:
    with pytest.raises(UsageError, match="unknown metric 'WMD'; known are BLEU-1, "):
        caption_scores({"1": "a"}, {"1": ["a"]}, ["WMD"])
    with pytest.raises(DataError, match="picture 2 has no caption"):
        caption_scores({"1": "a"}, {"1": ["a"], "2": ["b"]})
    with pytest.raises(DataError, match="picture 1 has no reference"):
        caption_scores({"1": "a"}, {"1": []})


def test_no_java_and_no_package_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(JavaError, match=r"METEOR needs the package pycocoevalcap; install it with .*clipvil\[java\]"):
        caption_scores({"1": "a"}, {"1": ["a"]}, ["METEOR"])
    with pytest.raises(JavaError, match="there is no `java` on the PATH"):
        monkeypatch.setenv("PATH", "")
        java._java("SPICE")


def test_spice_without_its_models_downloads_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(java, "_package", lambda metric: tmp_path)
    with pytest.raises(JavaError, match=r"SPICE needs stanford-corenlp-3\.6\.0\.jar"):
        java.spice(["a"], [["a"]])


def test_spice_results_are_read_by_number() -> None:
    results = [
        {"image_id": 1, "scores": {"All": {"f": 0.25}}},
        {"image_id": 0, "scores": {"All": {"f": 0.75}}},
    ]
    value, each = spice_results(results, 2)
    assert (value, each.tolist()) == (0.5, [0.75, 0.25])
    with pytest.raises(DataError, match="SPICE answered for 1 of 2 captions"):
        spice_results(results[:1], 2)


def test_a_java_program_that_stops_says_why(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "java"
    fake.write_text("#!/bin/sh\necho 'no memory left' >&2\nexit 1\n")
    fake.chmod(0o755)
    (tmp_path / "meteor").mkdir()
    monkeypatch.setattr(java, "_package", lambda metric: tmp_path)
    monkeypatch.setattr(java, "_java", lambda metric: str(fake))
    with pytest.raises(JavaError, match="METEOR stopped: no memory left"):
        java.meteor(["a"], [["a"]])


def test_few_pictures_have_the_exact_limits_of_the_metrics_own_scale() -> None:
    said = {str(n): "zebra crossing" for n in range(8)}
    references = {str(n): [f"a cat number{n} sleeps on the bed"] for n in range(8)}
    found = caption_scores(said, references, ("CIDEr-D", "ROUGE-L", "BLEU-3"), seed=0)
    for metric, top in (("CIDEr-D", 10.0), ("ROUGE-L", 1.0)):
        assert (found[metric].value, found[metric].low) == (0.0, 0.0)
        # Clopper and Pearson: 0 of 8.
        assert found[metric].high == pytest.approx(top * (1 - 0.025 ** (1 / 8)), abs=1e-9)
    assert found["BLEU-3"].high == pytest.approx(0.0, abs=1e-9)
