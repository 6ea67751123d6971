"""How far a converted or quantized model may be from its original: the only home of tolerances."""

from __future__ import annotations

import math
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

RESIDUAL_LIMIT = 1e7
"""Largest absolute value that a layer may give. Massive activations are healthy: about 2.5e3 in
Llama 2 7B (Sun et al., Massive Activations in Large Language Models, 2024), and those of Gemma 3
exceed float16's 65504. A float16 model is held to nine tenths of that."""
FLOAT16_SHARE = 0.9
"""How much of float16's largest number a float16 model may use: beyond, a sum becomes infinite."""
RESIDUAL_GROWTH = 100.0
"""Largest growth from one layer to the next of the median token's root mean square; the median does
not see the one or two tokens with massive activations. The first layer is left out: embeddings are
small, and the embedded model's grow by 200 there. Later layers: 1.5 to 2 in the embedded model."""
DEAD_CHANGE = 1e-3
"""A layer, or its attention or MLP, that moves the stream by less than this share of it does
nothing: half of what is lost anyway when a sum is rounded to bfloat16 (2**-9). The least in the
embedded model: 0.5."""
DEAD_NEURONS = 0.25
"""Largest share of neurons that are zero at every token where the activation is not ReLU's, which
alone gives exact zeros; measured 0 in the embedded model."""
DEAD_HEAD = 1e-4
"""A head gives nothing when its root mean square is below this share of its layer's median head."""
SAME_DIRECTION = 0.999
"""Least cosine between what a pass shows and what the file's matrix gives: bfloat16 and float16
round each value by at most 2**-9, which costs a cosine less than 1e-5; a wrong row costs most."""
TOKENS_DISTINCT = 0.9999
"""Two tokens whose states have a larger cosine than this have become one; a model all of whose
tokens have is blind to its text (rank collapse, Dong et al., 2021)."""
UNIFORM_ATTENTION = 0.9999
"""Normalised entropy above which a head looks at everything alike: its queries or keys are dead. A
layer all of whose heads do has no attention; trained heads are rarely above 0.95."""
COLLAPSED_ATTENTION = 1e-4
"""Normalised entropy below which a head looks at one token only. Heads that rest on the first token
do; all heads of all layers do not (the embedded model's widest: 0.2)."""
SOFTMAX_SUM = {"float32": 1e-5, "float16": 2.0**-9, "bfloat16": 2.0**-6}
"""How far a row of attention weights may be from 1, by their type: each weight is off by at most
half a unit in the last place (2**-12 of itself in float16, 2**-9 in bfloat16), and so is the sum;
four to eight times that, as the softmax itself may be summed in parts."""
NORM_SCALE = (0.5, 1.05)
"""What a norm may leave of its input's unit size: epsilon takes away from small inputs (rms 0.005
and epsilon 1e-5 leave 0.85), and nothing adds; bfloat16 rounds by 2**-8."""
NORM_COSINE = 0.99
"""Least cosine between a norm's output and its formula."""
CAUSAL_NOISE = {"float32": 1e-3, "float16": 2.0**-5, "bfloat16": 2.0**-2}
"""How much a logit may change when only a later token changes, by the type that the engine computes
in, as a share of the logits' standard deviation: nothing in exact arithmetic; kernels for other
shapes round otherwise."""
SENSITIVE = 1e-2
"""Least change of the last logits, as a share of their standard deviation, that an earlier token or
another order must bring about; measured above 0.3 in the embedded model."""
TRACE_KLD = 5e-3
"""Largest mean divergence between a pass with plain attention and the engine's own: what another
kernel's rounding costs in bfloat16 (BF16 against FP16: 2.5e-5), a hundredfold and more."""


@dataclass(frozen=True, slots=True)
class LayerTolerance:
    """How far the inside of a pass may be from the ground truth's."""

    cosine: float
    """Least cosine of a layer's output with the reference's, of the median token."""
    size: float
    """Largest difference of its length from the reference's, as a share of it, in the mean."""
    attention: float
    """Largest share of its attention that a layer gives to other tokens than the reference does,
    in the mean over heads and tokens (total variation)."""


