"""The camera that a crop seems to be taken by.

A crop does not show where in its photo it was, nor how wide the photo's angle is. What can be told from it is
the surface as a camera sees it that stands in the same place and is turned towards the middle of the crop:
the crop camera. Its axes differ from those of the photo's camera by the angle under which the face stands
off the middle of the photo, some 5 degrees in a snapshot.
"""

from collections.abc import Sequence

import numpy as np


def rotation_between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The shortest rotation (3, 3) from one unit vector to another that is not opposite."""
    x, y, z = np.cross(start, end)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + cross + cross @ cross / (1 + start @ end)


def crop_camera(focal: float, centre: Sequence[float], size: int) -> np.ndarray:
    """Returns the rotation (3, 3) from the photo's camera space to that of the crop camera.

    Its transpose turns the normals of a crop back, where the photo's camera is known.

    Args:
        focal: Focal length of the photo's camera in pixels of the crop.
        centre: Principal point (x, y) of the photo, mostly its middle, in pixels of the crop, where the
            middle of the first pixel is (0, 0) and y points down.
        size: Side of the crop in pixels.
    """
    middle = (size - 1) / 2
    towards_viewer = np.array([(centre[0] - middle) / focal, (middle - centre[1]) / focal, 1.0])
    return rotation_between(towards_viewer / np.linalg.norm(towards_viewer), np.array([0.0, 0.0, 1.0]))
