"""The address of a server: checked, shown without secrets, and the key that is for it.

>>> redacted_url("https://me:secret@host/v1?key=secret")
'https://host/v1'
"""

from __future__ import annotations

import ipaddress
import os
import urllib.request
from urllib.parse import urlsplit

from anomreason.errors import UsageError

OPENAI_URL = "https://api.openai.com/v1"
NO_KEY = "none"
"""What is sent in a key's place to a server that needs none."""
_KEY_OF_HOST = {
    "openai.com": "OPENAI_API_KEY",
    "openrouter.ai": "OPENROUTER_API_KEY",
    "anthropic.com": "ANTHROPIC_API_KEY",
    "googleapis.com": "GEMINI_API_KEY",
    "mistral.ai": "MISTRAL_API_KEY",
    "groq.com": "GROQ_API_KEY",
    "together.xyz": "TOGETHER_API_KEY",
    "fireworks.ai": "FIREWORKS_API_KEY",
    "deepseek.com": "DEEPSEEK_API_KEY",
    "x.ai": "XAI_API_KEY",
    "huggingface.co": "HF_TOKEN",
    "aliyuncs.com": "DASHSCOPE_API_KEY",
    "azure.com": "AZURE_OPENAI_API_KEY",
}
"""The environment variable whose key is for a host and the hosts below it. No key goes to any other host unasked."""


class NoKey(UsageError):
    """No key for OpenAI, where models of no known kind are looked for."""


def checked_url(url: str) -> str:
    """Raises UsageError for what is no base URL; the message leaves out what may hold a password."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isascii() or not url.isprintable() or " " in url:
        raise UsageError(f"{redacted_url(url)!r} is not a base URL; give one like http://127.0.0.1:8000/v1")
    if "@" in parts.netloc or parts.fragment or url.endswith("#"):
        raise UsageError(
            f"a base URL holds no user, password or #: {parts.hostname!r}; put the key into an environment variable "
            "and name that with --api-key-env"
        )
    return url


def server_urls(given: tuple[str, ...]) -> tuple[str, ...]:
    """The servers to use, each once: those given, else the one of OPENAI_BASE_URL, else OpenAI's own."""
    urls = given or tuple(filter(None, [os.environ.get("OPENAI_BASE_URL", "").strip()])) or (OPENAI_URL,)
    return tuple(map(checked_url, dict.fromkeys(urls)))


def redacted_url(url: str) -> str:
    """A URL without user name, password, query and fragment, which may hold keys; also one without a scheme."""
    head, mark, rest = url.rpartition("://")
    where = rest.partition("?")[0].partition("#")[0].rpartition("@")[2]
    return f"{head.rpartition('@')[2]}{mark}{where}"


def key_name(url: str, named: str | None) -> str | None:
    """The environment variable that holds the key for a server: the one named, else the one of its host, else none."""
    host = (urlsplit(url).hostname or "").lower()
    own = next((name for end, name in _KEY_OF_HOST.items() if host == end or host.endswith("." + end)), None)
    return named or (own if url.startswith("https://") else None)


def key_for(url: str, named: str | None) -> str:
    """The key for a server, `NO_KEY` without one. Raises UsageError for a key that cannot be sent or is not there."""
    name = key_name(url, named)
    key = os.environ.get(name, "").strip() if name else ""
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError(f"{name} holds spaces, line breaks or non-ASCII characters; set it to the bare key")
    if not key and named:
        raise UsageError(
            f"the environment variable {named!r} with the key for {urlsplit(url).hostname} is not set: set it, or name "
            "the one that holds the key with --api-key-env"
        )
    if not key and url == OPENAI_URL:
        raise NoKey("no key for OpenAI: set OPENAI_API_KEY, or pass --base-url for a server of your own")
    return key or NO_KEY


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def proxy_of(url: str) -> str | None:
    """The proxy that the environment names for a server, without its password; None for none and for this machine."""
    parts = urlsplit(url)
    if is_loopback(parts.hostname or "") or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return redacted_url(proxy) if proxy else None
