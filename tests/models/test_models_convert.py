"""Published checkpoints to folders: sizes recognised, names of both sources, nothing but tensors opened."""

import pickle

import pytest
import torch

from humansd.checkpoints.convert import convert_higherhrnet, read_checkpoint
from humansd.cli import main
from humansd.models.higherhrnet import CONFIGS, HigherHRNet


@pytest.fixture(scope="module")
def published():
    torch.manual_seed(0)
    return HigherHRNet(CONFIGS["w32"])


@pytest.mark.parametrize("form", ["plain", "wrapped", "mmpose"])
def test_a_published_file_becomes_a_folder(published, form, tmp_path, capsys):
    state = published.state_dict()
    if form == "mmpose":
        heads = ("final_layers", "deconv_layers")
        state = {f"{'keypoint_head' if k.startswith(heads) else 'backbone'}.{k}": v for k, v in state.items()}
    torch.save(state if form == "plain" else {"state_dict": state, "epoch": 3}, tmp_path / "w32.pth")
    assert main(["convert", "higherhrnet", str(tmp_path / "w32.pth"), "--out", str(tmp_path / "out")]) == 0
    assert "28.6 M parameters" in capsys.readouterr().out
    again = HigherHRNet.from_pretrained(tmp_path / "out")
    assert again.config == CONFIGS["w32"]
    assert all(torch.equal(a, b) for a, b in zip(published.parameters(), again.parameters(), strict=True))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.json", "model.safetensors"]


class Harmful:
    def __reduce__(self):
        return (print, ("this code ran",))


def test_a_file_with_code_in_it_is_refused_and_does_not_run(tmp_path, capsys):
    file = tmp_path / "bad.pth"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "extra": Harmful()}, file)
    with pytest.raises(ValueError, match=r"bad\.pth: not a checkpoint of plain weights"):
        read_checkpoint(file)
    file.write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(ValueError, match=r"bad\.pth: not a checkpoint of plain weights"):
        read_checkpoint(file)
    assert "this code ran" not in capsys.readouterr().out


def test_other_files_are_refused_with_the_reason(published, tmp_path):
    file = tmp_path / "file.pth"
    for content, reason in (
        ({"a": 1}, "holds no named weights"),
        ([1, 2], "holds no named weights"),
        ({"conv1.weight": torch.zeros(1)}, "no HigherHRNet"),
        ({"transition1.0.0.weight": torch.zeros(40, 1, 1, 1)}, "a width of 40; the published ones are 32, 48"),
        ({k: v for k, v in published.state_dict().items() if "deconv" not in k}, r"missing \(deconv_layers"),
    ):
        torch.save(content, file)
        with pytest.raises(ValueError, match=rf"file\.pth: .*{reason}"):
            convert_higherhrnet(file, tmp_path / "out")
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="not a checkpoint"):
        convert_higherhrnet(file, tmp_path / "out")
    with pytest.raises(FileNotFoundError):
        convert_higherhrnet(tmp_path / "absent.pth", tmp_path / "out")
    assert not (tmp_path / "out").exists()
