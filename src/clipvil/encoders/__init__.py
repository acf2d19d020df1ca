"""Visual encoders: one protocol, one adapter a library."""
