from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import stdistill as sd
from stdistill._cli import main
from stdistill.encoders import _registry


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["encoders", *arguments])


def test_list(attempts: list[Any]) -> None:
    result = run()
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert max(map(len, lines)) <= 120
    rows = {line.split()[0]: line for line in lines if line}
    assert set(sd.encoders.list().index) <= rows.keys()
    assert rows["uni2-h"].split() == ["uni2-h", "1536", "224", "CC-BY-NC-ND-4.0", "yes", "no"]
    assert rows["texture"].split() == ["texture", "276", "any", "BSD-3-Clause", "no", "yes"]
    assert rows["midnight"].split()[-2:] == ["?", "no"]  # sources disagree on whether it is gated
    assert attempts == []


def test_list_of_a_machine_with_weights(uni2_h_on_disk: str, attempts: list[Any]) -> None:
    rows = {row["name"]: row for row in json.loads(run("--json").output)}
    assert rows.keys() == set(sd.encoders.list().index)
    assert {name for name, row in rows.items() if row["at_hand"]} == {"texture", "uni2-h"}
    assert rows["uni2-h"]["dim"] == 1536
    assert rows["texture"]["input_px"] is None
    assert attempts == []


def test_built_in(attempts: list[Any]) -> None:
    result = run("texture")
    assert result.exit_code == 0
    assert "built in and needs no weights" in result.output
    assert attempts == []


@pytest.mark.parametrize("name", ["uni2-h", "auto"])
def test_weights_on_disk(name: str, uni2_h_on_disk: str, attempts: list[Any]) -> None:
    result = run(name)
    assert result.exit_code == 0
    assert "Its weights are on this machine." in result.output
    assert f"revision    {uni2_h_on_disk}" in result.output
    assert "commercial  no" in result.output
    assert attempts == []


def test_gated_without_a_token(attempts: list[Any]) -> None:
    result = run("uni2-h")
    assert result.exit_code == 1
    assert "not logged in" in result.output
    assert "`hf auth login`" in result.output
    assert "https://huggingface.co/MahmoodLab/UNI2-h" in result.output
    assert attempts == []


def test_open_weights_without_a_network(attempts: list[Any]) -> None:
    """Also of open weights the hub is asked: that they are open does not say that they can be had from here."""
    result = run("phikon-v2", "--json")
    found = json.loads(result.output)
    assert result.exit_code == 1
    assert attempts
    assert (found["name"], found["available"], found["at_hand"]) == ("phikon-v2", False, False)
    assert "could not be reached" in found["reason"]


def test_hub_grants(attempts: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from stdistill.encoders import _access

    monkeypatch.setattr(_access, "_ask_hub", lambda *_: "c0ffee")
    result = run("phikon-v2")
    assert result.exit_code == 0
    assert "c0ffee" in result.output
    assert "downloaded when they are first used" in result.output


def test_access_to_an_encoder_with_code_of_its_own(attempts: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether its weights can be had is asked; its code is neither fetched nor run."""
    from stdistill.encoders import _access

    monkeypatch.setattr(_access, "_ask_hub", lambda *_: "c0ffee")
    result = run("hibou-b")
    assert result.exit_code == 0, result.output
    assert "c0ffee" in result.output
    assert attempts == []


def test_a_run_with_code_from_a_hub(
    attempts: list[Any], bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wants to be allowed; then it gets as far as the weights."""
    monkeypatch.setattr(_registry, "_own", {})
    command = ["run", str(bundle), "--out", str(tmp_path / "run"), "--k", "3", "--encoder", "hibou-b"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert "--trust-remote-code" in result.output
    assert attempts == []
    result = CliRunner().invoke(main, [*command, "--trust-remote-code"])
    assert result.exit_code == 1
    assert "--trust-remote-code" not in result.output
    assert "The weights of 'hibou-b' cannot be had" in result.output
    assert attempts


@pytest.mark.parametrize("command", ["run", "evaluate", "predict"])
def test_who_may_run_code(command: str) -> None:
    """Where an encoder is computed."""
    found = main.get_command(click.Context(main), command)
    options = [each for each in found.params if "--trust-remote-code" in each.opts]
    assert [each.is_flag for each in options] == [True]


def test_unknown_name(attempts: list[Any]) -> None:
    result = run("uni3")
    assert result.exit_code == 1
    assert "There is no encoder 'uni3'" in result.output
    assert "Did you mean" in result.output
    assert attempts == []
