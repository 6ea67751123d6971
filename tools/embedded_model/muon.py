"""The Muon optimiser for two-dimensional weights, its work shared between the processes."""

from __future__ import annotations

import torch
import torch.distributed as dist

# Coefficients of the quintic Newton-Schulz iteration that drives singular values towards one.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5


def orthogonalized(gradient: torch.Tensor) -> torch.Tensor:
    """Replace a matrix by one with the same directions and singular values near one."""
    tall = gradient.size(0) > gradient.size(1)
    x = gradient.T if tall else gradient
    x = x / (x.norm() + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    result: torch.Tensor = x.T if tall else x
    return result


class Muon:
    """Momentum with orthogonalised updates; each process updates its share of the weights."""

    def __init__(
        self,
        weights: list[torch.nn.Parameter],
        rank: int,
        world: int,
        momentum: float = 0.95,
        decay: float = 0.01,
    ) -> None:
        self.weights = weights
        self.rank, self.world = rank, world
        self.momentum, self.decay = momentum, decay
        self.buffers = {i: torch.zeros_like(weights[i]) for i in range(rank, len(weights), world)}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Update this process's share, then exchange the weights with the others."""
        for i, buffer in self.buffers.items():
            weight = self.weights[i]
            gradient = weight.grad
            if gradient is None:
                raise RuntimeError("a weight has no gradient")
            buffer.lerp_(gradient, 1 - self.momentum)
            update = orthogonalized(gradient.lerp(buffer, self.momentum))
            scale = max(1.0, weight.size(0) / weight.size(1)) ** 0.5
            weight.mul_(1 - rate * self.decay).add_(update, alpha=-rate * scale)
        if self.world > 1:
            for i, weight in enumerate(self.weights):
                dist.broadcast(weight.data, src=i % self.world)

    def state_dict(self) -> dict[int, torch.Tensor]:
        """Return this process's momentum buffers."""
        return self.buffers

    def load_state_dict(self, state: dict[int, torch.Tensor]) -> None:
        """Restore this process's momentum buffers."""
        for i, buffer in state.items():
            self.buffers[i].copy_(buffer)
