"""Replicas on Ray: what one process answers, also while a replica is killed."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psutil
import pytest
import yaml

from convit.images.limits import VARIABLE
from convit.inference.options import RunOptions
from convit.scale.ray_cluster import here
from convit.serving.options import ServiceOptions, ServiceSetup
from convit.serving.replicas import TRIES, Front, Replica, build, replicated, resources_for
from convit.weights import create_model, save_weights
from tests.serving.conftest import NANO, Running

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray's own code
Start = Callable[..., AbstractContextManager[Running]]
EXAMPLE = Path(__file__).parents[2] / "examples" / "serve" / "ray.yaml"


class _Answer:
    """Of a replica; as with Ray's, it is not canceled with whoever waits for it."""

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self._task = asyncio.ensure_future(work)
        self.cancel = self._task.cancel

    def __await__(self) -> Generator[Any, None, Any]:
        return asyncio.shield(self._task).__await__()


class _Replicas:
    """Answer after so many of them died, and so many seconds."""

    def __init__(self, deaths: int = 0, seconds: float = 0) -> None:
        self.left, self.seconds = deaths, seconds
        self.asked = self.given_up = 0

    def remote(self, scope: dict[str, Any], body: bytes) -> _Answer:
        self.asked += 1
        return _Answer(self._answer(scope, body, dies=self.asked <= self.left))

    async def _answer(self, scope: dict[str, Any], body: bytes, *, dies: bool) -> dict[str, Any]:
        from ray.exceptions import ActorDiedError

        if dies:
            raise ActorDiedError
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        headers = [(b"x-asked-for", scope["method"].encode())]
        found = {"status": 200, "headers": headers, "body": body, "state": {}, "route": scope["path"]}
        return {**found, "batches": [("small", 0.5, [0.1, 0.2])]}


def _client(replicas: _Replicas) -> httpx.AsyncClient:
    app = Front(replicas, ServiceOptions(body_bytes=10)).app()
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


def test_replicas_share_one_precision() -> None:
    with pytest.raises(ValueError, match="'fastest', which may differ between processes; name one"):
        build({"models": [NANO], "run": {"precision": "fastest"}})


def test_a_replica_does_not_go_on_for_a_request_that_is_given_up() -> None:
    replicas = _Replicas(seconds=60)

    async def ask() -> httpx.Response:
        async with _client(replicas) as client:
            found = await client.post("/v1/classify", content=b"image", headers={"x-request-timeout": "0.1"})
            await asyncio.sleep(0.05)
            return found

    assert asyncio.run(ask()).json()["error"]["code"] == "deadline_exceeded"
    assert (replicas.asked, replicas.given_up) == (1, 1)


def test_a_request_has_one_id_also_behind_rays_proxy() -> None:
    from ray.serve._private.http_util import RequestIdMiddleware

    front = Front(_Replicas(), ServiceOptions())

    async def ask(app: Any) -> list[str]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            answer = await client.get("/healthz", headers={"x-request-id": "mine"})
            return answer.headers.get_list("x-request-id")

    for app in (front.app(), RequestIdMiddleware(front.__serve_build_asgi_app__())):
        assert asyncio.run(ask(app)) == ["mine"]


def test_a_replica_is_asked_for_a_head_as_for_the_whole() -> None:
    async def ask() -> list[httpx.Response]:
        async with _client(_Replicas()) as client:
            return [await client.head("/v1/models"), await client.head("/healthz")]

    of_replica, of_front = asyncio.run(ask())
    assert (of_replica.status_code, of_replica.headers["x-asked-for"], of_replica.content) == (200, "GET", b"")
    assert (of_front.status_code, of_front.content) == (200, b"")


@pytest.mark.parametrize("deaths", [0, 1, TRIES])
def test_a_request_whose_replica_dies_is_given_to_another(deaths: int) -> None:
    replicas = _Replicas(deaths)

    async def ask() -> tuple[httpx.Response, str]:
        async with _client(replicas) as client:
            assert (await client.post("/v1/classify", content=b"x" * 11)).status_code == 413
            assert (await client.get("/healthz", headers={"host": "evil.example"})).status_code == 421
            for path in ("/healthz", "/v2/health/live"):
                assert (await client.get(path)).status_code == 200
            return await client.post("/v1/classify", content=b"image"), (await client.get("/metrics")).text

    answer, metrics = asyncio.run(ask())
    assert replicas.asked == min(deaths + 1, TRIES)
    if deaths < TRIES:
        assert (answer.status_code, answer.content) == (200, b"image")
        assert 'convit_requests_total{route="/v1/classify",status="200"} 1.0' in metrics
        for counted in ("batch_images_sum", "queue_seconds_count"):
            assert f'convit_{counted}{{model="small"}} 2.0' in metrics
    else:
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "replica_lost")


