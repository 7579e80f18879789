"""Components to compare with: what the prompt, the relevance or the budget are worth."""
