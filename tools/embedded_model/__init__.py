"""Data, tokenizer, training and evaluation of the small model that the plugin ships."""
