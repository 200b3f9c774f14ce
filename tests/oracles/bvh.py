"""Forward kinematics of BVH, joint by joint and frame by frame, in plain Python.

Source: Lander, "Working with Motion Capture File Formats", Game Developer, January 1998: the local transform of a joint
is its translation times its rotations in the order of its channels, the global one that of its parent times it.
"""

from math import cos, radians, sin

Matrix = list[list[float]]
Tree = dict
"""name, offset, channels, children."""


def product(a: Matrix, b: Matrix) -> Matrix:
    return [[sum(a[i][k] * b[k][j] for k in range(4)) for j in range(4)] for i in range(4)]


def translation(x: float, y: float, z: float) -> Matrix:
    return [[1, 0, 0, x], [0, 1, 0, y], [0, 0, 1, z], [0, 0, 0, 1]]


def rotation(axis: str, degrees: float) -> Matrix:
    c, s = cos(radians(degrees)), sin(radians(degrees))
    return {
        "X": [[1, 0, 0, 0], [0, c, -s, 0], [0, s, c, 0], [0, 0, 0, 1]],
        "Y": [[c, 0, s, 0], [0, 1, 0, 0], [-s, 0, c, 0], [0, 0, 0, 1]],
        "Z": [[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
    }[axis]


def positions(joint: Tree, values: list[float], above: Matrix | None = None) -> dict[str, tuple[float, float, float]]:
    """The position of every joint; takes the values of a frame from the front of the list."""
    local = dict(zip("XYZ", joint["offset"], strict=True))
    turns = translation(0, 0, 0)
    replaced = above is not None and any(channel.endswith("position") for channel in joint["channels"])
    if replaced:
        local |= {channel[0]: 0.0 for channel in joint["channels"] if channel.endswith("position")}
    for channel in joint["channels"]:
        value = values.pop(0)
        if channel.endswith("position"):
            local[channel[0]] += value
        else:
            turns = product(turns, rotation(channel[0], value))
    matrix = product(translation(*local.values()), turns)
    matrix = matrix if above is None else product(above, matrix)
    found = {joint["name"]: (matrix[0][3], matrix[1][3], matrix[2][3])}
    for child in joint["children"]:
        found |= positions(child, values, matrix)
    return found
