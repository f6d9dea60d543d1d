"""XLA's options for programs that run a few times only.

Less optimised, they compile in 0.4 of the time and take twice as long for each run.
"""

from importlib import metadata

FAST = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
# For programs that spend their time in a loop, which runs ten times as long with FAST.
LOOPS = "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true"
# The usual ones, as `compiler_options` of a program that runs long or to the last bit.
USUAL = {
    "xla_backend_optimization_level": 3,
    "xla_llvm_disable_expensive_passes": False,
}
# A third of what is left; later versions do not know it, and stop at what they do not.
if metadata.version("jaxlib").startswith("0.10."):
    FAST += " --xla_cpu_use_fusion_emitters=false"
    LOOPS += " --xla_cpu_use_fusion_emitters=false"
    USUAL["xla_cpu_use_fusion_emitters"] = True
