"""Token shards -> batches.

1. The shards of a split are one long, memory-mapped token stream (``stream``).
2. The stream is cut into sequences: windows of equal length, or whole documents and padding (``sequences``).
3. A permutation that is a function of (seed, epoch) gives the order of the sequences (``order``).
4. Batch k is a function of (seed, k), so that nothing is stored to resume (``batches``). A mixture takes a fixed share
   from each of its datasets (``mixture``).
5. A thread reads the next batches while the model computes (``prefetch``).
"""
