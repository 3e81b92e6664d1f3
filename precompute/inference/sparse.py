"""Matrices that are kept in less room: symmetric ones by half, and those of few entries."""

import warnings

import torch
from torch import Tensor

__all__ = ["Packed", "csr"]


class Packed:
    """Symmetric `[k, k]` matrices as their upper triangles, end to end: half the work."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.upper = torch.triu_indices(k, k)
        self._flat = self.upper[0] * k + self.upper[1]
        position = torch.zeros(k, k, dtype=torch.int64)
        position[self.upper[0], self.upper[1]] = torch.arange(self.upper.shape[1])
        self._places = torch.maximum(position, position.T).reshape(-1)

    def __len__(self) -> int:
        return self.upper.shape[1]

    def outer(self, x: Tensor) -> Tensor:
        """Return `x x^T` of each row of `x` `[m, k]`, packed."""
        return x.index_select(1, self.upper[0]) * x.index_select(1, self.upper[1])

    def pack(self, matrices: Tensor) -> Tensor:
        """Pack `[m, k, k]`."""
        return matrices.reshape(len(matrices), -1).index_select(1, self._flat)

    def full(self, packed: Tensor) -> Tensor:
        """Unpack to `[m, k, k]`."""
        return packed.index_select(1, self._places).reshape(-1, self.k, self.k)

    def inner(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the sum of the products of all elements of two matrices, row by row, `[m]`."""
        doubled = torch.where(self.upper[0] == self.upper[1], 1.0, 2.0)
        return (left * right) @ doubled


def csr(rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """Make a sparse matrix of entries sorted by row."""
    starts = torch.zeros(shape[0] + 1, dtype=torch.int64)
    torch.cumsum(torch.bincount(rows, minlength=shape[0]), 0, out=starts[1:])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(starts, columns, values, size=shape, check_invariants=False)
