"""The code oracle: real parsers, fed what an answer offers as code."""
