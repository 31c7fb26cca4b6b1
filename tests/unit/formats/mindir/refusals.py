"""What is refused among the goldens, and what MindSpore itself computes wrong in them.

A key is a golden's name, or ``<release>-<name>`` where only one release is meant.
"""

REFUSED = {
    "affine_grid": "AffineGrid",
    "batch_norm_statistics": "normalises with the statistics of its batch",
    "cholesky": "Cholesky",
    "ctc_greedy": "CTCGreedyDecoder",
    "digamma": "Digamma",
    "erfinv": "Erfinv",
    "fold": "Col2Im",
    "histc": "Histogram",
    "i0": "BesselI0",
    "interpolate_bicubic": "looks its weights up in a table of 1024 places",
    "lgamma": "Lgamma",
    "logcumsumexp": "CumulativeLogsumexp",
    "max_unpool": "MaxUnpool2D",
    "mint_erfinv": "Erfinv",
    "nextafter": "NextAfter",
    "random_normal": "StandardNormal",
    "renorm": "Renorm",
    "roi_align_unsampled": "chooses the number of samples by the region's size",
    "rrelu_layer": "UniformReal",
    "search": "leaves a loop or gives other things on its two sides",
    "unique_consecutive": "UniqueConsecutive",
}
"""Words of the refusal of each: nearly all name an operator that has no conversion."""

WRONG = {
    "2.0.0-max_pool_argmax_both": "the places of some maxima count the channels before them",
    "2.0.0-max_pool_indices": "the same",
}
"""Where the CPU kernels of a release do not give what the operator is defined to give."""
