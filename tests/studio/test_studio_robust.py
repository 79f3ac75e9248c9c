"""The studio under odd requests (schemathesis over its schema) and under SIGKILL."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("fastapi", reason="the studio's extra is not installed")

from humansd.benchmarks.fuzz_studio import benchmark_fuzz_studio
from humansd.benchmarks.studio_load import benchmark_studio
from humansd.benchmarks.studio_throughput import benchmark_throughput
from humansd.studio.app import create_app
from studio_server import client_of, encoded, limits, settings_of, tiny_model
from tiny_pipeline import standing

EXAMPLES = 12  # of each operation


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


def test_a_kill_under_load_loses_no_accepted_job(model, tmp_path):
    told = benchmark_studio(tmp_path, model=model, clients=8, seconds=4, steps=30, kills=1)
    assert " 0 lost, 0 doubled, 0 wrong; 1 kills" in told
    assert not told.startswith("0 jobs")


def test_damaged_requests_break_nothing_and_touch_no_file(model, tmp_path):
    told = benchmark_fuzz_studio(60, 0, tmp_path / "failed", model=model)
    assert told.startswith("60 mutants: ")
    assert "; 0 foreign files touched" in told
    assert not (tmp_path / "failed").exists()


def test_what_batching_gains_is_told_beside_the_pipeline(model, tmp_path):
    try:
        told = benchmark_throughput(tmp_path, model=model, batches=(1, 4), steps=8, rounds=1)
    except ValueError as error:  # a busy machine; what is told counts here
        told = str(error)
    rows = [line.split("|")[1:-1] for line in told.splitlines() if line.startswith("|")][2:]
    assert [row[0].strip() for row in rows] == ["1", "4"]
    assert all(float(cell) > 0 for row in rows for cell in row)
    assert float(rows[1][3]) > 1.5  # images of several clients are drawn together


def test_the_schema_is_kept_to_and_no_generated_request_breaks_the_server(model):
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    from hypothesis import HealthCheck, Phase, given, settings

    few = limits(steps=3, count=2, side=64, pixels=4096)
    app = create_app(settings_of(model, limits=few))
    with client_of(settings_of(model, limits=few)) as client:
        app = client.app
        schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
        tried = 0
        for result in schema.get_all_operations():
            operation = result.ok()

            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                phases=[Phase.explicit, Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy())
            def ask(case):
                nonlocal tried
                tried += 1
                sent = case.as_transport_kwargs(base_url="http://testserver")
                sent.pop("cookies", None)
                if sent.get("files"):  # numbers, which the client does not write into a form
                    sent["files"] = [
                        (name, (file, value if isinstance(value, bytes) else str(value)))
                        for name, (file, value) in sent["files"]
                    ]
                answer = client.request(**sent)
                assert answer.status_code < 500 or answer.status_code == 503, (sent, answer.text)

            ask()
    assert app.state.engine.queue.closed
    assert tried > 100


def test_mutated_bodies_break_nothing(model):
    draw = random.Random(0)
    image = encoded(__import__("numpy").zeros((16, 16, 3), "uint8"))
    import json

    bodies = [
        ("/v1/generate", json.dumps({"prompt": "a man", "pose": standing().to_json(), "image": image}).encode()),
        ("/v1/poses/read", json.dumps(standing().to_json()).encode()),
        ("/v1/poses/detect", __import__("base64").b64decode(image)),
        ("/v1/poses/export", json.dumps({"poses": [{"name": "a", "pose": standing().to_json()}]}).encode()),
        (
            "/sdapi/v1/img2img",
            json.dumps({"prompt": "a", "init_images": [image], "steps": 2, "width": 16, "height": 16}).encode(),
        ),
        ("/controlnet/detect", json.dumps({"controlnet_input_images": [image]}).encode()),
    ]
    with client_of(settings_of(model, limits=limits(steps=3, count=2, side=64, pixels=4096))) as client:
        for number in range(180):
            path, body = bodies[number % len(bodies)]
            changed = bytearray(body)
            for _ in range(draw.randint(1, 4)):
                at = draw.randrange(len(changed))
                changed[at : at + draw.choice((0, 1, 1, 8))] = draw.randbytes(draw.choice((0, 1, 1, 4)))
            answer = client.post(path, content=bytes(changed), headers={"content-type": "application/json"})
            assert answer.status_code < 500, (path, bytes(changed), answer.text)
