"""The script of test_tpu: a pickled Spec in, what the TPU's compiler says of it out."""

import json
import pickle
import sys

from benchmarks import tpu

TOPOLOGY, BATCH, STEPS = "v5e:2x4", 8, 3


def main() -> None:
    spec = pickle.load(sys.stdin.buffer)
    mesh = tpu.describe(TOPOLOGY)
    compiled = {
        "forward": tpu.compile_forward(spec, mesh, batch=BATCH),
        "sampler": tpu.compile_sampler(spec, mesh, batch=BATCH, steps=STEPS),
    }
    found = {part: tpu.figures(each) for part, each in compiled.items()}
    platforms = {device.platform for device in mesh.devices.flat}
    print(json.dumps({"platforms": sorted(platforms), **found}))


if __name__ == "__main__":
    main()
