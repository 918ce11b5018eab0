"""Adapters through the hub's own client: what vLLM's servers use where they see no disk of the trainer's."""

import httpx
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from marft.serve.hub import Hub


@pytest.fixture
def hub():
    hub = Hub("secret")
    yield hub
    hub.close()


@pytest.fixture
def adapter(tmp_path):
    folder = tmp_path / "alice@3"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"r": 8}')
    (folder / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 4000)
    return folder


@pytest.fixture
def client(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: False, raising=False)
    return HfApi(endpoint=hub.url, token="secret")


def test_the_hubs_own_client_gets_every_byte(hub, adapter, client, tmp_path):
    repository = hub.offer("alice@3~5df30a", adapter)
    assert repository == "marft/alice-3-5df30a"
    found = client.snapshot_download(repository, cache_dir=tmp_path / "cache")
    for path in adapter.iterdir():
        assert (tmp_path / "cache" / found / path.name).read_bytes() == path.read_bytes()


def test_two_versions_are_two_repositories_and_one_withdrawn_is_gone(hub, adapter, client, tmp_path):
    old, new = hub.offer("alice@3~a", adapter), hub.offer("alice@4~a", adapter.parent)
    assert client.model_info(old).sha != client.model_info(new).sha
    hub.withdraw(adapter)
    with pytest.raises(HfHubHTTPError):
        client.model_info(old)
    assert client.model_info(new).id == new


@pytest.mark.parametrize("path", ["api/models/marft/alice-3-a", "marft/alice-3-a/resolve/main/adapter_config.json"])
def test_without_the_key_nothing_is_told(hub, adapter, path):
    hub.offer("alice@3~a", adapter)
    assert httpx.get(f"{hub.url}/{path}").status_code == 401
    assert httpx.get(f"{hub.url}/{path}", headers={"Authorization": "Bearer other"}).status_code == 401
    assert httpx.get(f"{hub.url}/{path}", headers={"Authorization": "Bearer secret"}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "",
        "marft/alice-3-a/resolve/main/../../secret",
        "marft/alice-3-a/resolve/main/%2e%2e/secret",
        "marft/alice-3-a/resolve/main//etc/passwd",
        "marft/nobody/resolve/main/adapter_config.json",
        "api/models/marft/nobody",
    ],
)
def test_nothing_else_can_be_had(hub, adapter, path):
    (adapter.parent / "secret").write_text("no")
    hub.offer("alice@3~a", adapter)
    with httpx.Client(headers={"Authorization": "Bearer secret"}) as client:
        request = client.build_request("GET", hub.url)
        request.url = httpx.URL(hub.url).copy_with(raw_path=f"/{path}".encode())
        assert client.send(request).status_code == 404
