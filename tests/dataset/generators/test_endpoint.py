"""An images endpoint: what its answers become, what is asked again, and where the key goes."""

import re
from collections.abc import Iterator
from io import BytesIO

import pytest
from PIL import Image
from tests.dataset.generators.images_server import ImagesServer, drawn, images_server

from anomreason.dataset.generators.endpoint import EndpointGenerator
from anomreason.dataset.generators.protocol import Generated, ImageRequest
from anomreason.dataset.generators.recipe import GeneratorRecipe
from anomreason.errors import UsageError

KEY = "sk-a-key-of-the-tests"


@pytest.fixture
def server() -> Iterator[ImagesServer]:
    with images_server() as running:
        yield running


def recipe(server: ImagesServer, **part: object) -> GeneratorRecipe:
    endpoint = {"base_url": server.url, "model": "painter", "first_wait": 0.001, "retries": 2, **part}
    settings = {"quality": "low"}
    return GeneratorRecipe.model_validate(
        {"name": "painter", "width": 16, "height": 16, "endpoint": endpoint, "settings": settings}
    )


def made(server: ImagesServer, *prompts: str, **part: object) -> dict[str, Generated]:
    """What becomes of each prompt with seed 0."""
    generator = EndpointGenerator(recipe(server, **part))
    batches = [[ImageRequest(prompt, 0)] for prompt in prompts]
    return {one.request.prompt: one for results in generator.generate(batches) for one in results}


def test_an_image_comes_as_png_without_metadata_however_the_server_sends_it(server: ImagesServer) -> None:
    results = made(server, "a cup", "jpeg", "url", "data url", send_seed=True)
    assert {one.status for one in results.values()} == {"done"}
    for name, text in {"a cup": "a cup 0", "url": "url", "data url": "data url 0"}.items():
        found = results[name].image
        assert found is not None
        with Image.open(BytesIO(found.data)) as image:
            assert (image.format, image.info) == ("PNG", {})
            assert image.tobytes() == drawn(text).tobytes()
    assert results["jpeg"].image is not None
    assert results["jpeg"].image.data.startswith(b"\x89PNG")
    assert results["a cup"].notes == {"revised_prompt": "A photograph: a cup"}
    assert all(one.charged and one.seconds is not None for one in results.values())


def test_the_request_holds_what_the_recipe_says(server: ImagesServer) -> None:
    made(server, "a cup", send_seed=True)
    made(server, "a dog")
    asked = {"model": "painter", "n": 1, "size": "16x16", "quality": "low"}
    assert server.requests == [{"prompt": "a cup", "seed": 0, **asked}, {"prompt": "a dog", **asked}]


def test_what_may_pass_is_asked_again(server: ImagesServer) -> None:
    results = made(server, "once 429", "once 500", "once 503")
    assert {one.status for one in results.values()} == {"done"}
    assert set(server.asked.values()) == {2}

    busy = made(server, "always busy")["always busy"]
    assert (busy.status, busy.charged, busy.stop) == ("failed", False, False)
    assert busy.message == f"{server.url} answered 429 and gave no reason (tried 3 times)"
    assert server.asked["always busy"] == 3


@pytest.mark.parametrize(
    ("prompt", "status", "message", "charged", "stop"),
    [
        ("refused", "refused", r"answered 400: Your request was rejected by our safety system\.", False, False),
        ("black", "blank", r"the whole image is of one colour \(0, 0, 0\)", True, False),
        ("wait an hour", "failed", "answered 429.*asks to wait 60 minutes; run the same command again", False, False),
        ("bad size", "failed", r"size 7x7 is not one of ours; check the prompt, and the size", False, False),
        ("redirect", "failed", "answered 302.*redirects elsewhere.*check endpoint.base_url", False, True),
        ("gateway timeout", "failed", "answered 504", True, False),
        ("elsewhere", "failed", r"another server \(http://127.0.0.1:9/secret.png\).*response_format", True, True),
        ("missing file", "failed", "/files/missing was not sent: status 404", True, False),
        ("web page", "failed", "'<html>Welcome!</html>'; this is probably no .*: check endpoint.base_url", True, False),
        ("empty", "failed", "sent no image, but", True, False),
        ("no base64", "failed", r"sent an image that is no base64: '\*\*\*'", True, False),
        ("no image", "failed", "'the image in the answer' is a text file, not an image", True, False),
        ("huge", "failed", "is over 33,554,432 bytes; ask for smaller images", True, False),
        ("bomb", "failed", "is over 33,554,432 bytes; ask for smaller images", True, False),
    ],
)  # fmt: skip
def test_whatever_else_comes_is_a_result_with_its_reason(
    server: ImagesServer, prompt: str, status: str, message: str, charged: bool, stop: bool
) -> None:
    result = made(server, prompt)[prompt]
    assert (result.status, result.image, result.charged, result.stop) == (status, None, charged, stop)
    assert re.search(message, str(result.message))
    assert server.asked[prompt] == 1, "a request that may have been charged is not repeated"


def test_a_request_that_is_never_answered_ends_and_the_others_go_on(server: ImagesServer) -> None:
    results = made(server, "hang", "a cup", "a dog", timeout=4)
    assert [results[name].status for name in ("hang", "a cup", "a dog")] == ["failed", "done", "done"]
    assert results["hang"].charged
    assert "gave no answer within 4 s; raise endpoint.timeout" in str(results["hang"].message)


def test_a_server_that_is_down_is_named_and_charges_nothing(server: ImagesServer) -> None:
    result = made(server, "a cup", base_url="http://127.0.0.1:9/v1")["a cup"]
    assert (result.status, result.charged) == ("failed", False)
    assert "no connection to http://127.0.0.1:9/v1, is it running?" in str(result.message)


def test_requests_are_begun_only_as_others_end(server: ImagesServer) -> None:
    taken = 0

    def batches() -> Iterator[list[ImageRequest]]:
        nonlocal taken
        for n in range(9):
            taken += 1
            yield [ImageRequest(f"together {n}", 0)]

    generator = EndpointGenerator(recipe(server, in_flight=3))
    results = generator.generate(batches())
    next(results)
    assert taken == 3
    assert [one.status for batch in results for one in batch] == ["done"] * 8
    assert server.most_at_once == 3


def test_the_key_goes_to_its_server_and_into_no_message(server: ImagesServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAINTER_KEY", KEY)
    results = made(server, "url", "elsewhere", "redirect", "bad key", api_key_env="PAINTER_KEY")
    assert server.keys == {f"Bearer {KEY}"}
    assert all(KEY not in str(one) for one in results.values())
    assert "check PAINTER_KEY, and that it may use 'painter'" in str(results["bad key"].message)
    assert results["bad key"].stop

    assert "no key was sent" in str(made(server, "bad key")["bad key"].message)
    assert None in server.keys


def test_a_key_that_is_not_there_is_said_before_anything_is_sent(
    server: ImagesServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"generator 'painter': the environment variable 'NO_SUCH_KEY'.*is not set"):
        EndpointGenerator(recipe(server, api_key_env="NO_SUCH_KEY"))
    with pytest.raises(UsageError, match=r"'ftp://host' is not a base URL"):
        EndpointGenerator(recipe(server, base_url="ftp://host"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UsageError, match="generator 'painter': no key for OpenAI; put it into OPENAI_API_KEY"):
        EndpointGenerator(recipe(server, base_url="https://api.openai.com/v1"))
