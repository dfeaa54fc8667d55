"""What `anomreason serve` refuses before it serves, and the tokens that it makes."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anomreason.cli import app
from anomreason.errors import UsageError
from anomreason.serve.clients import read_clients
from anomreason.web.tokens import hashed

World = Callable[..., Path]


def test_a_token_is_shown_once_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    made = [
        CliRunner().invoke(app, ["serve", "--tokens", str(file), "--add-token", name]).stdout.strip()
        for name in ("ada", "ben")
    ]
    clients = read_clients(file)
    assert [clients[name].sha256 for name in ("ada", "ben")] == [hashed(token) for token in made]
    assert all(len(token) > 40 and token not in file.read_text() for token in made)
    assert file.stat().st_mode & 0o077 == 0
    with pytest.raises(UsageError, match="a token 'ada' already"):
        CliRunner().invoke(app, ["serve", "--tokens", str(file), "--add-token", "ada"], catch_exceptions=False)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--port", "0"], "--model is missing"),
        (["--model", "SIM", "--host", "0.0.0.0", "--port", "0"], "reached from other machines, so it needs --tokens"),
        (["--model", "SIM", "--add-token", "ada"], "--add-token needs --tokens"),
        (["--model", "SIM", "--tokens", "nowhere.toml"], "cannot be read"),
        (["--model", "SIM", "--database", "mysql://x/y", "--port", "0"], "is not PostgreSQL"),
        (["--model", "SIM", "--max-cost", "3"], "costs nothing"),
    ],
)
def test_what_cannot_be_served_is_refused_with_what_to_do(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    model = f"sim:{world(1)}"
    with pytest.raises(UsageError, match=says):
        CliRunner().invoke(app, ["serve", *(model if o == "SIM" else o for o in options)], catch_exceptions=False)


def test_a_dollar_budget_needs_a_price(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    CliRunner().invoke(app, ["serve", "--tokens", str(file), "--add-token", "ada"])
    file.write_text(file.read_text().replace("# max_cost", "max_cost"))
    command = ["serve", "--model", "my-model", "--base-url", "http://127.0.0.1:9/v1", "--tokens", str(file)]
    with pytest.raises(UsageError, match=r"tokens.ada has max_cost, but the price of my-model is not known"):
        CliRunner().invoke(app, command, catch_exceptions=False)
