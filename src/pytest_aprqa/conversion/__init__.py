"""Between the formats: one model as Hugging Face has it, and its way into each format and back."""
