"""Numbers of a target against the ground truth's: logits, differences by tensor, golden corpora."""
