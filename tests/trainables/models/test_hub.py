"""Weights by name, from a hub on the loopback address: got once, checked, and nothing left of what is not right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

from tests.trainables.models.loopback_hub import Hub, loopback_hub, use
from trainables.experiment.weights import Published
from trainables.models.hub import HubWeights

TENSORS = {"stem.weight": torch.arange(3000.0).view(30, 100)}
CONTENT = save(TENSORS)
NAME = "owner/tiny.first/model.safetensors"
REMEDY = "give a file by --data tiny.first=PATH."


@dataclass(frozen=True)
class Tiny:
    """Settings of an encoder with published weights."""

    weights_name: str = "tiny.first"
    file: str = "model.safetensors"

    def published(self) -> Published:
        return Published(repository=f"owner/{self.weights_name}", file=self.file, licence="apache-2.0")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """The hub's cache, which does not exist yet."""
    return tmp_path / "cache"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[Hub]:
    """A hub with one file, which this process uses."""
    with loopback_hub() as hub:
        hub.files[NAME] = CONTENT
        use(monkeypatch, hub.endpoint, cache)
        yield hub


def left(cache: Path) -> list[str]:
    """Names of what lies in the cache, but for the hub's own mark and locks."""
    found = (path.relative_to(cache) for path in cache.rglob("*"))
    return [str(path) for path in found if path.parts[0] not in (".locks", "CACHEDIR.TAG")]


def refused(weights: HubWeights) -> str:
    """The sentence with which a download is refused."""
    with pytest.raises(ValueError) as refusal:
        weights.download(lambda line: None)
    text = str(refusal.value)
    assert "\n" not in text
    return text


def test_a_file_is_got_once_and_found_without_the_hub(hub: Hub, cache: Path) -> None:
    """What, whence, licence and size come before the content; then the cache is enough, and the hub is not asked."""
    weights = HubWeights(Tiny())
    assert weights.cached() is None
    told: list[tuple[str, int]] = []
    path = weights.download(lambda line: told.append((line, hub.contents_sent)))
    ((line, sent_before),) = told
    assert sent_before == 0
    assert line == (
        f"Downloading 'tiny.first': owner/tiny.first (model.safetensors) of {hub.endpoint}, licence apache-2.0, "
        f"0.0 MB, into {cache}."
    )
    assert torch.equal(load_file(path)["stem.weight"], TENSORS["stem.weight"])
    assert hub.contents_sent == 1
    hub.asked.clear()
    assert HubWeights(Tiny()).cached() == path
    assert HubWeights(Tiny()).download(told.append) == path  # type: ignore[arg-type]  # never called
    assert hub.asked == []
    assert len(told) == 1


def test_only_what_a_download_needs_is_told_to_the_hub(hub: Hub) -> None:
    """The client's name and Python's; no list of what is installed."""
    HubWeights(Tiny()).download(lambda line: None)
    assert not any("torch" in agent for agent in hub.agents)


def test_another_checksum_is_refused_and_leaves_nothing(hub: Hub, cache: Path) -> None:
    """A file of the right size and other bytes; the same command gets it once the hub is well."""
    hub.corrupt = True
    weights = HubWeights(Tiny())
    assert refused(weights) == (
        f"The weights 'tiny.first' from {hub.endpoint} do not have the checksum that it names, and were removed again; "
        f"start the same command once more, or {REMEDY}"
    )
    assert left(cache) == []
    assert weights.cached() is None
    hub.corrupt = False
    assert Path(weights.download(lambda line: None)).read_bytes() == CONTENT


def test_half_a_file_is_refused_and_leaves_nothing(hub: Hub, cache: Path) -> None:
    """Content that ends early, as a broken mirror gives it; the same command begins anew."""
    hub.share = 0.5
    weights = HubWeights(Tiny())
    told = refused(weights)
    assert told.startswith(f"The weights 'tiny.first' cannot be downloaded: {hub.endpoint} cannot be reached, or broke")
    assert told.endswith(f"start the same command again, or {REMEDY}")
    assert left(cache) == []
    hub.share = 1.0
    assert Path(weights.download(lambda line: None)).read_bytes() == CONTENT


def test_a_connection_that_breaks_is_taken_up_where_it_broke(hub: Hub) -> None:
    """The client asks for the rest, and the whole has the checksum."""
    hub.break_once = True
    path = HubWeights(Tiny()).download(lambda line: None)
    assert Path(path).read_bytes() == CONTENT
    assert hub.contents_sent == 2


def test_a_file_that_was_damaged_in_the_cache_is_got_again(hub: Hub) -> None:
    """Cut off behind the hub's back, it counts as missing."""
    weights = HubWeights(Tiny())
    path = Path(weights.download(lambda line: None))
    path.resolve().write_bytes(CONTENT[:100])
    assert weights.cached() is None
    assert Path(weights.download(lambda line: None)).read_bytes() == CONTENT


def test_a_hub_that_is_away_is_one_sentence(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens, or the user forbade the network."""
    from huggingface_hub import constants

    use(monkeypatch, "http://127.0.0.1:9", cache)
    told = refused(HubWeights(Tiny()))
    assert "http://127.0.0.1:9 cannot be reached" in told
    assert told.endswith(REMEDY)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE forbids the network; unset it, or " in refused(HubWeights(Tiny()))
    assert left(cache) == []


def test_what_the_hub_does_not_have_or_does_not_give_is_one_sentence(hub: Hub, cache: Path) -> None:
    """No repository, no file in safetensors, a licence that was not accepted."""
    assert "has no repository owner/tiny.second" in refused(HubWeights(Tiny("tiny.second")))
    assert "owner/tiny.first has no other.safetensors, and nothing but .safetensors is taken from a hub" in refused(
        HubWeights(Tiny(file="other.safetensors"))
    )
    hub.gated = True
    assert "have accepted its licence; accept it on its page" in refused(HubWeights(Tiny()))
    assert left(cache) == []


def test_a_pickle_is_neither_asked_for_nor_kept(hub: Hub, cache: Path) -> None:
    """Nothing but .safetensors can be named, and a pickle that calls itself so is removed unread."""
    with pytest.raises(ValueError, match=r"Published\.file must be a \.safetensors file of the repository"):
        Published(repository="owner/tiny.first", file="pytorch_model.bin")
    hub.files[NAME] = b"\x80\x02}q\0."
    assert "are no whole .safetensors file, and were removed again" in refused(HubWeights(Tiny()))
    assert left(cache) == []


def test_a_password_in_the_hubs_address_is_not_printed(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """A mirror may want one."""
    use(monkeypatch, "http://name:secret@127.0.0.1:9", cache)
    assert "secret" not in HubWeights(Tiny()).description()
    assert "secret" not in refused(HubWeights(Tiny()))
