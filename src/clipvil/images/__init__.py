"""Pictures: safe decoding, resize policies, and where pictures come from."""
