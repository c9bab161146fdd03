"""Knowledge summarization (GKS): the memory bank compressed to a few centres, learned or by clustering."""
