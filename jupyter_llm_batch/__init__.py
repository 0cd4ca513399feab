"""LLM batch jobs in notebooks."""
