"""OpenAI's endpoints, and Azure's."""
