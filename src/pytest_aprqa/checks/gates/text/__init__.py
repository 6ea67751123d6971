"""Gates about text: tokenizers, chat templates, contracts and the records of conversions."""
