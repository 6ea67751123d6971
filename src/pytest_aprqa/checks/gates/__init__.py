"""The falsification gates: each a claim, the check that can refute it, and the proof that it can.

A family `x.py` holds gates with their checks, `x_proofs.py` beside it the defects that are planted
to see each of them fail, and the healthy cases that they pass.
"""
