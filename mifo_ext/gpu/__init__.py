"""`mifo_ext.core`'s passes over a model's entries, as Triton kernels for GPUs.

torch's operations go over memory once each and cost a launch each; a kernel does all of a pass
while an entry is in a register. `mifo_ext.core.passes.TORCH` is the reading of the method.
"""

from mifo_ext.gpu.passes import KERNELS

__all__ = ["KERNELS"]
