"""Look-up and download: the order of places, checksums, and nothing left behind by what failed."""

from __future__ import annotations

import hashlib
import http.client
import urllib.request
from pathlib import Path

import pytest

from minicnn.datasets.files import Dataset, RemoteFile, cache_folder, download, fetch, find_all, find_file
from tests.datasets.fakes import Network, Response, everything_in

CONTENT = b"the published bytes" * 1000
FIRST, SECOND = "https://first.example/a.gz", "https://second.example/a.gz"


def remote(content: bytes = CONTENT, urls: tuple[str, ...] = (FIRST, SECOND)) -> RemoteFile:
    return RemoteFile("a.gz", len(content), hashlib.sha256(content).hexdigest(), urls)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network()
    monkeypatch.setattr(urllib.request, "urlopen", network)
    return network


@pytest.fixture
def dataset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Dataset:
    monkeypatch.setenv("MINICNN_CACHE", str(tmp_path / "cache"))
    return Dataset("Letters", "letters", (remote(),), "A note.")


def test_a_download_is_the_published_file_and_nothing_else(network: Network, tmp_path: Path, capsys) -> None:
    network.content[FIRST] = CONTENT
    assert download(remote(), tmp_path) == tmp_path / "a.gz"
    assert (tmp_path / "a.gz").read_bytes() == CONTENT
    assert everything_in(tmp_path) == ["a.gz"]
    assert FIRST in capsys.readouterr().err


def test_the_second_source_serves_what_the_first_does_not(network: Network, tmp_path: Path) -> None:
    network.content[SECOND] = CONTENT
    download(remote(), tmp_path)
    assert (tmp_path / "a.gz").read_bytes() == CONTENT
    assert network.asked == [FIRST, SECOND]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (CONTENT[:-1] + b"!", "SHA-256 is [0-9a-f]{64}, expected [0-9a-f]{64}"),
        (CONTENT[:-7], "ended after 18,993 of 19,000 bytes"),
        (CONTENT + b"!", "longer than the 19,000 bytes published"),
        (b"", "ended after 0 of 19,000"),
        (TimeoutError("timed out"), "timed out"),
        (http.client.IncompleteRead(b"the", 99), "IncompleteRead"),
        (Response(CONTENT, "http://first.example/a.gz"), "http://first.example/a.gz is not an https address"),
    ],
    ids=["altered", "short", "long", "empty", "timeout", "broken off", "redirected to http"],
)
def test_a_failed_download_leaves_nothing_behind(network: Network, tmp_path: Path, answer, reason: str) -> None:
    network.content[FIRST] = answer
    with pytest.raises(ConnectionError, match=reason):
        download(remote(urls=(FIRST,)), tmp_path)
    assert everything_in(tmp_path) == []


def test_an_interrupt_leaves_nothing_behind_and_is_not_swallowed(network: Network, tmp_path: Path) -> None:
    class Interrupted(Response):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell():
                raise KeyboardInterrupt
            return super().read(100)

    network.content[FIRST] = Interrupted(CONTENT, FIRST)
    with pytest.raises(KeyboardInterrupt):
        download(remote(), tmp_path)
    assert everything_in(tmp_path) == []


def test_an_endless_answer_is_cut_off(network: Network, tmp_path: Path) -> None:
    class Endless(Response):
        served = 0

        def read(self, size: int | None = -1) -> bytes:
            Endless.served += 1000
            return bytes(1000)

    network.content[FIRST] = Endless(b"", FIRST)
    with pytest.raises(ConnectionError, match="longer than"):
        download(remote(urls=(FIRST,)), tmp_path)
    assert Endless.served <= len(CONTENT) + 1000


def test_a_plain_http_address_is_not_even_asked(network: Network, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match="not an https address"):
        download(remote(urls=("http://first.example/a.gz",)), tmp_path)
    assert network.asked == []


def test_what_the_cache_has_is_not_fetched_again(network: Network, dataset: Dataset) -> None:
    folder = cache_folder() / "letters"
    folder.mkdir(parents=True)
    (folder / "a").write_bytes(b"unpacked by the user")
    assert fetch(dataset, []) == folder
    assert network.asked == []


def test_without_a_network_the_error_names_files_sources_and_folder(network: Network, dataset: Dataset) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        fetch(dataset, [Path("/looked/here")])
    message = str(caught.value)
    folder = str(cache_folder() / "letters")
    for part in (
        "Letters is not here",
        "a.gz",
        FIRST,
        SECOND,
        folder,
        "$MINICNN_DATA/letters",
        "/looked/here",
        "A note.",
    ):
        assert part in message
    assert "Name or service not known" in message
    assert everything_in(cache_folder()) == []


def test_a_cache_that_cannot_be_made_is_reported_as_such(
    network: Network, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("MINICNN_CACHE", str(tmp_path / "file"))
    with pytest.raises(FileNotFoundError, match=r"Letters is not here.*file"):
        fetch(dataset, [])


def test_the_cache_is_in_the_home_folder_unless_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.delenv("MINICNN_CACHE", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "minicnn" / "datasets"
    monkeypatch.setenv("MINICNN_CACHE", str(tmp_path / "elsewhere"))
    assert cache_folder() == tmp_path / "elsewhere"


def test_files_are_found_packed_or_unpacked_but_only_together(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "b.gz").write_bytes(b"")
    (tmp_path / "c").mkdir()
    assert find_file(tmp_path, "a.gz") == tmp_path / "a"
    assert find_all(tmp_path, ["a.gz", "b"]) == [tmp_path / "a", tmp_path / "b.gz"]
    assert find_all(tmp_path, ["a.gz", "c"]) is None  # a folder is not a file
