"""OpenAI's dialect: chat and text completions, embeddings, media; and Azure's variant of it."""
