"""The garbage oracle: what no person and no program would have meant, rule by rule."""
