"""The table of providers in README says what the adapters do."""

from pathlib import Path

from jupyter_llm_batch.providers import overview, registry

README = Path(__file__).parents[2] / "README.md"


def test_the_table_in_readme_is_the_adapters_own():
    """`python -m jupyter_llm_batch.providers.overview` prints what has to stand there."""
    _, _, rest = README.read_text().partition("<!-- providers -->\n")
    table, end, _ = rest.partition("<!-- /providers -->")
    assert end, "README has no table between <!-- providers --> and <!-- /providers -->"
    assert table == overview.markdown()


def test_every_provider_of_ours_is_in_the_table():
    """A provider that joins is described; Azure is OpenAI's adapter at another address."""
    assert set(registry._BUILT_IN) - {"azure"} == set(overview.PROVIDERS)


def test_the_table_follows_the_adapters(monkeypatch):
    """What an adapter takes or refuses is asked, and changes the table."""
    before = overview.markdown()
    assert "| embeddings (`--embed`) | yes, 50,000 inputs in one job | no |" in before
    kinds = registry.make("anthropic", {}).limits("chat")
    other = type(kinds)(requests=7, bytes=9_000_000, line_bytes=9, one_model=True)
    monkeypatch.setattr("jupyter_llm_batch.providers.anthropic.adapter._LIMITS", other)
    assert "| rows in one job | 50,000 | 7 | 50,000 |" in overview.markdown()
