"""Text: tokenisation, vocabularies and answer lists."""
