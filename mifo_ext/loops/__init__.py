"""`mifo_ext.core`'s passes over a model's entries, as compiled loops for processors.

torch's operations go over memory once each; a loop does all of a pass while an entry is in a
register. The same bits as `mifo_ext.core.passes.TORCH`, which is the reading of the method.
"""

from mifo_ext.loops.passes import LOOPS

__all__ = ["LOOPS"]
