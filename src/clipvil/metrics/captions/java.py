"""METEOR 1.5 and SPICE 1.0 through the Java programs that the package `pycocoevalcap` brings (the extra `[java]`).

Nothing is downloaded: SPICE also needs Stanford CoreNLP 3.6.0, which that package fetches once when asked.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from clipvil.errors import ClipvilError, DataError
from clipvil.metrics.captions.ngrams import Floats

# Whatever the machine's locale is: numbers with a point, text in UTF-8.
_PLAIN = ("-Duser.language=en", "-Duser.country=US", "-Dfile.encoding=UTF-8")
CORENLP = "stanford-corenlp-3.6.0.jar"


class JavaError(ClipvilError):
    """A metric that needs Java cannot be computed: no Java, no package, or the program failed."""


def meteor(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, Floats]:
    """METEOR of tokenised captions: for the corpus, and of each (N,).

    The corpus value is computed by METEOR from sums over all captions, so it is not the mean. Raises JavaError.
    """
    jar = _package("METEOR") / "meteor" / "meteor-1.5.jar"
    command = [_java("METEOR"), *_PLAIN, "-Xmx2G", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
    with _running(command, jar.parent) as (to_java, from_java):
        statistics = [
            _ask(to_java, from_java, " ||| ".join(("SCORE", *map(_clean, given), _clean(said))))
            for said, given in zip(hypotheses, references, strict=True)
        ]
        first = _ask(to_java, from_java, " ||| ".join(("EVAL", *statistics)))
        values = [first, *(_read(from_java) for _ in statistics)]
    try:
        scores = [float(value) for value in values]
    except ValueError:
        raise JavaError(f"METEOR answered {values[0]!r} where a number was due") from None
    return scores[-1], np.array(scores[:-1])


def spice(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, Floats]:
    """SPICE of tokenised captions: the mean, and of each (N,); NaN where SPICE gives none. Raises JavaError."""
    folder = _package("SPICE") / "spice"
    if not (folder / "lib" / CORENLP).exists():
        raise JavaError(
            f"SPICE needs {CORENLP}, which is not in {folder / 'lib'}; fetch it once (about 385 MB) with "
            "`python -c 'from pycocoevalcap.spice.get_stanford_models import get_stanford_models as get; get()'`"
        )
    rows = [
        {"image_id": number, "test": said, "refs": list(given)}
        for number, (said, given) in enumerate(zip(hypotheses, references, strict=True))
    ]
    with tempfile.TemporaryDirectory(prefix="clipvil-spice-") as scratch:
        asked, told = Path(scratch, "in.json"), Path(scratch, "out.json")
        asked.write_text(json.dumps(rows), encoding="utf-8")
        Path(scratch, "cache").mkdir()
        command = [_java("SPICE"), *_PLAIN, "-Xmx8G", "-jar", str(folder / "spice-1.0.jar"), str(asked)]
        command += ["-cache", str(Path(scratch, "cache")), "-out", str(told), "-subset", "-silent"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode or not told.exists():
            raise JavaError(f"SPICE failed: {_last_line(done.stderr)}")
        return spice_results(json.loads(told.read_text(encoding="utf-8")), len(rows))


def spice_results(results: Sequence[dict[str, object]], count: int) -> tuple[float, Floats]:
    """The F scores in SPICE's output file, in the order they were asked for. Raises DataError when one is missing."""
    scores = np.full(count, np.nan)
    seen: set[int] = set()
    for item in results:
        number, values = item["image_id"], item["scores"]
        assert isinstance(number, int) and isinstance(values, dict)
        seen.add(number)
        value = values["All"]["f"]
        scores[number] = float(value) if isinstance(value, int | float) else np.nan
    if len(seen) != count:
        raise DataError(f"SPICE answered for {len(seen)} of {count} captions")
    return float(scores.mean()), scores


def _clean(sentence: str) -> str:
    # The bars separate sentences, a line break would end the request.
    return " ".join(sentence.replace("|||", "").split())


@contextlib.contextmanager
def _running(command: Sequence[str], folder: Path) -> Iterator[tuple[IO[str], IO[str]]]:
    """A Java program that answers lines on its standard output; what it complains about goes to a file."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            encoding="utf-8",
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            yield process.stdin, process.stdout
        except (BrokenPipeError, EOFError):
            process.kill()
            process.wait()
            complaints.seek(0)
            raise JavaError(f"METEOR stopped: {_last_line(complaints.read())}") from None
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()


def _ask(to_java: IO[str], from_java: IO[str], line: str) -> str:
    to_java.write(line + "\n")
    to_java.flush()
    return _read(from_java)


def _read(from_java: IO[str]) -> str:
    line = from_java.readline()
    if not line:
        raise EOFError
    return line.strip()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _java(metric: str) -> str:
    java = shutil.which("java")
    if java is None:
        raise JavaError(f"{metric} needs Java, and there is no `java` on the PATH; install a JRE (8 or later)")
    return java


def _package(metric: str) -> Path:
    found = importlib.util.find_spec("pycocoevalcap")
    places = list(found.submodule_search_locations or ()) if found is not None else []
    if not places:
        raise JavaError(f"{metric} needs the package pycocoevalcap; install it with `pip install 'clipvil[java]'`")
    return Path(places[0])