_NEAR = LayerTolerance(0.99, 0.05, 0.05)
LAYERS_BY_QUANTIZATION: MappingProxyType[Quantization, LayerTolerance] = MappingProxyType(
    {
        Quantization.F32: _NEAR,
        Quantization.F16: _NEAR,
        Quantization.BF16: _NEAR,
        Quantization.Q8_0: _NEAR,
        Quantization.Q6_K: LayerTolerance(0.99, 0.05, 0.08),
        Quantization.Q5_K_M: LayerTolerance(0.98, 0.08, 0.12),
        Quantization.Q5_0: LayerTolerance(0.98, 0.08, 0.15),
        Quantization.Q4_K_M: LayerTolerance(0.95, 0.12, 0.25),
        Quantization.Q4_0: LayerTolerance(0.92, 0.15, 0.30),
        Quantization.Q3_K_M: LayerTolerance(0.85, 0.20, 0.40),
        Quantization.Q2_K: LayerTolerance(0.70, 0.30, 0.55),
    }
)
"""The embedded model over four prompts, worst layer, as cosine, size, attention: bfloat16 0.9998,
0.002, 0.012; q8_0 0.9989, 0.004, 0.011; q6_k 0.998, 0.002, 0.023; q4_k_m 0.985, 0.016, 0.10; q4_0
0.969, 0.03, 0.09. The limits are two to five times that; q3_k_m and q2_k follow from the errors of
their weights (WEIGHT_NMSE)."""

STEADY_SPREAD = 0.1
"""Spread of repeated runs up to which their median is trusted; ten per cent is what benchmarks of
language models commonly allow."""
WILD_SPREAD = 1.0
"""Spread beyond which no other process explains it: half of the runs differ by more than 1.3 times
their median."""
LATE_TOKENS = 2.0
"""How much longer the last quarter of some thirty tokens may take than the first. With a cache a
step's cost barely grows over so few; without one it grows with the length of the text."""
PREFILL_SHARE = 1.0
"""Tokens of a prompt go through the model together, generated ones alone: measured 0.03 to 0.1."""
MODULE_TIMES = (0.5, 1.0)
"""Share of a pass that the embedding, the layers, the last norm and the head may take together; the
rest makes masks and positions. More than the whole cannot be."""
THROUGHPUT_LOSS = 0.05
"""Largest loss of throughput against a baseline, as a share."""
LATENCY_GAIN = 0.10
"""Largest gain of a token's or the first token's time against a baseline, as a share."""


@dataclass(frozen=True, slots=True)
class ParityTolerance:
    """How far teacher-forced logits may be from the float32 ground truth's, in more numbers."""

    logits: LogitTolerance
    tail_kld: float
    """Largest divergence at 99.9 % of the positions, in nats."""
    probability: float
    """Largest root mean square of the change of the text's tokens' probabilities."""
    perplexity: float
    """Largest ratio of the perplexities."""
    nmse: float
    """Largest squared error of the centred logits over their square."""
    scale: float
    """How far the centred logits may be scaled as a whole."""


