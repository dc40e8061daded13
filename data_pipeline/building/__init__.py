"""Building records: sources of pairs, resumable chunks, expansion into shards."""
