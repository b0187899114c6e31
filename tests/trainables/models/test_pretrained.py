"""Published weights load under their own names, strictly, and a wrong file is one sentence."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.trainables.golden_cases import packed, read
from tests.trainables.models.tiny import (
    RECORDED,
    TINY_DAFORMER,
    TINY_DLV2,
    TINY_HRDA,
    TINY_MIT,
    built,
    published_tensors,
)
from trainables.config import Network, SegFormer
from trainables.models.encoders import MiTEncoder
from trainables.models.pretrained import (
    encoder_namings,
    load_encoder,
    load_published,
    read_tensors,
)

NETWORKS = {
    "DeepLabV2": TINY_DLV2,
    "DAFormer": TINY_DAFORMER,
    "SegFormer": SegFormer(encoder=TINY_MIT, embed_dim=8),
    "HRDA(DAFormer)": TINY_HRDA["hrda_daformer"],
    "HRDA(DeepLabV2)": TINY_HRDA["hrda_dlv2"],
}


def checkpoint(path: Path, tensors: dict[str, Tensor]) -> Path:
    """A file as the published ones are: the student's tensors, its EMA and ImageNet copies, and notes about the run."""
    copies = {
        f"{prefix}{name}": tensor + shift
        for prefix, shift in (("model.", 0), ("ema_model.", 1), ("imnet_model.", 2))
        for name, tensor in tensors.items()
    }
    torch.save({"meta": {"iter": 40000, "CLASSES": ("road", "sidewalk")}, "state_dict": copies}, path)
    return path


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether two states hold the same tensors."""
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_published_names_go_there_and_back(name: str, tmp_path: Path) -> None:
    """A network written under published names and read into another one of its kind is the same network."""
    ours, other = built(NETWORKS[name], seed=1), built(NETWORKS[name], seed=2)
    assert not same(ours.state_dict(), other.state_dict())
    load_published(other, checkpoint(tmp_path / "latest.pth", published_tensors(ours)))
    assert same(ours.state_dict(), other.state_dict())


@pytest.mark.parametrize("name", ["hrda_daformer", "hrda_dlv2"])
def test_our_published_names_are_the_references(name: str) -> None:
    """The names and shapes that we write are exactly those of the reference implementation's recorded state."""
    reference = packed(read(RECORDED / f"{name}.npz"), "weights")
    ours = published_tensors(built(TINY_HRDA[name]))
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in reference.items()}


def test_a_safetensors_file_without_prefix_loads(tmp_path: Path) -> None:
    """A student's own tensors, without the run's prefix, and without BatchNorm's counters as in old files."""
    ours, other = built(TINY_DAFORMER, seed=1), built(TINY_DAFORMER, seed=2)
    tensors = {k: v.contiguous() for k, v in published_tensors(ours).items() if "num_batches_tracked" not in k}
    save_file(tensors, tmp_path / "model.safetensors")
    load_published(other, tmp_path / "model.safetensors")
    assert same(ours.state_dict(), other.state_dict())


def test_segformers_unused_classifier_is_left_out(tmp_path: Path) -> None:
    """The published SegFormer head carries a classifier that it inherits and never uses."""
    ours, other = built(NETWORKS["SegFormer"], seed=1), built(NETWORKS["SegFormer"], seed=2)
    unused = {"decode_head.conv_seg.weight": torch.zeros(19, 8, 1, 1), "decode_head.conv_seg.bias": torch.zeros(19)}
    load_published(other, checkpoint(tmp_path / "latest.pth", published_tensors(ours) | unused))
    assert same(ours.state_dict(), other.state_dict())


@pytest.mark.parametrize("network", [TINY_DAFORMER, TINY_DLV2], ids=["MiT", "ResNet"])
def test_encoders_load_under_every_published_naming(network: Network, tmp_path: Path) -> None:
    """SegFormer's, Hugging Face's, open-mmlab's and timm's names; the classifier beside them is left out."""
    ours = built(network, seed=1).encoder
    state = ours.state_dict()
    for index, names in enumerate(encoder_namings(ours)):
        tensors: dict[str, Tensor] = {"head.weight": torch.zeros(1000, 4), "fc.bias": torch.zeros(1000)}
        for own, group in names.items():
            tensors |= dict(zip(group, state[own].chunk(len(group)) if len(group) > 1 else [state[own]], strict=True))
        path = tmp_path / f"{index}.pth"
        torch.save(tensors, path)
        other = built(network, seed=2)
        load_encoder(other, path)
        assert same(state, other.encoder.state_dict())


def test_mit_names_are_segformers() -> None:
    """A few of the published names, written out."""
    original, faces, timm = encoder_namings(MiTEncoder(TINY_MIT))
    assert original["patch_embed.proj.weight"] == ("patch_embed1.proj.weight",)
    assert original["stages.2.downsample.norm.bias"] == ("patch_embed3.norm.bias",)
    assert original["stages.2.blocks.1.mlp.dwconv.weight"] == ("block3.1.mlp.dwconv.dwconv.weight",)
    assert original["stages.3.norm.weight"] == ("norm4.weight",)
    assert faces["stages.0.blocks.0.attn.kv.bias"] == (
        "block.0.0.attention.self.key.bias",
        "block.0.0.attention.self.value.bias",
    )
    assert faces["stages.0.blocks.0.attn.norm.weight"] == ("block.0.0.attention.self.layer_norm.weight",)
    assert timm["stages.3.norm.weight"] == ("stages.3.norm.weight",)
    for names in (original, faces):
        published = [name for group in names.values() for name in group]
        assert len(set(published)) == len(published)