PARITY: MappingProxyType[Quantization, ParityTolerance] = MappingProxyType(
    {
        kind: ParityTolerance(LOGITS[kind], *numbers)
        for kind, numbers in {
            Quantization.F32: (0.1, 0.005, 1.002, 1e-3, 0.01),
            Quantization.F16: (0.1, 0.005, 1.002, 1e-3, 0.01),
            Quantization.BF16: (0.1, 0.005, 1.002, 1e-3, 0.01),
            Quantization.Q8_0: (0.5, 0.025, 1.003, 3e-3, 0.01),
            Quantization.Q6_K: (1.0, 0.045, 1.015, 1.5e-2, 0.015),
            Quantization.Q5_K_M: (1.5, 0.065, 1.03, 3e-2, 0.02),
            Quantization.Q5_0: (2.0, 0.08, 1.04, 4e-2, 0.025),
            Quantization.Q4_K_M: (4.0, 0.11, 1.06, 8e-2, 0.04),
            Quantization.Q4_0: (6.0, 0.16, 1.12, 0.12, 0.06),
            Quantization.Q3_K_M: (8.0, 0.20, 1.21, 0.18, 0.10),
            Quantization.Q2_K: (12.0, 0.43, 2.13, 0.45, 0.20),
        }.items()
    }
)
"""Probability and perplexity: about twice the worse of the public figures, as for LOGITS (the same
table of llama.cpp's tools/perplexity/README.md; RMS of the change and ratio: BF16 0.150 % and
1.0004, Q8_0 1.20 % and 1.0007, Q6_K 2.30 % and 1.0035, Q5_K_M 3.16 % and 1.0089, Q4_K_M 5.52 % and
1.0282, Q4_0 8.43 % and 1.0749, Q3_K_M 10.2 % and 1.105, Q2_K 21.4 % and 1.565); the perplexity of
q6_k and q5_k_m has half more, as a model of few layers averages less (measured 1.007 and 1.010).
Tail, nmse and scale: two to four times what the embedded model shows over 309 positions (q8_0 0.04,
0.0007, 1.000; q6_k 0.16, 0.005, 0.997; q5_k_m 0.35, 0.010, 0.996; q4_k_m 1.0, 0.028, 0.987; q4_0
1.7, 0.047, 0.973; q3_k_m 3.1, 0.061, 0.966; q2_k 4.2, 0.18, 0.914); the float rows follow
llama.cpp's check-nmse.py (1e-3 is very good) and its 99.9 % of BF16, 0.0008, a hundredfold, as a
few hundred positions have one or none beyond it."""
ROUNDED_PARITY = ParityTolerance(SAME_BLOCKS, 0.5, 0.025, 1.005, 3e-3, 0.01)
"""What it costs at least to compute with eight significant bits: torch in bfloat16, and llama.cpp,
which rounds activations to eight bits before it multiplies blocks with them. The embedded model in
bfloat16: 0.0004, 0.07, 0.5 %, 1.0003, 0.0005."""
NOISE_FACTOR = 3.0
"""No limit is finer than this many times what the same engine differs from itself by."""
NOISE_CEILING = 2e-3
"""Nats beyond which an engine that differs from itself is not noisy but wrong: a third of what
eight-bit arithmetic costs (SAME_BLOCKS), at NOISE_FACTOR times. Batch-dependent kernels of a
correct engine: 1e-7 to 1e-5 in most positions (vLLM)."""
LATE_GROWTH = 3.0
"""How many times the divergence of a text's first half its second half may show, beyond the limit
itself; measured below 1 in the embedded model, as answers grow surer."""
SURE_SIGMAS = 4.0
"""Standard deviations of the difference of two logits, by the limit on their squared error, from
which on the ground truth's choice is sure."""
EXTREME_SIGMAS = 12.0
"""The largest of some million differences of logits in standard deviations, by the limit on their
squared error: 5 for normal ones; measured up to 10, as single logits fare worse."""
FINGERPRINT_SAME = 1e-6
"""Largest difference of a tensor's statistics from saved ones, as a share of its root mean square,
where both are of one encoding: the saved numbers are float64, summed in the same pieces."""
FINGERPRINT_FLOAT = 2.0**-7
"""The same where one side is in another float type: bfloat16 rounds a value by 2**-9 of itself, and
extremes may be eight times the root mean square."""
FINGERPRINT_BLOCKS = 0.25
"""The same where one side is in blocks: extremes may be off by half a step of a four-bit block."""
DISTRIBUTION_FLOAT = 1e-4
"""How much a tensor's mean and spread may change in a float type, as a share of its root mean
square, whatever a playbook says: roundings of 2**-9 in thousands of values, which cancel."""


def distribution_cost(quantization: Quantization | None) -> float:
    """How much a matrix's mean and spread may change, as a share of its root mean square.

    A quantizer's error is mostly independent of the value, so that it adds half its square to the
    spread; what is not is up to GAIN, and a quarter of the error where that is less.
    """
    error = WEIGHT_NMSE[quantization] if quantization is not None else 0.0
    return DISTRIBUTION_FLOAT + error / 2 + min(GAIN, math.sqrt(error) / 4)


NEAR_SIGMAS = 3.0
"""Standard deviations of a logit's difference, by the limit on its squared error, within which
NEARLY_ALL lie: 99.7 % of normal ones."""
NEARLY_ALL = 0.99
"""The share of logits of a golden corpus that must be near."""
