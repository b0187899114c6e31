"""Everything that determines a training run but its seed: frozen, typed, validated. Imports no torch.

Letters in shapes: B batch, C channels, H and W rows and columns. Sizes are pixels and (rows, columns), durations are
training steps, ratios lie in [0, 1]. Absence is `None`, so an inactive field cannot be set. The source of a default
stands beside it; "reading n" is the n-th row of docs/readings.md: a point that the paper leaves open, and what we take
as default.
"""
