"""gpt2lab.data.preparation.backends: workers that hang, and a Ray cluster that does not answer."""

import sys
import time
import types

import pytest

from gpt2lab.config import PrepareConfig, TextFilesConfig, UserError
from gpt2lab.data import prepare
from gpt2lab.tokenizers.bytes import BytesTokenizer


class Hanging(BytesTokenizer):
    """Never gives an answer."""

    def encode_array(self, text):
        time.sleep(1_000)


@pytest.fixture
def data(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    return TextFilesConfig(root=str(tmp_path / "data"), files=[f"{tmp_path}/a.txt"])


def test_worker_that_hangs_is_ended_and_named(data, tmp_path, monkeypatch):
    monkeypatch.setattr("gpt2lab.data.preparation.backends.WORKER_TIMEOUT_SECONDS", 0.5)
    started = time.monotonic()
    with pytest.raises(UserError, match=r"no answer for 0 seconds while it read .*a\.txt: check that") as error:
        prepare(data, PrepareConfig(num_workers=1), Hanging())
    assert time.monotonic() - started < 60
    assert "\n" not in str(error.value)
    assert not (tmp_path / "data" / "text_files").exists()


@pytest.fixture
def fake_ray(monkeypatch):
    """As much of Ray as the backend uses; ``get`` raises what ``fake_ray.error`` is."""
    ray = types.ModuleType("ray")
    kinds = ("GetTimeoutError", "RayTaskError", "RayActorError")
    ray.exceptions = types.SimpleNamespace(**{kind: type(kind, (Exception,), {}) for kind in kinds})
    ray.is_initialized = lambda: True
    ray.put = lambda value: value
    ray.kill = lambda actor: ray.killed.append(actor)
    ray.killed = []
    method = types.SimpleNamespace(remote=lambda chunk: "reference")
    ray.remote = lambda **options: (
        lambda cls: types.SimpleNamespace(remote=lambda tokenize: types.SimpleNamespace(tokenize=method))
    )

    def get(reference, timeout):
        ray.timeout = timeout
        raise ray.error

    ray.get = get
    monkeypatch.setitem(sys.modules, "ray", ray)
    return ray


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("GetTimeoutError", "a Ray worker gave no answer for 2400 seconds: check that the cluster has free CPUs"),
        ("RayActorError", r"a Ray worker ended \(RayActorError\), possibly out of memory: type the command again"),
    ],
)
def test_cluster_that_fails_is_one_line_and_its_actors_are_ended(data, fake_ray, kind, message):
    fake_ray.error = getattr(fake_ray.exceptions, kind)()
    with pytest.raises(UserError, match=message) as error:
        prepare(data, PrepareConfig(backend="ray", num_workers=2), BytesTokenizer())
    assert "\n" not in str(error.value)
    assert fake_ray.timeout == 2400
    assert len(fake_ray.killed) == 2


def test_exception_of_a_ray_worker_is_raised_here(data, fake_ray):
    fake_ray.error = fake_ray.exceptions.RayTaskError()
    fake_ray.error.cause = RuntimeError("no such document")
    with pytest.raises(RuntimeError, match="no such document"):
        prepare(data, PrepareConfig(backend="ray", num_workers=1), BytesTokenizer())


def test_unknown_backend_and_missing_ray_are_named(data, monkeypatch):
    with pytest.raises(UserError, match="prepare.backend=rey: expected one of local, ray; did you mean ray"):
        prepare(data, PrepareConfig(backend="rey", num_workers=1), BytesTokenizer())
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        UserError, match="prepare.backend=ray: the package ray is not installed: type pip install 'gpt2lab"
    ):
        prepare(data, PrepareConfig(backend="ray", num_workers=1), BytesTokenizer())
