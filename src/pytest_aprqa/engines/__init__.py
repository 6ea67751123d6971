"""What runs a model: each engine turns a GenerationRequest into a Completion."""