def test_the_file_for_serve_deploy_is_what_ray_and_we_take(tmp_path: Path) -> None:
    from ray.serve.schema import ServeDeploySchema

    (application,) = ServeDeploySchema(**yaml.safe_load(EXAMPLE.read_text())).applications
    assert application.import_path == "convit.serving.replicas:build"
    front = build(application.args)
    replica = front._bound_deployment.init_args[0]._bound_deployment
    assert front._bound_deployment.ray_actor_options["num_cpus"] == 0
    assert front._bound_deployment._deployment_config.graceful_shutdown_timeout_s == 60
    assert {each.name for each in application.deployments} == {"Front", replica.name}
    # it would replace what suits the device
    assert not any("ray_actor_options" in each.model_fields_set for each in application.deployments)
    assert replica._deployment_config.autoscaling_config.max_replicas == 4
    (tmp_path / "keys").write_text("a-key-of-these-tests")
    assert "a-key" not in repr(build({"api_key_file": str(tmp_path / "keys")})._bound_deployment.init_args)
    (tmp_path / "keys").write_text("short")
    for wrong in ({"api_key_file": str(tmp_path / "keys")}, {"replicas": [2, 1]}, {"run": {"precision": "fp3"}}):
        with pytest.raises(ValueError, match=r"16 to 256|replicas are|precision"):
            build(wrong)


@pytest.mark.parametrize(
    ("device", "there", "reserved"),
    [
        ("auto", {"CPU": 8, "GPU": 2}, {"num_gpus": 1, "num_cpus": 0}),
        ("auto", {"CPU": 8}, {"num_cpus": 1}),
        ("auto", None, {"num_cpus": 1}),
        ("cpu", {"CPU": 8, "GPU": 2}, {"num_cpus": 1}),
        ("cuda", {"CPU": 8}, {"num_gpus": 1, "num_cpus": 0}),
    ],
)
def test_serve_deploy_reserves_what_a_replica_will_use(
    device: str, there: dict[str, float] | None, reserved: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: there is not None)
    monkeypatch.setattr(ray, "cluster_resources", lambda: there)
    front = build({"models": [NANO], "run": {"device": device}})
    assert front._bound_deployment.init_args[0]._bound_deployment.ray_actor_options == reserved
    with pytest.raises(ValueError, match="'cuda:1', but Ray shows each worker a GPU of its own"):
        resources_for(ServiceSetup(run=RunOptions(device="cuda:1")), _cluster({}, {}), is_own=True)


async def _answer_of_a_replica(asked: ServiceSetup, caller: Mapping[str, str], image: bytes) -> dict[str, Any]:
    scope = {"type": "http", "method": "POST", "path": "/v1/classify", "query_string": b"", "headers": [], "state": {}}
    replica = Replica.__new__(Replica)
    await replica.__init__(asked, caller)
    found = await replica(scope, image)
    await replica._running.__aexit__(None, None, None)
    return found


def test_replicas_have_the_limits_and_the_folder_of_whoever_called_and_tell_of_batches(
    cat: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_weights(tmp_path / "mine.safetensors", create_model(NANO, True))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "pixels=9999")
    caller = here()
    monkeypatch.chdir("/")
    monkeypatch.delenv(VARIABLE)
    found = asyncio.run(_answer_of_a_replica(ServiceSetup(models=("mine.safetensors",)), caller, cat))
    assert (found["status"], found["state"]["code"]) == (400, "invalid_image")
    assert b"9,999" in found["body"]
    ((model, seconds, waited),) = found["batches"]
    assert (model, seconds > 0, len(waited)) == ("mine.safetensors", True, 1)


def _cluster(there: dict[str, float], free: dict[str, float]) -> Any:
    return SimpleNamespace(cluster_resources=lambda: there, available_resources=lambda: free)


