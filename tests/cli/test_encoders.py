"""`clipvil encoders`: the table, the facts of one, and wrong names."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from clipvil.cli.encoders import register
from clipvil.encoders.weights import UntrainedWarning
from clipvil.errors import EncoderError, UsageError


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer(pretty_exceptions_enable=False)
    made.callback()(lambda: None)
    register(made)
    return made


def test_the_table_has_a_line_an_encoder(app: typer.Typer) -> None:
    done = CliRunner().invoke(app, ["encoders", "mini/*"])
    assert done.exit_code == 0
    lines = done.stdout.strip().splitlines()
    assert [line.split() for line in lines if line.startswith("mini/")] == [
        ["mini/contrastive", "packaged"],
        ["mini/annotated", "packaged"],
        ["mini/random", "untrained"],
    ]


def test_a_pattern_without_match_names_the_nearest(app: typer.Typer) -> None:
    done = CliRunner().invoke(app, ["encoders", "mini/contrstive"])
    assert isinstance(done.exception, UsageError)
    assert "mini/contrastive" in str(done.exception)


def test_the_facts_of_one(app: typer.Typer) -> None:
    with pytest.warns(UntrainedWarning):
        done = CliRunner().invoke(app, ["encoders", "timm/test_resnet:random", "--about", "--layer", "stage:2"])
    assert done.exit_code == 0
    facts = dict(line.split(None, 1) for line in done.stdout.strip().splitlines())
    assert facts["layer"] == "stage:2"
    assert "channels" in facts["grid"]
    assert len(facts["fingerprint"]) == 16


def test_the_facts_of_none(app: typer.Typer) -> None:
    done = CliRunner().invoke(app, ["encoders", "timm/no_such_net:random", "--about"])
    assert isinstance(done.exception, EncoderError)
