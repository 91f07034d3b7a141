"""Answers questions of AI agents over the Model Context Protocol (MCP)."""
