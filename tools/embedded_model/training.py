"""The training run: two processes of one thread each, a fixed number of steps, resumable."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tokenizers import Tokenizer
from torch.multiprocessing.spawn import start_processes
from torch.nn import functional

from embedded_model.batches import IGNORED, BatchStream
from embedded_model.muon import Muon
from embedded_model.network import export, new_network
from embedded_model.tokenizer import train_tokenizer

WORLD = 2
TOKENIZER_FILE = "tokenizer.json"
WARM_UP_STEPS = 50
FIRST_STAGE = 0.75  # share of all steps; the rest is the second stage
FLAT_UNTIL = 0.4  # share of the first stage after which the learning rate falls to zero
BARE_UNTIL = 0.2  # share of the first stage that trains on bare sums only
SECOND_PEAK = 0.4  # learning rate at the start of the second stage, relative to the first
MUON_RATE = 0.02
ADAM_RATE = 3e-3
# padded tokens of one batch, by kind
BATCH_TOKENS = {"bare": 2000, "arithmetic": 1100, "text": 1000, "late text": 1300}


@dataclass(frozen=True)
class Plan:
    """What one run does: its length, its seed and where it writes."""

    steps: int
    seed: int
    out: Path
    work: Path
    save_every: int = 100
    report_every: int = 20


def first_stage_steps(steps: int) -> int:
    """Return how many of the steps belong to the first stage."""
    return round(steps * FIRST_STAGE)


def rate_factor(step: int, steps: int) -> float:
    """Scale the learning rate: each stage warms up and ends at zero on a straight line."""
    first = first_stage_steps(steps)
    if step < first:
        done, since, peak, flat = step / first, step, 1.0, FLAT_UNTIL
    else:
        since = step - first
        done, peak, flat = since / (steps - first), SECOND_PEAK, 0.0
    fall = 1.0 if done < flat else (1.0 - done) / (1.0 - flat)
    return peak * min(1.0, (since + 1) / WARM_UP_STEPS) * fall


def batch_kinds(step: int, steps: int) -> tuple[str, ...]:
    """Name the kinds of batches that a step trains on."""
    first = first_stage_steps(steps)
    if step < BARE_UNTIL * first:
        return ("bare",)
    return ("arithmetic", "text" if step < first else "late text")


@dataclass
class Trainer:
    """One process of the run: network, optimisers and data, and how to save and go on."""

    plan: Plan
    rank: int
    tokenizer: Tokenizer
    step: int = 0
    tokens_seen: int = 0
    seconds: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._clock = time.monotonic()
        self.network = new_network(self.plan.seed)
        self.parameters = list(self.network.parameters())
        matrices = [
            weight
            for name, weight in self.network.named_parameters()
            if weight.ndim == 2 and "embed" not in name
        ]
        chosen = {id(weight) for weight in matrices}
        rest = [weight for weight in self.parameters if id(weight) not in chosen]
        self.muon = Muon(matrices, self.rank, WORLD)
        self.adam = torch.optim.AdamW(rest, lr=ADAM_RATE, betas=(0.9, 0.95), weight_decay=0.0)
        self.streams = {
            kind: BatchStream(self.tokenizer, kind, size, self.plan.seed, self.rank)
            for kind, size in BATCH_TOKENS.items()
        }

    def _backward(self, kind: str) -> None:
        tokens, labels = self.streams[kind].next()
        # Right padding under a causal mask: no attention mask is needed.
        hidden = self.network.model(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state
        wanted = labels[:, 1:]
        counted = wanted != IGNORED
        loss = functional.cross_entropy(self.network.lm_head(hidden[counted]), wanted[counted])
        loss.backward()  # type: ignore[no-untyped-call]
        self.tokens_seen += tokens.numel() * WORLD
        self.losses[kind] = 0.95 * self.losses.get(kind, loss.item()) + 0.05 * loss.item()

    def _average_gradients(self) -> None:
        gradients = [weight.grad for weight in self.parameters if weight.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= WORLD
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()

    def take_step(self) -> None:
        """Train on one batch of every kind that is due and update the weights."""
        for kind in batch_kinds(self.step, self.plan.steps):
            self._backward(kind)
        self._average_gradients()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        factor = rate_factor(self.step, self.plan.steps)
        for group in self.adam.param_groups:
            group["lr"] = ADAM_RATE * factor
        self.muon.step(MUON_RATE * factor)
        self.adam.step()
        self.network.zero_grad(set_to_none=True)
        self.step += 1
        now = time.monotonic()
        self.seconds += now - self._clock
        self._clock = now

    def _checkpoint(self) -> Path:
        return self.plan.work / f"checkpoint-{self.rank}.pt"

    def save(self) -> None:
        """Write everything needed to go on, replacing the last checkpoint in one move."""
        state = {
            "step": self.step,
            "tokens": self.tokens_seen,
            "seconds": self.seconds,
            "plan": (self.plan.steps, self.plan.seed),
            "weights": self.network.state_dict(),
            "muon": self.muon.state_dict(),
            "adam": self.adam.state_dict(),
            "streams": {kind: stream.state() for kind, stream in self.streams.items()},
        }
        unfinished = self._checkpoint().with_suffix(".new")
        torch.save(state, unfinished)
        dist.barrier()  # every process has written before any replaces its old file
        unfinished.replace(self._checkpoint())

    def resume(self) -> bool:
        """Go on from the last checkpoint of the same plan, if there is one."""
        if not self._checkpoint().exists():
            return False
        state: dict[str, Any] = torch.load(self._checkpoint(), weights_only=True)
        if state["plan"] != (self.plan.steps, self.plan.seed):
            raise SystemExit("the checkpoint is of another plan: choose another --work folder")
        self.step, self.tokens_seen = state["step"], state["tokens"]
        self.seconds = state["seconds"]
        self.network.load_state_dict(state["weights"])
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
        for kind, position in state["streams"].items():
            self.streams[kind].restore(position)
        return True


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _report(trainer: Trainer) -> None:
    left = trainer.plan.steps - trainer.step
    line = {
        "step": trainer.step,
        "of": trainer.plan.steps,
        "tokens": trainer.tokens_seen,
        "minutes": round(trainer.seconds / 60, 1),
        "left": round(trainer.seconds / trainer.step * left / 60, 1),
        **{kind: round(loss, 4) for kind, loss in trainer.losses.items()},
    }
    print(json.dumps(line), flush=True)


def _require_same_step(step: int) -> None:
    steps = torch.tensor([step, -step])
    dist.all_reduce(steps, op=dist.ReduceOp.MAX)
    if steps.sum().item() != 0:
        raise SystemExit("the checkpoints of the processes differ: delete the --work folder")


def _work(rank: int, plan: Plan, port: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=WORLD
    )
    trainer = Trainer(plan, rank, Tokenizer.from_file(str(plan.work / TOKENIZER_FILE)))
    if trainer.resume() and rank == 0:
        print(f"going on after step {trainer.step}", flush=True)
    _require_same_step(trainer.step)
    trainer.network.train()
    while trainer.step < plan.steps:
        trainer.take_step()
        if rank == 0 and trainer.step % plan.report_every == 0:
            _report(trainer)
        if trainer.step % plan.save_every == 0 or trainer.step == plan.steps:
            trainer.save()
    dist.destroy_process_group()


def export_checkpoint(plan: Plan) -> int:
    """Write the model directory from the last checkpoint and return its step."""
    state: dict[str, Any] = torch.load(plan.work / "checkpoint-0.pt", weights_only=True)
    export(state["weights"], Tokenizer.from_file(str(plan.work / TOKENIZER_FILE)), plan.out)
    record = {
        "seed": plan.seed,
        "step": state["step"],
        "steps": plan.steps,
        "processes": WORLD,
        "million tokens": round(state["tokens"] / 1e6, 1),
        "minutes": round(state["seconds"] / 60, 1),
    }
    (plan.out / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    step: int = state["step"]
    return step


def run(plan: Plan) -> None:
    """Train from the start, or from the last checkpoint, to the end of the plan."""
    plan.work.mkdir(parents=True, exist_ok=True)
    train_tokenizer(plan.seed).save(str(plan.work / TOKENIZER_FILE))
    os.environ["OMP_NUM_THREADS"] = "1"
    # The children are spawned, so that they read the variable before they load torch.
    start_processes(  # type: ignore[no-untyped-call]
        _work, args=(plan, _free_port()), nprocs=WORLD, start_method="spawn"
    )
    print(f"wrote step {export_checkpoint(plan)} to {plan.out}")
