"""The reader's config.json and weights; its word embeddings are lent by the embedding model."""
