"""Video prediction models: one file per published system, entered in the registry by name."""
