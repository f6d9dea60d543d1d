"""The script of test_tpu: a pickled Spec in, what the TPU's compiler says of it out."""

import dataclasses
import json
import pathlib
import pickle
import sys
import tempfile

from benchmarks import tpu_compile, tpu_programs
from benchmarks.tpu_programs import Case

CASES = {
    "step": Case("full", fsdp=4),
    "sampler": Case("sampler", steps=3),
}


def main() -> None:
    spec = pickle.load(sys.stdin.buffer)
    found = {}
    for name, case in CASES.items():
        mesh = tpu_programs.describe(case.topology, case.slices, case.fsdp)
        compute = dataclasses.replace(spec.compute, mesh=mesh)
        own = dataclasses.replace(spec, compute=compute)
        program = tpu_programs.lower(case, mesh, own)
        with tempfile.TemporaryDirectory() as dump:
            compiled = program.lowered.compile(tpu_compile.dumping(dump))
            found[name] = {
                "platforms": sorted({device.platform for device in mesh.devices.flat}),
                "compiled": tpu_compile.figures(compiled),
                "placed": tpu_compile.placed(pathlib.Path(dump)),
            }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
