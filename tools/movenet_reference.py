"""Whether `humansd.models.movenet` says what the published graph says: both on the same images, the graph run by
TensorFlow.js itself (node, with `npm install @tensorflow/tfjs@4.22.0` in the folder NODE).

    python tools/movenet_reference.py PACKAGE NODE IMAGE...
    python tools/movenet_reference.py PACKAGE NODE IMAGE --fixture FILE.json     # the shipped weights in the graph

Images are used at their own size, continued in black to multiples of 32. Prints the largest difference of the 6 x 56
numbers of each. `--fixture` writes what TensorFlow.js says with the weights that ship, for
`tests/models/test_movenet.py`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from humansd.checkpoints.movenet import as_torch, graph_names
from humansd.checkpoints.tfjs import read_tfjs_weights
from humansd.models.estimators import SHIPPED
from humansd.models.movenet import MoveNet, MoveNetConfig, decode

RUN = """
const tf = require('@tensorflow/tfjs'), fs = require('fs'), dir = process.argv[1];
(async () => {
  const json = JSON.parse(fs.readFileSync(dir + '/model.json')), data = fs.readFileSync(dir + '/model.bin');
  await tf.setBackend('cpu');
  const weightData = data.buffer.slice(data.byteOffset, data.byteOffset + data.length);
  const model = await tf.loadGraphModel({load: async () => ({modelTopology: json.modelTopology, weightData,
    weightSpecs: json.weightsManifest[0].weights, format: json.format, signature: json.signature})});
  for (const {file, shape} of JSON.parse(fs.readFileSync(dir + '/images.json'))) {
    const image = tf.tensor(Int32Array.from(fs.readFileSync(file)), shape, 'int32');
    fs.writeFileSync(file + '.out', Buffer.from((await model.execute(image).data()).buffer.slice(0)));
  }
})();
"""


def main() -> None:
    """Compares, or writes the fixture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("node", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--fixture", type=Path)
    args = parser.parse_args()
    model = args.package / "models" / "movenet-multipose.json"
    weights, names = read_tfjs_weights(model), graph_names(MoveNetConfig())
    if args.fixture:
        network = MoveNet.from_pretrained(SHIPPED / "movenet")
        for own, tensor in network.state_dict().items():
            order = (2, 3, 0, 1) if ".depthwise." in own else (2, 3, 1, 0)
            weights[names[own]] = tensor.numpy().transpose(order) if tensor.ndim == 4 else tensor.numpy()
    else:
        network = MoveNet(MoveNetConfig()).eval()
        network.load_state_dict({own: as_torch(own, weights[theirs]) for own, theirs in names.items()})
    frames = [frame_of(path) for path in args.images]
    theirs = run_graph(model, weights, frames, args.node)
    for path, frame, their in zip(args.images, frames, theirs, strict=True):
        print(f"{path.name}: {frame.shape}, largest difference {np.abs(ours(network, frame) - their).max():.1e}")
    if args.fixture:
        rows = [[round(float(value), 6) for value in row] for row in theirs[0]]
        args.fixture.write_text(json.dumps({"runtime": "TensorFlow.js 4.22.0, CPU", "people": rows}))


def frame_of(path: Path) -> np.ndarray:
    """The image (h, w, 3) uint8, black at the right and bottom up to multiples of 32."""
    image = np.asarray(Image.open(path).convert("RGB"))
    return np.pad(image, [(0, -image.shape[0] % 32), (0, -image.shape[1] % 32), (0, 0)])


def run_graph(model: Path, weights: dict, frames: list[np.ndarray], node: Path) -> list[np.ndarray]:
    """What TensorFlow.js says of each frame, (6, 56), with these weights in the graph of `model`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        graph = json.loads(model.read_text())
        entries = graph["weightsManifest"][0]["weights"]
        arrays = [weights[one["name"]].astype(np.float32 if one["dtype"] == "float32" else np.int32) for one in entries]
        listed = [{key: one[key] for key in ("name", "shape", "dtype")} for one in entries]
        graph["weightsManifest"] = [{"paths": ["model.bin"], "weights": listed}]
        (folder / "model.json").write_text(json.dumps(graph))
        (folder / "model.bin").write_bytes(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays))
        files = [folder / f"{number}.raw" for number in range(len(frames))]
        for file, frame in zip(files, frames, strict=True):
            file.write_bytes(np.ascontiguousarray(frame).tobytes())
        jobs = [{"file": str(file), "shape": [1, *frame.shape]} for file, frame in zip(files, frames, strict=True)]
        (folder / "images.json").write_text(json.dumps(jobs))
        subprocess.run(["node", "-e", RUN, str(folder)], cwd=node, check=True)
        return [np.fromfile(f"{file}.out", np.float32).reshape(6, 56) for file in files]


@torch.no_grad()
def ours(network: MoveNet, frame: np.ndarray) -> np.ndarray:
    """(6, 56) as the graph orders it: y, x, score of each joint, then the box y0, x0, y1, x1 and the person's score;
    places as shares of the frame."""
    height, width = frame.shape[:2]
    found = decode(network(torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 127.5 - 1), 0)
    sides = torch.tensor([width, height])
    joints = torch.cat([(found.xy / sides).flip(-1), found.joint_score[..., None]], -1).flatten(1)
    boxes = (found.boxes / sides.repeat(2)).clamp(0, 1)[:, [1, 0, 3, 2]]
    return torch.cat([joints, boxes, found.person_score[:, None]], 1).numpy()


if __name__ == "__main__":
    main()
