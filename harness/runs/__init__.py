"""One run: what it is, how it trains, scores and is stored."""
