"""Gates over what a target answers: its settings act, it keeps its state, nothing throws it off."""
