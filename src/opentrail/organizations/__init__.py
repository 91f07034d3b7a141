"""Who manages the trails of an organization."""
