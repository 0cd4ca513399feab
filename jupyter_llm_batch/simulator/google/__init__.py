"""Google Gemini's endpoints."""
