"""Addresses of servers: what is refused, what is shown, and which key goes where."""

import pytest

from anomreason.detector import DetectOptions, set_up
from anomreason.errors import UsageError
from anomreason.vlm.endpoint.address import NO_KEY, checked_url, key_for, key_name, proxy_of, redacted_url


@pytest.mark.parametrize(
    "url",
    [
        "user:hunter2@host/v1",
        "https://user:hunter2@host/v1",
        "https://hunter2@host/v1",
        "https://host/v1#hunter2",
        "host/v1?key=hunter2",
        "host/v1#hunter2",
        "hunter2:x@host",
        "ftp://a:hunter2@host",
    ],
)
def test_a_secret_in_an_address_is_refused_and_never_shown(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked_url(url)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in redacted_url(url)
    assert "host" in redacted_url(url)


def test_a_query_is_taken_and_not_shown() -> None:
    assert checked_url("https://host/v1?api-version=1&key=hunter2")
    assert redacted_url("https://host/v1?api-version=1&key=hunter2") == "https://host/v1"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.openai.com/v1", "OPENAI_API_KEY"),
        ("https://eu.api.openai.com/v1", "OPENAI_API_KEY"),
        ("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
        ("https://x.openai.azure.com/openai", "AZURE_OPENAI_API_KEY"),
        ("http://127.0.0.1:8000/v1", None),
        ("http://api.openai.com/v1", None),
        ("https://notopenai.com/v1", None),
        ("https://openai.com.example.org/v1", None),
        ("https://my-server.example/v1", None),
    ],
)
def test_a_key_goes_to_the_server_it_is_for(url: str, name: str | None) -> None:
    assert key_name(url, None) == name
    assert key_name(url, "MINE") == "MINE"


def test_a_key_is_sent_where_it_was_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    assert key_for("http://127.0.0.1:8000/v1", None) == NO_KEY
    assert key_for("http://127.0.0.1:8000/v1", "OPENAI_API_KEY") == "sk-1"
    monkeypatch.delenv("MINE", raising=False)
    with pytest.raises(UsageError, match="MINE"):
        key_for("http://127.0.0.1:8000/v1", "MINE")


def test_a_proxy_is_named_without_its_password_and_never_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://me:hunter2@proxy:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    assert proxy_of("https://api.openai.com/v1") == "http://proxy:3128"
    assert proxy_of("https://inside.example/v1") is None
    for host in ("127.0.0.1", "localhost", "[::1]"):
        assert proxy_of(f"https://{host}:8000/v1") is None


@pytest.mark.parametrize("url", ["user:hunter2@host/v1", "http://host/v1#hunter2"])
def test_a_refused_address_leaves_nothing_behind(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        set_up("m", DetectOptions(base_urls=(url,)))
    assert "hunter2" not in str(caught.value)
