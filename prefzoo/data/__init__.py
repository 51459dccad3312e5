"""From a file or a hub to token ids: sources, schemas, tokens, batches, and an audit of what was lost on the way."""
