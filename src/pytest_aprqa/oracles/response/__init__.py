"""The response oracle: is the answer about the question, and does it keep its stated form."""
