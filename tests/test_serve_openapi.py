"""The HTTP interface against its own description: whatever is asked, the answer is one that the description names."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from muybridge.engine.train import train
from muybridge.serve.config import Limits, ServeConfig
from muybridge.serve.run import load_all
from tests.serving import serving
from tests.tiny import tiny_recipe, write_recordings

LIMITS = Limits(bytes=50_000, frames=100, seconds=10, windows=500, idle_seconds=5)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recordings(tmp_path_factory.mktemp("openapi") / "skeletons")


@pytest.fixture(scope="module")
def client(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    run = train(tiny_recipe(recordings, epochs=1), tmp_path_factory.mktemp("run") / "hands").path
    with serving(load_all([run], "cpu"), ServeConfig(port=0, jobs=2, limits=LIMITS)) as (client, _):
        yield client


@pytest.fixture(scope="module")
def description(client: httpx.Client) -> dict[str, Any]:
    return client.get("/openapi.json").json()


def operations(description: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Path, method and description of everything that can be asked."""
    return [(path, method, one) for path, methods in description["paths"].items() for method, one in methods.items()]


def values_of(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a schema of a parameter allows."""
    if "anyOf" in schema:
        return st.one_of(*(values_of(one) for one in schema["anyOf"] if one.get("type") != "null"))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    low, high = schema.get("minimum", 0), schema.get("maximum", 1000)
    match schema["type"]:
        case "integer":
            return st.integers(low, high)
        case "number":
            return st.floats(low, high, allow_nan=False)
        case "array":
            return st.lists(values_of(schema["items"]), max_size=2)
        case "string":
            return st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(["hands", "a.txt"])
    raise AssertionError(f"a parameter of type {schema['type']}")


ANYTHING = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["-1", "1e999", "nan", "inf", "0", "99999999999999999999", "true", "null", "[]", "../../etc/passwd", "%00"]
)


@st.composite
def queries(draw: st.DrawFn, operation: dict[str, Any]) -> str:
    """Some of the parameters, most of them as they should be."""
    pairs: list[tuple[str, Any]] = []
    for parameter in operation.get("parameters", []):
        assert parameter["in"] == "query"
        kind = draw(st.sampled_from(["left out", "left out", "as described", "as described", "anything"]))
        if kind != "left out":
            value = draw(values_of(parameter["schema"]) if kind == "as described" else ANYTHING)
            pairs += [(parameter["name"], each) for each in (value if isinstance(value, list) else [value])]
    return urlencode(pairs)


def check(response: httpx.Response, operation: dict[str, Any], description: dict[str, Any]) -> None:
    """The status and the body are described, and an error has three parts."""
    status = str(response.status_code)
    assert status in operation["responses"], f"{status} is not described: {response.text}"
    assert response.status_code != 500, response.text
    content = operation["responses"][status].get("content", {})
    kind = response.headers["content-type"].partition(";")[0]
    # The forms of other programs, which format= asks for, have descriptions elsewhere.
    if kind == "application/json" and "application/json" in content and "activitynet" not in str(response.url):
        schema = {"components": description["components"], **content["application/json"].get("schema", {})}
        Draft202012Validator(schema).validate(response.json())
    if response.status_code >= 400:
        error = response.json()["error"]
        assert error["problem"]
        assert error["expected"]
        assert error["hint"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(data=st.data())
def test_every_answer_is_described(client: httpx.Client, description: dict[str, Any], recordings: Path, data) -> None:
    path, method, operation = data.draw(st.sampled_from(operations(description)))
    query = data.draw(queries(operation))
    body, headers = b"", {}
    if method == "post":
        whole = min(recordings.iterdir()).read_bytes()
        body = data.draw(st.sampled_from([whole, whole, whole[:300], b"", bytes(60_000)]) | st.binary(max_size=200))
        kind = data.draw(st.sampled_from(["", "text/plain", "multipart/form-data; boundary=x", "video/mp4"]))
        headers = {"content-type": kind} if kind else {}
    response = client.request(method.upper(), f"{path}?{query}", content=body, headers=headers)
    check(response, operation, description)


def test_other_methods_and_paths_are_refused_in_three_parts(client: httpx.Client, description: dict[str, Any]) -> None:
    for path, method in itertools.product([*description["paths"], "/v2/predict"], ["PUT", "DELETE", "PATCH"]):
        response = client.request(method, path)
        assert response.status_code in (404, 405)
        assert set(response.json()["error"]) == {"problem", "expected", "hint", "file"}


def test_what_is_described_can_be_asked(client: httpx.Client, description: dict[str, Any], recordings: Path) -> None:
    """With a good recording and no parameters but its name, everything answers 200 that is for skeletons."""
    film = min(recordings.iterdir())
    for path, method, operation in operations(description):
        sent = {"content": film.read_bytes(), "params": {"filename": film.name}} if method == "post" else {}
        response = client.request(method.upper(), path, **sent)
        assert response.status_code == (422 if path == "/v1/maps" else 200), response.text  # of videos alone
        check(response, operation, description)