def test_replicas_share_the_cpus_of_a_machine_or_are_refused_where_a_cluster_has_too_few() -> None:
    two = ServiceSetup(replicas=(2, 4))
    assert resources_for(two, _cluster({"CPU": 1}, {"CPU": 1}), is_own=True) == {"num_cpus": 0}
    assert resources_for(two, _cluster({"CPU": 3}, {"CPU": 2}), is_own=False) == {"num_cpus": 1}
    with pytest.raises(ValueError, match="--replicas 2 needs a CPU for each, but the cluster has 3, 1 of them free"):
        resources_for(two, _cluster({"CPU": 3}, {"CPU": 1}), is_own=False)
    with pytest.raises(ValueError, match="--replicas 2 needs a GPU for each, but the cluster has 1, 1 of them free"):
        resources_for(two, _cluster({"CPU": 8, "GPU": 1}, {"CPU": 8, "GPU": 1}), is_own=True)


def test_why_replicas_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class _Serve:
        def start(self, **_: Any) -> None: ...

        def run(self, *_: Any, name: str, **__: Any) -> None:
            self.name = name
            raise RuntimeError("Deploying failed: Failed to update the deployments ['Replica'].")

        def status(self) -> Any:
            told = "Failed 3 times. Error:\nRuntimeError: Traceback:\n  File …\nOSError: no room for the weights\n"
            deployments = {"Replica": SimpleNamespace(message=told)}
            return SimpleNamespace(applications={self.name: SimpleNamespace(deployments=deployments)})

    ray = _cluster({"CPU": 1}, {"CPU": 1})
    ray.serve = _Serve()
    monkeypatch.setattr("convit.serving.replicas.ray_cluster", lambda *_, **__: nullcontext(ray))
    told = "the replicas cannot be started: OSError: no room for the weights"
    with pytest.raises(ChildProcessError, match=told), replicated(ServiceSetup(models=(NANO,))):
        pytest.fail("started")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ends processes as Linux does")
def test_a_replica_that_is_killed_loses_no_request(start: Start, cat: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", '{"CPU": 1}')
    with start("--engine", "ray", "--replicas", "2") as service, service.client() as client:
        found = client.post("/v1/classify", content=cat, headers={"x-request-id": "mine"})
        assert found.json()["results"][0]["predictions"][0]["label"] == "cat"
        assert found.headers.get_list("x-request-id") == ["mine"]
        assert client.post("/v1/classify", content=b"x").json()["error"]["code"] == "invalid_image"
        assert client.get("/v1/models").json()["data"][0]["id"] == NANO
        assert client.get("/").status_code == 200
        assert f'convit_batch_images_count{{model="{NANO}"}} 2.0' in client.get("/metrics").text
        late = client.post("/v1/classify", files=[("images", cat)] * 64, headers={"x-request-timeout": "0.05"})
        assert late.json()["error"]["code"] in ("deadline_exceeded", "too_slow")
        first, second = _replicas(service)
        with ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(client.post, "/v1/classify", content=cat) for _ in range(200)]
            answers[20].result()
            os.kill(first, signal.SIGKILL)
            assert {answer.result().status_code for answer in answers} == {200}
        assert second in _replicas(service)
    assert service.process.wait(30) == 0
    assert "Traceback" not in service.log.read_text()


def _replicas(service: Running) -> list[int]:
    children = psutil.Process(service.process.pid).children(recursive=True)
    return [each.pid for each in children if each.cmdline() and "ServeReplica" in each.cmdline()[0]]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--engine", "ray", "--model", "no_such"], "no_such"),
        (["--replicas", "2"], "add --engine ray"),
        (["--engine", "ray", "--replicas", "many"], "such as 1-4"),
        (["--engine", "ray", "--replicas", "0"], "from 1 on"),
        (["--engine", "ray", "--index", "none.db"], "none.db: there is no index"),
        (["--engine", "ray", "--address", "127.0.0.1:9"], "there is no Ray cluster at 127.0.0.1:9"),
    ],
)
def test_what_is_wrong_is_one_line(options: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    from convit.cli import main

    assert main(["serve", "--port", "0", "--model", NANO, *options]) in (1, 2)
    assert told in capsys.readouterr().err.splitlines()[-1]