def test_resnet_names_are_open_mmlabs() -> None:
    """The deep stem's names; stages have the same names everywhere."""
    names = encoder_namings(TINY_DLV2.parts.encoder.build())[0]
    assert names["conv1.6.weight"] == ("stem.6.weight",)
    assert names["bn1.running_var"] == ("stem.7.running_var",)
    assert names["layer3.1.bn2.weight"] == ("layer3.1.bn2.weight",)


@torch.no_grad()
def test_mit_equals_hugging_faces_segformer(tmp_path: Path) -> None:
    """An implementation that is not ours, at random weights, saved with published names, gives the same four stages."""
    transformers = pytest.importorskip("transformers")
    config = replace(TINY_MIT, dims=(16, 32, 40, 64), depths=(2, 2, 2, 2))
    torch.manual_seed(5)
    theirs = transformers.SegformerForImageClassification(
        transformers.SegformerConfig(
            hidden_sizes=list(config.dims),
            depths=list(config.depths),
            num_attention_heads=list(config.heads),
            sr_ratios=list(config.reductions),
            mlp_ratios=[4, 4, 4, 4],
        )
    ).eval()
    for parameter in theirs.parameters():
        parameter.normal_(std=0.2)
    theirs.save_pretrained(tmp_path)
    assert "segformer.encoder.block.0.0.attention.self.key.weight" in read_tensors(tmp_path / "model.safetensors")
    ours = built(replace(TINY_DAFORMER, encoder=config))
    load_encoder(ours, tmp_path / "model.safetensors")
    image = torch.randn(2, 3, 96, 128)
    stages = theirs.segformer(image, output_hidden_states=True).hidden_states
    for own, other in zip(ours.encoder(image), stages[-4:], strict=True):
        assert own.shape == other.shape
        assert float((own - other).abs().max()) < 1e-4


def test_another_architecture_is_one_sentence(tmp_path: Path) -> None:
    """A DeepLab-V2 checkpoint for a DAFormer, other widths, other classes: what differs, how much, and the remedy."""
    resnet = checkpoint(tmp_path / "resnet.pth", published_tensors(built(TINY_DLV2)))
    daformer = checkpoint(tmp_path / "daformer.pth", published_tensors(built(TINY_DAFORMER)))
    with pytest.raises(ValueError, match=r"resnet\.pth is of another architecture .* missing \(first: backbone\.patch"):
        load_published(built(TINY_DAFORMER), resnet)
    with pytest.raises(ValueError, match=r"2 of another shape \(first: decode_head\.conv_seg\.weight\); give the file"):
        load_published(built(TINY_DAFORMER, classes=11), daformer)
    with pytest.raises(ValueError, match=r"not of this network \(first: decode_head"):
        load_published(built(TINY_HRDA["hrda_daformer"]), daformer)
    with pytest.raises(ValueError, match=r"daformer\.pth is of another architecture"):
        load_encoder(built(TINY_DLV2), daformer)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    """No traceback of the file system, but which file and what to give."""
    with pytest.raises(ValueError, match=r"There is no weights file .*mit_b5\.pth; give the path"):
        load_encoder(built(TINY_DAFORMER), tmp_path / "mit_b5.pth")
    with pytest.raises(ValueError, match=r"There is no weights file .+, which is a folder; give the path"):
        read_tensors(tmp_path)


def test_a_file_that_is_no_weights_is_refused_without_advice_to_run_it(tmp_path: Path) -> None:
    """As torch gives it: to load without `weights_only`."""
    (tmp_path / "classes.pth").write_text("id,class\n0,road\n")
    with pytest.raises(ValueError, match=r"classes\.pth cannot be read as weights \(UnpicklingError\): it is"):
        read_tensors(tmp_path / "classes.pth")


@pytest.mark.parametrize("name", ["weights.pth", "legacy.pth", "weights.safetensors"])
def test_a_truncated_file_is_one_sentence(tmp_path: Path, name: str) -> None:
    """Cut anywhere, a file of each format is refused in words."""
    whole = tmp_path / f"whole-{name}"
    tensors = {f"t{index}": torch.randn(20, 20) for index in range(4)}
    if name.endswith(".safetensors"):
        save_file(tensors, whole)
    else:
        torch.save(tensors, whole, _use_new_zipfile_serialization=name != "legacy.pth")
    content = whole.read_bytes()
    for part in range(40):
        (tmp_path / name).write_bytes(content[: len(content) * part // 40])
        with pytest.raises(ValueError, match=rf"{name} cannot be read as weights|{name} holds no state dict"):
            read_tensors(tmp_path / name)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    """A pickle that would create a file when loaded is refused, and creates none."""
    trace = tmp_path / "trace"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (trace,)

    for name, write in (
        ("zip.pth", torch.save),
        ("plain.pth", lambda o, p: p.write_bytes(pickle.dumps(o, protocol=2))),
    ):
        write({"state_dict": Payload()}, tmp_path / name)
        with pytest.raises(ValueError, match=f"{name} cannot be read as weights"):
            read_tensors(tmp_path / name)
    assert not trace.exists()


@pytest.mark.parametrize("content", [{"a": 1}, [torch.zeros(2)], {}, {"state_dict": {}}])
def test_a_file_without_tensors_is_one_sentence(tmp_path: Path, content: object) -> None:
    """Something else that torch can read is not weights."""
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth holds no state dict"):
        read_tensors(tmp_path / "other.pth")
