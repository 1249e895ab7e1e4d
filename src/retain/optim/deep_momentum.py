"""Momentum that is a network, which learns from gradients while they come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from .matrices import as_matrix, root
from .optimizer import AbstractOptimizer, State, check_choice, check_share
from .orthogonal import NewtonSchulz, direction

Objective = Literal["dot", "l2", "sum"]
Outcome = Literal["identity", "sign", "newton_schulz"]


class DeepMomentum(AbstractOptimizer):
    r"""$W_{t+1} = W_t + \eta\,\sigma(m_{t+1}(u_t))$ with $u_t = \nabla_W \mathcal L(W_t; x_t)$ and a network $m$ whose weights move by $-\eta_m \nabla \mathcal L^{(2)}(m_t; u_t)$.

    For each weight there is a network of one hidden layer over the rows of its gradient, $m(u_r) = s\,(A \tanh(B u_r / s) / \sqrt h - [\text{residual}]\,u_r / s)$ with
    $h$ hidden units and $s$ the root mean square of the rows' norms, so that it learns alike from large gradients and small ones. $A$ and $B$ are
    in the optimizer's state. $A$ begins at zero, so that the residual form begins as gradient descent and then adds what the memory recalls at the gradient of
    now; $B$ begins at random numbers, the same for each weight of a shape. The decay $\alpha$ of the paper is a weight decay of the memory, towards where it began:
    $\theta_{t+1} - \theta_0 = \alpha\,(\theta_t - \theta_0) - \eta_m \nabla \mathcal L^{(2)}$. The paper leaves network and inner objective open.

    A weight of more than two axes is a matrix of its first against the others, a vector one row. A subclass with another ``memory``, ``read`` or ``size`` is another
    memory of gradients. Source: Nested Learning equations 50 and 52.

    Args:
        params: As in every ``torch.optim.Optimizer``.
        lr: $\eta$.
        alpha: $\alpha$, what the memory keeps of what it has learnt.
        memory_lr: $\eta_m$.
        hidden: $h$.
        objective: $\mathcal L^{(2)}$, a mean over rows: ``"dot"`` $\langle m(u), u \rangle$, whose memory recalls past gradients that are like this one; ``"l2"``
            $\frac12 \lVert m(u) + u \rVert^2$, whose memory comes to hold the gradients that come often, for the form without residual; ``"sum"`` the paper's example
            $\langle m(u), 1 \rangle$.
        output: $\sigma$.
        residual: Whether the gradient itself is part of what the memory says.

    Raises:
        ValueError: A number is out of its range, a choice is unknown, or ``"l2"`` is asked for with a residual, which has nothing left to learn then.

    Examples:
        >>> weight = torch.nn.Parameter(torch.ones(3, 2))
        >>> optimizer = DeepMomentum([weight], lr=0.1)
        >>> for _ in range(40):
        ...     optimizer.zero_grad()
        ...     weight.square().sum().backward()
        ...     optimizer.step()
        >>> bool(weight.abs().max() < 0.01), sorted(optimizer.state[weight])
        (True, ['learnt_in', 'learnt_out', 'start_in', 'start_out'])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        alpha: float = 0.9,
        memory_lr: float = 0.5,
        hidden: int = 32,
        objective: Objective = "dot",
        output: Outcome = "identity",
        residual: bool = True,
    ) -> None:
        super().__init__(params, lr=lr, alpha=alpha, memory_lr=memory_lr, hidden=hidden, objective=objective, output=output, residual=residual)

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        super().check(options)
        name = cls.__name__
        check_share(f"{name}.alpha", options["alpha"], most=1.0)
        check_choice(f"{name}.objective", options["objective"], Objective)
        check_choice(f"{name}.output", options["output"], Outcome)
        if options["memory_lr"] < 0 or options["hidden"] < 1:
            raise ValueError(
                f"{name} needs memory_lr of at least 0 and hidden of at least 1, got {options['memory_lr']!r} and {options['hidden']!r}."
            )
        if options["objective"] == "l2" and options["residual"]:
            raise ValueError(
                f"{name} with objective='l2' and a residual has nothing to learn: -u is its target already. Use residual=False, or 'dot'."
            )

    @classmethod
    def memory(cls, weight: Tensor, options: Mapping[str, Any], lead: int) -> State:
        """The network's weights before it has seen a gradient."""
        columns, hidden = as_matrix(weight, lead).shape[-1], options["hidden"]
        numbers = torch.randn(hidden, columns, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        many = weight.shape[:lead]
        return {"in": numbers.to(weight).expand(*many, hidden, columns).clone(), "out": weight.new_zeros(*many, columns, hidden)}

    @classmethod
    def read(cls, memory: State, u: Tensor, options: Mapping[str, Any]) -> Tensor:
        """What the network says to gradients [..., rows, columns] whose rows have a norm of about one."""
        said = torch.tanh(u @ memory["in"].mT) @ memory["out"].mT / options["hidden"] ** 0.5
        return said - u if options["residual"] else said

    @classmethod
    def size(cls, u: Tensor) -> Tensor:
        """What a gradient [..., rows, columns] is divided by before it comes to the memory, and the answer multiplied with: [..., 1, 1]."""
        return root(u.square().sum((-1, -2)) / u.shape[-2]).reshape(*u.shape[:-2], 1, 1)

    @classmethod
    def begin(cls, weight: Tensor, options: Mapping[str, Any], lead: int = 0) -> State:
        start = cls.memory(weight.detach(), options, lead)
        return {f"start_{name}": part for name, part in start.items()} | {f"learnt_{name}": torch.zeros_like(part) for name, part in start.items()}

    @classmethod
    def advance(cls, weight: Tensor, gradient: Tensor, state: State, options: Mapping[str, Any], lead: int = 0) -> tuple[Tensor, State]:
        u = as_matrix(gradient, lead)
        size = cls.size(u)
        u = u / torch.where(size > 0, size, 1.0)
        start = {name.removeprefix("start_"): part for name, part in state.items() if name.startswith("start_")}
        learnt = {name: state[f"learnt_{name}"] for name in start}
        slope = torch.func.grad(lambda now: cls._loss({name: start[name] + now[name] for name in start}, u, options))(learnt)
        learnt = {name: options["alpha"] * part - options["memory_lr"] * slope[name] for name, part in learnt.items()}
        said = cls.read({name: start[name] + learnt[name] for name in start}, u, options) * size
        along = cls._out(said.reshape(weight.shape), options["output"], lead)
        return weight + options["lr"] * along, state | {f"learnt_{name}": part for name, part in learnt.items()}

    @classmethod
    def _loss(cls, memory: State, u: Tensor, options: Mapping[str, Any]) -> Tensor:
        """The inner objective, summed over weights that know nothing of each other."""
        said = cls.read(memory, u, options)
        match options["objective"]:
            case "dot":
                each = said * u
            case "l2":
                each = (said + u).square() / 2
            case _:
                each = said
        return each.sum() / u.shape[-2]

    @staticmethod
    def _out(said: Tensor, output: Outcome, lead: int) -> Tensor:
        match output:
            case "identity":
                return said
            case "sign":
                return said.sign()
            case "newton_schulz":
                return direction(said, NewtonSchulz(), "none", lead)
