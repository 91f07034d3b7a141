"""Questions of people, programs and agents, each declared once.

A module of this package declares one question: its arguments, its answer, the role that it needs,
and the function that answers it. The module's name is the question's name. `unused_keys` becomes

- `GET /api/v1/unused-keys` (`api/v1/server.py`), in OpenAPI and among the console's types;
- `opentrail unused-keys` (`commands/asked.py`), which `cli.py` lists;
- the tool `unused_keys` of agents (`mcp/asked.py`).
"""
