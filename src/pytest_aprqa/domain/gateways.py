"""The five gateways every target passes before anything else is asked of it."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Gateway(StrEnum):
    """G0 to G4, in the order in which one grants the next."""

    G0 = "G0"
    G1 = "G1"
    G2 = "G2"
    G3 = "G3"
    G4 = "G4"

    @property
    def assertion(self) -> str:
        """The one sentence the gateway asserts."""
        return _ASSERTIONS[self]

    @property
    def item_name(self) -> str:
        """The name of the gateway's item and of its session fixture."""
        return _NAMES[self]

    @property
    def gate_id(self) -> str:
        """The gateway's id among all falsification gates."""
        return _IDS[self]


_ASSERTIONS = {
    Gateway.G0: "config, tokenizer and tensors agree",
    Gateway.G1: "the model loads",
    Gateway.G2: "the model answers",
    Gateway.G3: "nothing crashes",
    Gateway.G4: "the output is not garbage",
}
_NAMES = {
    Gateway.G0: "g0_integrity",
    Gateway.G1: "g1_loads",
    Gateway.G2: "g2_answers",
    Gateway.G3: "g3_no_crash",
    Gateway.G4: "g4_not_garbage",
}
_IDS = {
    Gateway.G0: "G0-INTEGRITY",
    Gateway.G1: "G1-LOAD",
    Gateway.G2: "G2-INFER",
    Gateway.G3: "G3-STABLE",
    Gateway.G4: "G4-VALID",
}


def gateways_of(*, endpoint: bool) -> tuple[Gateway, ...]:
    """The gateways that a target owes; the files behind an endpoint cannot be looked into."""
    return tuple(g for g in Gateway if not (endpoint and g is Gateway.G0))


def gateway_item_name(gateway: Gateway, target: str) -> str:
    """The name of a gateway's item for a target, such as `g0_integrity-safetensors-cpu`."""
    return f"{gateway.item_name}-{target}"


class GatewayResult(BaseModel):
    """What one gateway found for one target; a gateway that did not run has no result."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gateway: Gateway
    target: str
    passed: bool
    reason: str
    """One line: what was found."""
    details: tuple[str, ...] = ()
    """Every finding or probe, a line each."""
    duration_s: float = 0.0
