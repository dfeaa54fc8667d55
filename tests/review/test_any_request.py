"""Whatever is sent to any route that the OpenAPI description names, the server answers, and says what is wrong."""

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode
from tests.review.visiting import Visit, visits

from anomreason.dataset.store import Store

EXAMPLES = 4
"""Of each route and each way to make them; 150 of each found no answer of 500 either."""


def test_no_request_brings_the_server_down(sqlite_store: Store) -> None:
    with visits(sqlite_store, images=5) as visit:
        owner = visit["owner"]
        schema = schemathesis.openapi.from_dict(owner.client.app.openapi())  # type: ignore[attr-defined]
        routes = [result.ok() for result in schema.get_all_operations()]
        assert len(routes) > 12
        for route in routes:
            bounded = bool(route.body or list(route.iter_parameters()))
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE) if bounded else (GenerationMode.POSITIVE,):
                send_any(owner, route.as_strategy(generation_mode=mode))


def send_any(visit: Visit, cases: object) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(case=cases)  # type: ignore[arg-type]
    def send(case: Case) -> None:
        made = case.as_transport_kwargs(base_url="http://testserver")
        sent = {key: made[key] for key in ("method", "url", "json", "params") if made.get(key) is not None}
        content = made.get("data")
        answer = visit.client.request(**sent, content=content, headers=visit.headers)
        assert answer.status_code < 500, (sent, answer.text)
        assert answer.status_code < 400 or set(answer.json()) == {"error"}, answer.text

    send()
