"""The domain (pure) and what every stage shares: money, ids, messages, decisions, codec, topics, settings."""
