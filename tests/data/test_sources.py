import socket
import threading
from pathlib import Path

import pytest

from daar.data import sources
from daar.data.datasets import get
from daar.data.sources import Source, locate, not_found, reachable, resolve_root
from daar.errors import InputError

CIFAR10 = get("cifar10")


def put_torchvision(place: Path) -> Path:
    (place / "cifar-10-batches-py").mkdir(parents=True)
    return place / "cifar-10-batches-py"


def put_folder(place: Path) -> Path:
    (place / "train" / "cat").mkdir(parents=True)
    return place


def put_parquet(place: Path) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    (place / "test-00000-of-00001.parquet").touch()
    return place


PUT = {"torchvision": put_torchvision, "folder": put_folder, "parquet": put_parquet}


@pytest.mark.parametrize("below", ["cifar10", "."])
@pytest.mark.parametrize("kind", PUT)
def test_each_kind_is_found_in_both_places(tmp_path, kind, below):
    path = PUT[kind](tmp_path / below)
    assert locate(CIFAR10, tmp_path) == Source(kind, path)
    assert locate(CIFAR10, tmp_path, kind) == Source(kind, path)
    for other in PUT.keys() - {kind}:
        assert locate(CIFAR10, tmp_path, other) is None


def test_precedence_is_torchvision_folder_parquet(tmp_path):
    for kind in reversed(PUT):
        path = PUT[kind](tmp_path)
        assert locate(CIFAR10, tmp_path) == Source(kind, path)


def test_own_folder_goes_before_the_root(tmp_path):
    put_parquet(tmp_path)
    assert locate(CIFAR10, tmp_path) == Source("parquet", tmp_path)
    put_parquet(tmp_path / "cifar10")
    assert locate(CIFAR10, tmp_path) == Source("parquet", tmp_path / "cifar10")


def test_images_of_another_data_set_are_not_taken(tmp_path):
    (tmp_path / "train" / "n01440764").mkdir(parents=True)
    assert locate(CIFAR10, tmp_path) is None


def test_digits_come_with_scikit_learn(tmp_path):
    located = locate(get("digits"), tmp_path)
    assert located is not None
    assert located.kind == "scikit-learn"


def test_data_root_is_argument_then_environment_then_data(monkeypatch, tmp_path):
    monkeypatch.setenv("DAAR_DATA_ROOT", "from/environment")
    assert resolve_root(tmp_path) == tmp_path
    assert resolve_root(None) == Path("from/environment")
    monkeypatch.setenv("DAAR_DATA_ROOT", "")
    assert resolve_root(None) == Path("data")
    monkeypatch.delenv("DAAR_DATA_ROOT")
    assert resolve_root(None) == Path("data")


def test_not_found_names_what_where_and_what_to_do(tmp_path):
    assert locate(CIFAR10, tmp_path) is None
    message = str(not_found(CIFAR10, tmp_path))
    assert "\n" not in message
    for part in ("CIFAR-10", "cifar-10-batches-py/", "train/<class>/", "train*.parquet", str(tmp_path / "cifar10")):
        assert part in message
    assert message.endswith(
        "Put it there, name its folder with --data-root or DAAR_DATA_ROOT or let --download fetch it."
    )


def test_unknown_source_lists_the_known(tmp_path):
    with pytest.raises(
        InputError, match="unknown source of cifar10 'zip'; there are: auto, folder, parquet, torchvision"
    ):
        locate(CIFAR10, tmp_path, "zip")


def test_a_place_that_cannot_be_read_is_named(monkeypatch, tmp_path):
    def denied(self: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", denied)
    with pytest.raises(InputError, match=f"cannot look into {tmp_path}/cifar10: Permission denied"):
        locate(CIFAR10, tmp_path)


@pytest.fixture
def no_proxy(monkeypatch):
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_reachable_when_the_host_answers(monkeypatch, no_proxy):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(sources, "DOWNLOAD_HOST", server.getsockname())
        assert reachable()


def test_reachable_through_a_proxy(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert reachable()


def test_not_reachable_when_the_port_is_closed(monkeypatch, no_proxy):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    monkeypatch.setattr(sources, "DOWNLOAD_HOST", address)
    assert not reachable()


@pytest.mark.parametrize("proxy", ["http://host:not-a-port", "http://[broken", "//"])
def test_reachable_does_not_raise_on_a_broken_proxy(monkeypatch, proxy):
    monkeypatch.setenv("https_proxy", proxy)
    assert not reachable()


def test_reachable_does_not_wait_for_a_slow_name_server(monkeypatch, no_proxy):
    asked, answered = threading.Event(), threading.Event()

    def slow(*args: object, **kwargs: object) -> socket.socket:
        asked.set()
        answered.wait(300)
        raise socket.gaierror

    monkeypatch.setattr(socket, "create_connection", slow)
    monkeypatch.setattr(sources, "ANSWER_WITHIN_S", 0.1)
    assert not reachable()
    assert asked.wait(300)  # and not answered yet
    answered.set()
