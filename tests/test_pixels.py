"""Pictures put together."""

import numpy as np

from pipeline.pixels import tile


def test_pictures_are_laid_out_in_reading_order():
    pictures = [np.full((4, 4, 3), 10 + 10 * k, np.uint8) for k in range(3)]
    tiled = tile(pictures, 2)
    assert tiled.shape == (8, 8, 3)
    assert tiled[::4, ::4, 0].tolist() == [[10, 20], [30, 0]]
    assert tile(pictures[:1], 2).shape == (4, 4, 3)
