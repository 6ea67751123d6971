"""How far a converted or quantized model may be from its original: the only home of tolerances."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from pytest_aprqa.domain.model import Quantization


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Values may differ by `atol + rtol * |reference|`."""

    atol: float
    rtol: float

    @property
    def exact(self) -> bool:
        """True when only equal values pass."""
        return self.atol == 0 and self.rtol == 0


EXACT = Tolerance(0.0, 0.0)
OFFSET_NORM = Tolerance(2.0**-21, 0.0)
"""Norm weights that a format keeps as 1 + weight in float32 (Gemma in GGUF) lose at most half a
unit in the last place of the sum: 2**-24 for weights up to 1, this for weights up to 15
(IEEE 754, binary32)."""


KLD_CAP = 1.0
"""Nats that one position counts at most: of some hundred positions a single one, where the original
was sure and the other is not, would otherwise decide (measured: up to 15 nats, where the median is
a hundredth of the mean)."""


@dataclass(frozen=True, slots=True)
class LogitTolerance:
    """Teacher-forced logits against the original's: what a pass may cost."""

    mean_kld: float
    """Largest mean Kullback-Leibler divergence, in nats per position, none counted above
    KLD_CAP."""
    top1: float
    """Smallest share of positions with the same most probable token."""
    nmse: float | None = None
    """Largest mean squared error over the reference's variance; None does not limit it."""

    def widened_by(self, floor: LogitTolerance) -> LogitTolerance:
        """What either allows: no comparison can be finer than the noise of what computes it."""
        return LogitTolerance(max(self.mean_kld, floor.mean_kld), min(self.top1, floor.top1))


WEIGHT_NMSE: MappingProxyType[Quantization, float] = MappingProxyType(
    {
        Quantization.F32: 0.0,
        Quantization.F16: 2.0**-22,
        Quantization.BF16: 2.0**-16,
        Quantization.Q8_0: 2e-4,
        Quantization.Q6_K: 1.5e-3,
        Quantization.Q5_K_M: 6e-3,
        Quantization.Q5_0: 8e-3,
        Quantization.Q4_K_M: 2.5e-2,
        Quantization.Q4_0: 3.5e-2,
        Quantization.Q3_K_M: 8e-2,
        Quantization.Q2_K: 2e-1,
    }
)
"""Largest mean squared error of a quantized matrix over its values' mean square.

float16 and bfloat16 round to nearest, so a value is off by at most 2**-11 and 2**-8 of itself and
the squares by 2**-22 and 2**-16. The others: a block of b bits spans about six standard deviations
of normal values in 2**b steps, which gives (6 / 2**b)**2 / 12 (q8_0 4.6e-5, q6_k 7e-4, five bits
3e-3, four bits 1.2e-2, three bits 4.7e-2, two bits 0.19 before K-quants' searched scales); the
limits are two to four times that, as blocks with one large value fare worse. The measured errors
stand in docs/conversion.md."""

GAIN = 0.03
"""How far a quantized matrix may be its original scaled: sum of a·b over sum of a², less 1. A
quantizer rounds to both sides; measured 0.9815 (q2_k) to 1.0019. A wrong scale of a tenth stays
within the errors that four bits may have, but not within this."""

LOGITS: MappingProxyType[Quantization, LogitTolerance] = MappingProxyType(
    {
        Quantization.F32: LogitTolerance(5e-4, 0.99),
        Quantization.F16: LogitTolerance(5e-4, 0.99),
        Quantization.BF16: LogitTolerance(5e-4, 0.99),
        Quantization.Q8_0: LogitTolerance(0.003, 0.965),
        Quantization.Q6_K: LogitTolerance(0.011, 0.94),
        Quantization.Q5_K_M: LogitTolerance(0.022, 0.915),
        Quantization.Q5_0: LogitTolerance(0.03, 0.90),
        Quantization.Q4_K_M: LogitTolerance(0.08, 0.88),
        Quantization.Q4_0: LogitTolerance(0.14, 0.82),
        Quantization.Q3_K_M: LogitTolerance(0.20, 0.78),
        Quantization.Q2_K: LogitTolerance(0.89, 0.57),
    }
)
"""About twice the worse of the public figures, llama.cpp's tools/perplexity/README.md (Llama 2 7B
and Llama 3 8B on wikitext-2, mean KLD and same top token against FP16: Q8_0 0.00136 and 97.67 %,
Q6_K 0.0055 and 96.03 %, Q5_K_M 0.0108, Q4_K_M 0.0313 and 91.90 %, Q4_0 0.0719, Q3_K_M 0.102, Q2_K
0.445 and 71.14 %); q5_0, for which none is published there, lies between its neighbours. q4_k_m has
a third more, as a model of few layers averages less: 99 of 100 sets of prompts to the embedded
model stay below 0.073. The float rows allow another engine's arithmetic: BF16 against FP16 is
0.0000252 and 99.739 % there."""

APR_STEPS: MappingProxyType[Quantization, int] = MappingProxyType(
    {Quantization.Q8_0: 127, Quantization.Q4_0: 7}
)
"""Steps from zero to the largest value in APR's own encodings, whose rounding is therefore off by
at most half of (largest value / steps): the reference formulas of APR_Q8 and APR_Q4."""
APR_LOGITS: MappingProxyType[Quantization, LogitTolerance] = MappingProxyType(
    {Quantization.Q8_0: LOGITS[Quantization.Q6_K], Quantization.Q4_0: LOGITS[Quantization.Q4_0]}
)
"""APR's q8_0 has one scale for a whole tensor: where that holds values four times as large as its
blocks of 32 do, two of the eight bits are lost. Its q4_0 has GGML's blocks and one step less."""

SAME_VALUES = LogitTolerance(5e-4, 0.99, nmse=1e-6)
"""Two engines that compute in float32 over equal float weights (llama.cpp's check-nmse.py calls an
NMSE of 1e-6 identical)."""
OTHER_ENGINE = LogitTolerance(5e-4, 0.99, nmse=1e-3)
"""llama.cpp and torch over equal F16 or BF16 weights: llama.cpp rounds activations to that type
before it multiplies (check-nmse.py calls 1e-3 very good, and passes up to 1e-2)."""
SAME_BLOCKS = LogitTolerance(5e-3, 0.97)
"""llama.cpp over blocks and torch over the same blocks decoded: llama.cpp rounds activations to
eight bits before it multiplies blocks with them, which costs as much as q8_0 weights do."""

BATCH_NOISE: MappingProxyType[str, float] = MappingProxyType(
    {"float32": 1e-3, "float16": 2.0**-4, "bfloat16": 2.0**-1}
)
"""How far apart the logits of two tokens may be where a batch picks the one and a request alone the
other, by the type that the engine computes in: four units in the last place of a logit between 16
and 32 (IEEE 754 binary16: 2**-6; bfloat16: 2**-3); in float32, where sums of some thousand products
round, what vLLM saw of the bulk of its tokens, 1e-7 to 1e-5, a hundredfold."""

FOREIGN_TOKENS = 0.1
"""Largest share of adversarial texts that another engine may cut differently. llama.cpp has no NFC,
no `rstrip`, and its own cuts around combining marks: up to 20 of 251 texts, measured for the
tokenizers of 15 families (docs/conversion.md)."""
