"""Batches that other programs create."""

import anthropic

KEYS = ["row-10", "row-9", "zeta", "row-1"]


def created_at_anthropic(sim, prompts=None):
    prompts = prompts or {key: f"Q {key}" for key in KEYS}
    environ = sim.environ()
    with anthropic.Anthropic(
        api_key=environ["ANTHROPIC_API_KEY"], base_url=environ["ANTHROPIC_BASE_URL"]
    ) as script:
        params = {"model": "claude-haiku-4-5", "max_tokens": 50}
        return script.messages.batches.create(
            requests=[
                {
                    "custom_id": key,
                    "params": {**params, "messages": [{"role": "user", "content": prompt}]},
                }
                for key, prompt in prompts.items()
            ]
        ).id
