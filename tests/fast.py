"""What makes processes and programs quick that tests start a few times only.

Programs that are less optimised compile in 0.4 of the time and take twice as long for
each run.
"""

import os
import pathlib
from importlib import metadata

_HERE = pathlib.Path(__file__).parent
# The PYTHONPATH of commands that need no torch; tensorboardX imports one if it can.
WITHOUT_TORCH = os.pathsep.join([str(_HERE / "no_torch"), str(_HERE.parent)])
FAST = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
# The usual ones, as `compiler_options` of a program that runs long or to the last bit.
USUAL = {
    "xla_backend_optimization_level": 3,
    "xla_llvm_disable_expensive_passes": False,
}
# A third of what is left; later versions do not know it, and stop at what they do not.
if metadata.version("jaxlib").startswith("0.10."):
    FAST += " --xla_cpu_use_fusion_emitters=false"
    # In one piece: a tenth less, where another worker has the other core.
    FAST += " --xla_cpu_parallel_codegen_split_count=1"
    USUAL["xla_cpu_use_fusion_emitters"] = True
