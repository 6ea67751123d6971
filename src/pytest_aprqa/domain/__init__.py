"""Values and rules of model qualification: standard library and pydantic only."""
