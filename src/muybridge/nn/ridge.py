"""Ridge regression on class indicators: a linear classifier whose weights are solved for.

Legend: B recordings, N numbers of a recording, K classes.
Source: Hoerl and Kennard, Ridge Regression, Technometrics 1970.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor


def ridge_regression(
    values: Float[Tensor, "B N"], labels: Int64[Tensor, " B"], num_classes: int, penalty: float
) -> tuple[Float[Tensor, "K N"], Float[Tensor, " K"]]:
    """Weights and biases of the regression on indicators of the classes, -1 or 1, whose bias is not penalized.

    Args:
        values: of mean zero.
        labels: the class of each row.
        num_classes: how many there are.
        penalty: factor of the sum of the squared weights, beside the sum of the squared errors.
    """
    targets = 2 * F.one_hot(labels, num_classes).to(values.dtype) - 1
    bias = targets.mean(0)
    count, size = values.shape
    if size <= count:
        gram = values.T @ values + penalty * torch.eye(size, dtype=values.dtype)
        return torch.linalg.solve(gram, values.T @ (targets - bias)).T, bias
    # The same weights by the dual problem, which is smaller where there are fewer recordings than numbers.
    gram = values @ values.T + penalty * torch.eye(count, dtype=values.dtype)
    return (values.T @ torch.linalg.solve(gram, targets - bias)).T, bias
