"""Facts about servers with a short name: a preset gives the address, the key and what is known of the server."""

import re
import typing
from pathlib import Path

import pytest

from anomreason.agent.boxes import CONVENTIONS
from anomreason.detector import DetectOptions, set_up
from anomreason.errors import UsageError
from anomreason.vlm.endpoint.address import checked_url
from anomreason.vlm.endpoint.openai import OpenAIVLM
from anomreason.vlm.endpoint.presets import left_out, near_spec, own_server, preset_of, presets, split_preset
from anomreason.vlm.ledger import FREE
from anomreason.vlm.opening import open_vlm
from anomreason.vlm.protocol import Request, Sampling, Tag

KEYS = {preset.key for preset in presets().values() if preset.key}


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://one.openai.azure.com/")


@pytest.mark.parametrize("name", presets())
def test_a_preset_gives_a_detector_its_address_key_and_habits(name: str) -> None:
    preset, setup = presets()[name], set_up(f"{name}:a/model:7b")
    assert setup.model == "a/model:7b"
    assert setup.options.base_urls == (checked_url(preset.url()),)
    assert setup.options.api_key_env == preset.key
    assert (setup.price is FREE) == preset.own
    assert setup.options.boxes == (preset.boxes or "auto")
    assert setup.options.boxes in CONVENTIONS
    assert preset.tried or re.match(r"https://\S+$", preset.source)
    opened = typing.cast(OpenAIVLM, open_vlm(f"{name}:a/model:7b"))
    assert opened.name == "a/model:7b"


def test_the_docs_list_every_server_with_its_address_and_key() -> None:
    page = (Path(__file__).parents[3] / "docs/servers.md").read_text(encoding="utf-8")
    for name, preset in presets().items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}:` |")]
        assert preset.base_url.replace("${AZURE_OPENAI_ENDPOINT}", "") in row
        assert (preset.key or "none") in row
        assert f"\nanomreason detect photos/ --model {name}:" in page.partition("## Server by server")[2]


def test_what_the_caller_sets_is_kept() -> None:
    given = {"base_urls": ("http://gpu1:11434/v1",), "in_flight": 2, "boxes": "pixels", "api_key_env": "MY_KEY"}
    for spec in ("ollama:x", "gemini:x"):
        options = set_up(spec, DetectOptions.of(given), given).options
        assert {name: getattr(options, name) for name in given} == given


def test_a_key_is_not_sent_to_a_server_that_the_caller_names() -> None:
    given = {"base_urls": ("http://gpu1:8000/v1",)}
    assert set_up("gemini:x", DetectOptions.of(given), given).options.api_key_env is None


def test_the_same_run_is_meant_with_and_without_the_short_name() -> None:
    given = {"base_urls": ("http://127.0.0.1:8000/v1",)}
    long = set_up("Qwen/Qwen2.5-VL-7B-Instruct", DetectOptions.of(given), given)
    assert set_up("vllm:Qwen/Qwen2.5-VL-7B-Instruct").deciding() == long.deciding()


def test_what_a_known_host_refuses_is_never_sent_whatever_name_led_there() -> None:
    request = Request(("?",), Tag("a", "b", "c"), {"type": "object"}, Sampling(seed=1, logprobs=True))
    model = open_vlm("claude", options=typing.cast(typing.Any, _at("https://api.anthropic.com/v1")))
    assert typing.cast(OpenAIVLM, model).chat.rejected.sendable(request) == {"max_tokens", "temperature"}
    assert left_out(("http://127.0.0.1:11434/v1",)) == set()


def _at(url: str) -> object:
    from anomreason.vlm.protocol import VLMOptions

    return VLMOptions(base_urls=(url,))


@pytest.mark.parametrize("spec", ["gpt-4o", "qwen2.5vl:7b", "openai/gpt-4o", "local:x", "sim:y.json", "tiny"])
def test_other_names_are_no_presets(spec: str) -> None:
    assert preset_of(spec) is None
    assert split_preset(spec) == (None, spec)


@pytest.mark.parametrize(
    ("spec", "variable", "message"),
    [
        ("ollama:", "", "names no model; write ollama:NAME"),
        ("azure:x", "AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_ENDPOINT is not set"),
        (
            "gemini:x",
            "GEMINI_API_KEY",
            "'GEMINI_API_KEY' with the key for generativelanguage.googleapis.com is not set",
        ),
    ],
)
def test_what_is_missing_is_named(spec: str, variable: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(UsageError, match=re.escape(message)):
        open_vlm(spec)


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        ("ollama", "ollama:NAME"),
        ("olama:qwen2.5vl:7b", "ollama:qwen2.5vl:7b"),
        ("tinny", "tiny"),
        ("gpt-4o", None),
        ("qwen2.5vl:7b", None),
    ],
)
def test_without_a_key_the_spec_that_may_be_meant_is_named(
    spec: str, meant: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert near_spec(spec) == meant
    with pytest.raises(UsageError, match="no key for OpenAI") as told:
        open_vlm(spec)
    assert str(told.value).partition("Did you mean ")[2] == (f"--model {meant}?" if meant else "")


def test_a_server_of_ones_own_is_known_by_its_usual_address() -> None:
    assert own_server(presets()["ollama"].base_url + "/") == "Ollama"
    assert own_server("http://gpu1:11434/v1") is None
    assert own_server(presets()["gemini"].base_url) is None
