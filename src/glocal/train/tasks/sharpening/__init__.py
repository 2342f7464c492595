"""Bands of coarse pixels at the pixel size of finer ones.

``scenes`` degrades what is known (Wald's protocol), ``floors`` are methods without learning,
``network`` learns, ``image`` sharpens a product.
"""
