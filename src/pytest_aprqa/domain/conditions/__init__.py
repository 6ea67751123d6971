"""Claims about the evidence of a whole run, in a small language that nothing can be done with."""
