"""Settings of bundles: what they may be, and what a config or a command line says."""
