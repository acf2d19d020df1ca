"""Caption metrics of 5,000 pictures with 5 references, and the self-critical reward of a training step, timed.

    python benchmarks/caption_metrics.py

Everything runs in one process on the same invented captions (Zipf words, references of a picture share a topic). Beside
the library stand the algorithms written plainly (dictionaries and loops, own words) and, where they are installed,
pycocoevalcap's Python scorers and its Java tokenizer. All must give the same values. A repeat counts with its fastest
time, first call included for the library's caches. Results go to benchmarks/results/caption_metrics.csv; exits 1 when a
value differs by more than 1e-9, or the library is less than 3 times as fast as pycocoevalcap's scorers together.
"""

from __future__ import annotations

import argparse
import csv
import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipvil.metrics.captions import CaptionReward, DocumentFrequencies, TokenisedCorpus
from clipvil.text.ptb import all_tokens, tokenize

RESULTS = Path(__file__).parent / "results" / "caption_metrics.csv"
FASTER, TOLERANCE = 3.0, 1e-9
ODD = ['"{}"', "{}'s", "{},", "({})", "{}-{}", "12 {}", "U.S. {}", "{}..."]


def captions(pictures: int, seed: int = 0) -> tuple[list[str], list[list[str]]]:
    """One said and five given captions a picture, tokenised; about 10 words each."""
    generator = np.random.default_rng(seed)
    words = [f"w{i}" for i in range(9000)]
    often = 1 / (np.arange(len(words)) + 3.0)
    often /= often.sum()

    def sentence(topic: np.ndarray) -> str:
        length = int(np.clip(generator.normal(10.5, 2), 6, 30))
        own = generator.choice(topic, length)
        other = generator.choice(len(words), length, p=often)
        # Runs of the topic's own words, so that longer n-grams are shared as well.
        keep = generator.random(length) < 0.7
        start = int(generator.integers(0, len(topic)))
        own[: length // 2] = topic[(start + np.arange(length // 2)) % len(topic)]
        return " ".join(words[i] for i in np.where(keep, own, other))

    said, given = [], []
    for _ in range(pictures):
        topic = generator.choice(len(words), 12, p=often)
        given.append([sentence(topic) for _ in range(5)])
        said.append(sentence(topic))
    return said, given


def raw(tokenised: Sequence[str], seed: int = 1) -> list[str]:
    """The same captions as people write them: a capital, a period, and something odd in one of ten."""
    generator = np.random.default_rng(seed)
    out = []
    for caption in tokenised:
        words = ["".join(chr(97 + int(digit)) for digit in word[1:]) for word in caption.split()]
        if generator.random() < 0.1:
            place = int(generator.integers(0, len(words)))
            words[place] = ODD[int(generator.integers(0, len(ODD)))].replace("{}", words[place])
        out.append(" ".join(words).capitalize() + (".", "", " .")[int(generator.integers(0, 3))])
    return out


def grams(words: Sequence[Any], orders: Sequence[int] = (1, 2, 3, 4)) -> Counter[tuple[Any, ...]]:
    return Counter(tuple(words[i : i + n]) for n in orders for i in range(len(words) - n + 1))


def plain_bleu(said: Sequence[str], given: Sequence[Sequence[str]]) -> list[list[float]]:
    out = []
    for caption, references in zip(said, given, strict=True):
        words = caption.split()
        most: Counter[tuple[str, ...]] = Counter()
        for reference in references:
            most |= grams(reference.split())
        right = [0, 0, 0, 0]
        for gram, count in grams(words).items():
            right[len(gram) - 1] += min(count, most[gram])
        closest = min((abs(len(r.split()) - len(words)), len(r.split())) for r in references)[1]
        value, scores = 1.0, []
        ratio = (len(words) + 1e-15) / (closest + 1e-9)
        for n in range(4):
            value *= (right[n] + 1e-15) / (max(len(words) - n, 0) + 1e-9)
            scores.append(value ** (1 / (n + 1)) * (math.exp(1 - 1 / ratio) if ratio < 1 else 1))
        out.append(scores)
    return out


def plain_rouge(said: Sequence[str], given: Sequence[Sequence[str]]) -> list[float]:
    def common(a: Sequence[str], b: Sequence[str]) -> int:
        row = [0] * (len(b) + 1)
        for x in a:
            before = 0
            for j, y in enumerate(b, start=1):
                before, row[j] = row[j], before + 1 if x == y else max(row[j], row[j - 1])
        return row[-1]

    out = []
    for caption, references in zip(said, given, strict=True):
        words = caption.split(" ")
        pairs = [(common(words, r.split(" ")), len(r.split(" "))) for r in references]
        precision, recall = max(c for c, _ in pairs) / len(words), max(c / size for c, size in pairs)
        both = precision and recall
        out.append(2.44 * precision * recall / (recall + 1.44 * precision) if both else 0.0)
    return out


def plain_cider(
    said: Sequence[Sequence[Any]],
    given: Sequence[Sequence[Sequence[Any]]],
    known: dict[Any, int] | None = None,
    n: int = 0,
) -> list[float]:
    """CIDEr-D of lists of words; `known` document frequencies of `n` pictures, or those of `given`."""
    counted = [[grams(r) for r in references] for references in given]
    if known is None:
        known = Counter(gram for references in counted for gram in set().union(*references))
        n = len(given)
    log_n = math.log(n)

    def vector(counts: Counter[tuple[Any, ...]]) -> tuple[list[dict[Any, float]], list[float], int]:
        parts: list[dict[Any, float]] = [{}, {}, {}, {}]
        for gram, count in counts.items():
            parts[len(gram) - 1][gram] = count * (log_n - math.log(max(1, known.get(gram, 0))))
        norms = [math.sqrt(sum(v * v for v in part.values())) for part in parts]
        return parts, norms, sum(count for gram, count in counts.items() if len(gram) == 2)

    out = []
    for words, references in zip(said, counted, strict=True):
        mine, norms, length = vector(grams(words))
        total = 0.0
        for counts in references:
            theirs, others, other_length = vector(counts)
            damp = math.exp(-((length - other_length) ** 2) / 72)
            for order in range(4):
                product = sum(
                    min(v, theirs[order].get(g, 0.0)) * theirs[order].get(g, 0.0) for g, v in mine[order].items()
                )
                if norms[order] and others[order]:
                    total += damp * product / (norms[order] * others[order])
        out.append(total / 4 / len(references) * 10)
    return out


def timed(work: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    best, value = math.inf, None
    for _ in range(repeats):
        start = time.perf_counter()
        value = work()
        best = min(best, time.perf_counter() - start)
    return best, value


class Table:
    """Rows of the result file; remembers the worst difference."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.worst = 0.0

    def add(self, what: str, by: str, seconds: float, value: Any = None, want: Any = None) -> None:
        difference: Any = ""
        if want is not None:
            difference = float(np.abs(np.asarray(value) - np.asarray(want)).max())
            self.worst = max(self.worst, difference)
        self.rows.append(
            {"what": what, "by": by, "milliseconds": round(1000 * seconds, 2), "largest_difference": difference}
        )
        print(f"{what:<28} {by:<16} {1000 * seconds:>10.2f} ms   {difference}")


def scorers(table: Table, said: list[str], given: list[list[str]], repeats: int) -> dict[str, float]:
    """Each metric by the library, plainly, and by pycocoevalcap."""
    words = [caption.split() for caption in said]
    given_words = [[r.split() for r in references] for references in given]
    ours: dict[str, Callable[[], Any]] = {
        "BLEU-1 to BLEU-4": lambda: TokenisedCorpus(said, given).bleu().per_image(),
        "ROUGE-L": lambda: TokenisedCorpus(said, given).rouge_l(),
        "CIDEr-D": lambda: TokenisedCorpus(said, given).cider_d(),
    }
    plain: dict[str, Callable[[], Any]] = {
        "BLEU-1 to BLEU-4": lambda: plain_bleu(said, given),
        "ROUGE-L": lambda: plain_rouge(said, given),
        "CIDEr-D": lambda: plain_cider(words, given_words),
    }
    theirs = rivals(said, given)
    totals: dict[str, float] = Counter()
    for what, work in ours.items():
        seconds, want = timed(work, repeats)
        table.add(what, "clipvil", seconds)
        totals["apart"] += seconds
        for by, other in (("plain", plain.get(what)), ("pycocoevalcap", theirs.get(what))):
            if other is not None:
                seconds, value = timed(other, 2)
                table.add(what, by, seconds, value, want)
                totals[by] += seconds

    def together() -> None:
        corpus = TokenisedCorpus(said, given)
        corpus.bleu()
        corpus.rouge_l()
        corpus.cider_d()

    totals["clipvil"], _ = timed(together, repeats)
    for by in ("clipvil", "plain", "pycocoevalcap"):
        if by in totals:
            table.add("all three", by, totals[by])
    return totals


def rivals(said: list[str], given: list[list[str]]) -> dict[str, Callable[[], Any]]:
    """pycocoevalcap's scorers; nothing where it is not installed."""
    try:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.rouge.rouge import Rouge
    except ImportError:
        return {}
    references = dict(enumerate(given))
    results = {key: [caption] for key, caption in enumerate(said)}
    return {
        "BLEU-1 to BLEU-4": lambda: np.array(Bleu(4).compute_score(references, results, verbose=0)[1]).T,
        "ROUGE-L": lambda: Rouge().compute_score(references, results)[1],
        "CIDEr-D": lambda: Cider().compute_score(references, results)[1],
    }


def tokenizer(table: Table, given: list[list[str]], repeats: int) -> None:
    """25,000 references as people write them, by the library and by Java."""
    texts = raw([r for references in given for r in references])
    seconds, _ = timed(lambda: tokenize(texts), repeats)
    table.add(f"tokens of {len(texts)} captions", "clipvil", seconds)
    try:
        from pycocoevalcap import tokenizer as package
    except ImportError:
        return
    if shutil.which("java") is None:
        return
    jar = Path(package.__path__[0], "stanford-corenlp-3.4.1.jar")
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write("\n".join(texts))
        file.flush()
        command = [
            "java",
            "-cp",
            str(jar),
            "edu.stanford.nlp.process.PTBTokenizer",
            "-preserveLines",
            "-lowerCase",
            file.name,
        ]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, check=True)
    seconds = time.perf_counter() - start
    lines = done.stdout.decode("utf-8").split("\n")
    ours = [" ".join(tokens) for tokens in all_tokens(texts)]
    unequal = sum(a != b for a, b in zip(ours, lines[: len(ours)], strict=True))
    table.add(f"tokens of {len(texts)} captions", "Java, cold", seconds, [unequal], [0])


def reward(table: Table, said: list[str], given: list[list[str]], repeats: int) -> None:
    """50 pictures, 5 samples each and their greedy captions, against frequencies of all pictures."""
    index = {word: i for i, word in enumerate(dict.fromkeys(w for rs in given for r in rs for w in r.split()), start=1)}
    numbers = [[[index[w] for w in r.split()] for r in references] for references in given]
    frequencies = DocumentFrequencies.build(numbers)
    known: dict[Any, int] = Counter(
        gram for references in numbers for gram in set().union(*(grams([*r, 0]) for r in references))
    )

    def row(words: Sequence[int], length: int = 17) -> list[int]:
        return [*words[:length], *[0] * (length - len(words))]

    references = [[row(r) for r in rs] for rs in numbers[:50]]
    pictures = np.concatenate([np.repeat(np.arange(50), 5), np.arange(50)])
    samples = [row(numbers[p][k % 5][::-1] if k % 3 else numbers[p][(k + 1) % 5]) for k, p in enumerate(pictures)]
    judge = CaptionReward(frequencies)
    seconds, want = timed(lambda: judge(samples, references, pictures), 5 * repeats)
    table.add("reward of a step", "clipvil", seconds)

    def upto(words: list[int]) -> list[int]:
        return words[: words.index(0) + 1] if 0 in words else words

    said_words = [upto(s) for s in samples]
    given_words = [[upto(r) for r in references[p]] for p in pictures]
    seconds, value = timed(lambda: plain_cider(said_words, given_words, known, len(numbers)), repeats)
    table.add("reward of a step", "plain", seconds, value, want)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    said, given = captions(options.pictures)
    table = Table()
    tokenizer(table, given, options.repeats)
    totals = scorers(table, said, given, options.repeats)
    reward(table, said, given, options.repeats)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table.rows[0]))
        writer.writeheader()
        writer.writerows(table.rows)
    rival = "pycocoevalcap" if "pycocoevalcap" in totals else "plain"
    faster = totals[rival] / totals["clipvil"]
    print(f"the three scorers: {faster:.1f} times as fast as {rival}; largest difference {table.worst:.1e}")
    return 0 if table.worst <= TOLERANCE and faster >= FASTER else 1


if __name__ == "__main__":
    sys.exit(main())
