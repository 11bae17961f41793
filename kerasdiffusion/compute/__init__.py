"""All that knows a backend, a device or a compiler."""

from kerasdiffusion.compute.heap import share_one_heap

share_one_heap()  # ahead of the frameworks, and of their threads
