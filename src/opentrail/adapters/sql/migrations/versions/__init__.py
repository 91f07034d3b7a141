"""The migrations, each named by its version; a new one is added to `schema.VERSIONS`, too."""
