"""Many pictures: rows of a table, painted by one process or a cluster, resumably."""

from kerasdiffusion.batch.going import Summary
from kerasdiffusion.batch.index import read_index
from kerasdiffusion.batch.job import paint
from kerasdiffusion.batch.packing import pictures_of

__all__ = ["Summary", "paint", "pictures_of", "read_index"]
